"""The report's words and its HTML page: frames and settings in, text out. No results are read here.

Every sentence is made from the numbers at hand, so that it is true whatever they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2
import pandas as pd

from odyssey.provenance import PACKAGE
from odyssey.settings import Settings
from odyssey.tables import DISTANCES, most_degraded, number

TEMPLATE = PACKAGE / "templates" / "report.html.j2"

QUESTION = (
    "Can training a language model further on the texts of a domain make it worse at that same domain, "
    "and does the domain's similarity to what the model has read say where?"
)

PAPER: dict[str, Any] = {
    "embed.fraction": 0.05,
    "embed.max_texts": 50_000,
    "adapt.epochs": 1,
    "adapt.train_start": 0.03,
    "tokens.chunks": 128,
    "tokens.chunk_tokens": 4096,
}
"""What the paper states of the parameters; all others are choices of ours."""

CURVES = (
    "Domains drawn with the study's seed, two of each portion where there are as many, the same for every model. A "
    "test curve (dash-dotted) that climbs is a model that unlearns the domain while it trains on it. The first rows "
    "of train (solid) are not seen again within an epoch."
)
"""What to see in Figure 3."""

CLEAR = 0.05
"""Two-sided p-value below which the answer gives a correlation's direction in words."""


def answer(headline: pd.DataFrame, portions: pd.DataFrame, correlations: pd.DataFrame) -> list[str]:
    """Three sentences: how often adaptation made a domain worse, by how much, and whether distance tells."""
    return [_how_often(portions), _how_much(headline), _where(correlations)]


def _how_often(portions: pd.DataFrame) -> str:
    worse, domains = int(portions["worse"].sum()), int(portions["domains"].sum())
    opening = "Not here" if worse == 0 else "Always here" if worse == domains else "Sometimes"
    counts = [
        f"{_list(f'{row.worse} of {row.domains} {row.portion} domains' for row in own.itertuples())} with {model}"
        for model, own in portions.groupby("model", sort=False)
    ]
    return f"{opening}: after adaptation, test perplexity was higher on {_list(counts, '; on ')}."


def _how_much(headline: pd.DataFrame) -> str:
    worst, best = (headline.loc[index] for index in (headline["ratio"].idxmax(), headline["ratio"].idxmin()))
    top = "largest rise" if worst["ratio"] > 1 else "smallest fall"
    bottom = "largest fall" if best["ratio"] < 1 else "smallest rise"
    return f"The {top} was {_change(worst)}, and the {bottom} {_change(best)}."


def _change(row: pd.Series) -> str:
    perplexities = f"{number(row['zero_shot'])} to {number(row['adapted'])}"
    return f"×{row['ratio']:.3f} ({row['domain']} with {row['model']}: {perplexities})"


def _where(correlations: pd.DataFrame) -> str:
    """What Spearman's correlation of the log change with MMD says; the paper expects it to be negative."""
    used = correlations[(correlations["change"] == "log_change") & (correlations["distance"] == "mmd")]
    whole, parts = used[used["portion"] == "all"], used[used["portion"] != "all"]
    if whole["spearman"].isna().any():
        return "Whether distance to the source corpus goes with the change cannot be said of so few domains."
    values = _list(f"{_signed(row.spearman)} ({row.model})" for row in whole.itertuples())
    clear = (whole["spearman_p"] < CLEAR).all()
    if clear and (whole["spearman"] < 0).all():
        meaning = "the nearer a domain is to the source corpus, the less adaptation tended to help"
    elif clear and (whole["spearman"] > 0).all():
        meaning = "the nearer a domain is to the source corpus, the more adaptation tended to help"
    else:
        meaning = f"no direction that is clear (p < {CLEAR}) in every model"
    within = parts["spearman"].dropna()
    span = f"{_signed(within.min())} to {_signed(within.max())}" if len(within) else ""
    only = f"; within single portions the correlation runs from {span}" if span else ""
    over = f"Over {whole['n'].iloc[0]} domains, the change in log perplexity"
    return f"{over} has rank correlation {values} with MMD: {meaning}{only}."


