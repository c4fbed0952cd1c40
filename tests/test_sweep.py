"""A sweep without training: jobs, their cells' states, failures and signals; thousands of cells in a simulation."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import ROOT

from odyssey import announce
from odyssey.cli import main
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.planning.cells import UNKNOWN, planned_seconds
from odyssey.planning.machine import Device, Machine, find_gpu
from odyssey.planning.plan import make_plan
from odyssey.science.packing import Job
from odyssey.settings import Settings, load_settings
from odyssey.stages import adapt, evaluate, tokens
from odyssey.sweeping import finished, slurm, work
from odyssey.sweeping.executors import Planned, Told
from odyssey.sweeping.jobs import describe, earlier, only_on, overview, packed, to_submit
from odyssey.sweeping.journal import Event, Journal, under_way, unfinished
from odyssey.sweeping.local import Local, gpus
from odyssey.sweeping.progress import Progress, begins, spent, tail
from odyssey.sweeping.record import Record, Submitted
from odyssey.sweeping.sweep import Sweep
from odyssey.sweeping.task import STOPPED, Task, ending

LAPTOP = Machine(16 * 10**9, Device("processor", 16 * 10**9, None, 1e11), 10**11, 10**11, one_disk=True)
UNLISTED = replace(LAPTOP, device=Device("a new GPU", 10**10, None))
SAYS = "odyssey.sweeping"


# --- planned time


@pytest.mark.parametrize(("name", "gpu"), [("mini", None), ("gpt2-xl", "A100-80GB"), ("llama-7b", "H100-80GB")])
def test_cells_take_what_the_plan_says_of_their_stages(name: str, gpu: str | None) -> None:
    settings = load_settings(ROOT / "params.yaml", name)
    named = None if gpu is None else find_gpu(gpu)
    each = planned_seconds(settings, named, LAPTOP, ask_hub=False)
    whole = make_plan(settings, named, LAPTOP, ask_hub=False)
    hours = [stage.hours or 0 for stage in whole.stages if stage.name in ("adapt", "evaluate", "tokens", "joins")]
    assert list(each) == [(model, domain) for model in settings.models for domain in settings.adapt_to]
    assert sum(each.values()) / 3600 == pytest.approx(sum(hours), rel=5e-3)


def test_cells_of_which_nothing_is_known_are_equal(settings: Settings) -> None:
    assert set(planned_seconds(settings, None, UNLISTED, ask_hub=False).values()) == {UNKNOWN}


def test_jobs_are_shared_out_to_the_workers() -> None:
    cells = [("m", str(k)) for k in range(8)]
    seconds = dict.fromkeys(cells, 60.0)
    assert [len(job.domains) for job in packed(cells, seconds, 4, None)] == [8]
    assert [len(job.domains) for job in packed(cells, seconds, 4, 2)] == [4, 4]
    assert [len(job.domains) for job in packed(cells, seconds, 1 / 60, 2)] == [1] * 8
    assert list(describe([Job("m", ("a", "b"), 7200.0)])) == ["job 1: m on a, b, ~2.0 h"]
    assert packed([], {}, 4, 2) == []


# --- what is finished


@pytest.fixture
def study(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Settings, Layout]:
    """A study of made-up results, whose stages find what they were made from in the files."""
    small = settings.model_copy(update={"joins": None, "adapt_to": ["torch", "pandas", "sympy.core"]})
    monkeypatch.setattr(finished, "stages", lambda _: [adapt, evaluate, tokens])
    return small, Layout(tmp_path / "data")


def test_what_is_made_from_something_that_is_not_there_is_an_error(study: tuple[Settings, Layout]) -> None:
    settings, layout = study
    with pytest.raises(OdysseyError, match=r"pretrain/\w+: not there yet; run `dvc repro pretrain` first"):
        list(finished.missing(settings, layout))


def test_a_cell_is_missing_if_a_stage_of_it_is(study: tuple[Settings, Layout], monkeypatch: pytest.MonkeyPatch) -> None:
    settings, layout = study
    lacking = {"adapt": {"torch"}, "evaluate": set(), "tokens": {"pandas"}}
    asked: list[tuple[str, str]] = []

    def is_current(folder: Path, made_from: dict[str, Any]) -> bool:
        stage, model, domain = folder.relative_to(layout.data).parts
        assert made_from == {"of": (stage, model, domain)}
        asked.append((stage, domain))
        return not (domain in lacking[stage] and model == "tiny")

    for stage in (adapt, evaluate, tokens):
        name = stage.__name__.rpartition(".")[2]

        def origins(_: Settings, __: Layout, model: str, name: str = name) -> Callable[[str], dict[str, Any]]:
            return lambda domain: {"of": (name, model, domain)}

        monkeypatch.setattr(stage, "origins", origins)
    monkeypatch.setattr(finished, "is_current", is_current)
    monkeypatch.setattr(finished, "check_folder", lambda *_: "")
    assert list(finished.missing(settings, layout, {("small", "torch")})) == [("tiny", "torch"), ("tiny", "pandas")]
    # Of a cell whose model is to be adapted again nothing else is looked at: it cannot hold.
    assert asked.count(("adapt", "torch")) == 1
    # Those that somebody does now are not looked at.
    assert ("evaluate", "torch") not in asked


# --- journal and record


def test_a_journal_is_read_as_it_grows(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "x.jsonl")
    assert journal.new() == []
    journal.begin("a")
    journal.tell(Event("a", "done", seconds=3.0))
    assert [event.state for event in journal.new()] == ["running", "done"]
    with journal.path.open("a") as file:
        file.write('{"domain": "b", "sta')
    assert journal.new() == []
    with journal.path.open("a") as file:
        file.write('te": "running"}\n')
    assert journal.new() == [Event("b", "running")]
    assert [event.domain for event in journal.all()] == ["a", "a", "b"]
    assert unfinished(["a", "b", "c"], journal.all()) == ["b", "c"]
    assert under_way(journal.all()) == "b"


def test_a_record_knows_the_jobs_that_have_not_ended(tmp_path: Path) -> None:
    record = Record(Layout(tmp_path))
    jobs = [Submitted(f"k{k}", "slurm", f"7_{k}", "log", "m", ("a", "b")) for k in range(3)]
    record.add(jobs)
    record.end("k1")
    assert record.jobs() == [jobs[0], jobs[2]]
    with (record.folder / "jobs.jsonl").open("a") as file:
        file.write('{"key": "k4", "on": "sl')  # the machine went down
    record.tidy(record.jobs()[:1])
    assert Record(Layout(tmp_path)).jobs() == jobs[:1]
    (record.folder / "jobs.jsonl").write_text('{"key": 3}\n')
    with pytest.raises(OdysseyError, match=r"jobs.jsonl: damaged"):
        record.jobs()


def test_one_sweep_at_a_time(tmp_path: Path) -> None:
    record = Record(Layout(tmp_path))
    with record.held(), pytest.raises(OdysseyError, match="another sweep of this study runs now"):
        record.held().__enter__()
    with record.held():
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_as_such(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OdysseyError, match=r"sweep: files cannot be locked on this file system .*--data$"):
        Record(Layout(tmp_path)).held().__enter__()


# --- what is said


def job(*domains: str, key: str = "k", log: str = "") -> Submitted:
    return Submitted(key, "slurm", "12_0", log, "m", domains)


def test_a_line_for_each_change_of_a_cell() -> None:
    progress = Progress(job("a", "b", "c", "d"))
    said = [
        *progress.hear([Event("a", "running", "n1"), Event("a", "done", seconds=185.0), Event("b", "running", "n1")])
    ]
    assert said == ["m on a: running on n1", "m on a: done in 3 min", "m on b: running on n1"]
    assert list(progress.look(Told("running"))) == []
    assert list(progress.look(Told("waiting"))) == ["m on b: requeued"]
    assert list(progress.look(Told("waiting"))) == []
    assert list(progress.hear([Event("b", "running", "n2")])) == ["m on b: running on n2"]
    # Requeued and begun again between two looks.
    assert list(progress.hear([Event("b", "running", "n3")])) == ["m on b: requeued", "m on b: running on n3"]
    said = list(progress.hear([Event("b", "failed", why="too short"), Event("c", "running", "n3")]))
    assert said == ["m on b: failed: too short", "m on c: running on n3"]
    assert list(progress.end("cancelled")) == [
        "m on c: failed: its job 12_0 ended (cancelled)",
        "m on d: failed: its job 12_0 ended before it was begun (cancelled)",
    ]
    assert (progress.done, list(progress.whys)) == (1, ["b", "c", "d"])


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (99, "99 s"), (185, "3 min"), (16200, "4.5 h")])
def test_time_in_words(seconds: float, said: str) -> None:
    assert spent(seconds) == said


def test_the_tail_of_a_cell_is_its_own() -> None:
    log = [
        begins("m", "a"),
        "x",
        "m on a: failed: first",
        begins("m", "b"),
        *map(str, range(30)),
        "m on b: failed: y",
        "z",
    ]
    assert tail(log, "m", "a") == log[:3]
    assert tail(log, "m", "b", 3) == ["28", "29", "m on b: failed: y"]
    assert tail([*log, begins("m", "a"), "again"], "m", "a") == [begins("m", "a"), "again"]
    assert tail(log, "m", "c", 1) == ["z"]
    killed = [begins("m", "a"), "x", begins("m", "b"), "y", "m on b: done in 3 s"]
    assert tail(killed, "m", "a") == killed[:2]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("PENDING", Told("waiting")),
        ("PREEMPTED", Told("waiting")),
        ("COMPLETING", Told("running")),
        ("COMPLETED", Told("ended")),
        ("CANCELLED", Told("ended", "cancelled")),
        ("OUT_OF_MEMORY", Told("ended", "out of memory")),
    ],
)
def test_slurms_states(state: str, expected: Told) -> None:
    assert slurm.told(state) == expected


def test_what_a_job_waits_for_is_told_unless_it_is_its_turn() -> None:
    assert slurm.told("PENDING", "Priority") == slurm.told("PENDING", "None") == Told("waiting")
    for_ever = slurm.told("PENDING", "PartitionTimeLimit")
    assert for_ever == Told("waiting", "PartitionTimeLimit")
    assert slurm.told("RUNNING", "None") == Told("running")
    progress = Progress(job("a", "b"))
    assert list(progress.look(for_ever)) == [
        "m on a: waiting (PartitionTimeLimit)",
        "m on b: waiting (PartitionTimeLimit)",
    ]
    assert list(progress.look(for_ever)) == []
    assert list(progress.look(Told("waiting"))) == []


def test_options_of_sbatch() -> None:
    assert slurm.parse(["partition=gpu", "--gpus-per-node=2", "exclusive", "cpus_per_task=4"]) == {
        "partition": "gpu",
        "gpus-per-node": "2",
        "exclusive": True,
        "cpus-per-task": "4",
    }
    for option, message in (("time=5", "use --limit"), ("output=x", "sets that itself"), ("a\nb=c", "no such option")):
        with pytest.raises(OdysseyError, match=message):
            slurm.parse([option])


# --- the job's own process


def child(tmp_path: Path, body: str, domains: Sequence[str] = ("a", "b", "c")) -> Task:
    """A job whose child runs some lines: `told(domain, state)` writes to the journal, `domains` are those asked for."""
    journal = tmp_path / "j.jsonl"
    start = (
        "import json, os, signal, sys, time\n"
        "domains = sys.argv[2::2]\n"
        "def told(domain, state):\n"
        f"    print(json.dumps({{'domain': domain, 'state': state}}), file=open({str(journal)!r}, 'a'), flush=True)\n"
    )
    return Task((sys.executable, "-c", start + body), domains, str(journal), str(tmp_path), {})


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """What a job does about signals stays in the test."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_child_that_dies_costs_the_cell_that_it_was_at(tmp_path: Path) -> None:
    task = child(
        tmp_path,
        "for d in domains:\n"
        "    told(d, 'running')\n"
        "    if d == 'b': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    told(d, 'done')\n",
    )
    assert task() == 1
    events = Journal(task.journal).all()
    assert [(event.domain, event.state) for event in events if event.state != "running"] == [
        ("a", "done"),
        ("b", "failed"),
        ("c", "done"),
    ]
    assert "was killed (SIGKILL)" in events[3].why


