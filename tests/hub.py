"""A stand-in for the Hugging Face hub: a local server that answers as the real one does.

The routes, headers and error codes are those that huggingface_hub 2.4 asks for and understands;
what the hub serves from its content network lies, as there, on another origin (here: another
port). No Xet headers are sent, so that the client takes its plain HTTP path.

A test module that imports `hub_fixture` has the fixture `hub`: a stand-in with an empty cache, to
which huggingface_hub, transformers and datasets talk within the test.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from fnmatch import fnmatchcase
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

Kind = Literal["model", "dataset"]

LFS_SUFFIXES = (".safetensors", ".gz", ".parquet", ".jsonl", ".zst", ".bin")
_SUB_ROUTES = ("revision", "tree", "paths-info", "commits", "refs")


@dataclass(frozen=True)
class Blob:
    """One file's content, with the identifiers that git and LFS give it."""

    data: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def oid(self) -> str:
        """What git stores for the path: the hash of the content, or of the LFS pointer to it."""
        if not self.lfs:
            return git_sha1(self.data)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        return git_sha1(pointer.encode())

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    @property
    def lfs_info(self) -> dict[str, Any]:
        return {"oid": self.sha256, "sha256": self.sha256, "size": len(self.data), "pointerSize": 134}


@dataclass
class Repo:
    """A repository: its commits in their order, and the names that stand for some of them."""

    kind: Kind
    name: str
    gated: bool
    private: bool
    license: str | None
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """Something that goes wrong with the next `times` requests (None: with all) whose path matches."""

    pattern: str
    status: int | None
    times: int | None
    truncate_at: int | None
    corrupt: bool
    delay: float | None
    method: str | None

    def matches(self, method: str, path: str, body: bool) -> bool:
        """Faults of the content leave alone what has none: HEAD requests, redirects and the like."""
        if self.times == 0 or (self.method or method) != method or not fnmatchcase(path, self.pattern):
            return False
        return body or not (self.corrupt or self.truncate_at is not None)


