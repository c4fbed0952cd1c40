"""M2D2's archives damaged inside and outside: an error naming the archive, or the rows that tarfile finds in it."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odyssey.corpora import m2d2

from .conftest import FUZZ
from .damage import damaged, in_time, refused

MEMBERS = {"train": b"one\ntwo \r\n\n caf\xc3\xa9\n" * 30, "valid": b"three\xff\n", "test": b"four\xe2\x80\xa8five"}
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
FIELDS = {"name": (0, 100), "size": (124, 12), "mtime": (136, 12), "type": (156, 1), "link": (157, 100)}
FIELDS |= {"magic": (257, 8), "owner": (265, 32), "prefix": (345, 155)}
VALUES = [b"\xff" * 12, b"\x80" + b"\0" * 10 + b"\x05", b"\xff" * 11 + b"\xf0", b"-1", b"7" * 12, b"0" * 12, b" " * 12]
VALUES += [b"00000001000", b"../../train.txt", b"/etc/train.txt", b"cs/train.txt", b"test.txt", b"\xc3\x28/valid.txt"]
VALUES += [bytes([kind]) for kind in b"0123456789gxLKSDMNV\0"]
RECORDS = ["size=-1", "size=99999999999999999999", "size=abc", "path=/etc/train.txt", "path=cs/train.txt", "path=\0"]
RECORDS += ["GNU.sparse.map=0,1,2", "GNU.sparse.size=-5", "GNU.sparse.numbytes=5", "GNU.sparse.offset=x", "mtime=nan"]
RECORDS += ["hdrcharset=BINARY", "uid=1e5", "atime=inf", "linkpath=../x", "GNU.sparse.realsize=9", "comment=é"]


def tar(kind: int = tarfile.PAX_FORMAT, folder: str = "cs/", headers: dict[str, str] | None = None) -> bytes:
    """An archive of the three splits."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=kind) as archive:
        for split, text in MEMBERS.items():
            about = tarfile.TarInfo(f"{folder}{split}.txt")
            about.size, about.pax_headers = len(text), headers or {}
            archive.addfile(about, io.BytesIO(text))
    return content.getvalue()


WHOLE = [tar(kind) for kind in FORMATS] + [tar(kind, "long/" * 30) for kind in FORMATS[1:]]
PACKED = [gzip.compress(content, mtime=0) for content in WHOLE]


@st.composite
def wrong_headers(draw: Any) -> bytes:
    """An archive with another value in a header, whose checksum is right."""
    content = bytearray(draw(st.sampled_from(WHOLE)))
    starts = [start for start in range(0, len(content), 512) if content[start + 257 : start + 262] == b"ustar"]
    start = draw(st.sampled_from(starts))
    place, length = FIELDS[draw(st.sampled_from(sorted(FIELDS)))]
    content[start + place : start + place + length] = draw(st.sampled_from(VALUES))[:length].ljust(length, b"\0")
    content[start + 148 : start + 156] = b" " * 8
    content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    return bytes(content)


@st.composite
def extended_headers(draw: Any) -> bytes:
    """An archive with records of POSIX's kind that mean something to tarfile."""
    records = draw(st.lists(st.sampled_from(RECORDS), min_size=1, max_size=2))
    named = dict(record.split("=", 1) for record in records)
    if draw(st.booleans()):
        named |= {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    return tar(headers=named)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives") / "cs.tar.gz"


def check(path: Path, content: bytes) -> None:
    """The splits' rows as tarfile gives them to who seeks in the file; or an error."""
    path.write_bytes(content)
    found = refused(path, lambda: {split: list(rows) for split, rows in m2d2.read_splits(path)})
    if isinstance(found, str):
        return
    expected = {}
    with tarfile.open(path) as archive:
        for member in archive:
            split = Path(member.name).stem
            if member.isfile() and Path(member.name).name in ("train.txt", "valid.txt", "test.txt"):
                text = archive.extractfile(member).read().decode("utf-8", "replace")  # type: ignore[union-attr]
                expected[split] = [line.strip() for line in text.split("\n") if line.strip()]
    assert found == expected
    assert sorted(found) == ["test", "train", "valid"]
    assert all(found.values())


@pytest.mark.slow
@FUZZ
@given(content=damaged(WHOLE))
def test_archives_damaged_before_they_were_compressed(path: Path, content: bytes) -> None:
    check(path, gzip.compress(content, 1))


@FUZZ
@given(content=damaged(PACKED))
def test_archives_damaged_on_their_way(path: Path, content: bytes) -> None:
    check(path, content)


@FUZZ
@given(content=st.one_of(wrong_headers(), extended_headers()))
def test_archives_whose_headers_say_something_else(path: Path, content: bytes) -> None:
    check(path, gzip.compress(content, 1))


def test_whole_archives_are_read(path: Path) -> None:
    for content in PACKED:
        check(path, content)
        assert list(m2d2.iter_rows(path, "test")) == ["four\u2028five"]


@pytest.mark.parametrize("size", [b"77777777777\0", b"\x80" + b"\xff" * 11])
@pytest.mark.parametrize("kind", [b"0", b"S", b"9"])
def test_sizes_beyond_the_end_are_not_sought(path: Path, size: bytes, kind: bytes) -> None:
    """A sparse one would be of zeros without end."""
    content = bytearray(tar(tarfile.GNU_FORMAT))
    content[124:136], content[156:157], content[483:495] = size, kind, size
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    path.write_bytes(gzip.compress(bytes(content)))
    with in_time(10):
        assert isinstance(refused(path, lambda: [list(rows) for _, rows in m2d2.read_splits(path)]), str)


def test_headers_in_headers_without_end(path: Path) -> None:
    """Each long name is of the next header, which is a long name."""
    about = tarfile.TarInfo("././@LongLink")
    about.type, about.size = tarfile.GNUTYPE_LONGNAME, 5
    link = about.tobuf(tarfile.GNU_FORMAT) + b"name\0".ljust(512, b"\0")
    path.write_bytes(gzip.compress(link * 5000 + tar()))
    assert isinstance(refused(path, lambda: [list(rows) for _, rows in m2d2.read_splits(path)]), str)