def change_caption(own: pd.DataFrame, correlations: pd.DataFrame) -> str:
    """What to see in Figure 1 of a model, from its rows of the headline table."""
    worse = own[own["change"] > 0].sort_values("ratio", ascending=False)["domain"].tolist()
    below = f"below the dashed line, so worse after adaptation: {_list(worse)}" if worse else "none got worse"
    model = own["model"].iloc[0]
    used = correlations[(correlations["model"] == model) & (correlations["change"] == "log_change")]
    rank = {row.distance: row.spearman for row in used[used["portion"] == "all"].itertuples()}
    about = _list(f"{_signed(rank[name])} with {name.upper()}" for name in DISTANCES if not math.isnan(rank[name]))
    correlation = f" The change in log perplexity has rank correlation {about}." if about else ""
    return (
        f"Bars: zero-shot minus adapted test perplexity; {below}. Diamonds and dots: MMD and FD, each rescaled from "
        f"its nearest to its farthest domain, to compare shapes only.{correlation}"
    )


def distance_caption(similarity: pd.DataFrame) -> str:
    """What to see in Figure 2: how the portions differ, with n and d."""
    means = similarity.groupby("portion", sort=False)[list(DISTANCES)].mean()
    parts = _list((f"{row.mmd:.3f} and {row.fd:.3f} ({row.Index})" for row in means.itertuples()), "; ")
    return f"Mean MMD and FD by portion: {parts}. {sizes(similarity)}"


def token_caption(own: pd.DataFrame, summary: Mapping[str, Mapping[str, Any]]) -> str:
    """What Figure 4 shows of a model's worst domain, from its rows of the headline table and the tokens' summary."""
    row = own.loc[own["ratio"].idxmax()]
    place = "got worse most" if row["ratio"] > 1 else "gained least (none got worse)"
    chunks = _list(
        f"{split}, {about['chunks']} of {about['chunks_wanted']} chunks with {about['tokens']:,} tokens scored, "
        f"mean NLL from {about['nll_before']:.3f} to {about['nll_after']:.3f}"
        for split, about in sorted(summary.items(), reverse=True)  # train first
    )
    return (
        f"{row['domain']} is the domain that {place} with {row['model']}. A bar is a token's share of all tokens "
        f"times its change in NLL: the bars of all tokens add up to the change of the mean. Made from {chunks}."
    )


