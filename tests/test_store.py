"""Folders are whole or absent, and damage is noticed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from odyssey.errors import OdysseyError
from odyssey.store import (
    check_file,
    check_folder,
    content_digest,
    digest,
    is_current,
    new_folder,
    prune,
    read_json,
    sha256,
    write_json,
    write_text,
)


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    with new_folder(folder, {"a": 1}) as temporary:
        (temporary / "x").write_text("old")
    with pytest.raises(ZeroDivisionError):
        _fail_half_way(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["cell"]
    assert (folder / "x").read_text() == "old"
    assert is_current(folder, {"a": 1})


def test_current_means_same_origin_and_same_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    assert not is_current(folder, {})
    with new_folder(folder, {"a": (1, 2)}) as temporary:
        (temporary / "x").write_bytes(b"12")
    assert is_current(folder, {"a": [1, 2]})
    assert not is_current(folder, {"a": [1, 3]})
    (folder / "x").write_bytes(b"13")
    assert not is_current(folder, {"a": [1, 2]})


def test_damage_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    with pytest.raises(OdysseyError, match="not there yet; run `dvc repro adapt@tiny` first"):
        check_folder(folder, "adapt@tiny")
    with new_folder(folder, {}) as temporary:
        (temporary / "x").write_bytes(b"12")
    assert check_folder(folder, "adapt@tiny") == content_digest(folder) == digest({"x": sha256(folder / "x")})
    (folder / "x").write_bytes(b"13")
    with pytest.raises(OdysseyError, match=r"cell/x: damaged .*run `dvc repro adapt@tiny`"):
        check_folder(folder, "adapt@tiny")
    (folder / "x").unlink()
    with pytest.raises(OdysseyError, match="cell/x: missing"):
        check_folder(folder, "adapt@tiny")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(OdysseyError, match=r"manifest\.json: not readable as JSON"):
        check_folder(folder, "adapt@tiny")


def test_the_same_bytes_made_from_something_else_are_the_same_content(tmp_path: Path) -> None:
    for name, made_from in (("a", {"code": 1}), ("b", {"code": 2})):
        with new_folder(tmp_path / name, made_from, {"batch_size": 3}) as temporary:
            (temporary / "x").write_bytes(b"12")
    assert content_digest(tmp_path / "a") == content_digest(tmp_path / "b") is not None
    assert is_current(tmp_path / "a", {"code": 1})
    assert not is_current(tmp_path / "a", {"code": 2})
    assert content_digest(tmp_path / "none") is None


def test_only_what_is_read_is_checked(tmp_path: Path) -> None:
    with new_folder(tmp_path / "cell", {}) as temporary:
        (temporary / "large").write_bytes(b"12")
        (temporary / "small").write_bytes(b"34")
    (tmp_path / "cell" / "large").write_bytes(b"13")
    assert check_file(tmp_path / "cell" / "small", "adapt") == sha256(tmp_path / "cell" / "small")
    with pytest.raises(OdysseyError, match="large: damaged"):
        check_file(tmp_path / "cell" / "large", "adapt")
    check_folder(tmp_path / "cell", "adapt", only=["small"])


def test_prune_leaves_what_is_being_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        for name in (f".cell.{process.pid}.tmp", f".cell.{os.getpid()}.tmp", "gone"):
            (tmp_path / name).mkdir()
        prune(tmp_path, keep=set())
        assert [path.name for path in tmp_path.iterdir()] == [f".cell.{process.pid}.tmp"]
        assert f"deleted {tmp_path / 'gone'}" in capsys.readouterr().out
        process.kill()
    prune(tmp_path, keep=set())
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_of_a_folder_goes_when_it_is_made(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        others = [f".cell.{process.pid}.tmp", ".cell.a.123.tmp", "cell.123.tmp"]
        for name in (*others, f".cell.{os.getpid()}.tmp"):
            (tmp_path / name).mkdir()
        with new_folder(tmp_path / "cell", {}):
            pass
        assert {path.name for path in tmp_path.iterdir()} == {"cell", *others}
        process.kill()
    with new_folder(tmp_path / "cell", {}):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"cell", *others[1:]}


@pytest.mark.parametrize("manifest", [{"made_from": {}}, {"files": {}}])
def test_a_manifest_that_lacks_something_is_damaged(tmp_path: Path, manifest: dict[str, object]) -> None:
    write_json(tmp_path / "manifest.json", {**manifest, "sha256": digest(manifest)})
    with pytest.raises(OdysseyError, match="damaged"):
        check_folder(tmp_path, "adapt")


def test_prune_clears_what_is_not_wanted(tmp_path: Path) -> None:
    for name in ("a", "b", ".c.123.tmp"):
        (tmp_path / name).mkdir()
    prune(tmp_path, keep={"a"})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    prune(tmp_path / "none", keep=set())


def test_json_is_the_same_for_the_same_value(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": 1, "y": [0.1]})
    write_json(tmp_path / "b", {"y": [0.1], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a") == {"x": 1, "y": [0.1]}
    write_text(tmp_path / "sub" / "c", "é")
    assert (tmp_path / "sub" / "c").read_text(encoding="utf-8") == "é"


def _fail_half_way(folder: Path) -> None:
    with new_folder(folder, {"a": 2}) as temporary:
        (temporary / "x").write_text("half")
        (temporary / "y").write_text(str(1 // 0))
