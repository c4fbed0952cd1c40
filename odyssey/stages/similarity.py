"""Stage `similarity`: MMD and FD of every domain to the source corpus (paper, section 2.4)."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from odyssey.errors import OdysseyError
from odyssey.layout import SOURCE, Layout
from odyssey.progress import bar
from odyssey.provenance import code_digest, versions
from odyssey.science.distances import Moments, mmd_linear
from odyssey.settings import Settings
from odyssey.store import check_folder, is_current, new_folder

COLUMNS = ("domain", "portion", "mmd", "fd", "n_source", "n_target", "d")
BLOCK = 8192
"""Rows that are in memory at a time."""


def run(settings: Settings, layout: Layout) -> None:
    """Write similarity.csv, one row a domain, in the study's order; keep it if it still holds."""
    portions = {name: domain.portion for name, domain in settings.domains.items()}
    made_from = {
        "embed": {name: check_folder(layout.embedded(name), "embed") for name in (SOURCE, *portions)},
        "settings": {"portions": list(portions.items())},
        "code": code_digest(__name__),
        "packages": versions("numpy", "scipy"),
    }
    if is_current(layout.similarity, made_from):
        print(f"similarity: kept {layout.similarity}")
        return
    source = read_moments(layout.embedding(SOURCE))
    from_source = source.gaussian()
    with (
        new_folder(layout.similarity, made_from) as folder,
        (folder / "similarity.csv").open("w", newline="", encoding="utf-8") as file,
    ):
        # csv writes a float with repr: every digit is kept.
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for name, portion in bar(portions.items(), "similarity", total=len(portions), unit="domain"):
            target = read_moments(layout.embedding(name))
            mmd, fd = mmd_linear(source.mean, target.mean), from_source.frechet_distance(target.gaussian())
            table.writerow((name, portion, mmd, fd, source.n, target.n, len(source.mean)))
    print(f"similarity: {len(portions)} domains in {layout.similarity / 'similarity.csv'}")


def read_moments(path: Path, block: int = BLOCK) -> Moments:
    """Moments of a stored array (n, d), read block by block.

    Raises OdysseyError naming the file and the stage to run if it is missing or unusable.
    """
    try:
        moments = Moments()
        for start in range(0, len(_opened(path)), block):
            # Opened anew for every block: what was read of a map stays in memory until it is closed.
            moments.update(_opened(path)[start : start + block])
    except FileNotFoundError:
        raise OdysseyError(f"{path}: not there yet; run `dvc repro embed` first") from None
    except (OSError, ValueError, TypeError) as error:
        raise OdysseyError(f"{path}: not usable as embeddings ({error}); run `dvc repro -f embed`") from None
    if moments.n < 2:
        raise OdysseyError(f"{path}: {moments.n} row(s); a covariance needs at least 2")
    return moments


def _opened(path: Path) -> np.ndarray[Any, Any]:
    opened: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return opened