def method(
    settings: Settings, embedded: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """The study's stages as (name, what it did), with the numbers of this run."""
    s = settings
    corpora = embedded["corpora"].values()
    truncated = sum(about["truncated"] for about in corpora) / sum(about["n"] for about in corpora)
    counts = [score["zero_shot"]["tokens"] for score in scores]
    contexts = _list(map(str, sorted({score["context"] for score in scores})))
    rates = _list(f"{model.adapt_learning_rate:g} ({name})" for name, model in s.models.items())
    sample = (
        f"At most {s.source.rows:,} rows of up to {s.sample.row_words} words for the source corpus and, for each of "
        f"{len(s.domains)} domains, {s.sample.rows.train:,} for train, {s.sample.rows.valid:,} for valid and "
        f"{s.sample.rows.test:,} for test. Near-copies are left out, and no document is in two of these."
    )
    pretrain = (
        f"Models {_list(s.models)}: GPT-2 architectures, trained from scratch on the source corpus with a byte-level "
        "BPE made from it. Perplexity is per token, so compare it between models only if their vocabularies are "
        "equal; bits per byte always compare."
    )
    embed = (
        f"Rows of the source corpus and of each domain's train split: {s.embed.fraction:.0%} of a corpus, or up to "
        f"{s.embed.max_texts:,} rows where that is more, as unit vectors of {embedded['encoder']} "
        f"(d = {embedded['d']}). It reads {embedded['max_seq_length']} tokens of a row: {truncated:.1%} were cut."
    )
    similarity = (
        "MMD (linear kernel) = |m − m′|² and FD = |m − m′|² + tr(C + C′ − 2 (C C′)^½), with the means m and the "
        "covariances C of the two samples: squared distances between unit vectors."
    )
    adapt = (
        f"Each model trained further on each domain's train split with DeepSpeed: epochs {s.adapt.epochs}, learning "
        f"rate {rates}. At {s.adapt.curve_points} points on the way, the loss on the first "
        f"{s.adapt.train_start:.0%} of train, on valid and on test."
    )
    evaluate = (
        f"Rows joined with {_plain(s.evaluate.separator)}, tokenised without special tokens, in consecutive windows "
        f"of {contexts} tokens that overlap by one: all tokens but the first are scored once. Perplexity = exp(sum "
        f"of NLL / tokens), natural logarithm. {_span(counts)} test tokens a domain."
    )
    tokens = (
        f"At most {s.tokens.chunks} chunks of {s.tokens.chunk_tokens} tokens from train and from test, fewer where "
        "a domain is smaller, in windows of the model's context; NLL before and after, by the predicted token."
    )
    return [
        ("sample", sample),
        ("pretrain", pretrain),
        ("embed", embed),
        ("similarity", similarity),
        ("adapt", adapt),
        ("evaluate", evaluate),
        ("tokens", tokens),
    ]


def sizes(similarity: pd.DataFrame) -> str:
    """n and d of the distances, in words."""
    source, target, d = similarity["n_source"].max(), similarity["n_target"], similarity["d"].max()
    warning = "" if target.nunique() == 1 else " FD shrinks as n grows, so compare domains of like n."
    # No line ends inside "n = 1,500".
    return f"n = {source:,} source rows and {_span(target)} of each domain, d = {d}.{warning}".replace(
        " = ", "\u00a0=\u00a0"
    )


def parameters(settings: Settings) -> list[tuple[str, str, str]]:
    """Every parameter as (key, value, whose choice it is)."""
    flat = _flat(settings.model_dump(mode="json", exclude={"domains"}))
    rows = [(key, _plain(value), _origin(key, value)) for key, value in flat]
    # A line each would be four times as long and say no more.
    domains = {
        name: f"{about.portion}; {about.corpus}: {', '.join(about.modules)}" for name, about in settings.domains.items()
    }
    return rows + [(f"domains.{name}", text, "ours") for name, text in domains.items()]


def _flat(value: Any, key: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    # A newline or a space is a value too: quoted, so that it can be seen.
    return json.dumps(value) if isinstance(value, str) and value != value.strip() else str(value)


def _origin(key: str, value: Any) -> str:
    if key not in PAPER:
        return "ours"
    return "paper" if value == PAPER[key] else f"ours (paper: {PAPER[key]})"


def headline_rows(headline: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """A model's rows of the headline table to read, by model; those that got worse are marked."""
    header = ["domain", "portion", "zero-shot", "adapted", "change", "ratio", "MMD", "FD", "n source", "n domain", "d"]
    header += ["bits/byte zero-shot", "bits/byte adapted"]
    found = {}
    for model, own in headline.groupby("model", sort=False):
        rows = [
            [
                *(row.domain, row.portion, number(row.zero_shot), number(row.adapted)),
                *(_signed(row.change, None), f"×{row.ratio:.3f}", f"{row.mmd:.4f}", f"{row.fd:.4f}"),
                *(f"{row.n_source:,}", f"{row.n_target:,}", str(row.d)),
                *(f"{row.bits_per_byte_zero_shot:.3f}", f"{row.bits_per_byte_adapted:.3f}"),
            ]
            for row in own.itertuples()
        ]
        found[str(model)] = _table(header, rows, words=2, marks=[bool(change > 0) for change in own["change"]])
    return found


def portion_rows(portions: pd.DataFrame) -> dict[str, Any]:
    """Worse and better domains per model and portion."""
    rows = [
        [row.model, row.portion, str(row.domains), str(row.worse), str(row.better), f"×{row.median_ratio:.3f}"]
        for row in portions.itertuples()
    ]
    return _table(["model", "portion", "domains", "worse", "better", "median ratio"], rows, words=2)


def correlation_rows(correlations: pd.DataFrame) -> dict[str, Any]:
    """Correlations to read; a dash where there is none."""
    header = ["model", "portion", "of", "with", "n", "Spearman", "p", "Pearson", "p"]
    names = {"change": "change", "log_change": "log change"}
    rows = [
        [
            *(row.model, row.portion, names[row.change], row.distance.upper(), str(row.n)),
            *(_signed(row.spearman), _p(row.spearman_p), _signed(row.pearson), _p(row.pearson_p)),
        ]
        for row in correlations.itertuples()
    ]
    return _table(header, rows, words=4)


def token_rows(tokens: pd.DataFrame, headline: pd.DataFrame) -> dict[str, Any]:
    """Of the domain that came off worst with each model, the tokens of the test split that changed most."""
    header = ["model", "domain", "", "token", "count", "NLL before", "after", "change", "contribution"]
    rows = [
        [
            *(row.model, row.domain, "worse" if row.direction == "up" else "better", row.token.replace(" ", "␣")),
            *(f"{row.uses:,}", f"{row.nll_before:.3f}", f"{row.nll_after:.3f}"),
            *(_signed(row.change, 3), _signed(row.contribution, 4)),
        ]
        for row in tokens.rename(columns={"count": "uses"}).itertuples()
        if row.split == "test" and row.domain == most_degraded(headline, row.model)
    ]
    return _table(header, rows, words=4)


def input_rows(inputs: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Digests of the manifests of whole stages, and a table of those of cells, named "stage/model/domain"."""
    whole = {name: found[:12] for name, found in inputs.items() if "/" not in name}
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for name, found in inputs.items():
        if name not in whole:
            stage, model, domain = name.split("/")
            cells.setdefault((model, domain), {})[stage] = found[:12]
    stages = list(next(iter(cells.values())))
    return whole, _table(["model", "domain", *stages], [[*cell, *cells[cell].values()] for cell in cells], words=5)


def render(
    settings: Settings,
    tables: Mapping[str, pd.DataFrame],
    figures: Sequence[Mapping[str, str]],
    method: Sequence[tuple[str, str]],
    made_from: Mapping[str, Any],
) -> str:
    """The page; all that is put into the template is escaped. `figures` has name, title, caption and svg (base64)."""
    headline, portions, correlations = tables["headline"], tables["portions"], tables["correlations"]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE.name).render(
        settings=settings,
        question=QUESTION,
        answer=" ".join(answer(headline, portions, correlations)),
        figures=figures,
        headline=headline_rows(headline),
        portions=portion_rows(portions),
        correlations=correlation_rows(correlations),
        tokens=token_rows(tables["top_tokens"], headline),
        sizes=sizes(tables["similarity"]),
        method=method,
        parameters=parameters(settings),
        about=made_from,
        stages=input_rows(made_from["inputs"])[0],
        cells=input_rows(made_from["inputs"])[1],
    )


def _table(header: list[str], rows: list[list[str]], words: int, marks: Sequence[bool] = ()) -> dict[str, Any]:
    """`words` columns of text, then numbers; `marks` says which rows to set off."""
    return {"header": header, "rows": rows, "words": words, "marks": list(marks) or [False] * len(rows)}


def _signed(value: float, decimals: int | None = 2) -> str:
    if math.isnan(value):
        return "–"
    return (number(value, "+") if decimals is None else f"{value:+.{decimals}f}").replace("-", "−")


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def _span(counts: Sequence[int] | pd.Series) -> str:
    """ "5" or "5 to 7"."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _list(items: Iterable[str], separator: str = ", ") -> str:
    """ "a, b and c"; with a longer separator, that one between all."""
    *first, last = items
    final = " and " if separator == ", " else separator
    return separator.join(first) + final + last if first else last
