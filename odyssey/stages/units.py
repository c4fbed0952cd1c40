"""What of a test split is resampled together: its documents, or stretches of it where they are not known."""

from __future__ import annotations

import numpy as np

from odyssey.corpora.parquet import read_documents
from odyssey.layout import Layout
from odyssey.sections import M2D2Domain
from odyssey.settings import Settings

UNKNOWN = "block"
WINDOWS, BLOCKS = 8, 30
"""A block is as many windows long, so that it holds whole texts, or shorter if there would be fewer blocks: ours."""


def unit(settings: Settings, domain: str) -> str:
    """`document`; or `block`, as M2D2 does not say which of its rows are of one document."""
    return UNKNOWN if isinstance(settings.domain(domain), M2D2Domain) else "document"


def units(
    settings: Settings, layout: Layout, model: str, domain: str, row_of: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Names of the test split's units, and the unit of each token that is scored, all but the first: int32 (n - 1,).

    `row_of` (n,) is the row of each token. Blocks are stretches of the text: neighbouring windows
    share documents, and drawn again one by one they would make intervals too narrow.
    """
    if unit(settings, domain) == UNKNOWN:
        stride, n = settings.model(model).context - 1, len(row_of) - 1
        unit_of = np.arange(n) // (stride * min(WINDOWS, max(1, n // stride // BLOCKS)))
        return [str(k) for k in range(int(unit_of.max(initial=-1)) + 1)], unit_of.astype(np.int32)
    names, of_row = np.unique(read_documents(layout.split(domain, "test")), return_inverse=True)
    return names.tolist(), of_row[row_of[1:]].astype(np.int32)
