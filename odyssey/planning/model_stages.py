"""What the stages with language models take: training, scoring, and memory for both."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from odyssey.planning.amounts import gb, sci
from odyssey.planning.parts import Download, Stage
from odyssey.planning.shapes import BESIDE, Planned
from odyssey.planning.sizes import Sizes, Text
from odyssey.planning.text_stages import DOWNLOAD_RATE
from odyssey.planning.work import Tally, Work
from odyssey.published import find_checkpoint
from odyssey.science import cost
from odyssey.science.joins import SEPARATORS
from odyssey.science.memory import Memory, logits_rows
from odyssey.scoring import GPU_LOGITS
from odyssey.sections import PublishedModel, Recipe

HOST_PER_TOKEN = 16
"""Bytes of the machine's memory for a token of a text: its id as int64, twice while texts are joined."""
SCORED_TOKEN = 16
"""Bytes that are kept of a token that was scored: two NLL, its id, and the document that it is of."""
TOKEN_TABLE_ROW = 60
"""Bytes of a line of the token tables. An estimate of ours."""
JOIN_TABLE_ROW = 160
"""Bytes of a line of the tables of documents by how rows are joined. An estimate of ours."""
ORIGINS = {"hub": "by size on the hub", "recorded": "known", "bound": "at most", "estimate": "estimated"}
"""Where sizes come from, in words."""


def pretrain(work: Work) -> Stage:
    """Published models are fetched, others are trained from scratch."""
    sums = Tally()
    for one in work.models.values():
        if isinstance(one.model, PublishedModel):
            download = _checkpoint(work.sizes, one, one.model)
            if download is not None:
                sums.downloads.append(download)
                sums.compute(0, 0, download.bytes / DOWNLOAD_RATE / 3600)
            sums.hold(one.size(work.settings.evaluate.precision), one.size("float32"))
        else:
            _pretrain_from_scratch(work, one, sums)
    return sums.stage(
        "pretrain", ["published models are fetched and loaded once; a file of some bytes stands for each"]
    )


def _pretrain_from_scratch(work: Work, one: Planned, sums: Tally) -> None:
    recipe = work.settings.pretrain
    assert recipe is not None  # Settings sees to it
    source = work.sizes.source()
    tokens = source.counted(one) * recipe.epochs
    sums.how.append(
        f"{one.name}: at most {source.rows:,} rows x {work.settings.sample.row_words} words x "
        f"{one.tokens_per_word} tokens a word = {tokens:,} tokens"
        if source.words
        else f"{one.name}: {tokens:,} tokens"
    )
    memory = one.training_memory(recipe)
    sums.how.append(_train(work, one, recipe, tokens, sums))
    sums.how += [*_offload(work, one, recipe, tokens, sums), _explain_memory(memory), _interruptible(one, recipe, sums)]
    sums.disk += one.size(recipe.precision)
    sums.hold(memory.peak, memory.host + tokens * HOST_PER_TOKEN)


def _checkpoint(sizes: Sizes, one: Planned, model: PublishedModel) -> Download | None:
    """What is fetched of a published model; nothing of a folder."""
    if model.revision is None:
        return None
    known = find_checkpoint(model.checkpoint)
    fetched = sizes.checkpoint(one, model)
    if known is None:
        return Download(model.checkpoint, *fetched, "unknown, see its page", None, None)
    return Download(known.repo, *fetched, known.license.name, known.license.non_commercial, known.gated)


def adapt(work: Work) -> Stage:
    """Training on each domain, and the probes on the way."""
    recipe, rules = work.settings.adapt, work.settings.evaluate
    splits = [work.sizes.splits(name) for name in work.settings.adapted]
    sums = Tally()
    for one in work.models.values():
        trained = sum(train.counted(one) for train, _, _ in splits) * recipe.epochs
        watched = recipe.curve_points * sum(
            round(train.counted(one) * recipe.train_start) + valid.counted(one) + test.counted(one)
            for train, valid, test in splits
        )
        origins = _origins(train for train, _, _ in splits)
        sums.how.append(f"{one.name}: {len(splits)} domains, {origins}; {_train(work, one, recipe, trained, sums)}")
        sums.how += _offload(work, one, recipe, trained, sums, watched)
        scored, sentence = _score(one, watched)
        sums.compute(watched, scored, work.hours(scored, recipe.precision, "scoring"))
        memory, checkpoint = one.training_memory(recipe), one.size(recipe.precision)
        probing = memory.states + one.scoring_memory(recipe.precision, rules.batch_tokens, models=0)
        sums.how += [
            f"curves: {recipe.curve_points} points x ({recipe.train_start:g} of train, valid, test) = {sentence}",
            f"{_explain_memory(memory)}; while curves are scored {gb(probing)}",
            f"checkpoints: {len(splits)} x {one.shape.parameters():,} x {cost.BYTES[recipe.precision]} bytes; "
            + _interruptible(one, recipe, sums),
        ]
        longest = max(sum(part.counted(one) for part in parts) for parts in splits)
        sums.disk += checkpoint * len(splits)
        sums.hold(max(memory.peak, probing), memory.host + longest * HOST_PER_TOKEN + checkpoint)
    return sums.stage("adapt")


