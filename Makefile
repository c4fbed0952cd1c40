# `make` alone lists the targets.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help reproduce test smoke faults fuzz check audit bench ui clean

PYTHON ?= python3.11
PORT ?= 5000

# Stages, MLflow's projects and DVC all call plain `python`: the environment's comes first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true

# One stamp for each state of what is installed and where: with it there, nothing is installed.
STAMP := .venv/installed-$(firstword $(shell (cat requirements.lock pyproject.toml && pwd) | cksum))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# The peers' environment, likewise; the benchmarks that need it, and those that do not.
PEERS := benchmarks/.venv/installed-$(firstword $(shell (cat requirements.lock benchmarks/requirements.txt && pwd) | cksum))
BESIDE_PEERS := scoring training frechet
BY_THEMSELVES := moments embedding tokens sampling startup dvc_overhead study growth

# The auditor's environment, likewise.
AUDITOR := .venv-audit/installed-$(firstword $(shell (cat requirements-audit.txt && pwd) | cksum))

reproduce: $(STAMP) ## run the study of params.yaml, publish it to MLflow, print its headline table
	dvc repro
	odyssey track
	@echo
	@odyssey headline
	@echo "next: make ui"

test: $(STAMP) ## run the tests
	pytest

smoke: $(STAMP) ## run the slow tests: pipeline, paper's studies, documents' commands, pages in a browser
	pytest -m slow -s --ignore=tests/faults --ignore=tests/fuzz

faults: $(STAMP) ## kill stages, fill disks, take away memory and MLflow; print what came of it
	pytest -m slow tests/faults

fuzz: $(STAMP) ## try a thousand strange files, settings and results on each parser
	FUZZ_CASES=1000 pytest -m 'slow or not slow' tests/fuzz

check: $(STAMP) ## check style and types
	ruff check
	ruff format --check
	mypy

# Strict: a package that could not be looked up is an error, too, and no all-clear.
audit: $(AUDITOR) ## ask PyPI for known vulnerabilities of what requirements.lock names
	@$(dir $(AUDITOR))bin/pip-audit --requirement requirements.lock --no-deps --disable-pip --strict \
	  --progress-spinner off $(AUDIT) || { \
	  echo "error: not clear. Packages listed above with an ID have a known vulnerability: put the fixed version into" \
	    "requirements.lock. Anything else: PyPI's data could not be had, so nothing is known; try again with network," \
	    "or ask OSV: make audit AUDIT='--vulnerability-service osv'" >&2; exit 1; }

bench: $(STAMP) $(PEERS) ## run the benchmarks against their peers, write docs/benchmarks.md
	@for name in $(BESIDE_PEERS); do echo "$$name"; $(dir $(PEERS))bin/python benchmarks/$$name.py || exit 1; done
	@for name in $(BY_THEMSELVES); do echo "$$name"; python benchmarks/$$name.py || exit 1; done
	python benchmarks/render.py

ui: $(STAMP) ## open the MLflow UI on 127.0.0.1 (PORT=5000)
	odyssey ui --port $(PORT)

clean: ## delete caches; results and the environment stay
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis build
	find odyssey tests -type d -name __pycache__ -prune -exec rm -rf {} +

# .venv/unfinished is there from before the first change until after the last: what an
# interrupted run left is cleared, as is an environment made for another folder.
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "error: '$(PYTHON)' is not a Python 3.11; install one (https://www.python.org/downloads/)" \
	    "or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing the pinned packages into .venv; the first time takes some minutes."
	@if [ -e .venv/unfinished ] || ! grep -qsF '$(CURDIR)/.venv' .venv/bin/activate; \
	  then $(PYTHON) -m venv --clear .venv; fi
	@rm -f .venv/installed-*
	@touch .venv/unfinished
	.venv/bin/python -m pip install --disable-pip-version-check $$(grep -E '^(pip|setuptools|wheel)==' requirements.lock)
	.venv/bin/python -m pip install --disable-pip-version-check --no-build-isolation -r requirements.lock
	.venv/bin/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@rm .venv/unfinished
	@touch $@

$(PEERS):
	rm -rf benchmarks/.venv
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/python -m pip install --disable-pip-version-check $$(grep -E '^(pip|setuptools|wheel)==' requirements.lock)
	benchmarks/.venv/bin/python -m pip install --disable-pip-version-check --no-build-isolation -r benchmarks/requirements.txt
	@touch $@

$(AUDITOR):
	rm -rf .venv-audit
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --disable-pip-version-check --no-deps -r requirements-audit.txt
	@touch $@
