"""What several test files use: settings, a real, tiny, random model on disk, an MLflow store and a server of one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from results import QUICK
from servers import free_port, started

from odyssey import models, tokenization
from odyssey.sections import Architecture
from odyssey.settings import Settings, load_settings, validate

if TYPE_CHECKING:
    from mlflow import MlflowClient

ROOT = Path(__file__).parents[1]
PAPER_STUDIES = ["gpt2-small", "gpt2-large", "gpt2-xl", "olmo-1b", "llama-7b"]
"""The project's own, whatever a user has put beside them."""
SHAPE = Architecture(layers=1, width=16, heads=2, context=16, vocabulary=300)
TEXTS = [f"The value of row {k} is returned; see `frame` and (its) index.\n" * 3 for k in range(40)]


def read_study(file: Path, **choice: Any) -> Settings:
    """A study's file that is not among the project's, validated with seed 0 unless told otherwise."""
    raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    return validate(raw | {"study": file.stem, "seed": 0, "accept_licenses": False} | choice, str(file))


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The mini-study, whichever study params.yaml names, with few resamples."""
    return load_settings(ROOT / "params.yaml", "mini").model_copy(update={"seed": 0, "claims": QUICK})


@pytest.fixture(scope="session")
def smoke_settings() -> Settings:
    """The tiny study that the pipeline's smoke run uses."""
    return read_study(ROOT / "tests" / "smoke.yaml")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 of context 16 with its own tokenizer, saved as the pipeline saves one."""
    folder = tmp_path_factory.mktemp("model")
    models.quieten()
    tokenizer = tokenization.train_tokenizer(TEXTS, SHAPE.vocabulary, SHAPE.context)
    models.save(models.new_model(SHAPE, tokenizer, seed=0), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder whose store a file's tests share, each with a study of its own: making a store takes seconds.

    It is the current folder for as long, because MLflow puts artifacts of `mlflow run` there, and
    nothing of MLflow's or DVC's is in the environment.
    """
    folder = tmp_path_factory.mktemp("a project")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
            patch.delenv(name)
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def client(store: Path) -> MlflowClient:
    """The store of `store`."""
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{store / 'mlflow.db'}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an `mlflow server` that keeps runs in sqlite and serves artifacts."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    places = ("--backend-store-uri", f"sqlite:///{folder / 'runs.db'}", "--artifacts-destination", str(folder / "kept"))
    command = (sys.executable, "-m", "mlflow", "server", *places, "--port", str(port), "--workers", "1")
    with started(*command, folder=folder, environment={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}) as running:
        address = f"http://127.0.0.1:{port}"
        running.page(f"{address}/health")
        yield address
