"""What is shown cannot act, what listens does so on this machine only, and no secret is kept anywhere."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import published
import pytest
import results
from click.testing import CliRunner, Result
from conftest import ROOT
from markdown_it import MarkdownIt
from published import CELLS
from results import put_in_use, write_results
from servers import free_port, started

from odyssey import description, model_card
from odyssey.choice import listing
from odyssey.cli import main
from odyssey.cli.terminal import harmless
from odyssey.description import Places
from odyssey.layout import Layout
from odyssey.record import Data
from odyssey.sections import LocalDomain, LocalSource, PublishedModel
from odyssey.settings import Settings
from odyssey.stages import report, track

SCRIPT = "<script>alert(1)</script>"
HOSTILE = [
    SCRIPT,
    "</td></tr></table>",
    "| a | b",
    "[x](javascript:alert(1))",
    "``` `a",
    "<img src=x onerror=alert(1)>",
]
HOSTILE += ["--><script>", "]]>", "&lt;b&gt;", "\\u001b[2J", "{{ 7 * 7 }}", "![x](http://evil/x)"]
"""Tokens as `stages.tokens.display` leaves them, which writes out what does not print."""

# --- markup


@pytest.fixture(scope="module")
def hostile() -> Settings:
    """Two domains and a model, with markup wherever a study has room for a text of the user's."""
    plain = published.study("hostile")
    text = f"texts/{SCRIPT}"
    domains = {
        name: LocalDomain(corpus="local", path=text, portion=about.portion) for name, about in plain.domains.items()
    }
    # Not validated: what validation refuses is to be harmless all the same.
    model = PublishedModel.model_construct(
        checkpoint=f"own/{SCRIPT}`|", revision=None, context=16, adapt_learning_rate=1e-3
    )
    return plain.model_copy(
        update={
            "domains": domains,
            "source": LocalSource(corpus="local", path=text, text=SCRIPT, rows=9),
            "models": {"tiny": model},
            "evaluate": plain.evaluate.model_copy(update={"separator": f"`|\n{SCRIPT}\x1b[2J"}),
            "embed": plain.embed.model_copy(update={"encoder": f"enc/{SCRIPT}"}),
            "report": plain.report.model_copy(update={"top_tokens": len(HOSTILE)}),
        }
    )


