"""Stage `sample`: documents to rows, splits and the source corpus (paper, sections 2.1 and 2.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, combinations
from typing import Any

from odyssey.corpora.docstrings import Document, belongs, read_documents
from odyssey.corpora.parquet import Row, write_rows
from odyssey.errors import OdysseyError
from odyssey.layout import SOURCE, Layout
from odyssey.provenance import code_digest, versions
from odyssey.science.copies import keep_originals
from odyssey.science.rows import pack, paragraphs
from odyssey.science.splits import generator, split_documents
from odyssey.settings import Settings
from odyssey.store import new_folder, write_json


def run(settings: Settings, layout: Layout) -> None:
    """Write the source corpus and every domain's splits below layout.sample.

    Near-copies are removed over all documents together, before anything is split, and the
    source corpus is drawn from the documents that no domain uses: so no document of a
    split, nor a near-copy of it, is in another split or in the source.
    """
    _check_disjoint(settings)
    rows = _rows(settings, read_documents(_modules(settings)))
    made_from = {
        "settings": settings.model_dump(include={"seed", "source", "domains", "sample"}),
        "code": code_digest(__name__),
        "packages": versions("datasets", "pyarrow"),
    }
    pool = {document for document in rows if belongs(document, settings.source.modules)}
    with new_folder(layout.sample, made_from) as folder:
        inside = Layout(folder.parent)  # the same names, below the temporary folder
        summary: dict[str, Any] = {}
        for name, domain in settings.domains.items():
            own = sorted(document for document in rows if belongs(document, domain.modules))
            splits, left = split_documents(
                [rows[document] for document in own],
                settings.sample.rows.model_dump(),
                generator(settings.seed, "sample", name),
            )
            pool -= set(own) - {own[index] for index in left}
            for split, taken in splits.items():
                if not taken:
                    raise OdysseyError(
                        f"domain '{name}' has no text for its {split} split ({len(own)} documents in "
                        f"{', '.join(domain.modules)}); give it more modules or lower sample.min_document_words"
                    )
                write_rows(folder / inside.split(name, split).relative_to(inside.sample), taken)
            summary[name] = {split: _count(taken) for split, taken in splits.items()}
            summary[name]["population_rows"] = sum(len(rows[document]) for document in own)
        source, _ = split_documents(
            [rows[document] for document in sorted(pool)],
            {SOURCE: settings.source.rows},
            generator(settings.seed, "sample", SOURCE),
        )
        if not source[SOURCE]:
            raise OdysseyError("the domains leave no text for the source corpus; lower sample.rows or add modules")
        write_rows(folder / inside.source.relative_to(inside.sample), source[SOURCE])
        summary[SOURCE] = {
            **_count(source[SOURCE]),
            "population_rows": sum(len(rows[document]) for document in pool),
        }
        write_json(folder / "summary.json", summary)
    print(f"sample: {summary[SOURCE]['rows']} source rows, {len(settings.domains)} domains in {layout.sample}")


def _modules(settings: Settings) -> list[str]:
    named = chain(settings.source.modules, *(domain.modules for domain in settings.domains.values()))
    # A subpackage of a package that is named too would be read twice, under two names.
    names = set(named)
    return sorted(name for name in names if not any(name.startswith(other + ".") for other in names))


def _check_disjoint(settings: Settings) -> None:
    for (first, a), (second, b) in combinations(settings.domains.items(), 2):
        if any(belongs(x, [y]) or belongs(y, [x]) for x in a.modules for y in b.modules):
            raise OdysseyError(f"domains '{first}' and '{second}' share modules; a document can be of one only")
    if SOURCE in settings.domains:
        raise OdysseyError(f"a domain cannot be called '{SOURCE}': that is the source corpus; rename it")


def _rows(settings: Settings, documents: Sequence[Document]) -> dict[str, list[Row]]:
    """Rows by document, near-copies and short documents left out."""
    rules = settings.sample
    long = [d for d in documents if len(d.text.split()) >= rules.min_document_words]
    originals = [long[i] for i in keep_originals([d.text for d in long], rules.shingle_words, rules.near_copy)]
    print(f"sample: {len(documents)} documents, {len(long)} long enough, {len(originals)} without near-copies")
    return {d.id: _number(d.id, pack(paragraphs(d.text), rules.row_words)) for d in originals}


def _number(document: str, texts: Iterable[str]) -> list[Row]:
    return [Row(f"{document}#{k}", document, text) for k, text in enumerate(texts)]


def _count(rows: Sequence[Row]) -> dict[str, int]:
    return {
        "rows": len(rows),
        "documents": len({row.document for row in rows}),
        "words": sum(len(row.text.split()) for row in rows),
    }
