"""Any params.yaml and any study: valid settings, or one line that names the file; never another end."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from hypothesis import example, given
from hypothesis import strategies as st

from odyssey import choice
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.settings import Settings, load_choice, load_settings

from .conftest import FUZZ


def few(raw: dict[str, Any]) -> dict[str, Any]:
    """A study with its first two domains: it is read a thousand times."""
    domains = raw["domains"]
    kept = {name: domains[name] for name in list(domains)[:2]} if "all_of" not in domains else {"cs.AI": M2D2}
    return raw | {"domains": kept, "adapt_to": "all"}


M2D2 = {"corpus": "m2d2", "revision": "6ae613b"}
STUDIES = {
    name: few(yaml.safe_load((ROOT / "studies" / f"{name}.yaml").read_text(encoding="utf-8")))
    for name in ("mini", "mine", "newline", "gpt2-xl")
}
PARAMS = "study: tried\nseed: 0\naccept_licenses: false\n"

ODD: list[Any] = [
    *(None, True, False, "", " ", "all", "..", "../..", "/", "/etc/passwd", "~", "con", "NUL.txt", "a.", "A", "mini"),
    *(
        "x" * 300,
        "x/" * 3000,
        "a\0b",
        "\x1b[2J",
        "\u202egpj",
        "line\nfeed",
        "\ud800",
        "<script>",
        "`",
        "|",
        "é",
        "package:os",
    ),
    *(0, -1, 1, 2, 10**30, -(10**30), 2**31, 0.0, -0.5, 1.5, 1e308, float("inf"), float("-inf"), float("nan")),
    *([], {}, [[]], [None], ["all"], {"corpus": "local"}, {"corpus": []}, {"checkpoint": 1}, {None: None}, {1: {2: 3}}),
]
KEYS: list[Any] = [
    "study",
    "seed",
    "corpus",
    "path",
    "../x",
    "con",
    "",
    "\x1b[31m",
    "\ud800",
    "a\nb",
    None,
    0,
    1.5,
    True,
]
Change = tuple[str, int, Any, Any]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["delete", "replace", "add", "rename", "duplicate"]),
        st.integers(0, 10**6),
        st.sampled_from(ODD) | st.text(max_size=5) | st.integers() | st.floats(),
        st.sampled_from(KEYS) | st.text(max_size=5),
    ),
    min_size=1,
    max_size=3,
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with the studies' own texts and selections."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "texts" / "mine").mkdir(parents=True)
    (folder / "studies").mkdir()
    return folder


def check_told(error: OdysseyError, *begins: object) -> None:
    """One line that does nothing to a terminal, and begins with the file at fault."""
    told = str(error)
    assert told.isprintable(), told.encode("unicode_escape")
    assert len(told) < 2000
    assert told.startswith(tuple(map(str, begins))) or not begins, told


def tried(project: Path, study: str | bytes, params: str | bytes = PARAMS) -> Settings | None:
    """The settings that a study and a params.yaml come to, or None if they are refused in one line."""
    for path, content in ((project / "studies" / "tried.yaml", study), (project / "params.yaml", params)):
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    try:
        found = load_settings(project / "params.yaml")
    except OdysseyError as error:
        check_told(error, project / "studies" / "tried.yaml", project / "params.yaml", "no study")
        return None
    assert found.study == "tried"
    return found


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every mapping or list of a tree with each of its keys or places."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [pair for key, value in inside for pair in [(tree, key), *places(value)]]


def dumped(tree: Any) -> str:
    """A tree as YAML; quickly, unless it holds half of a surrogate pair."""
    try:
        return str(yaml.dump(tree, Dumper=yaml.CSafeDumper, sort_keys=False))
    except UnicodeEncodeError:
        return str(yaml.safe_dump(tree, sort_keys=False))


def changed(tree: Any, changes: list[Change]) -> Any:
    """A tree after changes, each at a place that its number chooses."""
    tree = copy.deepcopy(tree)
    for what, number, value, name in changes:
        if not (there := places(tree)):
            break
        holder, key = there[number % len(there)]
        if what == "delete":
            del holder[key]
        elif what == "replace":
            holder[key] = copy.deepcopy(value)
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key] if what == "duplicate" else value))
        elif what == "rename":
            holder[name] = holder.pop(key)
        else:
            holder[name] = copy.deepcopy(holder[key] if what == "duplicate" else value)
    return tree


@pytest.mark.parametrize("name", STUDIES)
def test_what_is_changed_below_is_valid(project: Path, name: str) -> None:
    assert tried(project, dumped(STUDIES[name])) is not None


@FUZZ
@given(st.sampled_from(sorted(STUDIES)), CHANGES)
def test_a_changed_study_is_valid_or_refused_in_one_line(project: Path, name: str, changes: list[Change]) -> None:
    tree = changed(STUDIES[name], changes)
    found = tried(project, dumped(tree))
    if found is not None:
        check_harmless(found)


def check_harmless(found: Settings) -> None:
    """No result of a valid study lies outside of its folder, nor in another's."""
    layout = Layout(Path("data") / found.study)
    for model in found.models:
        for domain in found.adapted:
            for place in (layout.adapted, layout.evaluated, layout.tokens, layout.joined):
                inside = place(model, domain).relative_to(layout.data)
                assert len(inside.parts) == 3
                assert ".." not in inside.parts
    for names in (found.models, [*found.domains, "source"]):
        assert len({name.lower() for name in names}) == len(names)


