"""Scoring 2 MB of text with a small GPT-2: `odyssey perplexity` beside lm-eval, the strided recipe and Trainer.

All score every token but the first once, in windows of the model's context that overlap by one
token, so their sums are the same. Whole processes; then, in one process, beside the plain loop. Takes
about ten minutes on two cores.

    python benchmarks/scoring.py [--mb 2]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from harness import OURS, PYTHON, Result, Run, alternate, mend_torchvision, process, record, timed

CONTEXT, BATCH_TOKENS = 128, 4096
"""Of the mini-study's models, and what `odyssey perplexity` scores at once."""
LEFT_OUT = (
    "HF evaluate's perplexity is a script on the hub, so it is left out. lm-eval is told the text's first token as its "
    "prefix token and a context of one less, which makes its windows ours; Trainer leaves the last, shorter window out"
)


@click.command()
@click.option("--mb", default=2.0, help="Size of the text, 10^6 bytes.")
@click.option("--way", hidden=True, help="One way by itself, in this process.")
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
def main(mb: float, way: str | None, folder: Path | None) -> None:
    """Make a model and a text, and compare."""
    mend_torchvision()
    if way is not None and folder is not None:
        print(json.dumps(WAYS[way](folder)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prepare(folder, mb)
        results = [whole(folder, mb), inside(folder, mb)]
    record("scoring", results)


def prepare(folder: Path, mb: float) -> None:
    """A random GPT-2 of the mini-study's larger shape, and a text of documentation strings, one row a line."""
    from odyssey import models, tokenization
    from odyssey.corpora.docstrings import read_documents
    from odyssey.sections import Architecture

    models.quieten()
    rows: list[str] = []
    size = 0
    for document in read_documents(["pandas", "scipy", "torch", "matplotlib", "transformers", "sympy", "sklearn"]):
        row = " ".join(document.text.split())
        rows.append(row)
        size += len(row.encode()) + 1
        if size >= mb * 1e6:
            break
    (folder / "text.txt").write_text("\n".join(rows), encoding="utf-8")
    shape = Architecture(layers=3, width=128, heads=4, context=CONTEXT, vocabulary=2048)
    tokenizer = tokenization.train_tokenizer(rows[:5000], shape.vocabulary, CONTEXT)
    models.save(models.new_model(shape, tokenizer, seed=0), tokenizer, folder / "model")


def whole(folder: Path, mb: float) -> Result:
    """Each way as a process of its own, start and loading included."""
    odyssey = [PYTHON, "-m", "odyssey", "perplexity", "--model", folder / "model"]
    odyssey += ["--text", folder / "text.txt", "--json"]
    ways = {OURS: lambda: process(odyssey)}
    for name in WAYS:
        command = [sys.executable, __file__, "--way", name, "--folder", folder]
        ways[name] = lambda command=command: process(command)
    reach = "3x lm-eval; peak memory below every peer's"
    result = alternate(f"{mb:g} MB of text, whole process", reach, ways, _same)
    result.note = LEFT_OUT
    return result


def inside(folder: Path, mb: float) -> Result:
    """Ours and the plain loop over the same batches, in this process."""
    from odyssey import models

    network, tokenizer = models.load(folder / "model")
    ids, _ = _ids(folder, tokenizer)

    def ours() -> Run:
        return timed(lambda: _sums(models.token_nll(network, ids, CONTEXT, BATCH_TOKENS)))

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


def _plain(network: Any, ids: Any) -> dict[str, Any]:
    """Batches of windows through the model, and cross entropy."""
    import torch

    x = torch.from_numpy(ids).long()
    windows = x[: (len(x) - 1) // (CONTEXT - 1) * (CONTEXT - 1) + 1].unfold(0, CONTEXT, CONTEXT - 1)
    rest = x[len(windows) * (CONTEXT - 1) :]
    total = torch.zeros((), dtype=torch.float64)
    with torch.inference_mode():
        for batch in [*windows.split(BATCH_TOKENS // CONTEXT), *([rest[None]] if len(rest) > 1 else [])]:
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

    how = {"max_length": CONTEXT - 1, "batch_size": BATCH_TOKENS // CONTEXT, "device": "cpu"}
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
    total, tokens, end_before = 0.0, 0, 0
    for begin in range(0, ids.shape[1] - 1, CONTEXT - 1):
        end = min(begin + CONTEXT, ids.shape[1])
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
    whole_windows = torch.tensor(ids[: (len(ids) - 1) // (CONTEXT - 1) * (CONTEXT - 1) + 1])
    windows = whole_windows.unfold(0, CONTEXT, CONTEXT - 1).tolist()
    # Of the labels that Trainer divides by, the first is not predicted.
    labels = [[-100, *window[1:]] for window in windows]
    data = Dataset.from_dict({"input_ids": windows, "labels": labels})
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_eval_batch_size=BATCH_TOKENS // CONTEXT,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        prediction_loss_only=True,
    )
    loss = Trainer(model=network, args=arguments, eval_dataset=data).evaluate()["eval_loss"]
    scored = len(windows) * (CONTEXT - 1)
    return {"nll_sum": loss * scored, "tokens": scored}


WAYS = {"lm-eval": _lm_eval, "strided recipe": _strided, "Trainer.evaluate": _trainer}


if __name__ == "__main__":
    main()
