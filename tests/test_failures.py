"""What can be expected to go wrong is one line, whichever library raises it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import ROOT
from results import put_in_use

from odyssey.cli import main
from odyssey.layout import Layout
from odyssey.panics import is_panic, panic_text
from odyssey.settings import Settings
from odyssey.stages import adapt
from odyssey.sweeping import work
from odyssey.sweeping.journal import Journal


def panic() -> BaseException:
    """What tokenizers raises where a pattern tries too much: no Exception."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    with pytest.raises(BaseException, match="Regex") as caught:
        Split(Regex("(a+)+$"), "isolated").pre_tokenize_str("a" * 40 + "b")
    assert not isinstance(caught.value, Exception)
    return caught.value


@pytest.mark.parametrize("number", [errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG])
def test_a_place_that_cannot_be_a_folder_is_one_line(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "/data/x")

    monkeypatch.setattr(adapt, "run", fail)
    said = CliRunner().invoke(main, ["--params", str(ROOT / "params.yaml"), "--data", str(tmp_path), "adapt"])
    assert said.exit_code == 1
    _, told = said.stderr.splitlines()
    assert told.startswith("Error: ")
    assert " at /data/x" in told
    assert "folder" in told.partition(": ")[2]


def test_results_in_a_file_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("a file\n")
    said = CliRunner().invoke(main, ["--params", "nowhere.yaml", "--data", str(file), "sample"])
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr == f"Error: --data {file}: a file; name the folder that the results are in, or a new one\n"


def test_results_below_a_file_are_one_line(settings: Settings, tmp_path: Path) -> None:
    params = put_in_use(settings, tmp_path)
    said = CliRunner().invoke(main, ["--params", str(params), "--data", str(params / "data"), "evaluate"])
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr.splitlines()[-1].startswith("Error: ")


def test_a_tokenizer_that_gives_up_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "model")
    file = tmp_path / "model" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    pattern = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [pattern, tokenizer["pre_tokenizer"]]}
    file.write_text(json.dumps(tokenizer))
    (tmp_path / "text.txt").write_text("a" * 40 + "b\n")
    command = ["perplexity", "--model", str(tmp_path / "model"), "--text", str(tmp_path / "text.txt")]
    said = CliRunner().invoke(main, command)
    assert (said.exit_code, said.stdout) == (1, "")
    told = said.stderr.splitlines()[-1]
    assert told.startswith("Error: perplexity: the model's tokenizer failed on the text (")
    assert "another tokenizer" in told


def test_what_is_no_panic_passes() -> None:
    assert is_panic(panic())
    assert not is_panic(KeyboardInterrupt())
    assert "\n" not in panic_text(panic())


def test_a_cell_whose_tokenizer_gives_up_does_not_stop_the_others(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, domain: str, **__: Any) -> None:
        if domain == "torch":
            raise panic()

    monkeypatch.setattr(work, "_do", lambda settings, layout, model, domain, watch: fail(domain=domain))
    journal = Journal(tmp_path / "journal")
    failed = work.run(settings, Layout(tmp_path), model="tiny", domains=["torch", "pandas"], journal=journal)
    assert failed == ["torch"]
    assert [event.why[:28] for event in journal.all() if event.why] == ["the model's tokenizer failed"]

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "_do", stop)
    with pytest.raises(KeyboardInterrupt):
        work.run(settings, Layout(tmp_path), model="tiny", domains=["torch"])
