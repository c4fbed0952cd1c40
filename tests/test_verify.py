"""`odyssey verify` on invented results: what was recorded is found again, and what differs is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from results import QUICK, put_in_use, write_results

from odyssey.cli import main
from odyssey.layout import Layout
from odyssey.reference import COUNTS, STATISTICS, VERDICTS, effective
from odyssey.settings import Settings
from odyssey.stages import claims, report
from odyssey.store import MANIFEST, new_folder, read_json, write_json
from odyssey.verification import TEXTS, TOLERANCES, read_reference, reference_file

RELATIVE = [name for name, tolerance in TOLERANCES.items() if tolerance.most and not tolerance.near_zero]
STAGES = "sample (5), pretrain (2), embed (5), similarity (1), adapt (8), evaluate (8), tokens (8), joins (8)"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def chosen(smoke_settings: Settings) -> Settings:
    """The tiny study with few resamples."""
    return smoke_settings.model_copy(update={"claims": QUICK})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, chosen: Settings) -> Path:
    """A folder with the study finished, and its reference."""
    folder = tmp_path_factory.mktemp("verified")
    put_in_use(chosen, folder)
    layout = Layout(folder / "data" / chosen.study)
    write_results(chosen, layout)
    with pytest.MonkeyPatch.context() as patch:
        report_without_figures(patch, chosen, layout)
    said = verify(folder, "--record")
    assert said.exit_code == 0, said.output
    return folder


def report_without_figures(patch: pytest.MonkeyPatch, settings: Settings, layout: Layout) -> None:
    """The real report but for what takes long and has no numbers."""
    patch.setattr(report, "draw", lambda *_: iter(()))
    report.run(settings, layout)


@pytest.fixture
def recorded(root: Path, chosen: Settings) -> Iterator[Callable[[Change], None]]:
    """Changes what the reference says, for one test."""
    file = reference_file(chosen, root)
    before = file.read_bytes()

    def change(how: Change) -> None:
        content = json.loads(before)
        how(content)
        file.write_text(json.dumps(content), encoding="utf-8")

    yield change
    file.write_bytes(before)


def verify(root: Path, *options: str) -> Result:
    places = ("--params", str(root / "params.yaml"), "--data", str(root / "data"))
    return CliRunner().invoke(main, [*places, "verify", *options])


def row(said: Result, quantity: str) -> list[str]:
    """The columns of a quantity's line, its name left out."""
    (line,) = [line for line in said.stdout.splitlines() if line.startswith(quantity + "  ")]
    return [part.strip() for part in line.removeprefix(quantity).split("  ") if part.strip()]


# --- numbers


def test_what_was_recorded_is_found_again(root: Path, chosen: Settings) -> None:
    said = verify(root)
    assert said.exit_code == 0, said.output
    counted = {quantity: row(said, quantity)[0] for quantity in TOLERANCES}
    cells = dict.fromkeys(RELATIVE[2:], "8")
    # Per domain n of both sides and d; per cell units, parameters, tokens and bytes, and of the token tables
    # chunks, chunks wanted and tokens of both splits and tokens of train and source.
    counts = str(4 * 3 + 8 * (1 + 1 + 2 + 8))
    number = str(len(json.loads(reference_file(chosen, root).read_text())["numbers"][VERDICTS]))
    assert counted == {TEXTS: "5", COUNTS: counts, "MMD": "4", "FD": "4", **cells, STATISTICS: number, VERDICTS: number}
    assert all(row(said, quantity)[1:3] == [counted[quantity], "none"] for quantity in TOLERANCES)
    assert all(row(said, quantity)[-1] == "same" for quantity in TOLERANCES)
    assert f"bit for bit the same: {STAGES}, claims (1), report (1)\n" in said.stdout
    assert "here the same\n" in said.stdout
    assert said.stdout.endswith("numbers of study 'smoke' are what was recorded, within tolerance\n")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("quantity", [*RELATIVE, STATISTICS])