def evaluate(work: Work) -> Stage:
    """Test splits through two models."""
    tests = [work.sizes.split(name, "test") for name in work.settings.adapted]
    read = {name: 2 * sum(test.counted(one) for test in tests) for name, one in work.models.items()}
    return _scoring(work, "evaluate", read, "2 models x test split", disk=lambda one, n: n // 2 * SCORED_TOKEN)


def tokens(work: Work) -> Stage:
    """Chunks of train and test through two models."""
    rules = work.settings.tokens
    most = rules.chunks * rules.chunk_tokens
    parts = [work.sizes.split(name, split) for name in work.settings.adapted for split in ("train", "test")]
    read = {name: 2 * sum(min(most, part.counted(one)) for part in parts) for name, one in work.models.items()}
    label = f"2 models x 2 splits x at most {rules.chunks} x {rules.chunk_tokens} tokens"
    # Three tables for the two splits: each one's, and the vocabulary of both.
    return _scoring(
        work,
        "tokens",
        read,
        label,
        disk=lambda one, n: len(parts) * 3 // 2 * min(one.shape.vocabulary, n) * TOKEN_TABLE_ROW,
    )


def joins(work: Work) -> Stage:
    """Training for each way of joining rows but the study's own, and all of them on test."""
    ways, recipe, rules = work.settings.joins, work.settings.adapt, work.settings.evaluate
    if ways is None:
        return Stage("joins", how=("the study asks for no comparison of how rows are joined",))
    # What a tokenizer's end-of-text token is, is not known here: it is taken not to be the study's separator.
    new = sum(SEPARATORS.get(way) != rules.separator for way in ways)
    splits = [work.sizes.splits(name) for name in work.settings.adapted]
    sums = Tally()
    for one in work.models.values():
        trained = new * sum(train.counted(one) for train, _, _ in splits) * recipe.epochs
        sums.how.append(f"{one.name}: {new} ways, {len(splits)} domains; {_train(work, one, recipe, trained, sums)}")
        sums.how += _offload(work, one, recipe, trained, sums)
        scored = (len(ways) + 1) * len(ways) * sum(test.counted(one) for _, _, test in splits)
        flops, sentence = _score(one, scored)
        sums.compute(scored, flops, work.hours(flops, rules.precision, "scoring"))
        memory = one.training_memory(recipe)
        sums.how += [
            f"{len(ways) + 1} models x {len(ways)} ways x test split: {sentence}",
            f"{_explain_memory(memory)}; no checkpoint is kept",
        ]
        longest = max(train.counted(one) + len(ways) * test.counted(one) for train, _, test in splits)
        peak = max(memory.peak, one.scoring_memory(rules.precision, rules.batch_tokens, models=1))
        sums.hold(peak, memory.host + longest * HOST_PER_TOKEN + one.size(recipe.precision))
        sums.disk += len(ways) ** 2 * sum(test.rows for _, _, test in splits) * JOIN_TABLE_ROW
    return sums.stage("joins")


def _scoring(work: Work, stage: str, read: Mapping[str, int], label: str, disk: Callable[[Planned, int], int]) -> Stage:
    rules = work.settings.evaluate
    size = cost.BYTES[rules.precision]
    sums = Tally()
    for name, one in work.models.items():
        flops, sentence = _score(one, read[name])
        memory = one.scoring_memory(rules.precision, rules.batch_tokens)
        tokens = max(1, rules.batch_tokens // one.context) * one.context
        sums.how += [
            f"{name}: {label}, {len(work.settings.adapted)} domains: {sentence}",
            f"memory: {BESIDE} model{'s' if BESIDE > 1 else ''} x {one.shape.parameters():,} x {size} bytes + "
            f"{logits_rows(one.shape, tokens, GPU_LOGITS):,} tokens x {one.shape.vocabulary:,} x {size + 8} bytes "
            f"of logits, and what a layer holds of {tokens:,} tokens = {gb(memory)}",
        ]
        sums.compute(read[name], flops, work.hours(flops, rules.precision, "scoring"))
        sums.hold(memory, 2 * one.size(rules.precision))
        sums.disk += disk(one, read[name])
    return sums.stage(stage)


# -- parts of the arithmetic, and how they come about


def _train(work: Work, one: Planned, recipe: Recipe, n: int, sums: Tally) -> str:
    """Count training on n tokens; the operations in words."""
    each = cost.training_flops(one.shape, one.context, recipe.engine.activation_checkpointing)
    plain = cost.training_flops(one.shape, one.context)
    flops = float(each * n)
    sums.compute(n, flops, work.hours(flops, recipe.precision, "training"))
    parts = [f"6 x {sci(one.products)} parameters", f"{sci(plain - 6 * one.products)} of attention"]
    parts += [f"{sci(each - plain)} of layers computed again"] if each > plain else []
    return f"{sci(n)} tokens x ({' + '.join(parts)}) = {sci(each * n)} FLOPs"


def _offload(work: Work, one: Planned, recipe: Recipe, n: int, sums: Tally, watched: int = 0) -> list[str]:
    """Count the hours of what is carried between GPU and machine, training on n tokens; in words.

    `watched` tokens are scored on the way.
    """
    engine, size = recipe.engine, cost.BYTES[recipe.precision]
    optimizer, parameters = engine.offload_optimizer, engine.offload_parameters
    if not (optimizer or parameters) or work.device.measured is not None:
        return []
    steps = math.ceil(n / (recipe.batch_size * one.context))
    micro_batches = math.ceil(recipe.batch_size / engine.micro_batch_size)
    carried = cost.carried(
        recipe.precision, engine.zero_stage, micro_batches, optimizer=optimizer, parameters=parameters
    )
    each = cost.offloaded_step(one.shape.parameters(), carried, optimizer=optimizer)
    hours = steps * each / 3600
    told = [
        f"offloading: {steps:,} steps x {each:.2g} s, {carried} bytes a parameter "
        f"({micro_batches} micro-batch{'es' if micro_batches > 1 else ''}) at {cost.LINK_BANDWIDTH / 1e9:g} GB/s"
        + (f" and AdamW in memory at {cost.HOST_BANDWIDTH / 1e9:g} GB/s" if optimizer else "")
        + f" (estimates; none of it while it computes) = {hours:.0f} h"
    ]
    if parameters and watched:
        rules = work.settings.evaluate
        batches = math.ceil(watched / (max(1, rules.batch_tokens // one.context) * one.context))
        fetching = batches * one.shape.parameters() * size / cost.LINK_BANDWIDTH / 3600
        told.append(f"curves: weights fetched for {batches:,} batches = {fetching:.0f} h")
        hours += fetching
    sums.compute(0, 0, hours)
    return told


def _interruptible(one: Planned, recipe: Recipe, sums: Tally) -> str:
    """Count the state of training that an interrupted run goes on from, twice while a new one is written; in words."""
    each = one.shape.parameters() * cost.resumable(recipe.precision, recipe.engine.zero_stage)
    sums.spare = max(sums.spare, 2 * each)
    return f"while it trains, 2 x {gb(each)} to go on from after an interruption"


def _score(one: Planned, n: int) -> tuple[float, str]:
    """Operations of n tokens' forward passes, and how they come about."""
    each = cost.forward_flops(one.shape, one.context)
    attention = each - 2 * one.products
    return float(each * n), (
        f"{sci(n)} tokens x (2 x {sci(one.products)} parameters + {sci(attention)} of attention) = "
        f"{sci(each * n)} FLOPs"
    )


def _explain_memory(memory: Memory) -> str:
    start = f" (to start {gb(memory.start)})" if memory.start > memory.states else ""
    parts = (
        f"memory: weights and optimiser {gb(memory.states)}{start}, gradients kept {gb(memory.gradients)}, "
        f"activations {gb(memory.activations)}, logits {gb(memory.logits)}; "
        f"in the step {gb(memory.step)}: {gb(memory.peak)} at most"
    )
    return parts + (f"; offloaded {gb(memory.host)}" if memory.host else "")


def _origins(texts: Iterable[Text]) -> str:
    """How many sizes come from where."""
    counts = Counter(ORIGINS[text.origin] for text in texts)
    return "sizes " + ", ".join(f"{word} ({count})" for word, count in counts.items())