@pytest.fixture(scope="module")
def shown(hostile: Settings, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """The report of invented results whose tokens are markup."""
    layout = Layout(tmp_path_factory.mktemp("hostile") / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "TOKENS", HOSTILE + results.TOKENS[len(HOSTILE) :])
        write_results(hostile, layout)
    report.run(hostile, layout)
    return layout


class Page(HTMLParser):
    """A page's elements and attributes, and its text without scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.elements[-1:] not in (["script"], ["style"]):
            self.text += data


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    return page


def is_harmless(page: Page, scripts: int) -> None:
    assert page.elements.count("script") == scripts
    assert not {"img"} & set(page.elements) or all(
        value.startswith("data:") for name, value in page.attributes if name == "src"
    )
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [value for name, value in page.attributes if name == "href" and "javascript" in value.lower()]


def test_markup_is_text_in_the_report(shown: Layout) -> None:
    html = (shown.report / "report.html").read_text(encoding="utf-8")
    page = read(html)
    is_harmless(page, scripts=1)
    held = {row["token"] for row in rows(shown, "top_tokens")} & set(HOSTILE)
    assert len(held) > len(HOSTILE) / 2
    for token in held:
        assert token.replace(" ", "␣") in page.text, token
    assert f"texts/{SCRIPT}" in page.text
    assert f"own/{SCRIPT}`|" in page.text
    assert SCRIPT not in html
    assert "\x1b" not in html
    assert "default-src 'none'" in html


def test_markup_is_text_in_the_figures(shown: Layout) -> None:
    drawings = sorted((shown.report / "figures").glob("*.svg"))
    assert len(drawings) > 4
    for drawing in drawings:
        for element in ET.parse(drawing).iter():
            assert not str(element.tag).endswith(("script", "foreignObject"))
            assert not [
                name for name in element.attrib if name.startswith("on") or "javascript" in element.attrib[name]
            ]


def rendered(markdown: str) -> Page:
    """Markdown as a renderer makes HTML of it that lets HTML through: stricter ones drop it."""
    return read(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))


def rows(layout: Layout, name: str) -> list[dict[str, str]]:
    import csv

    with (layout.report / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_markup_is_text_in_mlflows_descriptions(shown: Layout, hostile: Settings) -> None:
    headline, tokens = rows(shown, "headline"), rows(shown, "top_tokens")
    places = Places("1", "f" * 32, {(row["model"], row["domain"]): "a" * 32 for row in headline})
    for chosen in HOSTILE:
        own = [row | {"token": chosen} for row in tokens]
        for told in (
            description.experiment(hostile, headline, own, places),
            description.summary(hostile, headline, [], own, [], places),
        ):
            page = rendered(told)
            is_harmless(page, scripts=0)
            assert chosen.replace(" ", "␣") in page.text
            assert page.elements.count("table") <= 1


def test_markup_is_text_in_a_models_card(hostile: Settings) -> None:
    score = {"nll_sum": 30.0, "tokens": 10, "bytes": 40}
    about: dict[str, Any] = {"parameters": 9, "separator": hostile.evaluate.separator, "context": 16}
    facts = model_card.Facts(
        settings=hostile,
        model="tiny",
        domain="mpmath",
        name=f"a {SCRIPT} [x](javascript:alert(1))",
        scores={"mpmath": about | {"zero_shot": score, "adapted": score}},
        similarity={"mmd": "0.1", "fd": "0.2", "n_source": "9", "n_target": "9"},
        evidence={"change_low": "1", "change_high": "2", "outcome": "worse"},
        data=[Data("mpmath/test", Path("x"), "md5", "test", {"rows": 1})],
        sha256={"mpmath/test": "0"},
        weights={"model.safetensors": "0"},
        commit=None,
        packages={"torch": "1"},
        run_id="r",
        code="`c`",
    )
    for told in (
        model_card.markdown(facts, "models:/m", "sqlite:///x"),
        model_card.description(facts, "models:/m", "sqlite:///x", 5000),
    ):
        assert "\x1b" not in told
        page = rendered(told)
        is_harmless(page, scripts=0)
        assert f"enc/{SCRIPT}" in page.text


# --- terminals


def test_what_a_terminal_would_act_on_is_written_out(tmp_path: Path) -> None:
    assert harmless("a\tb\n\x1b[2J\r\x9b\u202e\ud800é␣") == "a\tb\n\\x1b[2J\\r\\x9b\\u202e\\ud800é␣"
    name = "\x1b]0;owned\x07.txt"
    (tmp_path / name).write_text("text\n")
    said = CliRunner().invoke(main, ["distance", "--source", str(tmp_path / name), "--target", str(tmp_path / name)])
    assert "\x1b" not in said.stderr.splitlines()[0]
    assert "owned" in said.stderr.splitlines()[0]
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.yaml").write_text("# \x1b[2J Cleared. More\n")
    (tmp_path / "params.yaml").write_text("study: mine\nseed: 0\naccept_licenses: false\n")
    assert listing(tmp_path / "params.yaml") == "* mine  \\x1b[2J Cleared"


# --- what listens


def listening(process: int) -> set[str]:
    """Addresses, as the kernel writes them, at which a process and those it started accept connections."""
    above = {int(folder.name): _parent(folder) for folder in Path("/proc").glob("[0-9]*")}
    own = {process}
    while more := {one for one, parent in above.items() if parent in own} - own:
        own |= more
    sockets = {
        link[8:-1] for one in own for link in _links(Path("/proc", str(one), "fd")) if link.startswith("socket:[")
    }
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {line[1].partition(":")[0] for line in lines if line[3] == "0A" and line[9] in sockets}


def _parent(process: Path) -> int:
    with suppress(OSError):
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    return -1


def _links(folder: Path) -> list[str]:
    found: list[str] = []
    with suppress(OSError):
        found += [str(link.readlink()) for link in folder.iterdir()]
    return found


HERE = {"0100007F", "0" * 24 + "01000000"}
"""127.0.0.1 and ::1, as the kernel writes them."""


@pytest.mark.slow
def test_training_listens_to_this_machine_only(tmp_path: Path) -> None:
    """In a process of its own: what others of this one listen at is not its doing."""
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import numpy as np
from conftest import SHAPE, TEXTS
from test_security_shown import listening
from odyssey import models, tokenization
from odyssey.settings import load_settings
from odyssey.training import train
recipe = load_settings({str(ROOT / "params.yaml")!r}, "mini").adapt
model = models.new_model(SHAPE, tokenization.train_tokenizer(TEXTS, SHAPE.vocabulary, SHAPE.context), 0)
def look(step):
    print("listening:", *listening(os.getpid()))
    return [0.0]
train(model, np.zeros((2, 16), dtype=np.int32), recipe, 1e-3, 0, label="x", probe=look, probe_steps=(0, 1))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"(?m)^listening:(.*)$", done.stdout)
    assert len(found) == 2
    assert {address for line in found for address in line.split()} <= HERE, done.stdout


@pytest.mark.slow
def test_the_ui_listens_to_this_machine_only_and_asks_who_calls(store: Path) -> None:
    settings = published.study("served")
    track.run(settings, published.fill(store, settings))
    put_in_use(settings, store)
    port = free_port()
    command = (sys.executable, "-m", "odyssey", "ui", "--port", str(port))
    with started(*command, folder=store) as server:
        address = f"http://127.0.0.1:{port}"
        server.page(f"{address}/health")
        assert listening(server.process.pid) == {"0100007F"}
        experiments = f"{address}/api/2.0/mlflow/experiments/search"
        body = json.dumps({"max_results": 1}).encode()
        for headers, status in (
            ({}, 200),
            ({"Host": "evil.example"}, 403),  # as after DNS is bent to 127.0.0.1
            ({"Origin": "http://evil.example"}, 403),
        ):
            asked = urllib.request.Request(experiments, body, {"Content-Type": "application/json", **headers})
            assert answered(asked) == status, headers


def answered(asked: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


# --- secrets

SECRETS = {
    "HF_TOKEN": "hf_planted0000000000000000000000001",
    "HUGGING_FACE_HUB_TOKEN": "hf_planted0000000000000000000000002",
    "MLFLOW_TRACKING_TOKEN": "planted-tracking-token-3",
    "MLFLOW_TRACKING_USERNAME": "planted-user-4",
    "MLFLOW_TRACKING_PASSWORD": "planted-password-5",
    "AWS_SECRET_ACCESS_KEY": "planted+aws/key-6",
}
IN_ADDRESS, IN_REMOTE = "planted-address-7", "ghp_planted0000000000000000000000008"
PARTS = [f"planted9{letter}" for letter in "abcde"]
ODD = "{}/{}@{}#{}?{}".format(*PARTS)
"""A password of all that an address has another use for."""


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with results, in git, and with secrets in the environment and in git's remote."""
    settings = published.study("planted")
    return plant(tmp_path, monkeypatch, settings, lambda folder: published.fill(folder, settings))


def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings, fill: Callable[[Path], object]) -> Path:
    folder = tmp_path / "a project"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
        monkeypatch.delenv(name)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    fill(folder)
    (folder / "data").rename(folder / "filled")
    (folder / "data").mkdir()
    (folder / "filled").rename(folder / "data" / settings.study)
    put_in_use(settings, folder)
    (folder / ".gitignore").write_text("data\nmlflow.*\nmlartifacts\n")
    for command in (
        ("init", "--quiet"),
        ("add", "--all"),
        ("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "t"),
        ("remote", "add", "origin", f"https://user:{IN_REMOTE}@github.com/some/project"),
    ):
        subprocess.run(["git", *command], check=True)
    (folder / "studies" / "planted.yaml").open("a").write("# changed since the commit\n")
    return folder


def leaks(folder: Path, *said: str) -> list[str]:
    """Where a planted secret is, in whatever form: as it is, or as HTTP's basic credentials."""
    known = {**SECRETS, "address": IN_ADDRESS, "remote": IN_REMOTE}
    known |= {f"part {part}": part for part in PARTS}
    pair = f"{SECRETS['MLFLOW_TRACKING_USERNAME']}:{SECRETS['MLFLOW_TRACKING_PASSWORD']}"
    known["basic"] = base64.b64encode(pair.encode()).decode()
    known["odd basic"] = base64.b64encode(f"user:{ODD}".encode()).decode()
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts]
    assert len(files) > 20
    texts = {str(path): path.read_bytes() for path in files} | {f"said {k}": one.encode() for k, one in enumerate(said)}
    return [f"{name} in {place}" for place, text in texts.items() for name, it in known.items() if it.encode() in text]