def test_a_number_may_lie_within_its_tolerance_and_not_beyond(
    root: Path, recorded: Callable[[Change], None], quantity: str, sign: int
) -> None:
    tolerance = TOLERANCES[quantity]

    def by(part: float) -> Change:
        def change(content: dict[str, Any]) -> None:
            numbers = content["numbers"][quantity]
            # The number found is so far from the recorded one, as a part of that.
            name = next(
                name
                for name, value in numbers.items()
                if value is not None and (quantity != STATISTICS or abs(value) < 1)
            )
            shift = sign * part * tolerance.most
            numbers[name] = numbers[name] + shift if tolerance.near_zero else numbers[name] / (1 + shift)

        return change

    recorded(by(0.9))
    said = verify(root)
    assert said.exit_code == 0, said.output
    (compared, same, *_, verdict) = row(said, quantity)
    assert (int(compared) - int(same), verdict) == (1, "within")
    assert "beyond tolerance" not in said.stdout
    recorded(by(1.1))
    said = verify(root)
    assert said.exit_code == 1
    assert row(said, quantity)[-1] == "BEYOND"
    told = said.stdout.partition("beyond tolerance:\n")[2].splitlines()
    assert told[0].startswith(f"  {quantity}, ")
    assert told[0].endswith(tolerance.shown(1.1 * tolerance.most))
    assert (told[1], told[2].partition(" of ")[0]) == ("", "1")


def test_counts_texts_and_verdicts_are_to_be_equal(root: Path, recorded: Callable[[Change], None]) -> None:
    def change(content: dict[str, Any]) -> None:
        content["numbers"][COUNTS]["one/click scored.tokens"] += 1
        content["contents"]["sample"]["jinja2"] = "0" * 64
        content["contents"]["tokens"]["two/click"] = "0" * 64  # no number: said, and no more
        content["numbers"][VERDICTS]["1 one"] = "never heard of"

    recorded(change)
    said = verify(root)
    assert said.exit_code == 1
    told = said.stdout.partition("beyond tolerance:\n")[2].splitlines()
    assert told[1] == "  counts, one/click scored.tokens: recorded 501, found 500, 0.2 %"
    assert told[0].startswith(f"  texts drawn, jinja2: recorded {'0' * 64}, found ")
    assert told[2].startswith("  verdicts, 1 one: recorded never heard of, found ")
    assert told[4].startswith("3 of ")
    assert "not in all: sample (4 of 5), tokens (7 of 8)" in said.stdout


