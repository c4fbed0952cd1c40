"""Stage `sample`: rows of the source corpus and every domain's splits (paper, sections 2.1 and 2.2).

A corpus is a cell of its own. Those that come as documents, documentation strings and a user's own
texts, are made together: near-copies are looked for over all of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from odyssey.corpora import documents, hub, m2d2, sources
from odyssey.corpora.docstrings import Document
from odyssey.corpora.parquet import Row, write_rows
from odyssey.corpora.writer import RowWriter
from odyssey.errors import OdysseyError
from odyssey.layout import SOURCE, SUMMARY, Layout
from odyssey.progress import bar
from odyssey.provenance import code_digest, versions
from odyssey.published import CORPORA, check_licenses
from odyssey.science.copies import keep_originals
from odyssey.science.rows import pack, paragraphs
from odyssey.science.splits import generator, share_out, split_documents
from odyssey.sections import (
    DocstringsSource,
    HubSource,
    LocalDomain,
    LocalSource,
    M2D2Domain,
    PublishedModel,
    TrainedModel,
)
from odyssey.settings import TEXTS, Settings
from odyssey.signals import held
from odyssey.store import content_digest, digest, missing, new_folder, prune, read_json, unfinished, write_json


def run(settings: Settings, layout: Layout, root: Path = Path()) -> None:
    """Write each corpus's cell below layout.sample; keep what still holds. `root` is where local paths start.

    Of corpora that come as documents, near-copies are removed over all of them together, before
    anything is split, and such a source corpus is drawn from the documents that no domain uses: so
    no document of a split, nor a near-copy of it, is in another split or in the source. M2D2 has
    splits of its own, and a corpus that a published model has read is drawn as it is.
    """
    check_licenses(settings, settings.accept_licenses)
    _look_ahead(settings)
    documents.look_at(settings, root)
    prune(layout.sample, keep={SOURCE, "domains", *(path.name for path in layout.sample.glob(f".{SOURCE}-*.partial"))})
    prune(layout.sample / "domains", keep=set(settings.domains))
    origin = {"code": code_digest(__name__), "packages": versions("datasets", "pyarrow")}
    grouped = _documents(settings)
    _sample_documents(settings, layout, root, grouped, origin)
    if SOURCE not in grouped:
        _sample_source(settings, layout, root, origin)
    # Also by a run that has nothing else to do: one before it may have been killed between the two.
    for drawn in layout.sample.glob(f".{SOURCE}-*.partial"):
        shutil.rmtree(drawn)
    _sample_m2d2(settings, layout, origin)


def _look_ahead(settings: Settings) -> None:
    """Find out before anything large is fetched whether published models can be had and read as much as is asked."""
    for name, corpus in {SOURCE: settings.source, **settings.domains}.items():
        if isinstance(corpus, LocalSource | LocalDomain) and Path(corpus.path).parts[:1] != (TEXTS,):
            print(
                f"sample: the texts of '{name}' are not in {TEXTS}/, so DVC does not notice when they change; "
                "then run `dvc repro -f sample`, and `dvc repro` for the rest"
            )
    for name, model in settings.models.items():
        if isinstance(model, PublishedModel) and model.revision is not None:
            commit = hub.resolve(model.checkpoint, model.revision, "model")
            config = read_json(hub.fetch(model.checkpoint, "config.json", commit, "model"))
            limit = config.get("max_position_embeddings", config.get("n_positions"))
            if limit is not None and model.context > limit:
                raise OdysseyError(
                    f"model '{name}': 'context' is {model.context} in the study, longer than the {limit} tokens that "
                    f"{model.checkpoint} reads; lower it"
                )


# --- corpora that come as documents


def _documents(settings: Settings) -> dict[str, documents.Corpus]:
    """The corpora that come as documents, by name.

    A user's source corpus is one of them only if a model is trained on it here. Otherwise it stands
    for what a published model has read, copies of the domains' texts included, and may be large.
    """
    corpora: dict[str, documents.Corpus] = {
        name: about for name, about in settings.domains.items() if not isinstance(about, M2D2Domain)
    }
    trained = any(isinstance(model, TrainedModel) for model in settings.models.values())
    if isinstance(settings.source, DocstringsSource) or (isinstance(settings.source, LocalSource) and trained):
        corpora[SOURCE] = settings.source
    return corpora


def _sample_documents(
    settings: Settings, layout: Layout, root: Path, corpora: Mapping[str, documents.Corpus], origin: Mapping[str, Any]
) -> None:
    if not corpora:
        return
    made_from = {
        **origin,
        "settings": {"seed": settings.seed, "sample": settings.sample.model_dump(exclude={"workers"})},
        "corpora": {name: about.model_dump(exclude={"portion"}) for name, about in corpora.items()},
        "texts": documents.fingerprint(corpora, root),
    }
    cells = unfinished(list(corpora), layout.corpus, lambda name: made_from, "sample", unit="corpora of documents")
    if not cells:
        return
    try:
        before = content_digest(layout.corpus(SOURCE))
    except OdysseyError:  # damaged: it is made again
        before = None
    found = documents.read(corpora, root)
    users = (name for name, about in corpora.items() if isinstance(about, LocalSource | LocalDomain))
    rows = _rows(settings, found.documents, {document for name in users for document in found.own[name]})
    own = {name: [document for document in ids if document in rows] for name, ids in found.own.items()}
    pool = set(own.pop(SOURCE, ()))
    dealt: dict[str, dict[str, list[Row]]] = {}
    for name, ids in own.items():
        dealt[name], left = _deal(settings, name, ids, rows)
        pool -= set(ids) - set(left)
    if SOURCE in corpora:
        dealt[SOURCE] = _draw_source(settings, sorted(pool), rows)
        own[SOURCE] = sorted(pool)
    for name, folder, _ in bar(cells, "sample", unit="corpora", brief=True):
        # Arrow complains, with a traceback, of a file that is closed while it writes.
        with held(), new_folder(folder, made_from) as temporary:
            for split, taken in dealt[name].items():
                write_rows(temporary / f"{split}.parquet", taken)
            counts = {split: _count(taken) for split, taken in dealt[name].items()}
            summary: dict[str, Any] = dict(counts["rows"]) if name == SOURCE else dict(counts)
            write_json(temporary / SUMMARY, {**summary, "population_rows": sum(len(rows[d]) for d in own[name])})
    print(f"sample: {', '.join(f'{name}: {sum(map(len, s.values()))} rows' for name, s in dealt.items())}")
    if before is not None and SOURCE in corpora:
        same = before == content_digest(layout.corpus(SOURCE))
        told = "is as it was: nothing" if same else "is another one now: all"
        print(f"sample: the source corpus {told} that was made from it has to be made again")


def _deal(
    settings: Settings, name: str, ids: Sequence[str], rows: Mapping[str, list[Row]]
) -> tuple[dict[str, list[Row]], list[str]]:
    """A domain's splits, and the documents that are left over."""
    wanted = share_out(sum(len(rows[document]) for document in ids), settings.sample.rows.model_dump())
    rng = generator(settings.seed, "sample", name)
    splits, left = split_documents([rows[document] for document in ids], wanted, rng)
    for split, taken in splits.items():
        if not taken:
            raise OdysseyError(
                f"domain '{name}' has no text for its {split} split ({len(ids)} documents that are long enough and no "
                "near-copies); give it more texts or lower sample.min_document_words"
            )
    return splits, [ids[place] for place in left]


