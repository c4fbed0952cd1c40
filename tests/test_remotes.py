"""A study goes to others by DVC's remotes, and comes back: a folder, and a server that speaks S3.

Run by `make smoke`. The tests share one finished study, and each has a clone of it, as a collaborator has.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import Project
from servers import free_port, started

pytestmark = pytest.mark.slow

KEPT = ("sample", "pretrain", "embed", "similarity", "adapt", "evaluate", "tokens", "joins", "claims", "report")
"""Stages whose results DVC keeps: all but track, whose receipt is of one's own store."""
LATER = "second"
"""Another study, of which only the sample is made."""
ADDED = "sympy.sets"
MODEL = "one/click/model.safetensors"
"""A file of data/smoke/adapt."""
CREDENTIALS = {"access_key_id": "someone", "secret_access_key": "a secret"}


class Clone(Project):
    """A clone of a project, which has nothing but what git has."""

    def __init__(self, origin: Project, folder: Path) -> None:
        self.folder = folder
        self.environment = {**origin.environment, "DVC_SITE_CACHE_DIR": str(folder.with_name(f"{folder.name} site"))}
        origin.run("git", "clone", "--quiet", ".", str(folder))

    def dvc(self, *words: str, status: int = 0) -> str:
        """What a command of DVC says."""
        return self.run("dvc", *words, status=status)

    def stages_run(self, *words: str) -> list[str]:
        """Stages that `dvc repro` runs."""
        return re.findall(r"Running stage '(\w+)@smoke'", self.dvc("repro", *words))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The tiny study after `dvc repro`, with a remote named in git and all pushed to it, and another's sample."""
    folder = tmp_path_factory.mktemp("remotes") / "project"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        smoke = Path(__file__).with_name("smoke.yaml")
        later = yaml.safe_load(smoke.read_text(encoding="utf-8"))
        later["source"]["rows"] -= 10
        # Nobody's own credentials are found.
        nothing = folder.with_name("no credentials")
        folder.mkdir()
        nothing.touch()
        aws = {"AWS_CONFIG_FILE": str(nothing), "AWS_SHARED_CREDENTIALS_FILE": str(nothing)}
        aws |= {"AWS_EC2_METADATA_DISABLED": "true"}
        made = Project(folder, "smoke", {"smoke": smoke, LATER: later}, HF_HUB_OFFLINE="1", **aws)
    made.run("dvc", "remote", "add", "--default", "shared", str(folder.with_name("shared")))
    made.run("dvc", "remote", "modify", "shared", "verify", "true")
    made.run("dvc", "repro")
    made.run("dvc", "push")
    made.commit("--all")
    yield made
    shutil.rmtree(folder.parent, ignore_errors=True)


@pytest.fixture
def clone(study: Project, request: pytest.FixtureRequest) -> Clone:
    """A clone beside the study, of this test's own."""
    return Clone(study, study.folder.with_name(re.sub(r"\W+", "-", request.node.name)))


@pytest.fixture(scope="module")
def server(study: Project) -> Iterator[str]:
    """Address of a server that speaks S3, with a bucket "studies"."""
    port = free_port()
    command = (sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port))
    with started(*command, folder=study.folder) as running:
        address = f"http://127.0.0.1:{port}"
        running.page(f"{address}/moto-api/data.json")
        with urllib.request.urlopen(urllib.request.Request(f"{address}/studies", method="PUT"), timeout=30):
            yield address


def on_s3(project: Project, address: str, bucket: str = "studies") -> None:
    """Name the S3 server as the remote, for this folder only: nothing of it gets into git."""
    project.run("dvc", "remote", "add", "--local", "--default", "--force", "bucket", f"s3://{bucket}/odyssey")
    for key, value in {"endpointurl": address, "verify": "true", **CREDENTIALS}.items():
        project.run("dvc", "remote", "modify", "--local", "bucket", key, value)


def push_to_s3(study: Project, address: str) -> None:
    """Push all of the study, if it is not there."""
    on_s3(study, address)
    try:
        assert re.search("files pushed|up to date", study.run("dvc", "push"))
    finally:
        (study.folder / ".dvc" / "config.local").unlink()


def contents(project: Project) -> dict[str, bytes]:
    """Every byte of what DVC keeps of the study."""
    return {name: path.read_bytes() for name, path in project.files(*(f"smoke/{stage}" for stage in KEPT)).items()}


