"""Scoring 2 MB of text with a small GPT-2: `odyssey perplexity` beside lm-eval, the strided recipe and Trainer.

All score every token but the first once, in windows of the model's context that overlap by one
token, so their sums are the same. Whole processes; then, in one process, beside the plain loop; then
a vocabulary of 50,000 and a context of 1,024, where logits take more memory than the model; then text of
2 to 200 MB, for ours alone. Takes about 25 minutes on two cores.

    python benchmarks/scoring.py [--mb 2]
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from harness import OURS, PYTHON, Result, Run, alternate, mend_torchvision, process, record, timed

from odyssey.sections import Architecture

BATCH_TOKENS = 4096
"""What `odyssey perplexity` scores at once."""
SMALL = Architecture(layers=3, width=128, heads=4, context=128, vocabulary=2048)
"""The mini-study's larger model."""
WIDE = Architecture(layers=4, width=256, heads=4, context=1024, vocabulary=50_000)
"""Logits of what is scored at once would be 0.8 GB, a dozen times the weights."""
TINY = Architecture(layers=1, width=16, heads=1, context=128, vocabulary=2048)
"""One that has read 200 MB in a few minutes."""
LEFT_OUT = (
    "HF evaluate's perplexity is a script on the hub, so it is left out. lm-eval is told the text's first token as its "
    "prefix token and a context of one less, which makes its windows ours. The text is of whole windows, because the "
    "ways differ in what they do with a last, shorter one"
)


@click.command()
@click.option("--mb", default=2.0, help="Size of the text, 10^6 bytes.")
@click.option("--way", hidden=True, help="One way by itself, in this process.")
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
def main(mb: float, way: str | None, folder: Path | None) -> None:
    """Make a model and a text, and compare."""
    mend_torchvision()
    if way is not None and folder is not None:
        print(json.dumps({**WAYS, "floor": _floor}[way](folder)))
        return
    with tempfile.TemporaryDirectory() as made:
        folders = [Path(made, name) for name in ("small", "wide", "tiny")]
        for folder, shape, size in zip(folders, (SMALL, WIDE, TINY), (mb, max(mb / 20, 0.03), mb), strict=True):
            prepare(folder, size, shape)
        small, wide, tiny = folders
        results = [whole(small, f"{mb:g} MB of text, whole process"), inside(small, mb)]
        results.append(whole(wide, "vocabulary 50,000 and context 1,024, whole process"))
        results[-1].note = beside_the_floor(wide, results[-1])
        results[0].note = f"{LEFT_OUT}. {flat(tiny, mb)}"
    record("scoring", results)