def told(result: Result) -> Iterator[str]:
    """All that a command printed, and the error that it ended with."""
    yield result.output
    yield result.stderr
    error: BaseException | None = result.exception
    while error is not None:
        yield repr(error)
        error = error.__cause__ if error.__suppress_context__ else error.__context__


def test_a_planted_secret_is_found(planted: Path) -> None:
    assert leaks(planted) == []
    (planted / "data" / "log.txt").write_text(f"https://x:{IN_ADDRESS}@host")
    assert leaks(planted, SECRETS["HF_TOKEN"]) == [
        f"address in {planted / 'data' / 'log.txt'}",
        "HF_TOKEN in said 0",
    ]


def test_no_secret_is_kept_or_said_by_a_publication(planted: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    for command in (["-v", "track"], ["track"], ["plan"], ["headline"], ["restore", "0" * 32]):
        done = CliRunner().invoke(main, command)
        said += told(done)
        assert done.exit_code == (command[0] == "restore") or command[0] == "headline", done.output
    assert json.loads((planted / "data" / "planted" / "track" / "published.json").read_text())["tracking_uri"] == (
        "sqlite:///mlflow.db"
    )
    assert len(list((planted / "mlartifacts").rglob("dirty.diff"))) == len(CELLS) + 1
    assert leaks(planted, *said, *capfd.readouterr()) == []


def test_no_secret_is_said_of_a_store_that_fails(
    planted: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:{IN_ADDRESS}@127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said: list[str] = []
    for command in (["-v", "track"], ["restore", "0" * 32]):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 1
        assert "127.0.0.1" in done.stderr
        said += told(done)
    assert leaks(planted, *said, *capfd.readouterr()) == []


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://user:{ODD}@127.0.0.1:1/mlflow",
        f"http://127.0.0.1:{ODD}@127.0.0.1:1",
        f"http://127.0.0.1:1/mlflow?token={IN_ADDRESS}",
        *(f"postgresql://user:{PARTS[0]}{odd}{PARTS[1]}@127.0.0.1:1/mlflow" for odd in "/@#?"),
        *(f"http://127.0.0.1:1{odd}{PARTS[0]}{odd}{PARTS[1]}@127.0.0.1:1/mlflow" for odd in "/@#?"),
    ],
)
def test_no_part_of_a_password_is_said_whatever_is_in_it(
    planted: Path, address: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("odyssey.tracking.connection.FIRST_ANSWER", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    said: list[str] = []
    for command in (["-v", "track"], ["restore", "0" * 32], ["ui"], ["claims", "--all-seeds"]):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 1
        said += told(done)
    assert leaks(planted, *said, *capfd.readouterr()) == []


def test_no_secret_is_kept_or_said_by_a_sweep(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Scripts and pickles for SLURM hold commands; a job's environment is what SLURM hands on."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, says in (("sbatch", "Submitted batch job 17"), ("srun", ""), ("squeue", "")):
        (commands / name).write_text(f"#!/bin/sh\necho '{says}'\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://user:{ODD}@127.0.0.1:1/{IN_ADDRESS}")
    said: list[str] = []
    there = ["sweep", "--on", "slurm", "--gpu", "cpu"]
    for command in ([*there, "--dry-run"], [*there, "--no-wait"], ["sweep", "--status"]):
        done = CliRunner().invoke(main, command)
        said += told(done)
        assert done.exit_code == 0, done.output
    left = [path.name for path in (planted / "data" / "planted" / "sweep").rglob("*") if path.is_file()]
    assert [name for name in left if name.endswith(".pkl")]
    assert [name for name in left if name.endswith(".sh")]
    assert leaks(planted, *said, *capfd.readouterr()) == []


@pytest.mark.slow
def test_no_secret_is_kept_or_said_of_a_model(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Registered, advised on and verified, with a server whose files are searched, too."""
    from test_registry import DOMAIN, MODEL, fill, small_study

    settings = small_study("planted")
    plain = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    folder = plant(tmp_path, monkeypatch, settings, lambda folder: fill(folder, settings, checkpoint))
    for name, about in (("mine.txt", "The value"), ("theirs.txt", "A frame or table")):
        rows = [f"{about} {k} of row {k * k} is returned. " * 9 for k in range(80)]
        (folder / name).write_text("\n\n".join(rows))
    asked = ["--model", str(checkpoint), "--source", "theirs.txt", "--domain", "mine.txt", "--learning-rate", "1e-3"]
    kept, port = folder / "server", free_port()
    kept.mkdir()
    places = ("--backend-store-uri", f"sqlite:///{kept / 'runs.db'}", "--artifacts-destination", str(kept / "files"))
    server = (sys.executable, "-m", "mlflow", "server", *places, "--port", str(port), "--workers", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:{quote(ODD, safe='')}@127.0.0.1:{port}")
    said: list[str] = []
    with started(*server, folder=kept, environment=plain) as running:
        running.page(f"http://127.0.0.1:{port}/health")
        for command, status in (
            (["track"], 0),
            (["register", "--model", MODEL, "--domain", DOMAIN], 0),
            (["register", "--model", MODEL], 0),
            (["advise", *asked, "--no-probe"], 0),
            (["verify", "--record"], 1),  # the report is none
        ):
            # Of a process of its own: what libraries have read of the environment of the tests is not asked.
            words = [sys.executable, "-m", "odyssey", *command]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            said += [done.stdout, done.stderr]
            assert done.returncode == status, done.stderr
    assert len(list((kept / "files").rglob("*.safetensors"))) == 2
    assert len(list((kept / "files").rglob("README.md"))) == 2
    assert leaks(folder, *said, *capfd.readouterr()) == []


@pytest.mark.slow
def test_no_secret_is_kept_or_said_with_a_server(
    planted: Path, server: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    address = server.replace("http://", f"http://user:{IN_ADDRESS}@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:{IN_ADDRESS}@127.0.0.1:{free_port()}")
    said: list[str] = []
    for command in (["track"], ["-v", "track"], ["doctor"], ["doctor", "--json"], ["ui"]):
        # Of a process of its own: the hub's client reads HF_ENDPOINT as it is imported.
        done = subprocess.run([sys.executable, "-m", "odyssey", *command], capture_output=True, text=True, check=False)
        said += [done.stdout, done.stderr]
        assert done.returncode == (command[0] == "doctor"), done.stderr
    assert "127.0.0.1" in (planted / "data" / "planted" / "track" / "published.json").read_text()
    assert leaks(planted, *said, *capfd.readouterr()) == []
