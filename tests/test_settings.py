"""params.yaml is validated as a whole, and what is wrong with it is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from pydantic import ValidationError

from odyssey.errors import OdysseyError
from odyssey.settings import Settings, load_settings, validate

Edit = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r["adapt"].update(batchsize=3), "unknown key 'adapt.batchsize'; did you mean 'batch_size'"),
        (lambda r: r.update(sampel={}), "unknown key 'sampel'; did you mean 'sample'"),
        (
            lambda r: r["models"]["tiny"]["architecture"].update(layer=3),
            "unknown key 'models.tiny.architecture.layer'; did you mean 'layers'",
        ),
        (lambda r: r["domains"]["pandas"].update(zzz=3), "unknown key 'domains.pandas.zzz'; valid: corpus, portion"),
        (lambda r: r["adapt"].pop("epochs"), "key 'adapt.epochs' is missing"),
        (lambda r: r["adapt"].update(epochs="one"), r"key 'adapt.epochs': .*\(found 'one'\)"),
        (lambda r: r["adapt"].update(train_start=1.5), r"key 'adapt.train_start': .*\(found 1.5\)"),
        (lambda r: r["adapt"].update(precision="float8"), "key 'adapt.precision'"),
        (lambda r: r["models"]["tiny"]["architecture"].update(heads=3), "64 is not a multiple of heads 3"),
        (lambda r: r["domains"].update({"../x": r["domains"]["pandas"]}), "key 'domains.../x"),
        (lambda r: r["domains"].clear(), "key 'domains'"),
    ],
)
def test_what_is_wrong_is_named(edit: Edit, message: str) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    edit(raw)
    with pytest.raises(OdysseyError, match=f"here.yaml: .*{message}") as caught:
        validate(raw, "here.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "not readable as YAML"),
        (b"\xff\xfe", "not readable as YAML"),
        (b"", "expected a mapping"),
        (b"- 1", "expected a mapping"),
    ],
)
def test_unreadable_params(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(OdysseyError, match=message):
        load_settings(path)
    with pytest.raises(OdysseyError, match="no such file"):
        load_settings(tmp_path / "none.yaml")


def test_settings_are_frozen_and_names_are_picked(settings: Settings) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings.seed = 3
    assert settings.model("tiny") is settings.models["tiny"]
    with pytest.raises(OdysseyError, match=r"no model 'tyni'.*did you mean 'tiny'"):
        settings.model("tyni")
    with pytest.raises(OdysseyError, match=r"no domain 'panda'.*did you mean 'pandas'"):
        settings.domain("panda")


def test_the_mini_study_has_the_papers_shape(settings: Settings) -> None:
    portions = [domain.portion for domain in settings.domains.values()]
    assert portions == ["software"] * 10 + ["science"] * 10
    assert len(settings.models) == 2
    science = {m.split(".")[0] for d in settings.domains.values() if d.portion == "science" for m in d.modules}
    assert science.isdisjoint(settings.source.modules)