def stages_here(project: Project) -> list[str]:
    """Stages of which there is something."""
    return sorted(path.name for path in (project.folder / "data" / "smoke").iterdir())


def damaged(project: Project) -> list[str]:
    """Objects of the cache whose bytes are not those that they are named after; a killed pull's `.*.tmp` is none."""
    objects = [path for path in (project.folder / ".dvc/cache/files/md5").rglob("[!.]*") if path.is_file()]
    assert objects
    named = {path.parent.name + path.name.removesuffix(".dir"): path for path in objects}
    return [name for name, path in named.items() if hashlib.md5(path.read_bytes()).hexdigest() != name]


# --- a collaborator's clone


def is_the_study(clone: Clone, study: Project) -> None:
    """After a pull: the same bytes, nothing to run but the publication to one's own store, and git has no change."""
    assert contents(clone) == contents(study)
    assert clone.stages_run() == ["track"]
    assert len(clone.runs("smoke")) == 2 * 4 + 1
    assert clone.stages_run() == []
    assert "up to date" in clone.dvc("status")
    assert clone.changed() == []
    headline = ("python", "-m", "odyssey", "headline")
    assert clone.run(*headline) == study.run(*headline)
    assert contents(clone) == contents(study)


def test_a_clone_reproduces_the_report_without_training(study: Project, clone: Clone) -> None:
    clone.dvc("pull")
    is_the_study(clone, study)
    kept = ("python", "-m", "odyssey", "verify")
    (clone.folder / "studies" / "reference").mkdir(exist_ok=True)
    study.run(*kept, "--record")
    shutil.move(study.folder / "studies/reference/smoke.json", clone.folder / "studies/reference/smoke.json")
    clone.run(*kept)


def test_a_clone_reproduces_the_report_from_s3(study: Project, clone: Clone, server: str) -> None:
    push_to_s3(study, server)
    assert study.changed() == []
    on_s3(clone, server)
    clone.dvc("pull")
    is_the_study(clone, study)


def test_parts_are_pulled(study: Project, clone: Clone) -> None:
    clone.dvc("pull", "sample", "embed")
    assert stages_here(clone) == ["embed", "sample"]
    # What a stage needs and the remote has is pulled rather than made.
    assert clone.stages_run("--pull", "adapt") == []
    assert stages_here(clone) == ["adapt", "embed", "pretrain", "sample"]
    whole = contents(study)
    assert contents(clone).items() <= whole.items()


def test_a_node_adapts_with_what_it_needs(study: Project, clone: Clone) -> None:
    clone.dvc("pull", "sample", "pretrain")
    clone.run("python", "-m", "odyssey", "adapt", "--model", "one", "--domain", "click")
    made = {name: content for name, content in contents(clone).items() if name.startswith("smoke/adapt/one/click/")}
    assert made
    assert made.items() <= contents(study).items()


def test_a_push_is_of_the_study_in_use(study: Project, clone: Clone) -> None:
    clone.dvc("pull", "sample")
    clone.run("python", "-m", "odyssey", "study", LATER)
    clone.dvc("repro", "sample")
    lock = (clone.folder / "dvc.lock").read_text(encoding="utf-8")
    made = yaml.safe_load(lock)["stages"]
    assert {"sample@smoke", f"sample@{LATER}"} <= made.keys()
    listing = study.folder.with_name("shared") / "files" / "md5" / Path(*_parts(made[f"sample@{LATER}"]["outs"][0]))
    clone.run("python", "-m", "odyssey", "study", "smoke")
    clone.dvc("push", "sample")
    assert not listing.exists()
    clone.run("python", "-m", "odyssey", "study", LATER)
    clone.dvc("push", "sample")
    assert listing.exists()
    # Who has only the lock file finds the other study beside the first.
    other = Clone(study, clone.folder.with_name("others"))
    (other.folder / "dvc.lock").write_text(lock, encoding="utf-8")
    other.run("python", "-m", "odyssey", "study", LATER)
    other.dvc("pull", "sample")
    assert other.files(LATER).keys() == clone.files(LATER).keys()
    assert not (other.folder / "data" / "smoke").exists()