def prepare(folder: Path, mb: float, shape: Architecture = SMALL) -> None:
    """A random GPT-2 of a shape, and a text of documentation strings, one row a line."""
    from odyssey import models, tokenization

    folder.mkdir(exist_ok=True)
    models.quieten()
    rows = documents()
    enough = rows if shape.vocabulary > SMALL.vocabulary else rows[:5000]
    tokenizer = tokenization.train_tokenizer(enough, shape.vocabulary, shape.context)
    models.save(models.new_model(shape, tokenizer, seed=0), tokenizer, folder / "model")
    ends = np.cumsum([len(row.encode()) + 1 for row in rows])
    ids, _ = tokenization.encode(tokenizer, rows[: int(np.searchsorted(ends, mb * 1e6)) + 1], "\n")
    # Of whole windows only: the peers have different ways with a last, shorter one.
    stride = shape.context - 1
    for n in range((len(ids) - 1) // stride * stride + 1, 0, -stride):
        text = tokenizer.decode(ids[:n].tolist(), clean_up_tokenization_spaces=False)
        if not text[-1:].isspace() and tokenizer(text)["input_ids"] == ids[:n].tolist():
            break
    (folder / "text.txt").write_text(text, encoding="utf-8")


@functools.cache
def documents() -> list[str]:
    """Documentation strings, a row each."""
    from odyssey.corpora.docstrings import read_documents

    modules = ["pandas", "scipy", "torch", "matplotlib", "transformers", "sympy", "sklearn"]
    return [row for document in read_documents(modules) if (row := " ".join(document.text.split()))]


def perplexity(folder: Path, text: Path) -> Run:
    """`odyssey perplexity` as a process."""
    command = [PYTHON, "-m", "odyssey", "perplexity", "--model", folder / "model", "--text", text, "--json"]
    return process(command)


def whole(folder: Path, measure: str) -> Result:
    """Each way as a process of its own, start and loading included."""
    ways = {OURS: lambda: perplexity(folder, folder / "text.txt")}
    for name in WAYS:
        command = [sys.executable, __file__, "--way", name, "--folder", folder]
        ways[name] = lambda command=command: process(command)
    return alternate(measure, "3x lm-eval; peak memory below every peer's", ways, _same)


def beside_the_floor(folder: Path, result: Result) -> str:
    """Our peak memory beside that of a process with the model and one batch in its layers, without logits."""
    floor = process([PYTHON, __file__, "--way", "floor", "--folder", folder]).peak_mb or 0.0
    ours = statistics.median(result.peak_mb[OURS])
    return (
        f"ours had {ours:.0f} MB, {ours / floor:.2f} times the {floor:.0f} MB of a process that loads the model and "
        "puts one batch through its layers without asking for logits (reach: 1.3)"
    )


def flat(folder: Path, mb: float) -> str:
    """Peaks of our memory with the text once, 10 and 100 times."""
    text = (folder / "text.txt").read_text(encoding="utf-8") + "\n"
    told = []
    for times in (1, 10, 100):
        longer = folder / f"{times}.txt"
        with longer.open("w", encoding="utf-8") as file:
            file.writelines(text for _ in range(times))
        told.append(f"{perplexity(folder, longer).peak_mb:.0f} MB with {mb * times:g} MB")
        print(f"memory: {told[-1]} of text", flush=True)
    return f"Memory does not grow with the text: a one-layer model took {', '.join(told)} of it"


def inside(folder: Path, mb: float) -> Result:
    """Ours and the plain loop over the same batches, in this process."""
    from odyssey import models, scoring

    network, tokenizer = models.load(folder / "model")
    ids, _ = _ids(folder, tokenizer)

    def ours() -> Run:
        return timed(lambda: _sums(scoring.token_nll(network, ids, _context(network), BATCH_TOKENS)))

    ways = {OURS: ours, "plain loop": lambda: timed(lambda: _plain(network, ids))}
    return alternate(f"{mb:g} MB of text, inside the process", "not slower than the plain loop", ways, _same)


def _same(values: Mapping[str, Any]) -> str:
    ours = values[OURS]["nll_sum"] / values[OURS]["tokens"]
    furthest = max(abs(value["nll_sum"] / value["tokens"] / ours - 1) for value in values.values())
    assert furthest < 2e-5, values
    return f"mean NLL the same to {furthest:.0e} relative"


def _sums(nll: Any) -> dict[str, Any]:
    return {"nll_sum": float(nll.sum(dtype="float64")), "tokens": len(nll)}


def _ids(folder: Path, tokenizer: Any) -> tuple[Any, int]:
    from odyssey import tokenization

    rows = (folder / "text.txt").read_text(encoding="utf-8").split("\n")
    return tokenization.encode(tokenizer, rows, "\n")


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    return AutoModelForCausalLM.from_pretrained(folder / "model").eval(), tokenizer


def _context(network: Any) -> int:
    return int(network.config.n_positions)


def _floor(folder: Path) -> dict[str, Any]:
    """The model, and one batch in its layers."""
    import torch

    network, _ = _load(folder)
    x = torch.zeros(BATCH_TOKENS // _context(network), _context(network), dtype=torch.long)
    with torch.inference_mode():
        network.transformer(input_ids=x, use_cache=False)
    return {}


def _plain(network: Any, ids: Any) -> dict[str, Any]:
    """Batches of windows through the model, and cross entropy."""
    import torch

    context = _context(network)
    stride = context - 1
    x = torch.from_numpy(ids).long()
    windows = x[: (len(x) - 1) // stride * stride + 1].unfold(0, context, stride)
    rest = x[len(windows) * stride :]
    total = torch.zeros((), dtype=torch.float64)
    with torch.inference_mode():
        for batch in [*windows.split(BATCH_TOKENS // context), *([rest[None]] if len(rest) > 1 else [])]:
            logits = network(input_ids=batch, use_cache=False).logits[:, :-1]
            nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none")
            total += nll.double().sum()
    return {"nll_sum": float(total), "tokens": len(x) - 1}


def _lm_eval(folder: Path) -> dict[str, Any]:
    """lm-eval's rolling log-likelihood, batches as large as ours."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    network, tokenizer = _load(folder)

    class Shifted(HFLM):  # type: ignore[misc]
        """The first token stands for the prefix, so it is not scored."""

        def tok_encode(self, string: str, *args: Any, **more: Any) -> Any:
            first, *rest = self.tokenizer.encode(string, add_special_tokens=False)
            self.custom_prefix_token_id, self.scored = first, len(rest)
            return rest

        @property
        def prefix_token_id(self) -> int:
            return int(self.custom_prefix_token_id or 0)

    context = _context(network)
    how = {"max_length": context - 1, "batch_size": BATCH_TOKENS // context, "device": "cpu"}
    model = Shifted(network, tokenizer=tokenizer, **how)
    text = (folder / "text.txt").read_text(encoding="utf-8")
    model.tok_encode(text[:100])  # the prefix token is asked for before the text is
    request = Instance("loglikelihood_rolling", {}, (text,), 0)
    return {"nll_sum": -model.loglikelihood_rolling([request], disable_tqdm=True)[0], "tokens": model.scored}


def _strided(folder: Path) -> dict[str, Any]:
    """The recipe of transformers' documentation, one window at a time, with a stride of the context less one."""
    import torch

    network, tokenizer = _load(folder)
    ids = tokenizer((folder / "text.txt").read_text(encoding="utf-8"), return_tensors="pt")["input_ids"]
    total, tokens, end_before, context = 0.0, 0, 0, _context(network)
    for begin in range(0, ids.shape[1] - 1, context - 1):
        end = min(begin + context, ids.shape[1])
        window = ids[:, begin:end]
        labels = window.clone()
        labels[:, : max(end_before - begin, 0)] = -100
        with torch.no_grad():
            loss = network(window, labels=labels).loss
        scored = int((labels[:, 1:] != -100).sum())
        total, tokens, end_before = total + float(loss) * scored, tokens + scored, end
    return {"nll_sum": total, "tokens": tokens}


def _trainer(folder: Path) -> dict[str, Any]:
    """Trainer.evaluate over the windows, batches as large as ours; the loss that it reports, for its tokens."""
    import torch
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    network, tokenizer = _load(folder)
    ids = tokenizer((folder / "text.txt").read_text(encoding="utf-8"))["input_ids"]
    context, stride = _context(network), _context(network) - 1
    whole_windows = torch.tensor(ids[: (len(ids) - 1) // stride * stride + 1])
    windows = whole_windows.unfold(0, context, stride).tolist()
    # Of the labels that Trainer divides by, the first is not predicted.
    labels = [[-100, *window[1:]] for window in windows]
    data = Dataset.from_dict({"input_ids": windows, "labels": labels})
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_eval_batch_size=BATCH_TOKENS // context,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        prediction_loss_only=True,
    )
    loss = Trainer(model=network, args=arguments, eval_dataset=data).evaluate()["eval_loss"]
    scored = len(windows) * stride
    return {"nll_sum": loss * scored, "tokens": scored}


WAYS = {"lm-eval": _lm_eval, "strided recipe": _strided, "Trainer.evaluate": _trainer}


if __name__ == "__main__":
    main()