BROKEN = [
    b"",
    b"\n\n# nothing\n",
    b"- 1\n- 2\n",
    b"text",
    b"42",
    b"null",
    b"\xef\xbb\xbfsource: {}\n",
    b"\xff\xfes\0o\0",
    b"source: \0\n",
    b"\tsource: {}\n",
    b'source: "\\ud800"\n',
    b'? "\\ud800"\n: 1\n',
    b"? [a, b]\n: 1\n",
    b"? {a: b}\n: 1\n",
    b"source: {}\nsource: {}\n",
    b"adapt: {epochs: 1, epochs: 2}\n",
    b"source: !!python/object/apply:os.system ['touch ran']\n",
    b"source: !!python/name:os.system\n",
    b"source: !include x\n",
    b"source: 2024-99-99\n",
    b"source: 0x_\n",
    b"source: !!int x\n",
    b"source: !!float x\n",
    b"source: !!bool x\n",
    b"source: !!timestamp x\n",
    b"source: !!binary \xc3\xa9\n",
    b"source: !!set {a, b}\n",
    b"seed2: 0x" + b"f" * 50_000 + b"\n",
    b"seed2: " + b"9" * 50_000 + b"\n",
    b"source: &a {x: *a}\n",
    b"source: &a [*a]\n",
    b"a: &a {<<: *a}\n",
    b"a: *nobody\n",
    b"--- 1\n--- 2\n",
    b"source: " + b"[" * 10_000 + b"]" * 10_000 + b"\n",
    b"source: " + b"{a: " * 1_000 + b"}" * 1_000 + b"\n",
    b"source: " + b"[" * 1_000,
    b"".join(b"%s" % b"".join(b" " * k + b"a:\n" for k in range(1000)) for _ in range(1)),
    b"a: &a [l,l,l,l,l,l,l,l,l]\n"
    + b"".join(b"%c: &%c [%s]\n" % (k, k, b",".join([b"*%c" % (k - 1)] * 9)) for k in range(98, 110)),
    b"a: &a {k0: 1, k1: 1}\n"
    + b"".join(b"%c: &%c {<<: [%s]}\n" % (k, k, b",".join([b"*%c" % (k - 1)] * 9)) for k in range(98, 110)),
    b"a: " + b"x" * 2_000_000 + b"\n",
]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_what_is_no_study_or_no_params_is_refused(project: Path, content: bytes) -> None:
    assert tried(project, content) is None
    assert tried(project, MINI, content) is None
    assert not Path("ran").exists()