@dataclass(frozen=True)
class Request:
    """A request as it came in, and the status that it was answered with."""

    method: str
    path: str
    range: str | None
    authorized: bool
    status: int


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Hub:
    """The stand-in; a context manager, serving from its construction to its exit.

    `home` becomes HF_HOME, the folder of the clients' caches.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.requests: list[Request] = []
        self.tokens = {"hf_reader"}
        """Tokens of users who may read everything, private and gated repositories included."""
        self.strangers = {"hf_stranger"}
        """Tokens that are valid, but of users who have not been let into anything."""
        self.short_revisions = True
        """Whether the first characters of a commit stand for it, as with git."""
        self.if_range = True
        """Whether the plain host heeds If-Range."""
        self.page = 1000
        """Entries in an answer before a Link header leads to the next page."""
        self._repos: dict[tuple[Kind, str], Repo] = {}
        self._host_files: dict[str, tuple[bytes, str]] = {}
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._servers = [_Server(self), _Server(self)]
        self.url, self.cdn = (server.url for server in self._servers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shut_down()

    def shut_down(self) -> None:
        """Serve no more: connections are refused from here on, and those that are open break off."""
        for server in self._servers:
            server.shut_down()

    @property
    def environment(self) -> dict[str, str]:
        """What makes the libraries of another process talk to the stand-in, with this one's cache."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(self.home),
            "HF_HUB_CACHE": str(self.cache),
            "HF_ASSETS_CACHE": str(self.home / "assets"),
            "HF_DATASETS_CACHE": str(self.home / "datasets"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
        }

    @property
    def cache(self) -> Path:
        """The folder that huggingface_hub keeps files in."""
        return self.home / "hub"

    def add(
        self,
        repo: str,
        kind: Kind,
        files: Mapping[str, bytes | Path],
        *,
        lfs: Collection[str] | Callable[[str], bool] | None = None,
        gated: bool = False,
        private: bool = False,
        license: str | None = None,
        refs: Collection[str] = ("main",),
    ) -> str:
        """Commit these files, and nothing besides, and return the commit's hash; makes the repository.

        `refs` are the branches and tags that stand for the commit from now on. `lfs` says which
        paths are LFS files; by default those with the suffixes that the hub stores so.
        """
        stored = self._repos.setdefault((kind, repo), Repo(kind, repo, gated, private, license))
        stored.gated, stored.private, stored.license = gated, private, license
        tree = {path: Blob(_bytes(data), _is_lfs(path, lfs)) for path, data in sorted(files.items())}
        listing = json.dumps([kind, repo, len(stored.commits), {path: blob.oid for path, blob in tree.items()}])
        commit = hashlib.sha1(listing.encode()).hexdigest()
        stored.commits[commit] = tree
        stored.refs.update(dict.fromkeys(refs, commit))
        return commit

    def add_host_file(self, path: str, data: bytes, *, etag: str | None = None) -> str:
        """Serve a file on a host that is no hub (under `/host/`, another origin); returns its URL.

        Its ETag is made of the content, unless one is given; an empty one means no ETag.
        """
        path = "/host/" + path.lstrip("/").removeprefix("host/")
        self._host_files[path] = data, hashlib.md5(data).hexdigest() if etag is None else etag
        return self.cdn + path

    def fail(
        self,
        path_pattern: str,
        *,
        status: int | None = None,
        times: int | None = 1,
        truncate_at: int | None = None,
        corrupt: bool = False,
        delay: float | None = None,
        method: str | None = None,
    ) -> None:
        """Let the next `times` requests (None: all) for a path like this one go wrong.

        `*` in the pattern also stands for `/`: "*model.safetensors" means both the hub's own route
        and that of the content network. The answer is `status`; or its body breaks off after
        `truncate_at` bytes; or one byte of it is changed; or it comes `delay` seconds late.
        """
        self._faults.append(Fault(path_pattern, status, times, truncate_at, corrupt, delay, method))

    def mend(self) -> None:
        """Drop all faults."""
        self._faults.clear()

    def gets(self, pattern: str = "*") -> list[Request]:
        """The GET requests so far that were for content (not redirects) of a path like this one."""
        return [r for r in self.requests if r.method == "GET" and r.status < 300 and fnmatchcase(r.path, pattern)]

    # -- answers

    def answer(self, method: str, target: str, headers: Message, body: bytes) -> tuple[Answer, Fault | None]:
        """The answer to a request, and the fault that it is to suffer; the request is logged."""
        split = urlsplit(target)
        if split.path == "/api/agent-harnesses":  # the client's telemetry, once a process: not logged
            return _json({"standardEnvVars": [], "harnesses": {}}), None
        answer = self._route(method, split.path, parse_qs(split.query), headers, body)
        path = unquote(split.path)
        with self._lock:
            fault = self._take_fault(method, path, method == "GET" and answer.status < 300)
            if fault is not None and fault.status is not None:
                answer = Answer(fault.status, body=b"out of order")
            self.requests.append(Request(method, path, headers["Range"], "Authorization" in headers, answer.status))
        return answer, fault

    def _take_fault(self, method: str, path: str, body: bool) -> Fault | None:
        fault = next((fault for fault in self._faults if fault.matches(method, path, body)), None)
        if fault is not None and fault.times is not None:
            fault.times -= 1
        return fault

    def _route(self, method: str, path: str, query: Mapping[str, list[str]], headers: Message, body: bytes) -> Answer:
        parts = path.strip("/").split("/")
        if parts[0] == "host":
            if not self.if_range:
                del headers["If-Range"]
            data, etag = self._host_files.get(unquote(path), (None, ""))
            return _error(404, None, "no such file") if data is None else _content(data, etag, headers)
        if parts[0] == "cdn":
            return self._cdn(parts[1], headers)
        if parts[0] == "api" and len(parts) > 2 and parts[1] in ("models", "datasets"):
            kind: Kind = "model" if parts[1] == "models" else "dataset"
            end = next((at for at in (3, 4) if at < len(parts) and parts[at] in _SUB_ROUTES), len(parts))
            found = self._find(kind, "/".join(parts[2:end]), headers)
            return found if isinstance(found, Answer) else self._api(found, parts[end:], query, body)
        if "resolve" in parts:
            kind = "dataset" if parts[0] == "datasets" else "model"
            end = parts.index("resolve")
            found = self._find(kind, "/".join(parts[kind == "dataset" : end]), headers)
            rest = [unquote(part) for part in parts[end + 1 :]]
            return found if isinstance(found, Answer) else self._resolve(found, rest, headers)
        return _error(404, None, "no such page")

    def _find(self, kind: Kind, name: str, headers: Message) -> Repo | Answer:
        """The repository, or the hub's refusal: without a token it does not say whether one exists."""
        token = _token(headers)
        if token is not None and token not in self.tokens | self.strangers:
            return _error(401, None, "Invalid credentials in Authorization header")
        repo = self._repos.get((kind, name))
        if repo is not None and (not repo.private or token in self.tokens):
            return repo
        if token is None:
            return _error(401, "RepoNotFound", "Invalid username or password.")
        return _error(404, "RepoNotFound", "Repository not found")

    def _commit(self, repo: Repo, revision: str) -> str | None:
        if revision in repo.commits:
            return revision
        if revision in repo.refs:
            return repo.refs[revision]
        if self.short_revisions and len(revision) >= 7:
            return next((commit for commit in repo.commits if commit.startswith(revision)), None)
        return None

    def _resolve(self, repo: Repo, rest: list[str], headers: Message) -> Answer:
        commit = self._commit(repo, rest[0])
        if commit is None:
            return _error(404, "RevisionNotFound", f"Invalid rev id: {rest[0]}")
        token = _token(headers)
        if repo.gated and token not in self.tokens:
            restricted = f"Access to {repo.kind} {repo.name} is restricted"
            if token is None:
                return _error(401, "GatedRepo", f"{restricted}. You must have access to it and be authenticated.")
            return _error(403, "GatedRepo", f"{restricted} and you are not in the authorized list.")
        path = "/".join(rest[1:])
        known = {"X-Repo-Commit": commit}
        blob = repo.commits[commit].get(path)
        if blob is None:
            return _error(404, "EntryNotFound", "Entry not found", known)
        known |= {"X-Linked-Size": str(len(blob.data)), "X-Linked-Etag": f'"{blob.etag}"'}
        if not blob.lfs:
            answer = _content(blob.data, blob.etag, headers)
            return Answer(answer.status, {**answer.headers, **known}, answer.body)
        location = f"{self.cdn}/cdn/{blob.sha256}/{repo.name}/{quote(path)}?signature=valid-for-an-hour"
        return Answer(302, {"Location": location, "ETag": f'"{blob.oid}"', **known})

    def _cdn(self, sha256: str, headers: Message) -> Answer:
        for repo in self._repos.values():
            for tree in repo.commits.values():
                for blob in tree.values():
                    if blob.lfs and blob.sha256 == sha256:
                        # Like an object store, whose ETags are not the hub's.
                        return _content(blob.data, hashlib.md5(blob.data).hexdigest(), headers)
        return _error(403, None, "AccessDenied")

    def _api(self, repo: Repo, rest: list[str], query: Mapping[str, list[str]], body: bytes) -> Answer:
        route, revision, *path = [unquote(part) for part in (*rest, *("revision", "main")[len(rest) :])]
        if route == "refs":
            names = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": at} for name, at in repo.refs.items()]
            return _json({"branches": names, "converts": [], "tags": []})
        commit = self._commit(repo, revision)
        if commit is None:
            return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        tree = repo.commits[commit]
        if route == "tree":
            return self._tree(repo, commit, revision, "/".join(path), query)
        if route == "paths-info":
            asked = parse_qs(body.decode()).get("paths", [])
            return _json([_entry(path, tree) for path in asked if path in tree or _folders(tree) & {path}])
        if route == "commits":
            until = list(repo.commits)[: list(repo.commits).index(commit) + 1]
            return _json([_commit_entry(at) for at in reversed(until)])
        return _json(_repo_info(repo, commit, blobs="blobs" in query))

    def _tree(self, repo: Repo, commit: str, revision: str, under: str, query: Mapping[str, list[str]]) -> Answer:
        tree = repo.commits[commit]
        prefix = under + "/" if under else ""
        if under and under not in _folders(tree):
            return _error(404, "EntryNotFound", f"{under} does not exist on {revision}", {"X-Repo-Commit": commit})
        names = sorted(name for name in {*tree, *_folders(tree)} if name.startswith(prefix))
        if query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
            names = [name for name in names if "/" not in name.removeprefix(prefix)]
        start = int(query.get("cursor", ["0"])[0])
        answer = _json([_entry(name, tree) for name in names[start : start + self.page]])
        if start + self.page >= len(names):
            return answer
        where = f"{self.url}/api/{repo.kind}s/{repo.name}/tree/{quote(revision, safe='')}"
        if under:
            where += "/" + quote(under, safe="")
        more = f"{where}?recursive={query.get('recursive', ['false'])[0]}&cursor={start + self.page}"
        return Answer(200, {**answer.headers, "Link": f'<{more}>; rel="next"'}, answer.body)


