"""Small repositories for the stand-in hub, laid out as the real ones are.

Corpora as M2D2, OpenWebText, Dolma and RedPajama are published, and random models of the three
families, with their kinds of tokenizers and weight files.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Family = Literal["gpt2", "olmo", "llama"]

TEXTS = [
    "The history of the city begins with a small market beside the river.\nIts walls were built later.",
    "A compact operator on a Hilbert space is the limit of operators of finite rank, and so is its adjoint.",
    "In games such as chess the players move in turn; each of them sees the whole board.\n\nThe first to mate wins.",
    "Stars of the main sequence burn hydrogen; their colour, from blue to red, tells how heavy they are.",
    "def mean(values):\n    return sum(values) / len(values)\n",
    "He said: \u201cLanguage models learn from text, and forget some of it again.\u201d Na\u00efve, but true.",
]
"""What tokenizers are trained on unless told otherwise."""

REDPAJAMA_PARTS = (
    "arxiv",
    "book",
    "c4",
    "cc_2019-30",
    "cc_2020-05",
    "cc_2021-04",
    "cc_2022-05",
    "cc_2023-06",
    "github",
    "stackexchange",
    "wikipedia",
)


# -- corpora


def m2d2_archive(config: str, splits: Mapping[str, bytes], prefix: str = "") -> bytes:
    """The content of `data/<config>.tar.gz`: `<config>/train.txt`, `valid.txt` and `test.txt`.

    `prefix` stands before each member's name ("./" is common).
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo(f"{prefix}{config}")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for split, data in splits.items():
            member = tarfile.TarInfo(f"{prefix}{config}/{split}.txt")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


def openwebtext(texts: Sequence[str], shards: int, row_group: int = 3) -> dict[str, bytes]:
    """`plain_text/train-000NN-of-000MM.parquet` with the column text, in groups of a few rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = {}
    for shard, rows in enumerate(_split(texts, shards)):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"text": pa.array(rows, pa.string())}), buffer, row_group_size=row_group)
        files[f"plain_text/train-{shard:05}-of-{shards:05}.parquet"] = buffer.getvalue()
    return files


def dolma(texts: Sequence[str], shards: int, url: str) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The hub's files (a list of URLs) and those of the other host at `url`, by their paths there.

    With a stand-in hub: `url=hub.cdn`, and each of the second is for `hub.add_host_file`.
    """
    host: dict[str, bytes] = {}
    for shard, rows in enumerate(_split(texts, shards)):
        lines = [json.dumps(_dolma_row(f"{shard}-{index}", text)) + "\n" for index, text in enumerate(rows)]
        data = gzip.compress("".join(lines).encode(), mtime=0)
        host[f"/host/dolma-v1_6-8B-sample/v1_5r2_sample-{shard:04}.json.gz"] = data
    listing = "".join(f"{url.rstrip('/')}{path}\n" for path in host)
    return {"urls/v1_6-sample.txt": listing.encode(), "README.md": b"---\nlicense: odc-by\n---\n"}, host


def _dolma_row(name: str, text: str) -> dict[str, str]:
    times = {"added": "2023-04-11T09:57:03.044571+00:00", "created": "2020-01-17T12:48:23Z"}
    return {"id": name, "text": text, **times, "source": "common-crawl"}


def redpajama(texts: Sequence[str]) -> dict[str, bytes]:
    """`<part>_sample.jsonl` for the eleven parts, text k in part k modulo 11; their meta structs differ."""
    files: dict[str, bytes] = {}
    for index, part in enumerate(REDPAJAMA_PARTS):
        rows = [{"text": text, "meta": _redpajama_meta(part, k)} for k, text in enumerate(texts[index::11])]
        files[f"{part}_sample.jsonl"] = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return files


def _redpajama_meta(part: str, k: int) -> dict[str, Any]:
    url = f"https://example.org/{part}/{k}"
    if part.startswith("cc_"):
        return {"pred_label": "__label__wiki", "pred_label_prob": 0.9, "wiki_prob": 0.9, "source": f"cc/{k}.gz#{k}"}
    languages = [{"name": "Python", "bytes": str(100 + k)}]
    known: dict[str, dict[str, Any]] = {
        "arxiv": {"timestamp": "2023-02-28", "yymm": "1711", "arxiv_id": f"1711.{k:05}", "language": "en", "url": url},
        "book": {"short_book_title": f"Book {k}", "publication_date": 1900 + k, "url": url},
        "c4": {"timestamp": "2019-04-25T12:57:54Z", "url": url, "language": "en", "source": "c4"},
        "github": {"content_hash": f"{k:032x}", "timestamp": "", "source": "github", "language": languages},
        "stackexchange": {"language": "en", "url": url, "timestamp": "2023-03-29", "question_score": str(k)},
        "wikipedia": {"title": f"Page {k}", "url": url, "language": "en", "timestamp": "20230320"},
    }
    return known[part]


