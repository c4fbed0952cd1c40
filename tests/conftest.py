"""What several test files use: settings, and a real, tiny, random model on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from results import QUICK

from odyssey import models, tokenization
from odyssey.sections import Architecture
from odyssey.settings import Settings, load_settings, validate

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