MINI = dumped(STUDIES["mini"])
VALUES = st.sampled_from(ODD) | st.text(max_size=4) | st.integers()


@FUZZ
@given(
    st.dictionaries(st.sampled_from(["study", "seed", "accept_licenses", "extra"]), VALUES, max_size=4),
    st.booleans(),
)
@example({"seed": 10**30}, True)
def test_any_params_are_valid_or_refused_in_one_line(project: Path, changes: dict[str, Any], whole: bool) -> None:
    params = ({"study": "tried", "seed": 0, "accept_licenses": False} if whole else {}) | changes
    found = tried(project, MINI, dumped(params))
    assert found is None or 0 <= found.seed < 2**31


LINES = st.sampled_from(
    [
        *(
            "study: tried",
            "study:  'tried' # c",
            'study: "tried"',
            "study: &a tried",
            "study: !!str tried",
            "study:",
            " tried",
        ),
        *(
            "study: >",
            "  tried",
            "'study': tried",
            "study : tried",
            "# study: tried",
            "study: other",
            "x: 'study: tried'",
        ),
        *("seed: 0", "seed: 3 # three", "accept_licenses: false", "accept_licenses: no", "accept_licenses: *a", ""),
    ]
)
BLOCK = "study: tried\nseed: 0\naccept_licenses: false"


@FUZZ
@given(st.lists(LINES, max_size=5) | st.permutations(["study: !!str tried", "seed: 0", "accept_licenses: no"]))
@example(["study: &a tried", "seed: 0", "accept_licenses: false"])
@example(["study:", "  tried", "seed: 0", "accept_licenses: false"])
@example(["{study: tried, seed: 0, accept_licenses: false}"])
def test_a_switch_of_study_writes_what_it_says_or_nothing(project: Path, lines: list[str]) -> None:
    for name in ("tried", "other"):
        (project / "studies" / f"{name}.yaml").write_text(MINI, encoding="utf-8")
    params = project / "params.yaml"
    before = "\n".join(lines) + "\n"
    params.write_text(before, encoding="utf-8")
    try:
        held = load_choice(params)
        with redirect_stdout(io.StringIO()):
            choice.use(params, "other", accept_licenses=True)
    except OdysseyError as error:
        check_told(error)
        assert params.read_text(encoding="utf-8") == before
        return
    finally:
        (project / "studies" / "other.yaml").unlink()
    wanted = held.model_dump() | {"study": "other", "accept_licenses": True}
    assert load_choice(params).model_dump() == wanted


@pytest.mark.parametrize(
    "prepare",
    [
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path.with_name("nowhere.yaml")),
        lambda path: path.symlink_to(path),
        lambda path: path.write_bytes(b"# caf\xe9 \x1b[2J\nsource: {}\n"),
        lambda path: path.write_bytes(b"#" * 10**5),
    ],
    ids=["folder", "link to nothing", "link to itself", "latin-1", "long"],
)
def test_a_study_that_is_no_file_of_text(tmp_path: Path, prepare: Callable[[Path], Any]) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    prepare(tmp_path / "studies" / "tried.yaml")
    with pytest.raises(OdysseyError) as caught:
        load_settings(tmp_path / "params.yaml")
    check_told(caught.value)
    assert choice.listing(tmp_path / "params.yaml").replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "lock", [b"", b"<<<<<<< HEAD\n", b"- 1\n", b"stages: [1]\n", b"stages: {a@tried: {outs: [1]}}", b"\xff"]
)
def test_a_damaged_lock_of_dvc_is_named(project: Path, lock: bytes) -> None:
    (project / "studies" / "tried.yaml").write_text(MINI, encoding="utf-8")
    (project / "params.yaml").write_text(PARAMS, encoding="utf-8")
    file = project / "dvc.lock"
    file.write_bytes(lock)
    try:
        if lock:
            with pytest.raises(OdysseyError, match=r"dvc\.lock"):
                choice.use(project / "params.yaml", "tried")
        else:
            choice.use(project / "params.yaml", "tried")
    finally:
        file.unlink()