def _draw_source(settings: Settings, pool: Sequence[str], rows: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """The source corpus's rows, drawn by document from what no domain uses."""
    rng = generator(settings.seed, "sample", SOURCE)
    wanted = settings.source.rows
    assert wanted is not None  # only a corpus of the hub may leave it open
    drawn, _ = split_documents([rows[document] for document in pool], {"rows": wanted}, rng)
    if not drawn["rows"]:
        raise OdysseyError("the domains leave no text for the source corpus; lower sample.rows or give it more texts")
    return drawn


def _rows(settings: Settings, found: Sequence[Document], users: Collection[str]) -> dict[str, list[Row]]:
    """Rows by document, near-copies and short documents left out.

    Of documentation and a user's own document (its id in `users`) the documentation is kept: so
    texts that are added to a study leave its other corpora as they are.
    """
    rules = settings.sample
    long = [d for d in found if len(d.text.split()) >= rules.min_document_words]
    late = [d.id in users for d in long]
    texts = bar([d.text for d in long], "find near-copies", unit="documents", brief=True)
    originals = [long[i] for i in keep_originals(texts, rules.shingle_words, rules.near_copy, late)]
    print(f"sample: {len(found)} documents, {len(long)} long enough, {len(originals)} without near-copies")
    return {d.id: _number(d.id, pack(paragraphs(d.text), rules.row_words)) for d in originals}


def _number(document: str, texts: Iterable[str]) -> list[Row]:
    return [Row(f"{document}#{k}", document, text) for k, text in enumerate(texts)]


def _count(rows: Sequence[Row]) -> dict[str, int]:
    return {
        "rows": len(rows),
        "documents": len({row.document for row in rows}),
        "words": sum(len(row.text.split()) for row in rows),
    }


# --- a source corpus that is drawn text by text


def _sample_source(settings: Settings, layout: Layout, root: Path, origin: Mapping[str, Any]) -> None:
    source, seed = settings.source, settings.seed
    about = source.model_dump(exclude={"revision"})
    made_from = {**origin, "settings": {"seed": seed, "source": about}}
    if isinstance(source, HubSource):
        commit = hub.resolve(CORPORA[source.corpus].repo, source.revision, "dataset")
        made_from["commit"] = commit
    elif isinstance(source, LocalSource):
        made_from["texts"] = documents.fingerprint({SOURCE: source}, root)
    for _, folder, found in unfinished([SOURCE], layout.corpus, lambda name: made_from, "sample", "source corpus"):
        # Beside the cell, so that it outlives a kill; named after what it is for, so that nothing else goes on with it.
        work = folder.with_name(f".{folder.name}-{digest(made_from)[:12]}.partial")
        for stale in set(layout.sample.glob(f".{folder.name}-*.partial")) - {work}:
            shutil.rmtree(stale)
        with new_folder(folder, found) as temporary:
            out = temporary / layout.source.name
            if isinstance(source, HubSource):
                summary = sources.sample(source, commit, out, work, seed, settings.sample.workers)
            elif isinstance(source, LocalSource):
                summary = sources.sample_local(source, root, out, seed)
            write_json(temporary / SUMMARY, summary)
        print(f"sample: {summary['rows']:,} of {summary['population_rows']:,} source texts in {folder}")


# --- domains of M2D2


def _sample_m2d2(settings: Settings, layout: Layout, origin: Mapping[str, Any]) -> None:
    """Rows of each M2D2 domain as they stand in its archive, the first ones of a split where it is limited."""
    domains = {name: about for name, about in settings.domains.items() if isinstance(about, M2D2Domain)}
    if not domains:
        return
    limits = settings.sample.rows.model_dump()
    commits = {about.revision: hub.resolve(m2d2.REPO, about.revision, "dataset") for about in domains.values()}

    def made_from(name: str) -> dict[str, Any]:
        about = domains[name]
        return {
            **origin,
            "corpus": about.model_dump(exclude={"revision"}),
            "commit": commits[about.revision],
            "rows": limits,
        }

    for name, folder, found in missing(list(domains), layout.corpus, made_from, "sample", unit="M2D2 domains"):
        archive = hub.fetch(m2d2.REPO, m2d2.archive(name), found["commit"], "dataset")
        with new_folder(folder, found) as temporary:
            summary: dict[str, Any] = {}
            for split, rows in m2d2.read_splits(archive):
                summary[split], total = _write_split(temporary / f"{split}.parquet", split, rows, limits[split])
                if split == "train":
                    summary["population_rows"] = total
            write_json(temporary / SUMMARY, summary)


def _write_split(path: Path, split: str, texts: Iterable[str], limit: int | None) -> tuple[dict[str, int], int]:
    """Write at most `limit` rows; what was written, and how many rows there are. No document is known of any."""
    rows = words = total = 0
    with RowWriter(path) as writer:
        for text in texts:
            if limit is None or total < limit:
                writer.write([Row(f"{split}#{total}", split, text)])
                rows, words = rows + 1, words + len(text.split())
            total += 1
    return {"rows": rows, "words": words}, total
