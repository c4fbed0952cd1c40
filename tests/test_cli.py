"""The terminal: first lines, colour, quiet libraries, completion, and ends by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner
from conftest import ROOT
from project import Project
from servers import free_port, started
from terminal import on_a_terminal

from odyssey import announce
from odyssey.cli import main
from odyssey.cli.installation import HOME
from odyssey.cli.terminal import ADVICE, HUSHED, VERDICTS, paint, settle
from odyssey.errors import OdysseyError
from odyssey.progress import VERBOSE
from odyssey.settings import Settings, load_settings

RED, RESET = "\x1b[31m", "\x1b[0m"
HEAVY = {"datasets", "deepspeed", "matplotlib", "mlflow", "pandas", "scipy", "torch", "transformers"}
MINE = "mine.txt"


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What the command line sets stays in the test."""
    with patch.dict(os.environ):
        for name in ("NO_COLOR", "FORCE_COLOR", VERBOSE, *HUSHED):
            os.environ.pop(name, None)
        yield


def invoke(*arguments: str, **environ: str) -> str:
    """What a command that fails as expected writes to standard error."""
    said = CliRunner().invoke(main, ["--params", str(ROOT / "params.yaml"), *arguments], env=environ)
    assert said.exit_code == 1
    return said.stderr


# --- help


def test_help_lists_every_command_once_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from odyssey.cli import main; main(['--help'], standalone_mode=False); "
        f"print({HEAVY} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    *lines, heavy = said.splitlines()
    assert heavy == "set()"
    listed = [line for line in lines if re.match(r"  [a-z]+  +[A-Z]", line)]
    assert sorted(line.split()[0] for line in listed) == sorted(main.commands)
    assert all(line.endswith((".", "?")) and not line.endswith("...") for line in listed)


# --- first lines


def study(name: str) -> Settings:
    return load_settings(ROOT / "params.yaml", name).model_copy(update={"seed": 0})


def test_first_lines_of_the_mini_study() -> None:
    mini = study("mini")
    whole = "2 models x 20 domains of study 'mini', 40 cells"
    assert announce.sample(mini) == (
        f"{mini.source.rows:,} rows of the source corpus and the splits of 20 domains of study 'mini', seed 0"
    )
    assert mini.pretrain is not None
    epochs = "1 epoch" if mini.pretrain.epochs == 1 else f"{mini.pretrain.epochs} epochs"
    assert announce.pretrain(mini, None) == f"train 2 models from scratch, {epochs}, study 'mini'"
    assert announce.pretrain(mini, "tiny") == f"train tiny from scratch, {epochs}, study 'mini'"
    assert announce.similarity(mini) == "MMD and FD of 20 domains of study 'mini' to the source corpus"
    assert announce.adapt(mini, None, None) == f"{whole}, 1 epoch each"
    assert announce.adapt(mini, "tiny", None) == "tiny x 20 domains of study 'mini', 20 cells, 1 epoch each"
    assert announce.adapt(mini, None, "torch") == "2 models x torch of study 'mini', 2 cells, 1 epoch each"
    assert announce.adapt(mini, "tiny", "torch") == "tiny on torch of study 'mini', 1 epoch each"
    assert announce.evaluate(mini, None, None) == f"{whole}, the test split before and after adaptation"
    assert announce.joins(mini, None, None) == ""
    assert announce.track(mini, "sqlite:///x.db") == f"{whole}, and a summary, to sqlite:///x.db"
    assert announce.claims(mini, False) == f"the paper's claims by {whole}, seed 0"
    assert announce.claims(mini, True) == "the paper's claims by every seed that MLflow has of study 'mini'"
    assert announce.plan([mini], "A100-80GB") == f"what {whole} takes on A100-80GB"


def test_first_lines_of_a_published_study() -> None:
    xl = study("gpt2-xl")
    assert announce.pretrain(xl, None) == "fetch gpt2-xl, study 'gpt2-xl'"
    assert announce.adapt(xl, None, None).startswith("gpt2-xl x 20 domains of study 'gpt2-xl', 20 cells, ")


