"""M2D2 (Reid et al., 2022): the paper's 199 domains, and rows straight out of a domain's archive.

The table `m2d2.csv` is the paper's appendix A.2 in its order. `config` is the name on the
hub, misspelt ids (`General_referece`, `Human_activites`) included; `display` is for readers.
`tokens` (GPT-2's) are filled in where a source states them. Its columns `portion` and `level`:

- Wiki: the eleven top categories are L1, `A__B` (printed "A B" in the appendix) is L2.
- S2ORC: `Art` and `Philosophy` are L1. They have no L2, and the second is not Wiki's
  `Philosophy_and_thinking__Philosophy`. Every arXiv code is L2, with a dot or without: the
  L1 of arXiv are aggregates of their own with the suffix `_l1`, `q-bio_l1` beside `q-bio`,
  and none is in the paper's list. That dotless codes are L2 is inferred from these names.
"""

from __future__ import annotations

import csv
import gzip
import io
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import IO, Any, Literal, cast

from odyssey.errors import OdysseyError

REPO = "machelreid/m2d2"
LICENSE = "cc-by-nc-4.0"
SPLITS = ("train", "valid", "test")

PAPER_20 = (
    "Society_and_social_sciences__Society",
    "Technology_and_applied_sciences",
    "Human_activites__Human_activities",
    "Technology_and_applied_sciences__Agriculture",
    "Culture_and_the_arts__Culture_and_Humanities",
    "History_and_events__By_period",
    "Philosophy_and_thinking__Philosophy",
    "Natural_and_physical_sciences__Biology",
    "Philosophy_and_thinking__Thinking",
    "General_referece__Further_research_tools_and_topics",
    "hep-ex",
    "hep-lat",
    "nucl-ex",
    "cond-mat.str-el",
    "nucl-th",
    "math.SG",
    "supr-con",
    "cond-mat.supr-con",
    "math.AG",
    "astro-ph.HE",
)
"""The adaptation domains of appendix A.1 as configs; a domain's id there is its position from 1."""

_BUFFER = 1 << 20
_SHOWN = 10
"""Members that an error names at most."""
_MOST_MEMBERS = 10_000
"""Members of an archive that are looked at; a domain's has a handful."""
_MOST_ENDS = 100
"""Times that an archive is read from at its end, where tarfile does so a few times."""
_MOST_TIMES = 100
_ALLOWED = 64 << 20
"""Bytes that an archive may unfold to: this many, and _MOST_TIMES its own size. Text shrinks to a third or a tenth."""
_CONFIG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class M2D2Domain:
    """A line of the table; `id` is appendix A.2's, `tokens` is None where no source states it."""

    id: int
    config: str
    display: str
    portion: Literal["Wiki", "S2ORC"]
    level: Literal["L1", "L2"]
    tokens: int | None


@cache
def domains() -> Mapping[str, M2D2Domain]:
    """The paper's 199 domains by config, in its order."""
    with Path(__file__).with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        lines = [dict(line) for line in csv.DictReader(file)]
    return MappingProxyType({line["config"]: _domain(line) for line in lines})


def domain(config: str) -> M2D2Domain:
    """The domain with this config; raises OdysseyError naming the nearest one."""
    if config not in domains():
        raise OdysseyError(
            f"'{config}' is not among the {len(domains())} domains of M2D2 that the paper uses; "
            f"the nearest is '{nearest(config)}'"
        )
    return domains()[config]


def nearest(config: str) -> str:
    """The config most like this text, which may also be a name as the paper prints it or `display`."""
    known = domains().values()
    # Where two domains share a name, the one whose config it is comes last and stands.
    names = {_plain(domain.display.rpartition(": ")[2]): domain.config for domain in known}
    names |= {_plain(domain.display): domain.config for domain in known}
    names |= {_plain(domain.config): domain.config for domain in known}
    return names[get_close_matches(_plain(config), list(names), n=1, cutoff=0)[0]]


def archive(config: str) -> str:
    """Path of a domain's archive in the repository, also of the domains that the paper leaves out.

    Raises OdysseyError for what cannot be a config, such as a path or a name as the paper prints it.
    """
    if not _CONFIG.fullmatch(config):
        raise OdysseyError(f"'{config}' cannot be a domain of M2D2; the nearest is '{nearest(config)}'")
    return f"data/{config}.tar.gz"