def test_a_child_that_cannot_start_is_not_started_for_ever(tmp_path: Path) -> None:
    task = child(tmp_path, "sys.exit(2)")
    assert task() == 3
    assert {event.why for event in Journal(task.journal).all()} == {"its process ended with exit status 2"}


def test_a_job_that_is_run_again_does_what_is_left(tmp_path: Path) -> None:
    task = child(tmp_path, "for d in domains: told(d, 'done' if d == 'c' else 'failed')")
    Journal(task.journal).tell(Event("a", "done"))
    Journal(task.journal).begin("b")  # and then it was requeued
    assert task() == 1
    assert [event.domain for event in Journal(task.journal).all()] == ["a", "b", "b", "c"]


STUBBORN = (
    "told(domains[0], 'running')\n"
    "came = []\n"
    "signal.signal(signal.SIGINT, lambda *_: came.append(1))\n"
    "print('ready', file=open('ready', 'w'), flush=True)\n"
    "while not came: time.sleep(0.01)\n"
    "time.sleep(0.3)\n"
    "print(len(came), file=open('came', 'w'), flush=True)\n"
    "sys.exit(130)\n"
)


def run_job(tmp_path: Path, code: str) -> subprocess.Popen[bytes]:
    """A process that runs the stubborn job, once that is in work."""
    start = (
        f"from pathlib import Path; from {__name__} import STUBBORN, child; "
        f"task = child(Path({str(tmp_path)!r}), STUBBORN)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    process = subprocess.Popen([sys.executable, "-c", f"{start}\n{code}"], env=environment)
    wait_for((tmp_path / "ready").is_file)
    return process


def wait_for(there: Callable[[], object], seconds: float = 30) -> None:
    import time

    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_sigterm_to_a_job_and_to_its_child_interrupts_the_child_once(tmp_path: Path) -> None:
    process = run_job(tmp_path, "task()")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    # SLURM signals every process of a job, and may do so again.
    for pid in (process.pid, *map(int, children), process.pid, *map(int, children)):
        os.kill(pid, signal.SIGTERM)
    for pid in map(int, children):
        os.kill(pid, signal.SIGUSR2)
    assert process.wait(30) == STOPPED
    assert (tmp_path / "came").read_text() == "1\n"
    assert [event.state for event in Journal(tmp_path / "j.jsonl").all()] == ["running"]


def test_under_slurm_a_job_that_was_asked_to_end_waits_to_be_killed(tmp_path: Path) -> None:
    """Else it counts as failed, where SLURM gives those that it pre-empts some time."""
    process = run_job(tmp_path, "import os; os.environ['SUBMITIT_EXECUTOR'] = 'slurm'; task()")
    process.terminate()
    wait_for((tmp_path / "came").is_file)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.kill()
    process.wait()


def test_a_checkpoint_waits_for_the_child_and_is_the_same_job(tmp_path: Path) -> None:
    code = (
        "import signal, sys\n"
        "def requeue(*_):\n"
        "    later = task.checkpoint()\n"
        "    assert later.function == task and later.function._child is None and open('came').read() == '1\\n'\n"
        "    sys.exit(7)\n"
        "import os; os.chdir(task.folder)\n"
        "signal.signal(signal.SIGUSR2, requeue)\n"
        "task()"
    )
    process = run_job(tmp_path, code)
    process.send_signal(signal.SIGUSR2)
    assert process.wait(30) == 7


@pytest.mark.parametrize(
    ("status", "said"), [(-11, "ended by SIGSEGV"), (-9, "want of memory"), (3, "with exit status 3")]
)
def test_how_a_process_ended(status: int, said: str) -> None:
    assert said in ending(status)


# --- cells in one process


def test_a_cell_that_fails_does_not_stop_the_others(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def do(settings: Settings, layout: Layout, model: str, domain: str, watch: Any) -> None:
        if domain == "pandas":
            raise OdysseyError("domain 'pandas': its train split\nis too short")
        if domain == "mlflow":
            raise MemoryError("8 GB")
        if domain == "sympy.core":
            raise KeyError("odd")

    monkeypatch.setattr(work, "_do", do)
    journal = Journal(tmp_path / "j")
    domains = ["pandas", "mlflow", "sympy.core", "torch"]
    small = settings.model_copy(update={"adapt_to": domains})
    failed = work.run(small, Layout(tmp_path), model="tiny", domains=domains, journal=journal)
    said = capsys.readouterr()
    assert failed == domains[:3]
    lines = said.out.splitlines()
    assert lines[:4] == [
        "tiny on pandas: begins",
        "tiny on pandas: failed: domain 'pandas': its train split is too short",
        "tiny on mlflow: begins",
        "tiny on mlflow: failed: the memory is full: 8 GB",
    ]
    assert lines[-1].startswith("tiny on torch: done in ")
    assert "Traceback" in said.err  # of the one that nobody expects
    assert said.err.count("Traceback") == 1
    states = [(event.domain, event.state) for event in journal.all() if event.state != "running"]
    assert states == [("pandas", "failed"), ("mlflow", "failed"), ("sympy.core", "failed"), ("torch", "done")]


def test_a_lost_gpu_ends_the_process(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def do(*_: Any) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(work, "_do", do)
    journal = Journal(tmp_path / "j")
    with pytest.raises(RuntimeError, match="CUDA error"):
        work.run(settings, Layout(tmp_path), model="tiny", domains=["torch", "pandas"], journal=journal)
    assert [(event.domain, event.state) for event in journal.all()] == [("torch", "running"), ("torch", "failed")]


# --- the sweep


class Simulated:
    """An executor in memory: so many jobs at once, a cell of each done at every look. Counts what it is asked."""

    name = "local"
    intervals = (0.0, 0.0)

    def __init__(self, record: Record, workers: int, bad: str = "") -> None:
        self.record, self.workers, self.bad = record, workers, bad
        self.left: dict[str, list[str]] = {}
        self.asked = 0
        self.most = 0

    def room(self, alive: int) -> int:
        return self.workers - alive

    def submit(self, jobs: Sequence[Planned]) -> list[Submitted]:
        self.left |= {one.key: list(one.domains) for one in jobs}
        self.most = max(self.most, len(self.left))
        return [Submitted(one.key, self.name, one.key, "", one.model, one.domains) for one in jobs]

    def states(self, jobs: Sequence[Submitted]) -> Mapping[str, Told]:
        self.asked += len(jobs)
        found = {}
        for one in jobs:
            left = self.left.get(one.key)
            if not left:
                self.left.pop(one.key, None)
                continue
            domain = left.pop(0)
            journal = self.record.journal(one.key)
            journal.begin(domain)
            journal.tell(Event(domain, "failed", why="bad") if domain == self.bad else Event(domain, "done"))
            found[one.key] = Told("running")
        return found

    def end(self, jobs: Sequence[Submitted]) -> Sequence[Submitted]:
        return ()


def planned(cells: int, a_job: int = 5) -> Iterator[Planned]:
    task = Task((), (), "", "", {})
    for k in range(0, cells, a_job):
        yield Planned(f"k{k}", "m", tuple(f"d{d}" for d in range(k, k + a_job)), task)


def simulate(folder: Path, cells: int) -> tuple[Simulated, int, int]:
    """A sweep of so many cells: how many lines were told, and the most bytes that were held in it."""
    record = Record(Layout(folder))
    executor = Simulated(record, workers=8, bad="d17")
    lines, looks, held = [0], [0], [0]

    def tell(_: str) -> None:
        lines[0] += 1

    def pause(_: float) -> None:
        looks[0] += 1
        if looks[0] % 50 == 0:
            gc.collect()  # which also empties what Python keeps of small objects for later
            held[0] = max(held[0], tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    outcome = Sweep(executor, record, tell, pause).run(planned(cells))
    tracemalloc.stop()
    assert outcome.done == cells - 1
    assert [(one.domain, one.why) for one in outcome.failures] == [("d17", "bad")]
    assert record.jobs() == []
    return executor, lines[0], held[0]


def test_thousands_of_cells_cost_the_same_each(tmp_path: Path) -> None:
    sizes = (500, 2500)
    (few, few_lines, few_held), (many, many_lines, many_held) = (
        simulate(tmp_path / str(cells), cells) for cells in sizes
    )
    assert few.most == many.most == 8
    # Waiting, running, done: three lines a cell; and a job is asked for once a cell, and twice at its end.
    assert (few_lines, many_lines) == (3 * sizes[0], 3 * sizes[1])
    assert few.asked / sizes[0] == pytest.approx(7 / 5, rel=0.05)
    assert many.asked / sizes[1] == pytest.approx(7 / 5, rel=0.05)
    assert many_held < few_held + 20_000  # a list of the cells' names alone would take 100,000 more


def test_a_journal_is_not_read_again_and_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    read = 0
    for k in range(50):
        journal.tell(Event(str(k), "done"))
        read += len(journal.new())
    assert read == 50


def test_jobs_of_an_earlier_sweep_are_taken_up(tmp_path: Path) -> None:
    record = Record(Layout(tmp_path))
    executor = Simulated(record, workers=2)
    said: list[str] = []
    first = Sweep(executor, record, said.append, pause=lambda _: None)
    list(first.hand_over(iter(planned(5))))
    first.look()  # and then it is killed
    alive, ended = earlier(record, {"local": executor})
    assert [one.key for one in alive] == ["k0"]
    assert ended == []
    again = Sweep(executor, record, said.append, pause=lambda _: None)
    again.take_up(alive)
    assert again.run().done == 5
    assert record.jobs() == []


def test_an_executor_that_does_not_answer_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(Layout(tmp_path))
    executor = Simulated(record, workers=2)
    answers, usual = iter([True, False] * 30), executor.states
    monkeypatch.setattr(executor, "states", lambda jobs: usual(jobs) if next(answers) else None)
    assert Sweep(executor, record, lambda _: None, pause=lambda _: None).run(planned(5)).done == 5
    monkeypatch.setattr(executor, "states", lambda jobs: None)
    with pytest.raises(OdysseyError, match=r"squeue is not here or does not answer.*delete .*jobs\.jsonl"):
        earlier(record, {"local": executor})


def test_what_ended_while_nobody_waited_is_told(tmp_path: Path) -> None:
    record = Record(Layout(tmp_path))
    executor = Simulated(record, workers=2)
    gone, there = job("a", "b", key="gone")._replace(on="local"), job("c", "d", key="there")._replace(on="local")
    record.add([gone, there])
    executor.left["there"] = ["c", "d"]
    record.journal("gone").tell(Event("a", "done"))
    alive, ended = earlier(record, {"local": executor})
    assert alive == [there]
    cells = [("m", domain) for domain in "abcde"]
    assert list(overview(cells, [("m", "b"), ("m", "e")], alive, ended, record)) == [
        "m on a: done",
        "m on b: failed: its job 12_0 ended before it was begun (how is not known)",
        "m on c: done in job 12_0",
        "m on d: waiting in job 12_0",
        "m on e: to do",
    ]
    only_on(alive, "local")
    with pytest.raises(OdysseyError, match="1 job of an earlier sweep not done: `odyssey sweep --on local`"):
        only_on(alive, "slurm")


def test_what_a_job_runs(tmp_path: Path) -> None:
    record = Record(Layout(tmp_path))
    (one,) = to_submit([Job("m", ("a", "b"), 1.0)], record, Path("params.yaml"), Path("data"))
    assert one.task.command[1:9] == ["-m", "odyssey", "--params", "params.yaml", "--data", "data", "cells", "--model"]
    assert one.task.command[9:] == ["m", "--journal", one.task.journal]
    assert one.task.domains == ("a", "b")
    assert Path(one.task.folder) == Path.cwd()


class Limited(Simulated):
    """Refuses more than two jobs."""

    refused = 0

    def room(self, alive: int) -> int:
        return 2 if alive < 2 else 1

    def submit(self, jobs: Sequence[Planned]) -> list[Submitted]:
        if len(self.left) + len(jobs) > 2:
            self.refused += 1
            raise OdysseyError("SLURM refuses the jobs: QOSMaxSubmitJobPerUserLimit")
        return super().submit(jobs)


def test_jobs_that_are_refused_are_tried_again_once_others_have_ended(tmp_path: Path) -> None:
    record, said = Record(Layout(tmp_path)), list[str]()
    executor = Limited(record, workers=2)
    work = Sweep(executor, record, said.append, pause=lambda _: None)
    assert work.run(planned(25)).done == 25
    told = [line for line in said if "refuses" in line]
    assert executor.refused > len(told) > 0
    assert told[0] == "1 job to be tried again later: SLURM refuses the jobs: QOSMaxSubmitJobPerUserLimit"
    executor.left = {"others'": ["x"], "more of others'": ["y"]}
    with pytest.raises(OdysseyError, match="SLURM refuses the jobs"):
        work.run(planned(5))  # nothing of ours to wait for


# --- this machine, by submitit


def test_workers_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,3")
    here = Local(Record(Layout(tmp_path)), None)
    assert (gpus(), here.workers, here.room(2)) == (["GPU-a", "3"], 2, 0)
    assert [here._environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(2)] == ["GPU-a", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Local(Record(Layout(tmp_path)), None).workers == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Local(Record(Layout(tmp_path)), 2)._environment(1) == {"OMP_NUM_THREADS": "3"}


def test_jobs_run_on_this_machine_and_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    record = Record(Layout(tmp_path))
    here = Local(record, 1)
    quick = child(tmp_path, "for d in domains: told(d, 'done')", ("a",))
    slow = replace(child(tmp_path, STUBBORN, ("b",)), journal=str(record.journal("k2").path))
    quick = replace(quick, journal=str(record.journal("k1").path))
    # Their children write to one file; the journals are those of the record.
    record.journal("k1").path.parent.mkdir(parents=True)
    record.journal("k1").path.symlink_to(tmp_path / "j.jsonl")
    said: list[str] = []
    work = Sweep(here, record, said.append)
    outcome = work.run([Planned("k1", "m", ("a",), quick)])
    assert (outcome.done, outcome.failures) == (1, [])
    (tmp_path / "j.jsonl").unlink()
    list(work.hand_over(iter([Planned("k2", "m", ("b",), slow)])))
    wait_for((tmp_path / "ready").is_file)
    assert here.room(len(work.alive)) == 0
    assert [one.id for one in record.jobs()] == [one.id for one in work.alive]
    work.stop()
    assert (tmp_path / "came").read_text() == "1\n"
    assert work.alive == record.jobs() == []
    assert work.run().failures == []


def test_a_process_of_the_same_number_is_not_the_job(tmp_path: Path) -> None:
    here = Local(Record(Layout(tmp_path)), 1)
    other = Submitted("k", "local", str(os.getpid()), "", "m", ("a",))
    assert here.states([other, other._replace(key="l", id="999999999")]) == {"k": Told("ended"), "l": Told("ended")}


def test_there_is_no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    there = slurm.Slurm(Record(Layout(tmp_path)), "mini")
    with pytest.raises(OdysseyError, match="there is no SLURM here"):
        there.submit(list(planned(1, 1)))
    assert there.states([job("a")]) is None  # they may well run: another machine knows


def test_jobs_that_run_keep_their_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a sweep that was killed."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    record = Record(Layout(tmp_path))
    there = Submitted("k1", "local", "1", "", "m", ("b",), slot=1)
    here = Local(record, None)
    monkeypatch.setattr(here, "_runs", lambda _: True)
    work = Sweep(here, record, lambda _: None, pause=lambda _: None)
    work.take_up([there])
    monkeypatch.setattr(Local, "submit", lambda self, jobs: pytest.fail(f"{self._slots}"))
    with pytest.raises(pytest.fail.Exception, match=r"\{'k1': 1\}"):
        work.run(planned(1, 1))


def test_jobs_of_another_machine_are_not_said_to_have_ended(tmp_path: Path) -> None:
    here = Local(Record(Layout(tmp_path)), 1)
    elsewhere = Submitted("k", "local", "1", "", "m", ("a",), host="gpu7")
    with pytest.raises(OdysseyError, match=r"a sweep on gpu7 has jobs there: look there; .*delete .*jobs\.jsonl"):
        here.states([elsewhere])


# --- the command line


def test_first_lines(settings: Settings) -> None:
    whole = "2 models x 20 domains of study 'mini', 40 cells"
    assert announce.sweep(settings, "by SLURM") == f"what is missing of {whole}, by SLURM"
    assert announce.cells(settings, "tiny", ["torch"]) == "tiny on torch of study 'mini', every stage"
    assert announce.cells(settings, "tiny", ["torch", "pandas"]) == "tiny x 2 domains of study 'mini', every stage"


def test_options_of_slurm_are_for_slurm() -> None:
    said = CliRunner().invoke(main, ["--params", str(ROOT / "params.yaml"), "sweep", "--no-wait"])
    assert said.exit_code == 2
    assert "are for --on slurm" in said.stderr


def test_for_slurm_the_device_is_named_where_this_machine_has_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finished, "missing", lambda *_: [("tiny", "torch")])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    start = ["--params", str(ROOT / "params.yaml"), "--data", str(tmp_path), "sweep", "--dry-run", "--on", "slurm"]
    said = CliRunner().invoke(main, start)
    assert said.exit_code == 1
    assert "name it, --gpu A100-80GB say, or --gpu cpu" in said.stderr
    assert "job 1: tiny on torch, " in CliRunner().invoke(main, [*start, "--gpu", "A100-80GB"]).stdout
    assert "--limit, in hours" in CliRunner().invoke(main, [*start, "--slurm", "time=3"]).stderr


def test_a_sweep_needs_samples_and_base_models(tmp_path: Path) -> None:
    for how in ("--dry-run", "--status", "--workers=1"):
        said = CliRunner().invoke(main, ["--params", str(ROOT / "params.yaml"), "--data", str(tmp_path), "sweep", how])
        assert said.exit_code == 1
        assert "run `dvc repro pretrain` first" in said.stderr