def _parts(out: dict[str, Any]) -> tuple[str, str]:
    """Folder and name of an out's object below files/md5."""
    return out["md5"][:2], out["md5"][2:]


# --- results that are links into the cache


def test_clones_share_a_cache(study: Project, clone: Clone) -> None:
    other = Clone(study, clone.folder.with_name("beside"))
    for node in (clone, other):
        node.dvc("cache", "dir", "--local", str(clone.folder.with_name("one cache")))
        node.dvc("config", "--local", "cache.shared", "group")
        node.dvc("config", "--local", "cache.type", "hardlink,symlink,copy")
    assert "fetched" in clone.dvc("pull")
    assert "fetched" not in other.dvc("pull")
    assert contents(other) == contents(clone) == contents(study)
    assert (clone.folder / "data/smoke/adapt" / MODEL).samefile(other.folder / "data/smoke/adapt" / MODEL)
    assert clone.changed() == []


def _edit(clone: Clone, change: Callable[[dict[str, Any]], object]) -> None:
    file = clone.folder / "studies" / "smoke.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def test_a_domain_added_after_a_pull_costs_its_own_cells(study: Project, clone: Clone) -> None:
    clone.dvc("config", "--local", "cache.type", "hardlink")
    clone.dvc("pull")
    before = contents(clone)
    assert (clone.folder / "data/smoke/adapt" / MODEL).stat().st_nlink > 1
    domain = {"corpus": "docstrings", "portion": "science", "modules": [ADDED]}
    _edit(clone, lambda content: content["domains"].update({ADDED: domain}))
    said = clone.dvc("repro", "evaluate")
    assert re.findall(r"Running stage '(\w+)@", said) == ["sample", "adapt", "evaluate"]
    for stage in ("adapt", "evaluate"):
        for model in ("one", "two"):
            assert f"{stage} {model}: 1 of 5 domains to do, 4 kept" in said
    after = contents(clone)
    cells = {name for name in before if name.startswith(("smoke/adapt/", "smoke/evaluate/"))}
    assert {name: after[name] for name in cells} == {name: before[name] for name in cells}
    assert damaged(clone) == []
    # And back: who had the study gets what is new.
    clone.dvc("push", "sample", "adapt", "evaluate")
    clone.commit("--all")
    other = Clone(clone, clone.folder.with_name("back"))
    other.dvc("pull", "adapt")
    assert set(contents(other)) == {name for name in after if name.startswith("smoke/adapt/")}


def test_stages_leave_the_cache_alone_that_results_are_links_into(clone: Clone) -> None:
    clone.dvc("config", "--local", "cache.type", "symlink")
    clone.dvc("pull")
    data = clone.folder / "data" / "smoke"
    assert (data / "adapt" / MODEL).is_symlink()
    _edit(clone, lambda content: content["models"].pop("two"))
    _edit(clone, lambda content: content["tokens"].update(chunks=3))
    for folder in ("sample/domains/click", "embed/click", "similarity", "evaluate/one/click", "joins/one/click"):
        (data / folder / "manifest.json").unlink()
    # By hand: DVC would make the links copies before it runs a stage.
    for stage in KEPT:
        clone.run("python", "-m", "odyssey", stage)
    assert not (data / "adapt" / "two").exists()
    assert (data / "adapt" / MODEL).is_symlink()
    assert not (data / "evaluate/one/click/scores.json").is_symlink()
    assert damaged(clone) == []


# --- what goes wrong


def _object(study: Project, remote: Path, name: str = MODEL) -> Path:
    """The object of a file of data/smoke/adapt in a folder that is a remote."""
    lock = yaml.safe_load((study.folder / "dvc.lock").read_text(encoding="utf-8"))
    objects = remote / "files" / "md5"
    listing = json.loads(objects.joinpath(*_parts(lock["stages"]["adapt@smoke"]["outs"][0])).read_text())
    return objects.joinpath(*_parts(next(entry for entry in listing if entry["relpath"] == name)))


@pytest.fixture
def remote(study: Project, clone: Clone) -> Path:
    """A copy of the remote, which a clone is told to use, to be damaged."""
    copied = clone.folder.with_name(f"{clone.folder.name} remote")
    shutil.copytree(study.folder.with_name("shared"), copied)
    clone.dvc("remote", "modify", "--local", "shared", "url", str(copied))
    return copied


