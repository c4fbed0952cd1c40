"""Stage `pretrain`: a base model from scratch on the source corpus, so that what it has read is known."""

from __future__ import annotations

from odyssey import models
from odyssey.corpora.parquet import read_texts
from odyssey.errors import OdysseyError
from odyssey.layout import Layout
from odyssey.provenance import code_digest, versions
from odyssey.science.splits import generator
from odyssey.science.windows import blocks
from odyssey.settings import Settings
from odyssey.store import is_current, new_folder, sha256, write_csv


def run(settings: Settings, layout: Layout, *, model: str) -> None:
    """Train `model`'s tokenizer and weights; write the checkpoint and loss.csv."""
    chosen = settings.model(model)
    rows = read_texts(layout.source)
    made_from = {
        "source": sha256(layout.source),
        "settings": {
            **settings.model_dump(include={"seed", "pretrain"}),
            "model": chosen.model_dump(exclude={"adapt_learning_rate"}),
            "separator": settings.evaluate.separator,
        },
        "code": code_digest(__name__),
        "packages": versions("torch", "transformers", "tokenizers", "deepspeed"),
    }
    folder = layout.pretrained(model)
    if is_current(folder, made_from):
        print(f"pretrain {model}: kept {folder}")
        return
    models.quieten()
    from odyssey.training import Step, train

    shape = chosen.architecture
    tokenizer = models.train_tokenizer(rows, shape.vocabulary, shape.context)
    ids, _ = models.encode(tokenizer, rows, settings.evaluate.separator)
    data = blocks(ids, shape.context)
    if not len(data):
        raise OdysseyError(f"model '{model}': the source corpus has {len(ids)} tokens, fewer than one context")
    network = models.new_model(shape, tokenizer, settings.seed)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"pretrain {model}: {parameters:,} parameters, {data.size * settings.pretrain.epochs:,} tokens")
    steps = train(
        network,
        data,
        settings.pretrain,
        chosen.pretrain_learning_rate,
        label=f"pretrain {model}",
        shuffle=generator(settings.seed, "pretrain", model),
    )
    with new_folder(folder, made_from) as temporary:
        models.save(network, tokenizer, temporary)
        write_csv(temporary / "loss.csv", Step._fields, steps)
