"""Failures of compiled code in Rust, which reach Python as no Exception."""

from __future__ import annotations

SEEN = 120
"""Characters of what it says that are told."""


def is_panic(error: BaseException) -> bool:
    """Whether code in Rust gave up: pyo3's PanicException, a BaseException that no module offers to name it by."""
    return type(error).__name__ == "PanicException"


def panic_text(error: BaseException) -> str:
    """What failed, and the remedy: of what is in use here only tokenizers ends so on a user's files."""
    told = " ".join(str(error).split())
    return (
        f"the model's tokenizer failed on the text ({told[:SEEN]}); use a model with another tokenizer, "
        "or see to the patterns in its tokenizer.json"
    )
