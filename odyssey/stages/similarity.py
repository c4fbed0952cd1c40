"""Stage `similarity`: MMD and FD of every domain to the source corpus (paper, section 2.4)."""

from __future__ import annotations

import csv
from pathlib import Path
from tokenize import TokenError
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
LARGE = 1e100
"""Above any mean or variance of embeddings, and far below where squares overflow. Ours."""


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
            target = read_moments(layout.embedding(name), d=len(source.mean))
            mmd, fd = mmd_linear(source.mean, target.mean), from_source.frechet_distance(target.gaussian())
            table.writerow((name, portion, mmd, fd, source.n, target.n, len(source.mean)))
    print(f"similarity: {len(portions)} domains in {layout.similarity / 'similarity.csv'}")


def read_moments(path: Path, block: int = BLOCK, d: int | None = None) -> Moments:
    """Moments of a stored array (n, d), read block by block.

    Raises OdysseyError naming the file and the stage to run if it is missing, unusable or of another d than is given.
    """
    try:
        moments = Moments(d)
        with np.errstate(over="ignore", invalid="ignore"):  # found below
            for start in range(0, len(_opened(path)), block):
                # Opened anew for every block: what was read of a map stays in memory until it is closed.
                moments.update(_opened(path)[start : start + block])
        # Of unit vectors; else distances, which are squares, could be infinite without anything being said.
        if moments.n and not abs(moments.mean).max() < LARGE:
            raise ValueError(f"a mean is not below {LARGE:g}")
        if moments.n > 1 and not moments.cov.diagonal().max() < LARGE:
            raise ValueError(f"a variance is not below {LARGE:g}")
    except FileNotFoundError:
        raise OdysseyError(f"{path}: not there yet; run `dvc repro embed` first") from None
    # A header is Python's text: what is wrong with one comes from the parser, too.
    except (OSError, ValueError, TypeError, OverflowError, SyntaxError, TokenError) as error:
        reason = str(error).partition("\n")[0]
        raise OdysseyError(f"{path}: not usable as embeddings ({reason}); run `dvc repro -f embed`") from None
    if moments.n < 2:
        raise OdysseyError(f"{path}: {moments.n} row(s); a covariance needs at least 2, so give it more text")
    return moments


def _opened(path: Path) -> np.ndarray[Any, Any]:
    opened: np.ndarray[Any, Any] = np.lib.format.open_memmap(path, mode="r")  # nothing but .npy, and no pickles
    return opened