def git_sha1(data: bytes) -> str:
    """The hash under which git stores a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def read_folder(folder: Path) -> dict[str, Path]:
    """The files of a folder, by their paths in it: what `Hub.add` takes."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _bytes(data: bytes | Path) -> bytes:
    return data.read_bytes() if isinstance(data, Path) else data


def _is_lfs(path: str, lfs: Collection[str] | Callable[[str], bool] | None) -> bool:
    if lfs is None:
        return path.endswith(LFS_SUFFIXES)
    return lfs(path) if callable(lfs) else path in lfs


def _token(headers: Message) -> str | None:
    value = headers.get("Authorization", "")
    return value.removeprefix("Bearer ") if value else None


def _json(value: Any) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())


def _error(status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    named = {"X-Error-Code": code} if code else {}
    return Answer(status, {**(headers or {}), **named, "X-Error-Message": message}, message.encode())


def _content(data: bytes, etag: str, headers: Message) -> Answer:
    """A file, or the part of it that is asked for; If-Range with another ETag means the whole."""
    named = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    if etag:
        named["ETag"] = f'"{etag}"'
    asked, condition = headers.get("Range", ""), headers.get("If-Range")
    if not asked or (condition is not None and condition != f'"{etag}"'):
        return Answer(200, named, data)
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last) + 1, len(data)) if last else len(data)
    if start >= len(data):
        return Answer(416, {"Content-Range": f"bytes */{len(data)}"})
    return Answer(206, {**named, "Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}, data[start:end])


def _folders(tree: Mapping[str, Blob]) -> set[str]:
    return {parent.as_posix() for path in tree for parent in Path(path).parents if parent != Path()}


def _entry(path: str, tree: Mapping[str, Blob]) -> dict[str, Any]:
    blob = tree.get(path)
    if blob is None:
        return {"type": "directory", "oid": git_sha1(path.encode()), "size": 0, "path": path}
    entry = {"type": "file", "oid": blob.oid, "size": len(blob.data), "path": path}
    return entry | ({"lfs": blob.lfs_info} if blob.lfs else {})


def _commit_entry(commit: str) -> dict[str, Any]:
    return {"id": commit, "title": "Add files", "message": "", "authors": [], "date": "2024-01-01T00:00:00.000Z"}


def _repo_info(repo: Repo, commit: str, blobs: bool) -> dict[str, Any]:
    siblings: list[dict[str, Any]] = []
    for path, blob in repo.commits[commit].items():
        sizes = {"size": len(blob.data), "blobId": blob.oid} | ({"lfs": blob.lfs_info} if blob.lfs else {})
        siblings.append({"rfilename": path} | (sizes if blobs else {}))
    return {
        "id": repo.name,
        **({"modelId": repo.name} if repo.kind == "model" else {}),
        "sha": commit,
        "private": repo.private,
        "gated": "manual" if repo.gated else False,
        "disabled": False,
        "tags": [f"license:{repo.license}"] if repo.license else [],
        "cardData": {"license": repo.license} if repo.license else {},
        "downloads": 0,
        "likes": 0,
        "lastModified": "2024-01-01T00:00:00.000Z",
        "createdAt": "2024-01-01T00:00:00.000Z",
        "siblings": siblings,
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle of an answer is nothing to report."""

    def shut_down(self) -> None:
        self.shutdown()
        self.server_close()
        # Clients keep connections open, and their threads would go on answering.
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet, sent at once: else each answer waits for an acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        assert isinstance(self.server, _Server)
        answer, fault = self.server.hub.answer(self.command, self.path, self.headers, body)
        if fault is not None and fault.delay is not None:
            time.sleep(fault.delay)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self._send(answer.body, fault)

    do_GET = do_HEAD = do_POST = _handle  # noqa: N815

    def _send(self, data: bytes, fault: Fault | None) -> None:
        if fault is not None and fault.corrupt:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        if fault is not None and fault.truncate_at is not None:
            data = data[: fault.truncate_at]
            self.close_connection = True
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are in `Hub.requests`."""


@pytest.fixture(name="hub")
def hub_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in without repositories, to which the libraries of this process talk, with an empty cache."""
    with Hub(tmp_path / "hf") as stand_in:
        connect(stand_in, monkeypatch)
        yield stand_in
        _forget_connections()


def connect(stand_in: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the libraries of this process talk to the stand-in, without a token, until the patches end.

    They read their environment once, when imported: what they made of it is replaced too.
    """
    from huggingface_hub import constants, hf_api
    from huggingface_hub.utils import _cache_assets, _cache_manager, _detect_agent, _http

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in stand_in.environment.items():
        monkeypatch.setenv(name, value)
    home, cache = stand_in.home, str(stand_in.cache)
    for name, path in {
        "ENDPOINT": stand_in.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": stand_in.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": cache,
        "HUGGINGFACE_HUB_CACHE": cache,
        "HF_ASSETS_CACHE": str(home / "assets"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "AGENT_HARNESSES_PATH": str(home / ".agent_harnesses.json"),
    }.items():
        monkeypatch.setattr(constants, name, path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(_cache_assets, "HF_ASSETS_CACHE", str(home / "assets"))
    monkeypatch.setattr(_cache_manager, "HF_HUB_CACHE", cache)
    monkeypatch.setattr(_detect_agent, "_registry", {"standardEnvVars": [], "harnesses": {}})
    monkeypatch.setattr(_http, "_HUB_ORIGINS", frozenset({_http._url_origin(stand_in.url)}))
    monkeypatch.setattr(hf_api.api, "endpoint", stand_in.url)
    _connect_users(stand_in, monkeypatch)
    _forget_connections()


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_HUB_OFFLINE=1 does to a process that starts with it."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def _connect_users(stand_in: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copies of the settings that datasets and transformers hold."""
    import datasets
    from transformers.utils import hub as transformers_hub

    config, home = datasets.config, stand_in.home
    monkeypatch.setattr(config, "HF_ENDPOINT", stand_in.url)
    monkeypatch.setattr(config, "HUB_DATASETS_URL", stand_in.url + "/datasets/{repo_id}/resolve/{revision}/{path}")
    monkeypatch.setattr(config, "HF_CACHE_HOME", str(home))
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", home / "datasets")
    monkeypatch.setattr(config, "HF_MODULES_CACHE", home / "modules")
    monkeypatch.setattr(config, "DOWNLOADED_DATASETS_PATH", home / "datasets" / "downloads")
    monkeypatch.setattr(config, "EXTRACTED_DATASETS_PATH", home / "datasets" / "downloads" / "extracted")
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(transformers_hub, "_hf_api", None)


def _forget_connections() -> None:
    """Close the client that the libraries share, and drop the file systems that remember an endpoint."""
    from huggingface_hub import HfFileSystem, close_session

    HfFileSystem.clear_instance_cache()
    close_session()
