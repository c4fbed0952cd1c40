"""Corpora that come as documents, read together: documentation strings and a user's own texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import packages_distributions, version
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from odyssey.corpora import docstrings, local
from odyssey.corpora.docstrings import Document, belongs
from odyssey.errors import OdysseyError
from odyssey.layout import SOURCE
from odyssey.sections import DocstringsDomain, DocstringsSource, LocalDomain, LocalSource
from odyssey.settings import Settings
from odyssey.store import sha256

Corpus = DocstringsSource | DocstringsDomain | LocalSource | LocalDomain


class Documents(NamedTuple):
    """Documents sorted by id, and which of them are each corpus's own: several may share one."""

    documents: list[Document]
    own: dict[str, list[str]]


def read(corpora: Mapping[str, Corpus], root: Path) -> Documents:
    """All documents of the named corpora; `root` is where a user's relative paths start.

    Ids of a user's documents begin with the corpus's name. Raises OdysseyError as the readers do.
    """
    found: list[Document] = []
    own: dict[str, list[str]] = {}
    if named := modules(corpora.values()):
        found += docstrings.read_documents(named)
    for name, corpus in corpora.items():
        if isinstance(corpus, DocstringsSource | DocstringsDomain):
            own[name] = [document.id for document in found if belongs(document.id, corpus.modules)]
    for name, corpus in corpora.items():
        if isinstance(corpus, LocalSource | LocalDomain):
            texts = local.read_documents(root / corpus.path, corpus.text)
            mine = [Document(f"{name}/{document.id}", document.text) for document in texts]
            found, own[name] = found + mine, sorted(document.id for document in mine)
    return Documents(sorted(found, key=lambda document: document.id), own)


def look_at(settings: Settings, root: Path) -> None:
    """Read the first of a user's texts in every file, so that what is wrong with them shows at once.

    Raises OdysseyError naming the corpus and the file: none of a known kind, no such column, not readable.
    """
    for name, corpus in {SOURCE: settings.source, **settings.domains}.items():
        if isinstance(corpus, LocalSource | LocalDomain):
            try:
                for file in local.files(root / corpus.path):
                    next(iter(local.iter_records(file, corpus.text)), None)
            except OdysseyError as error:
                raise OdysseyError(f"{name}: {error}") from None


def fingerprint(corpora: Mapping[str, Corpus], root: Path) -> dict[str, str]:
    """What the texts depend on beyond the settings: versions of packages, hashes of a user's files."""
    tops = {module.partition(".")[0] for module in modules(corpora.values())}
    providers = packages_distributions() if tops else {}
    packages = sorted({package for top in tops for package in providers.get(top, [])})
    files = {
        f"{name}/{path.relative_to(root / corpus.path)}": sha256(path)
        for name, corpus in corpora.items()
        if isinstance(corpus, LocalSource | LocalDomain)
        for path in local.files(root / corpus.path)
    }
    return {package: version(package).split("+")[0] for package in packages} | files


def modules(corpora: Iterable[object]) -> list[str]:
    """The packages and subpackages that documentation strings are taken from, each once."""
    modular = (c.modules for c in corpora if isinstance(c, DocstringsSource | DocstringsDomain))
    # A subpackage of a package that is named too would be read twice, under two names.
    names = set(chain.from_iterable(modular))
    return sorted(name for name in names if not any(name.startswith(other + ".") for other in names))
