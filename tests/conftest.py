"""What several test files use: settings, and a real, tiny, random model on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from odyssey import models
from odyssey.settings import Architecture, Settings, load_settings

ROOT = Path(__file__).parents[1]
SHAPE = Architecture(layers=1, width=16, heads=2, context=16, vocabulary=300)
TEXTS = [f"The value of row {k} is returned; see `frame` and (its) index.\n" * 3 for k in range(40)]


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The project's own params.yaml."""
    return load_settings(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def smoke_settings() -> Settings:
    """The tiny study that the pipeline's smoke run uses."""
    return load_settings(ROOT / "tests" / "smoke.yaml")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 of context 16 with its own tokenizer, saved as the pipeline saves one."""
    folder = tmp_path_factory.mktemp("model")
    models.quieten()
    tokenizer = models.train_tokenizer(TEXTS, SHAPE.vocabulary, SHAPE.context)
    models.save(models.new_model(SHAPE, tokenizer, seed=0), tokenizer, folder)
    return folder
