"""A sweep on a real SLURM of one node: followed, left, taken up, cancelled, pre-empted, requeued.

Run by `make smoke` where slurmctld, slurmd and munged are installed (Debian: slurm-wlm and munge). The tests share
one study and stand in the order in which they use it.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import Project, heeding
from servers import free_port

pytestmark = pytest.mark.slow

DAEMONS = ("munged", "slurmctld", "slurmd")
DOMAINS = ("click", "jinja2", "networkx.utils")
"""One to be cancelled in, one to be pre-empted in, one whose job's time is over."""
SWEEP = ("python", "-m", "odyssey", "sweep")
THERE = (*SWEEP, "--on", "slurm", "--gpu", "cpu")
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits for as long as its credential holds.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={controller}
SlurmdPort={node}
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


def wait_for(there: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a cluster's user: a SLURM of this machine, with a partition that goes before the other."""
    # Daemons lie where only an administrator's PATH looks.
    path = os.pathsep.join((os.environ["PATH"], "/usr/sbin"))
    lacking = [name for name in DAEMONS if shutil.which(name, path=path) is None]
    if lacking:
        pytest.skip(f"not installed here: {', '.join(lacking)}")
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    (folder / "slurm.conf").write_text(
        CONFIG.format(
            host=socket.gethostname().partition(".")[0],
            user=getpass.getuser(),
            folder=folder,
            controller=free_port(),
            node=free_port(),
            cpus=os.cpu_count(),
        ),
        encoding="utf-8",
    )
    environment = {"PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
    commands = {
        "munged": (
            *("--foreground", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"),
            *(f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed"),
        ),
        "slurmctld": ("-D",),
        "slurmd": ("-D",),
    }
    with ExitStack() as running:
        for name, options in commands.items():
            output = running.enter_context((folder / f"{name}.out").open("wb"))
            process = subprocess.Popen(
                (name, *options), env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
            )
            running.callback(process.wait)
            running.callback(process.terminate)
            if name == "munged":
                wait_for((folder / "munge.socket").exists, 20)
        wait_for(lambda: "idle" in ask(environment, "sinfo", "--noheader", "--format=%T"), 60)
        yield environment
        subprocess.run(("scancel", "--me", "--full"), env={**os.environ, **environment}, check=False)


def ask(environment: dict[str, str], *command: str) -> str:
    """What a command of SLURM's says."""
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    ).stdout


def long_study() -> dict[str, Any]:
    """One model and three domains of the smoke study, each trained for long enough to be interrupted."""
    study: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("smoke.yaml").read_text(encoding="utf-8"))
    study["domains"] = {name: study["domains"][name] for name in DOMAINS}
    del study["models"]["two"]
    study["joins"] = None
    study["adapt"]["epochs"] = 120
    study["adapt"]["engine"]["checkpoint_minutes"] = 0.01
    return study


@pytest.fixture(scope="module")
def study(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The study with its samples and base models, and beside it a copy in which all cells were done in one process."""
    folder = tmp_path_factory.mktemp("sweep on slurm") / "project"
    own = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "SLURM_CONF": cluster["SLURM_CONF"]}
    copy = Project(folder, "long", {"long": long_study()}, **own)
    copy.run("python", "-m", "odyssey", "sample")
    copy.run("python", "-m", "odyssey", "pretrain")
    plain = folder.with_name("plain")
    shutil.copytree(folder, plain)
    subprocess.run(("python", "-m", "odyssey", "cells", "--model", "one"), cwd=plain, env=copy.environment, check=True)
    yield copy
    shutil.rmtree(folder.parent, ignore_errors=True)


class Background:
    """A sweep that goes on while a test does something to its jobs."""

    def __init__(self, study: Project, *options: str) -> None:
        self._file = (study.folder.parent / "said.txt").open("w+")
        self.process = subprocess.Popen(
            (*THERE, *options),
            cwd=study.folder,
            env=study.environment,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            preexec_fn=heeding,
        )

    def said(self) -> str:
        """All so far."""
        return Path(self._file.name).read_text(encoding="utf-8")

    def end(self, seconds: float = 180) -> tuple[int, str]:
        """Exit status, and what it has said."""
        status = self.process.wait(seconds)
        print(self.said())
        return status, self.said()


def jobs(environment: dict[str, str]) -> list[str]:
    """Those that wait or run."""
    return ask(environment, "squeue", "--noheader", "--array", "--format=%i").split()


def checkpoint(study: Project, domain: str) -> bool:
    return bool(list(study.folder.glob(f"data/long/unfinished/adapt@one@{domain}/step-*")))


def log(study: Project) -> str:
    """What the jobs have said."""
    files = study.folder.glob("data/long/sweep/submitit/*/*.out")
    return "".join(file.read_text(encoding="utf-8") for file in files)


def test_what_slurm_refuses_is_told(study: Project) -> None:
    said = study.run(*THERE, "--slurm", "partition=nowhere", status=1)
    assert "SLURM refuses the jobs: " in said
    assert "invalid partition" in said


def test_jobs_go_on_without_the_sweep(study: Project, cluster: dict[str, str]) -> None:
    sweep = Background(study)
    wait_for(lambda: checkpoint(study, "click"))
    (job,) = jobs(cluster)
    ask(cluster, "scontrol", "suspend", job)  # else it may be done before it is looked at
    sweep.process.send_signal(signal.SIGINT)
    status, said = sweep.end()
    assert status == 128 + signal.SIGINT
    assert "3 cells to do in 1 job" in said
    assert "sweep: interrupted; its jobs go on; the same command shows how far they are" in said
    assert f"one on click: running in job {job}" in study.run(*SWEEP, "--status").splitlines()
    assert "1 job of an earlier sweep not done: `odyssey sweep --on slurm`" in study.run(*SWEEP, status=1)


def test_a_sweep_takes_up_jobs_that_run_and_tells_of_one_that_is_cancelled(
    study: Project, cluster: dict[str, str]
) -> None:
    (job,) = jobs(cluster)
    sweep = Background(study)
    wait_for(lambda: "one on click: running" in sweep.said())
    ask(cluster, "scontrol", "resume", job)
    # One that is still suspended would be killed without a notice.
    wait_for(lambda: ask(cluster, "squeue", "--noheader", "--format=%T", f"--job={job}").strip() == "RUNNING")
    ask(cluster, "scancel", job)
    status, said = sweep.end()
    assert status == 1
    assert "0 cells to do in 0 jobs, 1 job runs already" in said
    assert f"one on click: failed: its job {job} ended (cancelled)" in said
    for domain in DOMAINS[1:]:
        assert f"one on {domain}: failed: its job {job} ended before it was begun (cancelled)" in said
    assert "which is kept" in said  # the log's last lines
    assert "0 cells done, 3 failed" in said
    assert checkpoint(study, "click")


def test_a_job_that_is_preempted_goes_on_from_its_checkpoint(study: Project, cluster: dict[str, str]) -> None:
    study.run(*THERE, "--no-wait")
    (job,) = jobs(cluster)
    wait_for(lambda: checkpoint(study, "jinja2"))
    ask(cluster, "scontrol", "suspend", job)
    assert "one on click: goes on after step" in log(study)
    sweep = Background(study)
    wait_for(lambda: "one on jinja2: running" in sweep.said())
    before = log(study).count("SIGCONT")
    ask(cluster, "scontrol", "resume", job)
    wait_for(lambda: log(study).count("SIGCONT") > before)  # a job that is suspended still hears of no grace time
    ask(cluster, "sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    wait_for(lambda: "one on jinja2: goes on after step" in log(study))
    wait_for(lambda: checkpoint(study, "networkx.utils"))
    # What SLURM sends before a job's time is over.
    ask(cluster, "scancel", "--signal=USR2", job)
    status, said = sweep.end()
    assert status == 0
    assert "DUE TO PREEMPTION" in log(study)
    assert "one on networkx.utils: goes on after step" in log(study)
    for domain in DOMAINS:
        assert f"one on {domain}: done in " in said
    for domain in DOMAINS[1:]:
        assert f"one on {domain}: requeued" in said
    assert said.splitlines()[-1] == "3 cells done; next: dvc repro"


def test_the_results_are_those_of_one_process_without_interruption(study: Project) -> None:
    plain = study.folder.with_name("plain") / "data"
    found = study.files(*(f"long/{stage}" for stage in ("adapt", "evaluate", "tokens")))
    assert len(found) > 20
    for name, path in found.items():
        assert path.read_bytes() == (plain / name).read_bytes(), name
    assert "0 cells to do in 0 jobs" in study.run(*THERE)
