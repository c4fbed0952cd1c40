"""What a study's model was trained on, and under which terms that is."""

from __future__ import annotations

from collections.abc import Iterator

from odyssey.layout import SOURCE
from odyssey.published import CORPORA, HUB, License, find_checkpoint
from odyssey.sections import DocstringsDomain, DocstringsSource, Domain, HubSource, M2D2Domain, PublishedModel, Source
from odyssey.settings import Settings

Corpus = Source | Domain


def corpora(settings: Settings, model: str, domain: str | None) -> dict[str, Corpus]:
    """What a model was trained on here, by name: what a published one had read before is not the study's to say."""
    found: dict[str, Corpus] = {}
    if not isinstance(settings.model(model), PublishedModel):
        found[SOURCE] = settings.source
    if domain is not None:
        found[domain] = settings.domain(domain)
    return found


def repository(corpus: Corpus) -> str | None:
    """Id on the hub of a corpus that is from there."""
    return CORPORA[corpus.corpus].repo if isinstance(corpus, HubSource | M2D2Domain) else None


def kind(corpus: Corpus) -> str:
    """What kind of text it is, and which."""
    if isinstance(corpus, HubSource | M2D2Domain):
        return f"{repository(corpus)}, revision {corpus.revision}"
    if isinstance(corpus, DocstringsSource | DocstringsDomain):
        return f"documentation strings of {', '.join(corpus.modules)}"
    return "own texts"


def terms(settings: Settings, model: str, domain: str | None) -> Iterator[str]:
    """A line on whether commercial use is excluded, if it is known to be, and one for each origin."""
    used, chosen = corpora(settings, model, domain), settings.model(model)
    found: dict[str, License] = {}
    if isinstance(chosen, PublishedModel) and chosen.revision is not None:
        known = find_checkpoint(chosen.checkpoint)
        page = License("unknown, see its page", f"{HUB}/{chosen.checkpoint}", non_commercial=None)
        found[chosen.checkpoint] = known.license if known else page
    found |= {str(repository(c)): CORPORA[c.corpus].license for c in used.values() if repository(c) is not None}
    if blocked := [f"`{what}`" for what, of in found.items() if of.non_commercial]:
        yield f"- **For non-commercial use only**, as what it was made from is: {', '.join(blocked)}"
    for what, of in found.items():
        yield f"- `{what}`: {of.name}, {of.url}"
    if isinstance(chosen, PublishedModel) and chosen.revision is None:
        yield f"- `{chosen.checkpoint}`, a checkpoint of the user's own: under the terms that it came with"
    for name, corpus in used.items():
        if isinstance(corpus, DocstringsSource | DocstringsDomain):
            yield f"- `{name}`, {kind(corpus)}: under the licences of these packages"
        elif repository(corpus) is None:
            yield f"- `{name}`, the user's own texts: under the terms that they came with"
