"""M2D2: the paper's table of domains, and rows out of archives whole, odd and broken."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import re
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from odyssey.corpora import m2d2
from odyssey.errors import OdysseyError

TEXTS = {"train": b"one\ntwo\n", "valid": b"three\n", "test": b"four\n"}


def pack(path: Path, members: list[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def archive(path: Path, prefix: str = "cs.CL/", **texts: bytes) -> Path:
    return pack(path, [(f"{prefix}{split}.txt", text) for split, text in (TEXTS | texts).items()])


def read(path: Path) -> dict[str, list[str]]:
    return {split: list(rows) for split, rows in m2d2.read_splits(path)}


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


# --- the table


def test_the_table_is_appendix_a2() -> None:
    domains = list(m2d2.domains().values())
    assert [domain.id for domain in domains] == list(range(1, 200))
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", domain.config) for domain in domains)
    # The sha256 of the appendix' 199 names, one a line, as it prints them: with a space for "__".
    printed = "\n".join(domain.config.replace("__", " ") for domain in domains)
    assert hashlib.sha256(printed.encode()).hexdigest().startswith("835df4b12b0060ab")
    assert [m2d2.domains()[name].id for name in ("Art", "Philosophy", "astro-ph.CO", "q-bio", "supr-con")] == [
        1,
        36,
        52,
        173,
        199,
    ]


def test_portions_and_levels() -> None:
    domains = m2d2.domains().values()
    assert Counter((domain.portion, domain.level) for domain in domains) == {
        ("Wiki", "L1"): 11,
        ("Wiki", "L2"): 38,
        ("S2ORC", "L1"): 2,
        ("S2ORC", "L2"): 148,
    }
    for domain in domains:
        if domain.portion == "Wiki":
            parent, _, child = domain.config.partition("__")
            assert (domain.level == "L2") == bool(child)
            assert m2d2.domains()[parent].level == "L1"
    assert m2d2.domain("math.NA").tokens == 148_000_000
    assert m2d2.domain("math.NT").tokens is None


def test_the_paper_adapts_to_ten_domains_of_each_portion() -> None:
    chosen = [m2d2.domain(config) for config in m2d2.PAPER_20]
    assert [domain.portion for domain in chosen] == ["Wiki"] * 10 + ["S2ORC"] * 10
    assert len(set(chosen)) == 20


def test_misspelt_ids_are_kept_and_shown_corrected() -> None:
    assert m2d2.domain("General_referece__Reference_works").display == "General reference: Reference works"
    assert m2d2.domain("Human_activites__Human_activities").display == "Human activities: Human activities"
    assert m2d2.archive("Human_activites") == "data/Human_activites.tar.gz"
    assert m2d2.archive("cs.IT") == "data/cs.IT.tar.gz"  # in M2D2, not in the paper


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Culture_and_the_arts Games_and_Toys", "Culture_and_the_arts__Games_and_Toys"),  # as the paper prints it
        ("General_reference", "General_referece"),
        ("General reference: Reference works", "General_referece__Reference_works"),
        ("Games and toys", "Culture_and_the_arts__Games_and_Toys"),
        ("Philosophy", "Philosophy"),
        ("CS.ai", "cs.AI"),
        ("hepex", "hep-ex"),
        ("", "Art"),
    ],
)
def test_nearest(written: str, meant: str) -> None:
    if written:
        assert m2d2.nearest(written) == meant
    else:
        assert m2d2.nearest(written) in m2d2.domains()


def test_unknown_domains_are_refused_with_the_nearest() -> None:
    with pytest.raises(OdysseyError, match=r"'General_reference' is not among the 199.*'General_referece'"):
        m2d2.domain("General_reference")
    for name in ("../x", "Health_and_fitness Nutrition", "", "a/b"):
        with pytest.raises(OdysseyError, match="cannot be a domain"):
            m2d2.archive(name)


# --- archives


def test_rows_are_stripped_lines_without_blank_ones(tmp_path: Path) -> None:
    train = "  first row \r\n\r\n \t\nsecond\u2028row\rstill\x00\n\nlast, without an end".encode()
    path = archive(tmp_path / "a.tar.gz", train=train)
    assert read(path)["train"] == ["first row", "second\u2028row\rstill\x00", "last, without an end"]


def test_a_character_cut_in_two_becomes_a_replacement(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", test="né".encode()[:-1], valid="ü\nok\n".encode()[1:])
    assert read(path) == {"train": ["one", "two"], "valid": ["\ufffd", "ok"], "test": ["n\ufffd"]}


@pytest.mark.parametrize("prefix", ["cs.CL/", "./cs.CL/", "", "./", "a/b/"])
def test_members_are_found_in_any_folder_and_order(tmp_path: Path, prefix: str) -> None:
    members: list[tuple[str | tarfile.TarInfo, bytes]] = [
        (f"{prefix}{split}.txt", TEXTS[split]) for split in ("test", "train", "valid")
    ]
    # What some archivers add, and links within the archive.
    members += [(f"{prefix}._train.txt", b"x"), (f"{prefix}README", b"x"), (link(f"{prefix}s/l", "../train.txt"), b"")]
    path = pack(tmp_path / "a.tar.gz", members)
    assert list(read(path)) == ["test", "train", "valid"]
    assert [list(m2d2.iter_rows(path, split)) for split in m2d2.SPLITS] == [["one", "two"], ["three"], ["four"]]


def test_a_long_line_is_one_row(tmp_path: Path) -> None:
    row = "word " * 600_000  # 3 MB, more than any buffer
    assert read(archive(tmp_path / "a.tar.gz", train=row.encode()))["train"] == [row.strip()]


def test_missing_and_ambiguous_members_are_listed(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar.gz", [("x/train.txt", b"a\n"), ("x/dev.txt", b"a\n")])
    with pytest.raises(
        OdysseyError, match=r"a\.tar\.gz: no valid\.txt, test\.txt in it, only x/train\.txt, x/dev\.txt"
    ):
        read(path)
    path = pack(tmp_path / "b.tar.gz", [("x/train.txt", b"a\n"), ("y/train.txt", b"a\n")])
    with pytest.raises(OdysseyError, match=r"two members for the split train, x/train\.txt and y/train\.txt"):
        read(path)
    with pytest.raises(OdysseyError, match=r"c\.tar\.gz: cs\.CL/valid\.txt has no text"):
        read(archive(tmp_path / "c.tar.gz", valid=b" \n\n"))
    with pytest.raises(OdysseyError, match="'dev' is not a split"):
        list(m2d2.iter_rows(path, "dev"))


@pytest.mark.parametrize(
    "member",
    [
        "/etc/train.txt",
        "cs.CL/../../up",
        "..",
        link("cs.CL/l", "../../up"),
        link("cs.CL/l", "/etc/passwd"),
        link("l", "../up", tarfile.LNKTYPE),
    ],
    ids=str,
)
def test_members_that_would_escape_are_refused_by_name(tmp_path: Path, member: str | tarfile.TarInfo) -> None:
    members: list[tuple[str | tarfile.TarInfo, bytes]] = [(f"cs.CL/{s}.txt", t) for s, t in TEXTS.items()]
    path = pack(tmp_path / "a.tar.gz", [*members, (member, b"")])
    name = member if isinstance(member, str) else member.name
    with pytest.raises(OdysseyError, match=re.escape(f"a.tar.gz: member {name} points outside")):
        read(path)
    with pytest.raises(OdysseyError, match="points outside"):
        list(m2d2.iter_rows(path, "train"))
    assert list(tmp_path.iterdir()) == [path]


def _flip(content: bytes) -> bytes:
    return content[:-6] + bytes([content[-6] ^ 1]) + content[-5:]  # in the checksum


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-200],
        lambda content: content[: len(content) // 2],
        lambda content: content[:15],
        lambda content: b"<html>Not found</html>",
        lambda content: b"",
        lambda content: gzip.compress(b"no tar" * 500),
        lambda content: gzip.compress(gzip.decompress(content)[:5000]),
        _flip,
    ],
    ids=["tail cut", "half", "header", "a page", "empty", "no tar", "tar cut", "bit"],
)
def test_damage_says_to_fetch_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    noise = random.Random(0).randbytes(30_000).hex().encode()
    path = archive(tmp_path / "a.tar.gz", train=b"row\n" * 3 + noise, test=noise)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(OdysseyError, match=r"^[^\n]*a\.tar\.gz: [^\n]*delete the file and fetch it again$"):
        read(path)


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(OdysseyError, match=r"a\.tar\.gz: no such file; fetch it from machelreid/m2d2"):
        read(tmp_path / "a.tar.gz")


def test_other_peoples_errors_pass_through(tmp_path: Path) -> None:
    """An error of the consumer, such as a full disk, is not the archive's."""
    path = archive(tmp_path / "a.tar.gz")

    def consume() -> None:
        for _ in m2d2.read_splits(path):
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        consume()
