"""What of a test split is resampled together: its documents, or stretches of it where they are not known."""

from __future__ import annotations

import numpy as np

from odyssey.corpora.parquet import read_documents
from odyssey.layout import Layout
from odyssey.sections import M2D2Domain
from odyssey.settings import Settings

UNKNOWN = "window"


def unit(settings: Settings, domain: str) -> str:
    """`document`; or `window`, as M2D2 does not say which of its rows are of one document."""
    return UNKNOWN if isinstance(settings.domain(domain), M2D2Domain) else "document"


def units(
    settings: Settings, layout: Layout, model: str, domain: str, row_of: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Names of the test split's units, and the unit of each token that is scored, all but the first: int32 (n - 1,).

    `row_of` (n,) is the row of each token. A window is as many tokens as are scored together.
    """
    if unit(settings, domain) == UNKNOWN:
        unit_of = np.arange(len(row_of) - 1) // (settings.model(model).context - 1)
        return [str(k) for k in range(int(unit_of.max(initial=-1)) + 1)], unit_of.astype(np.int32)
    names, of_row = np.unique(read_documents(layout.split(domain, "test")), return_inverse=True)
    return names.tolist(), of_row[row_of[1:]].astype(np.int32)