def test_first_lines_of_anyones_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("12345\n")
    assert announce.perplexity("gpt2", tmp_path / "a.txt") == f"{tmp_path / 'a.txt'} (6 bytes) by gpt2"
    assert announce.perplexity("gpt2", Path("nowhere.txt")) == "nowhere.txt by gpt2"
    asked = announce.advise("data/mini/pretrain/small", Path("data/torch/train.parquet"), True)
    assert asked == (
        "is pretrain/small to be adapted to torch/train.parquet? similarity, zero-shot perplexity and a probe"
    )


def test_a_name_that_the_study_does_not_have_is_no_first_line() -> None:
    with pytest.raises(OdysseyError, match="did you mean 'torch'"):
        announce.adapt(study("mini"), None, "torhc")
    said = invoke("adapt", "--model", "smal")
    assert said == "Error: no model 'smal' under 'models' in the study; did you mean 'small'?\n"


def test_first_lines_leave_what_can_be_piped_alone(tmp_path: Path) -> None:
    said = CliRunner().invoke(main, ["--params", str(ROOT / "params.yaml"), "plan", "--study", "mini", "--gpu", "x"])
    assert said.stdout == ""
    first, error = said.stderr.splitlines()
    assert first == "plan: what 2 models x 20 domains of study 'mini', 40 cells takes on x"
    assert error.startswith("Error: GPU 'x' ")


# --- colour


def test_colour_only_where_it_is_wanted() -> None:
    assert "\x1b" not in invoke("adapt", "--model", "x")
    assert invoke("adapt", "--model", "x", FORCE_COLOR="1").startswith(f"{RED}\x1b[1mError:{RESET} no model")
    assert "\x1b" not in invoke("adapt", "--model", "x", FORCE_COLOR="1", NO_COLOR="1")
    # As no-color.org has it, an empty variable says nothing.
    assert RED in invoke("adapt", "--model", "x", FORCE_COLOR="1", NO_COLOR="")


def test_colour_on_a_terminal_unless_it_is_not_wanted() -> None:
    code = "import sys; from odyssey.cli import main; sys.argv[1:] = ['--params', 'nowhere', 'adapt']\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    assert f"{RED}\x1b[1mError:{RESET}" in on_a_terminal(code)
    os.environ["NO_COLOR"] = "1"
    assert "\x1b" not in on_a_terminal(code)


def test_phrases_are_painted_whole_also_over_a_line_break() -> None:
    text = "1 upholds: does not hold (tiny); holds\n2 x: not testable\n    here; withholds"
    assert paint(text, VERDICTS) == (
        f"1 upholds: {RED}does not hold{RESET} (tiny); \x1b[32mholds{RESET}\n"
        f"2 x: \x1b[33mnot testable\n    here{RESET}; withholds"
    )
    assert paint("DO NOT ADAPT: ADAPTED", ADVICE) == f"{RED}DO NOT ADAPT{RESET}: ADAPTED"


# --- quiet libraries


@pytest.mark.parametrize("how", ["option", "variable", "neither"])
def test_libraries_are_hushed_unless_verbose(how: str) -> None:
    if how == "variable":
        os.environ[VERBOSE] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "debug"  # the user's own choice stands
    with warnings.catch_warnings():
        settle(click.Context(main), loud=how == "option")
        assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug"
        assert (os.environ.get("MLFLOW_LOGGING_LEVEL") == "WARNING") == (how == "neither")
        assert (os.environ.get(VERBOSE) == "1") == (how != "neither")
        with warnings.catch_warnings(record=True) as heard:
            warnings.warn("of a library", FutureWarning, stacklevel=1)
        assert bool(heard) == (how != "neither")


@pytest.mark.slow
def test_nothing_is_said_but_the_first_line_and_the_result(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / MINE).write_text("The value of row 1 is returned.\nSee its index.\n", encoding="utf-8")
    command = ["-m", "odyssey", "perplexity", "--model", str(checkpoint), "--text", str(tmp_path / MINE), "--json"]
    said = subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True, text=True)
    assert said.stderr == f"perplexity: {tmp_path / MINE} (47 bytes) by {checkpoint}\n"
    assert said.stdout.count("\n") == 1


# --- completion