def read_splits(archive: Path) -> Iterator[tuple[str, Iterator[str]]]:
    r"""The splits of a domain, each with its rows, in the archive's order: one pass, nothing is unpacked.

    A row is a physical line (it ends at \n and nowhere else), stripped; blank ones are
    dropped, and bytes that are not UTF-8 become U+FFFD, because splits were cut by bytes.
    The member of a split is the one called `train.txt` (`valid.txt`, `test.txt`) in whatever
    folder. A split's rows have to be read before the next split is asked for. Memory: the
    longest line and a buffer.

    Raises OdysseyError naming the archive, and the member where there is one: damaged or cut
    off; a split missing, twice there or empty; a member that would be outside the folder if
    the archive were unpacked. Some of this shows only at the archive's end, so rows count as
    read only once the iterator is exhausted.
    """
    members: list[str] = []
    found: dict[str, str] = {}
    with (
        _readable(archive),
        gzip.open(archive) as unfolded,
        _Bounded(unfolded, archive) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        for member in tar:
            _refuse_escape(archive, member)
            if len(members) == _MOST_MEMBERS:
                raise OdysseyError(
                    f"{archive}: more than {_MOST_MEMBERS:,} members; delete it and fetch it from {REPO}"
                )
            members.append(member.name)
            path = PurePosixPath(member.name)
            if member.issparse():
                raise OdysseyError(
                    f"{archive}: member {member.name} is sparse, as no text is; delete it and fetch it from {REPO}"
                )
            if not (member.isfile() and path.suffix == ".txt" and path.stem in SPLITS):
                continue
            if path.stem in found:
                raise OdysseyError(
                    f"{archive}: two members for the split {path.stem}, {found[path.stem]} and {member.name}; "
                    f"give an archive of one domain, as {REPO} has them"
                )
            found[path.stem] = member.name
            yield path.stem, _rows(archive, member.name, cast(IO[bytes], tar.extractfile(member)))
        while stream.read(_BUFFER):  # what is behind the last member, up to the checksum
            pass
    missing = [f"{split}.txt" for split in SPLITS if split not in found]
    if missing:
        raise OdysseyError(
            f"{archive}: no {', '.join(missing)} in it, only {', '.join(members[:_SHOWN]) or 'nothing'}; "
            "delete the file and fetch it again"
        )


def iter_rows(archive: Path, split: str) -> Iterator[str]:
    """Rows of one split, as `read_splits` gives them; the rest of the archive is read and checked too."""
    if split not in SPLITS:
        raise OdysseyError(f"'{split}' is not a split of M2D2; write one of {', '.join(SPLITS)}")
    for name, rows in read_splits(archive):
        if name == split:
            yield from rows


class _Bounded(io.RawIOBase):
    """What an archive unfolds to, refused where it is far more than text can shrink to."""

    def __init__(self, unfolded: gzip.GzipFile, archive: Path) -> None:
        self._unfolded, self._archive = unfolded, archive
        self._left = _ALLOWED + _MOST_TIMES * archive.stat().st_size
        self._ends = 0

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; raises OdysseyError at the limit."""
        some = self._unfolded.read(size)
        self._left -= len(some)
        self._ends += not some
        if self._ends > _MOST_ENDS:  # tarfile would go on to where a header says that the next one is
            raise EOFError("cut off, or a member with a wrong size")
        if self._left < 0:
            raise OdysseyError(
                f"{self._archive}: unfolds to more than {_MOST_TIMES} times its size, as no text does; delete it and "
                f"fetch it from {REPO}"
            )
        return some


def _rows(archive: Path, member: str, file: IO[bytes]) -> Iterator[str]:
    empty = True
    with _readable(archive):
        # A large buffer: tarfile's own one costs a call through three layers for every 8 KiB.
        for line in io.BufferedReader(cast(io.RawIOBase, file), _BUFFER):
            row = line.decode("utf-8", errors="replace").strip()
            if row:
                empty = False
                yield row
    if empty:
        raise OdysseyError(f"{archive}: {member} has no text; delete the file and fetch it again")


def _refuse_escape(archive: Path, member: tarfile.TarInfo) -> None:
    """Nothing is unpacked here, but an archive that would write elsewhere is not to be trusted with the rest."""
    targets = [member.name]
    if member.issym():  # relative to the link's own folder; a hard link's is to the archive's root
        targets.append(posixpath.join(posixpath.dirname(member.name), member.linkname))
    elif member.islnk():
        targets.append(member.linkname)
    for target in targets:
        if target.startswith("/") or posixpath.normpath(target).split("/")[0] == "..":
            raise OdysseyError(
                f"{archive}: member {member.name} points outside the archive; delete the file and fetch it from {REPO}"
            )


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise OdysseyError(f"{archive}: no such file; fetch it from {REPO}") from None
    # The last three come from tarfile's parsing of headers, which are text with numbers and may be nested.
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, OverflowError, RecursionError) as error:
        raise OdysseyError(
            f"{archive}: not a whole tar.gz archive ({error}); delete the file and fetch it again"
        ) from None


def _domain(line: dict[str, Any]) -> M2D2Domain:
    tokens = int(line["tokens"]) if line["tokens"] else None
    return M2D2Domain(int(line["id"]), line["config"], line["display"], line["portion"], line["level"], tokens)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()
