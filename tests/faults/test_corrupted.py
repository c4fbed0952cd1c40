"""A byte of an intermediate file that is another one: it is named, never computed with, and made again."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from faults.conftest import Row
from faults.disturbed import Study

pytestmark = pytest.mark.slow

READERS = {
    "sample": ["pretrain", "embed", "adapt", "evaluate", "tokens"],
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


@pytest.mark.parametrize("stage", READERS)
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
        reader = _reader(stage, path, chance)
        kept = study.data / reader
        shutil.move(kept, kept.with_name("aside"))
        status, said = study.run(reader)
        named = status == 1 and "Traceback" not in said and (path.name in said or str(path.parent.name) in said)
        # What a manifest says may be written in more than one way: a blank of another kind changes nothing.
        unread = status == 0 and study.same(reader)
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


def _reader(stage: str, path: Path, chance: random.Random) -> str:
    """One of the stages that read a file."""
    if stage != "sample":
        return chance.choice(READERS[stage])
    readers = ["pretrain"] if path.parent.name == "source" else ["adapt"]
    return chance.choice(readers)