def completed(*words: str, start: str = "", params: Path = ROOT / "params.yaml") -> list[str]:
    shell = BashComplete(main, {}, "odyssey", "_ODYSSEY_COMPLETE")
    return [item.value for item in shell.get_completions(["--params", str(params), *words], start)]


def test_names_are_completed(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("study: mini\nseed: 0\naccept_licenses: false\n", encoding="utf-8")
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    here = tmp_path / "params.yaml"
    assert completed(start="ad", params=here) == ["adapt", "advise"]
    assert completed("study", start="gpt2-x", params=here) == ["gpt2-xl"]
    for command in ("adapt", "evaluate", "tokens", "joins", "register"):
        assert completed(command, "--model", params=here) == ["tiny", "small"]
        assert completed(command, "--domain", start="sympy.p", params=here) == ["sympy.physics", "sympy.polys"]
    assert completed("pretrain", "--model", start="t", params=here) == ["tiny"]
    assert completed("plan", "--study", start="olmo", params=here) == ["olmo-1b"]
    assert completed("plan", "--gpu", start="a100", params=here) == ["A100-80GB", "A100-40GB"]
    assert completed("plan", "--gpu", start="c", params=here) == ["cpu"]


def test_nothing_is_completed_of_a_study_that_cannot_be_read(tmp_path: Path) -> None:
    assert completed("adapt", "--model", params=tmp_path / "params.yaml") == []
    assert completed("study", params=tmp_path / "params.yaml") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_says_how_to_install_it(shell: str) -> None:
    said = CliRunner().invoke(main, ["completion", shell])
    assert said.exit_code == 0
    script, last = said.stdout.rstrip("\n").rsplit("\n", 1)
    assert "_ODYSSEY_COMPLETE" in script
    assert last == f"# To install it: odyssey completion {shell} > {HOME[shell]}, then open a new shell."
    if shell == "zsh":  # which takes a file for one of completion by its first line
        assert script.startswith("#compdef odyssey\n")


def test_bash_completes_by_the_script() -> None:
    script = CliRunner().invoke(main, ["completion", "bash"]).stdout
    script += '\nCOMP_WORDS=(odyssey completion "") COMP_CWORD=2; _odyssey_completion odyssey; echo "${COMPREPLY[@]}"'
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    said = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True, env=environ)
    assert said.stdout == "bash zsh fish\n"


# --- ends

# Python leaves a signal alone that is ignored when it starts, as Ctrl-C is in a shell's background jobs, and the
# end of a terminal under nohup.
HEEDING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""
TWO_OF_THREE = """
import os, time
from odyssey.cli import main
from odyssey.layout import Layout
from odyssey.stages import evaluate
from odyssey.store import new_folder

def run(settings, layout, *, model, domain):
    for name in ("old", "new", "half"):
        with new_folder(layout.evaluated("tiny", name), {}) as folder:
            if name == "half":
                (folder / "part").write_text("x")
                wait()
        if name == "old":
            os.utime(layout.evaluated("tiny", name) / "manifest.json", (1, 1))

def wait():
    print("ready", flush=True)
    time.sleep(60)

evaluate.run = run
"""
IN_DEL = """
class Lost:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(1)

def wait():
    Lost()
    time.sleep(60)
"""
IN_CALLBACK = """
from weakref import WeakKeyDictionary

class Slow(dict):
    def __delitem__(self, key):
        print("ready", flush=True)
        time.sleep(1)

class Key:
    pass

def wait():
    held, key = WeakKeyDictionary(), Key()
    held.data = Slow()
    held[key] = True
    del key
    time.sleep(60)
"""

IN_COMPILED = """
def wait():
    print("ready", flush=True)
    try:
        time.sleep(60)
    except BaseException:
        raise TypeError("an interface to compiled code takes it for a wrong argument") from None
"""


