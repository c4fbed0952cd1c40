"""Checks of Python, its packages and the study's files."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version

from odyssey.corpora import documents
from odyssey.doctor.check import Check, Subject
from odyssey.errors import OdysseyError
from odyssey.published import check_licenses
from odyssey.settings import load_settings

PYTHON = (3, 11)
"""The one that requirements.lock was made with."""
LOCK = "requirements.lock"
AGAIN = "run `make test`, which installs what requirements.lock names"
SHOWN = 3
"""Packages that are named of those that differ."""


def python(subject: Subject) -> Check:
    """The interpreter's version."""
    found = ".".join(map(str, sys.version_info[:3]))
    if tuple(sys.version_info[:2]) == PYTHON:
        return Check("python", "ok", f"{found} in {sys.prefix}")
    wanted = ".".join(map(str, PYTHON))
    return Check("python", "fail", f"{found}, not {wanted}", f"make PYTHON=/path/to/python{wanted} test")


def packages(subject: Subject) -> Check:
    """Installed packages against the lock; a local suffix (+cpu) makes no difference."""
    lock = subject.root / LOCK
    if not lock.is_file():
        return Check("packages", "fail", f"no {lock}", "run from the project's folder or pass --params")
    pins = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", lock.read_text(encoding="utf-8")))
    wrong = []
    for name, wanted in pins.items():
        try:
            found = version(name).split("+")[0]
        except PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if found != wanted:
            wrong.append(f"{name} is {found}, not {wanted}")
    if not wrong:
        return Check("packages", "ok", f"all {len(pins)} are those of {LOCK}")
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return Check("packages", "fail", f"{', '.join(wrong[:SHOWN])}{more}, of {len(pins)} in {LOCK}", AGAIN)


def study(subject: Subject) -> Check:
    """Whether the study in use is valid as a whole, and its texts are there."""
    try:
        settings = load_settings(subject.params)
        documents.look_at(settings, subject.root)
    except OdysseyError as error:
        return Check("study", "fail", str(error), "correct it, or choose another one: `odyssey study` lists them")
    count = f"{len(settings.models)} models x {len(settings.adapted)} domains"
    return Check("study", "ok", f"'{settings.study}', seed {settings.seed}: {count}")


def licences(subject: Subject) -> Check:
    """Whether what the study fetches may be fetched."""
    settings = subject.settings
    if settings is None:
        return Check("licences", "warn", "not known without a valid study", "mend the study first")
    try:
        check_licenses(settings, settings.accept_licenses)
    except OdysseyError as error:
        what, _, remedy = str(error).partition(". If you accept that, ")
        return Check("licences", "fail", what, f"if you accept that, {remedy}")
    return Check("licences", "ok", "accepted" if settings.accept_licenses else "none that need your consent")