def _damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    file.write_bytes(content)


def test_an_object_damaged_in_the_remote_is_not_pulled(study: Project, clone: Clone, remote: Path) -> None:
    changed = _object(study, remote)
    whole = changed.read_bytes()
    _damage(changed)
    said = clone.dvc("pull", status=1)
    assert "data/smoke/adapt\n" in said
    assert not (clone.folder / "data/smoke/adapt").exists()
    assert damaged(clone) == []
    # DVC holds for whole what has its listing: mended by taking both away, and a push by who has the study.
    lock = yaml.safe_load((study.folder / "dvc.lock").read_text(encoding="utf-8"))
    for path in (changed, (remote / "files" / "md5").joinpath(*_parts(lock["stages"]["adapt@smoke"]["outs"][0]))):
        path.unlink()
    study.run("dvc", "remote", "add", "--local", "mended", str(remote))
    try:
        study.run("dvc", "push", "--remote", "mended")
    finally:
        (study.folder / ".dvc" / "config.local").unlink()
    assert changed.read_bytes() == whole
    clone.dvc("pull")
    assert contents(clone) == contents(study)


def test_a_damaged_object_that_was_not_looked_at_is_not_computed_with(
    study: Project, clone: Clone, remote: Path
) -> None:
    _damage(_object(study, remote))
    clone.dvc("remote", "modify", "--local", "shared", "verify", "false")
    clone.dvc("pull")
    shutil.rmtree(clone.folder / "data/smoke/evaluate/one/click")
    said = clone.dvc("repro", "evaluate", status=255)
    assert f"data/smoke/adapt/{MODEL}: damaged" in said
    assert not (clone.folder / "data/smoke/evaluate/one/click").exists()


def test_an_object_that_is_missing_is_named(study: Project, clone: Clone, remote: Path) -> None:
    gone = _object(study, remote)
    gone.unlink()
    said = clone.dvc("pull", status=1)
    assert gone.parent.name + gone.name in said
    assert not (clone.folder / "data/smoke/adapt").exists()


def test_a_remote_that_is_not_there_is_an_error(clone: Clone) -> None:
    clone.dvc("remote", "modify", "--local", "shared", "url", str(clone.folder / "nowhere"))
    assert "data/smoke/adapt" in clone.dvc("pull", status=1)
    assert not (clone.folder / "data" / "smoke" / "adapt").exists()


def test_who_may_not_read_the_bucket_is_told_so(clone: Clone, server: str) -> None:
    on_s3(clone, server)
    _let_in(server, 0)
    try:
        assert "403" in clone.dvc("pull", status=1)
    finally:
        _let_in(server, 10**9)
    on_s3(clone, server, "elsewhere")
    assert "bucket does not exist" in clone.dvc("pull", status=255)
    on_s3(clone, server)
    for key in CREDENTIALS:
        clone.dvc("remote", "modify", "--local", "--unset", "bucket", key)
    assert "Unable to locate credentials" in clone.dvc("pull", status=1)


def _let_in(server: str, requests: int) -> None:
    """After so many requests, the server refuses those whose key it does not know."""
    asked = urllib.request.Request(
        f"{server}/moto-api/reset-auth", data=str(requests).encode(), headers={"Content-Type": "text/plain"}
    )
    with urllib.request.urlopen(asked, timeout=30):
        pass


@pytest.mark.parametrize("objects", [0, 60])
def test_a_pull_that_was_killed_is_made_again(study: Project, clone: Clone, server: str, objects: int) -> None:
    push_to_s3(study, server)
    on_s3(clone, server)
    cache, noted = clone.folder / ".dvc" / "cache", Path(clone.environment["DVC_SITE_CACHE_DIR"])
    with subprocess.Popen(["dvc", "pull"], cwd=clone.folder, env=clone.environment) as process:
        while len(list(cache.rglob("*"))) < objects or not list(noted.rglob("index/data/*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    # DVC may have noted as there what it had not fetched yet: it then says so, and another pull fetches the rest.
    for _ in range(3):
        again = subprocess.run(["dvc", "pull"], cwd=clone.folder, env=clone.environment, check=False)
        if again.returncode == 0:
            break
    assert contents(clone) == contents(study)
    assert damaged(clone) == []
