"""Start of each stage's process, with everything kept and up to its first useful work, against imports.

With everything kept a stage says so and needs neither torch nor transformers; the reach is 0.7 s
then. With one result missing it ends here where its work would begin: at the first text that is
scored, trained on or embedded. The peers are importing torch and transformers, and beside it the
class that a stage needs, which transformers loads only when it is asked for. The study is the
tests' smallest one, made in a temporary folder first. Takes about 15 minutes on two cores.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness

STUDY = "smoke"
KEPT = ("sample", "pretrain", "embed", "similarity", "adapt", "evaluate", "tokens", "joins", "claims")
"""Not the report: it is drawn each time it is asked for."""
MISSING = {
    "pretrain": ("one", "odyssey.training", "train"),
    "embed": ("click", "odyssey.encoder", "_lengths"),
    "adapt": ("one/click", "odyssey.scoring", "token_nll"),
    "evaluate": ("one/click", "odyssey.scoring", "token_nll"),
    "tokens": ("one/click", "odyssey.scoring", "token_nll"),
    "joins": ("one/click", "odyssey.scoring", "token_nll"),
}
"""What is taken away, and the function that the work begins with."""
IMPORTS = "import torch, transformers"
CLASS = "import torch; from transformers import AutoModelForCausalLM, GPT2LMHeadModel"
TOLD = (" 0 of ", ": kept ", "the study asks for none")
STOP = """
import importlib, os, sys
def stop(*_, **__):
    print("work", flush=True)
    os._exit(0)
setattr(importlib.import_module(sys.argv[1]), sys.argv[2], stop)
from odyssey.cli import main
main(sys.argv[3:])
"""


def main() -> None:
    """Make the study, then measure each stage in both states."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        make(folder)
        peers = {
            "importing torch and transformers": lambda: python(folder, "-c", IMPORTS),
            "importing torch and GPT-2's class": lambda: python(folder, "-c", CLASS),
        }

        # Without memory: ours is read line by line, in which its peak is not seen.
        imports = {"importing torch and transformers": lambda: harness.Run(python(folder, "-c", IMPORTS).seconds)}
        results = [
            harness.alternate(
                f"odyssey {stage}, everything kept",
                "at most 0.7 s",
                {harness.OURS: lambda stage=stage: kept(folder, stage)} | imports,
                checked,
            )
            for stage in KEPT
        ]
        for stage in MISSING:
            take_away(folder, stage)
            results.append(
                harness.alternate(
                    f"odyssey {stage}, up to its first work",
                    "at most 1.2 times the import of torch and transformers",
                    {harness.OURS: lambda stage=stage: started(folder, stage)} | peers,
                    checked,
                )
            )
            put_back(folder, stage)
    harness.record("startup", results)


def make(folder: Path) -> None:
    """The finished study."""
    (folder / "studies").mkdir()
    shutil.copy2(harness.ROOT / "tests" / "smoke.yaml", folder / "studies" / f"{STUDY}.yaml")
    (folder / "params.yaml").write_text(f"study: {STUDY}\nseed: 0\naccept_licenses: false\n", encoding="utf-8")
    for stage in KEPT:
        python(folder, "-m", "odyssey", stage)


def kept(folder: Path, stage: str) -> harness.Run:
    """Until a stage says for the first time that there is nothing to do."""
    start = time.perf_counter()
    with subprocess.Popen(
        [harness.PYTHON, "-m", "odyssey", stage],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        told, seconds = "", 0.0
        for line in process.stdout:
            if not told and any(words in line for words in TOLD):
                told, seconds = line, time.perf_counter() - start
    return harness.Run(seconds, value=told and process.returncode == 0)


def started(folder: Path, stage: str) -> harness.Run:
    """Until a stage begins to work."""
    _, module, function = MISSING[stage]
    run = python(folder, "-c", STOP, module, function, stage)
    return replace(run, value=run.value == "work")


def checked(values: Mapping[str, Any]) -> str:
    """Whether ours did what it was to do."""
    assert values[harness.OURS], "the stage did not say that all is kept, or did not begin to work"
    return "no numbers to compare"


def take_away(folder: Path, stage: str) -> None:
    """Have one result of a stage missing."""
    (folder / "data" / STUDY / stage / MISSING[stage][0]).rename(folder / "aside")


def put_back(folder: Path, stage: str) -> None:
    """Have it again."""
    target = folder / "data" / STUDY / stage / MISSING[stage][0]
    shutil.rmtree(target, ignore_errors=True)
    (folder / "aside").rename(target)


def python(folder: Path, *words: str) -> harness.Run:
    """A process of Python in the study's folder."""
    inside = "import os, sys; os.chdir(sys.argv[1]); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    return harness.process([harness.PYTHON, "-c", inside, folder, *words], **environment())


def environment() -> dict[str, str]:
    """The package is this checkout's, MLflow's store the folder's, and nothing is fetched."""
    return os.environ | {
        "PYTHONPATH": str(harness.ROOT),
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


if __name__ == "__main__":
    main()