@pytest.mark.parametrize(("recorded_as", "shown"), [(None, "recorded nothing"), (0.0, "recorded 0,")])
def test_a_number_that_is_in_one_only_is_a_difference(
    root: Path, recorded: Callable[[Change], None], recorded_as: float | None, shown: str
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["numbers"]["FD"]["click"] = recorded_as
        del content["numbers"]["MMD"]["click"]
        content["numbers"]["MMD"]["of nowhere"] = 1.0

    recorded(change)
    said = verify(root)
    assert said.exit_code == 1
    told = [line for line in said.stdout.splitlines() if line.endswith(", unlike")]
    assert [line.split(":")[0] for line in told] == ["  MMD, of nowhere", "  MMD, click", "  FD, click"]
    assert ": recorded 1, found nothing" in told[0]
    assert ": recorded nothing, found 0." in told[1]
    assert shown in told[2]


def test_a_result_that_changed_is_seen_by_its_numbers(
    chosen: Settings, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    layout = Layout(tmp_path / "data" / chosen.study)
    folder = layout.evaluated("two", "sympy.logic")
    scores = read_json(folder / "scores.json")
    scores["zero_shot"]["nll_sum"] += 0.03 * scores["zero_shot"]["tokens"]  # 3 % of perplexity
    with new_folder(folder, read_json(folder / MANIFEST)["made_from"]) as new:
        shutil.copytree(folder, new, dirs_exist_ok=True)
        write_json(new / "scores.json", scores)
    said = verify(tmp_path)
    assert (said.exit_code, said.stdout) == (1, "")
    assert "run `dvc repro claims`" in said.stderr
    claims.run(chosen, layout)
    assert "run `dvc repro report`" in verify(tmp_path).stderr
    report_without_figures(monkeypatch, chosen, layout)
    said = verify(tmp_path)
    assert said.exit_code == 1
    told = said.stdout.partition("beyond tolerance:\n")[2].splitlines()
    assert told[0].startswith("  perplexity zero-shot, two/sympy.logic: recorded ")
    assert told[0].endswith(", 3 %")
    assert "not in all: evaluate (7 of 8), claims (0 of 1), report (0 of 1)" in said.stdout


# --- what cannot be compared


def refusal(said: Result) -> str:
    """The one line of an error; nothing is printed beside it."""
    assert (said.exit_code, said.stdout) == (1, "")
    announced, told = said.stderr.splitlines()
    assert announced.startswith(("verify: compare", "verify: record"))
    assert told.startswith("Error: ")
    return told


@pytest.mark.parametrize(
    ("stage", "place"),
    [
        ("sample", "sample/domains/click"),
        ("pretrain", "pretrain/one"),
        ("embed", "embed/source"),
        ("similarity", "similarity"),
        ("adapt", "adapt/two/jinja2"),
        ("evaluate", "evaluate/one/networkx.utils"),
        ("tokens", "tokens/two/click"),
        ("joins", "joins/one/click"),
        ("claims", "claims"),
        ("report", "report"),
    ],
)
def test_an_unfinished_study_names_the_stage_to_run(chosen: Settings, root: Path, stage: str, place: str) -> None:
    folder, file = root / "data" / chosen.study / place, reference_file(chosen, root)
    before = file.read_bytes()
    folder.rename(root / "aside")
    try:
        assert f"dvc repro {stage}" in refusal(verify(root))
        assert f"dvc repro {stage}" in refusal(verify(root, "--record"))
    finally:
        (root / "aside").rename(folder)
    assert file.read_bytes() == before


def test_a_damaged_result_is_named(chosen: Settings, root: Path) -> None:
    file = Layout(root / "data" / chosen.study).embedding("click")
    before = file.read_bytes()
    file.write_bytes(before[:-1] + b"?")
    assert f"{file}: damaged" in refusal(verify(root))
    file.write_bytes(before)


def test_another_seed_is_named(root: Path) -> None:
    params = root / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("seed: 0", "seed: 5"))
    told = refusal(verify(root))
    assert "recorded with seed 0, and params.yaml has seed 5; set `seed: 0`" in told
    params.write_text(before)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("adapt.epochs", 2, "'adapt.epochs' 2, and the study has 1"),
        ("embed.group_words", 50, "'embed.group_words' 50, and the study has null"),
        ("domains.flask.corpus", "docstrings", "'domains.flask.corpus' \"docstrings\", and the study has left out"),
        ("domains.click.portion", None, "'domains.click.portion' left out, and the study has \"software\""),
    ],
)
def test_other_settings_are_named(
    root: Path, recorded: Callable[[Change], None], key: str, value: Any, told: str
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["settings"].pop(key, None)
        content["settings"] |= {} if value is None else {key: value}

    recorded(change)
    assert told in refusal(verify(root))


def test_settings_that_change_no_result_may_differ(chosen: Settings, root: Path) -> None:
    engine = chosen.adapt.engine.model_copy(update={"micro_batch_size": 2})
    changed: dict[str, Any] = {
        "sample": chosen.sample.model_copy(update={"workers": 3}),
        "embed": chosen.embed.model_copy(update={"batch_size": 4}),
        "evaluate": chosen.evaluate.model_copy(update={"batch_tokens": 64}),
        "adapt": chosen.adapt.model_copy(update={"engine": engine}),
        "accept_licenses": True,
    }
    other = chosen.model_copy(update=changed)
    assert effective(other) == effective(chosen)
    assert read_reference(other, root).seed == 0
    assert effective(chosen.model_copy(update={"joins": None})) != effective(chosen)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"study": "smoke", ', "not readable as JSON"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b"9" * 5000, "not readable as JSON"),
        (b"[]", "expected a mapping"),
        (b"{}", "key 'study' is missing"),
        (None, "key 'numbers.FD.click"),
    ],
)
def test_a_damaged_reference_is_one_error(root: Path, chosen: Settings, content: bytes | None, told: str) -> None:
    file = reference_file(chosen, root)
    before = file.read_bytes()
    if content is None:
        held = json.loads(before)
        held["numbers"]["FD"]["click"] = []
        content = json.dumps(held).encode()
    file.write_bytes(content)
    said = refusal(verify(root))
    file.write_bytes(before)
    assert f"{file}: {told}" in said
    assert said.endswith("bring it back from git, or record what is here with `odyssey verify --record`")


def test_a_reference_with_what_this_version_does_not_know_is_damaged(
    root: Path, recorded: Callable[[Change], None]
) -> None:
    recorded(lambda content: content["numbers"].update({"elegance": {}}))
    assert "unknown quantity 'elegance'" in refusal(verify(root))
    recorded(lambda content: content.update({"study": "another"}))
    assert "recorded of study 'another', not of 'smoke'" in refusal(verify(root))


def test_nothing_recorded_says_how_to_record(root: Path, chosen: Settings) -> None:
    file = reference_file(chosen, root)
    file.rename(root / "aside")
    assert "nothing is recorded of study 'smoke'; `odyssey verify --record`" in refusal(verify(root))
    (root / "aside").rename(file)