def _split(texts: Sequence[str], shards: int) -> list[list[str]]:
    """Runs of equal length (the last ones may be one shorter), in order."""
    base, longer = divmod(len(texts), shards)
    ends = [base * (shard + 1) + min(shard + 1, longer) for shard in range(shards)]
    return [list(texts[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


# -- models


def tiny_model(
    family: Family, folder: Path, *, texts: Sequence[str] = TEXTS, vocabulary: int = 400, context: int = 64
) -> Path:
    """A random model of the family with two layers, saved in `folder` as its hub repository holds it.

    A `pytorch_model.bin` lies beside the safetensors, as on the hub; it holds nothing of use.
    """
    make = {"gpt2": _gpt2, "olmo": _olmo, "llama": _llama}[family]
    folder.mkdir(parents=True, exist_ok=True)
    make(folder, texts, vocabulary, context)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle that must not be fetched")
    (folder / "README.md").write_text("---\nlicense: other\n---\n")
    return folder


def _gpt2(folder: Path, texts: Sequence[str], vocabulary: int, context: int) -> None:
    """Byte-level BPE with one special token, the last; weights without the prefix `transformer.`, masks included."""
    import torch
    from safetensors.torch import save_file
    from transformers import GPT2Config, GPT2LMHeadModel

    end = "<|endoftext|>"
    tokenizer = _byte_level(texts, vocabulary, first=[], last=[end])
    _save_tokenizer(tokenizer, folder, {"model_max_length": context})
    tokenizer.model.save(str(folder))  # vocab.json and merges.txt
    size = tokenizer.get_vocab_size()
    config = GPT2Config(
        vocab_size=size,
        n_positions=context,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=size - 1,
        eos_token_id=size - 1,
        architectures=["GPT2LMHeadModel"],
    )
    model = _seeded(lambda: GPT2LMHeadModel(config))
    weights = {
        name.removeprefix("transformer."): value.contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"  # tied to wte
    }
    for layer in range(2):
        weights[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(context, context)).view(1, 1, context, context)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _save_config(config, folder, "float32")
    _write_json(folder / "generation_config.json", {"bos_token_id": size - 1, "eos_token_id": size - 1})


def _olmo(folder: Path, texts: Sequence[str], vocabulary: int, context: int) -> None:
    """Byte-level BPE in GPT-NeoX's manner: padding has id 1, the end of text the last; more rows than tokens."""
    from transformers import OlmoConfig, OlmoForCausalLM

    end, pad = "<|endoftext|>", "<|padding|>"
    tokenizer = _byte_level(texts, vocabulary, first=["|||IP_ADDRESS|||", pad], last=[end])
    settings = {"tokenizer_class": "GPTNeoXTokenizer", "eos_token": end, "pad_token": pad, "bos_token": None}
    _save_tokenizer(tokenizer, folder, {**settings, "unk_token": None, "model_max_length": context})
    size = tokenizer.get_vocab_size()
    config = OlmoConfig(
        vocab_size=(size // 64 + 1) * 64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        pad_token_id=1,
        bos_token_id=None,
        eos_token_id=size - 1,
        tie_word_embeddings=False,
        architectures=["OlmoForCausalLM"],
    )
    _seeded(lambda: OlmoForCausalLM(config)).save_pretrained(folder)
    _save_config(config, folder, "float32")


def _llama(folder: Path, texts: Sequence[str], vocabulary: int, context: int) -> None:
    """BPE in SentencePiece's manner, with a BOS before each text; half precision, in two files with an index."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _sentencepiece(texts, vocabulary)
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
    }
    _save_tokenizer(tokenizer, folder, settings)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
    )
    model = _seeded(lambda: LlamaForCausalLM(config)).half()
    size = 2 * sum(weight.numel() for weight in model.parameters())
    model.save_pretrained(folder, max_shard_size=size * 2 // 3)
    _save_config(config, folder, "float16")
    _write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})


def _byte_level(texts: Sequence[str], vocabulary: int, first: Sequence[str], last: Sequence[str]) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(last),
        special_tokens=list(first),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Part of the vocabulary itself, as in the published files, and not only added to it.
    state = json.loads(tokenizer.to_str())
    for token in last:
        state["model"]["vocab"][token] = len(state["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in last])
    return tokenizer


def _sentencepiece(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """`<unk>`, `<s>`, `</s>`, the 256 bytes, then merges: what is in none of these is spelt in bytes, newlines too."""
    from tokenizers import (
        AddedToken,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    specials = ["<unk>", "<s>", "</s>"]
    fixed = specials + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - 100, show_progress=False)
    learner.train_from_iterator([line for text in texts for line in text.splitlines()], trainer)
    learned = json.loads(learner.to_str())["model"]
    vocab = {token: index for index, token in enumerate([*fixed, *learned["vocab"]])}
    merges = [tuple(pair) for pair in learned["merges"]]
    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return tokenizer


def _save_tokenizer(tokenizer: Tokenizer, folder: Path, settings: Mapping[str, Any]) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", settings)


def _save_config(config: Any, folder: Path, dtype: str) -> None:
    """As published years ago: the type of the weights was then called torch_dtype."""
    values = {name: value for name, value in config.to_dict().items() if name not in ("dtype", "transformers_version")}
    _write_json(folder / "config.json", {**values, "torch_dtype": dtype, "transformers_version": "4.28.0"})


def _seeded(make: Any) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