def end(code: str, number: int, *arguments: str, cwd: Path = ROOT) -> tuple[int, str]:
    """Run a program until it says that it is ready, signal it; its exit status and standard error."""
    with subprocess.Popen(
        [sys.executable, "-c", HEEDING + code, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any(line == "ready\n" for line in process.stdout)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    return process.returncode, said


@pytest.mark.parametrize(
    "more",
    ["", IN_DEL, IN_CALLBACK, IN_COMPILED],
    ids=["in a loop", "in __del__", "in a weak reference's", "in compiled code"],
)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_an_end_says_what_was_kept_and_leaves_nothing_half_written(
    tmp_path: Path, number: int, status: int, more: str
) -> None:
    code = TWO_OF_THREE + more + "main(sys.argv[1:])"
    arguments = ["--params", str(ROOT / "params.yaml"), "--data", str(tmp_path), "evaluate"]
    found, said = end(code, number, *arguments)
    settings = load_settings(ROOT / "params.yaml")
    cells = len(settings.models) * len(settings.adapted)
    assert (found, said.splitlines()[1:]) == (
        status,
        [
            f"evaluate: interrupted; 2 of {cells} cells are there (1 made now) and kept; "
            "run the same command again to go on"
        ],
    )
    (folder,) = tmp_path.glob("*/evaluate/tiny")
    assert sorted(path.name for path in folder.iterdir()) == ["new", "old"]


def test_an_end_of_what_has_one_result(tmp_path: Path) -> None:
    code = "from odyssey.cli import main\nfrom odyssey.stages import similarity\nimport time\n"
    code += "similarity.run = lambda settings, layout: (print('ready', flush=True), time.sleep(60))\n"
    code += "main(sys.argv[1:])"
    arguments = ["--params", str(ROOT / "params.yaml"), "--data", str(tmp_path), "similarity"]
    status, said = end(code, signal.SIGINT, *arguments)
    assert status == 130
    assert said.splitlines()[1:] == ["similarity: interrupted; nothing is half written; run the same command again"]


@pytest.mark.slow
def test_an_end_of_real_training(tmp_path: Path) -> None:
    """The tiny study: Ctrl-C once a cell is there, what is left of it, and that it goes on from there."""
    copy = Project(tmp_path / "project", "smoke", {"smoke": ROOT / "tests" / "smoke.yaml"}, HF_HUB_OFFLINE="1")
    for stage in ("sample", "pretrain"):
        copy.run("python", "-m", "odyssey", stage)
    folder = copy.folder / "data" / "smoke" / "adapt"
    with subprocess.Popen(
        [sys.executable, "-c", HEEDING + "from odyssey.cli import main; main(['adapt'])"],
        cwd=copy.folder,
        env=copy.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (first := list(folder.glob("*/*/manifest.json"))):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    count = len(list(folder.glob("*/*/manifest.json")))
    assert f"\nadapt: interrupted; {count} of 8 cells are there ({count} made now) and kept; " in said
    assert not list(folder.glob("*/.*"))
    before = first[0].stat().st_mtime_ns
    assert "adapt one: " in copy.run("python", "-m", "odyssey", "adapt")
    assert first[0].stat().st_mtime_ns == before
    assert len(list(folder.glob("*/*/manifest.json"))) == 8


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_end_of_the_ui(tmp_path: Path, number: int, status: int) -> None:
    """All of the server goes with it."""
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    subprocess.run(
        [sys.executable, "-c", f"from mlflow import MlflowClient; MlflowClient({address!r}).create_experiment('mini')"],
        check=True,
        capture_output=True,
    )
    port = free_port()
    (tmp_path / "params.yaml").write_text("study: mini\nseed: 0\naccept_licenses: false\n", encoding="utf-8")
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    code = HEEDING + "from odyssey.cli import main; main(sys.argv[1:])"
    environment = os.environ | {"MLFLOW_TRACKING_URI": address}
    command = (sys.executable, "-c", code, "ui", "--port", str(port))
    with started(*command, folder=tmp_path, environment=environment) as server:
        server.page(f"http://127.0.0.1:{port}/health")
        server.process.send_signal(number)
        assert server.process.wait(60) == status
        assert server.said().splitlines() == [
            f"ui: MLflow on port {port}, at the runs of study 'mini' in {address}".replace(f"{tmp_path}/", ""),
            f"The study's runs, in some seconds and until Ctrl-C: http://127.0.0.1:{port}/study",
            "ui: interrupted; the server has ended, the runs stay in sqlite:///mlflow.db",
        ]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
