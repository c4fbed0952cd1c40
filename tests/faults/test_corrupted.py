"""A byte of an intermediate file that is another one: it is named, never computed with, and made again."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from faults.conftest import Row
from faults.disturbed import Study
from odyssey.store import MANIFEST

pytestmark = pytest.mark.slow

READERS = {
    "pretrain": ["adapt", "evaluate"],
    "embed": ["similarity"],
    "similarity": ["claims"],
    "adapt": ["evaluate", "tokens", "claims"],
    "evaluate": ["claims"],
    "tokens": ["claims"],
    "joins": ["claims"],
    "claims": ["report"],
}
"""Stages that read a stage's output."""
SAMPLES = {
    "summary.json": ["embed"],
    "rows.parquet": ["pretrain", "embed", "tokens"],
    "train.parquet": ["embed", "adapt", "evaluate", "tokens"],
    "valid.parquet": ["adapt", "evaluate", "tokens"],
    "test.parquet": ["adapt", "evaluate", "tokens"],
    MANIFEST: ["embed", "tokens"],
}
"""Stages that read a file of the samples."""


@pytest.mark.parametrize("stage", ["sample", *READERS])
def test_a_byte_is_another_one(study: Study, row: Row, stage: str) -> None:
    row.fault = f"a byte changed, {stage}"
    chance = random.Random(stage)
    files = _files(study, stage)
    for path in sorted(chance.sample(files, min(len(files), 8))):
        content = path.read_bytes()
        if not content:
            continue
        place, bit = chance.randrange(len(content)), 1 << chance.randrange(8)
        path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        reader = chance.choice(SAMPLES[path.name] if stage == "sample" else READERS[stage])
        kept = study.data / reader
        shutil.move(kept, kept.with_name("aside"))
        status, said = study.run(reader)
        named = status == 1 and "Traceback" not in said and (path.name in said or str(path.parent.name) in said)
        # What a manifest says may be written in more than one way: a blank of another kind changes nothing.
        unread = status == 0 and study.same(reader) and (stage != "sample" or path.name == MANIFEST)
        shutil.rmtree(kept, ignore_errors=True)
        shutil.move(kept.with_name("aside"), kept)
        row.tries += 1
        row.survived += named or unread
        assert named or unread, (path, place, bit, reader, status, said)
        status, said = study.run(stage)
        assert status == 0, said
        row.equal += study.same(stage)
        assert study.same(stage), path
    row.repeated = "what was changed"


def _files(study: Study, stage: str) -> list[Path]:
    """One cell's files, or all where a stage has one result; of samples one of the source and of a domain."""
    folder = study.data / stage
    if stage == "sample":
        cells = [folder / "source", folder / "domains" / "click"]
    elif stage in ("pretrain", "embed"):
        cells = [folder / ("one" if stage == "pretrain" else "click")]
    else:
        cells = [folder / "one" / "click"] if (folder / "one").exists() else [folder]
    return sorted(path for cell in cells for path in cell.rglob("*") if path.is_file())
