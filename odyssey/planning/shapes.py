"""Shapes of a study's models: from the study, a table, or a checkpoint's config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from odyssey.corpora import hub
from odyssey.errors import OdysseyError
from odyssey.published import CHECKPOINTS, find_checkpoint
from odyssey.science import cost, memory
from odyssey.science.cost import PLAIN_GELU, Number, Shape
from odyssey.science.memory import Memory
from odyssey.scoring import GPU_LOGITS
from odyssey.sections import Architecture, Model, Recipe, TrainedModel

# Estimates of ours.
TOKENS_PER_WORD = ((4096, 2.5), (16384, 1.9), (10**9, 1.4))
"""By the largest vocabulary they hold for; 2.3 was counted with 2048 entries, 1.3 is usual with 50,000."""
TOKENS_PER_GPT2_TOKEN = 1.15
"""Of a vocabulary of at most 32,000 entries such as LLaMA's."""

BESIDE = 1
"""Models on the GPU at once in `evaluate` and `tokens`: the base model, or the adapted one."""

MINILM = Shape(6, 384, 12, 12, 1536, 30522, 256, False, True, True, True, "layer")
"""all-MiniLM-L6-v2: 22.7 million parameters; reads 256 tokens of a row. Its output layer is not used."""


def _gpt2(layers: int, width: int, heads: int, vocabulary: int = 50257, context: int = 1024) -> Shape:
    return Shape(
        layers,
        width,
        heads,
        heads,
        4 * width,
        vocabulary,
        context,
        gated=False,
        tied=True,
        learned_positions=True,
        biases=True,
        norm="layer",
    )


def _published_gpt2(layers: int, width: int, heads: int) -> Shape:
    return replace(_gpt2(layers, width, heads), gelu_tensors=PLAIN_GELU, dropout=True)


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "openai-community/gpt2": _published_gpt2(12, 768, 12),
        "openai-community/gpt2-large": _published_gpt2(36, 1280, 20),
        "openai-community/gpt2-xl": _published_gpt2(48, 1600, 25),
        "allenai/OLMo-1B-hf": Shape(16, 2048, 16, 16, 8192, 50304, 2048, True, True, False, False, "plain"),
        "huggyllama/llama-7b": Shape(32, 4096, 32, 32, 11008, 32000, 2048, True, False, False, False, "rms"),
    }
)
"""Of the paper's models, by hub id, as their config.json has them."""


@dataclass(frozen=True)
class Planned:
    """A model with its shape."""

    name: str
    model: Model
    shape: Shape

    @property
    def context(self) -> int:
        """Tokens in a sequence."""
        return self.model.context

    @property
    def products(self) -> int:
        """Parameters that take part in products: the layers' matrices and the output layer's."""
        return self.shape.matrices() + self.shape.vocabulary * self.shape.width

    @property
    def tokens_per_word(self) -> float:
        """Estimate, by the vocabulary."""
        return next(ratio for limit, ratio in TOKENS_PER_WORD if self.shape.vocabulary <= limit)

    @property
    def factor(self) -> float:
        """Tokens of this model's for a token of GPT-2's, for texts whose size is known in those."""
        if isinstance(self.model, TrainedModel):
            return self.tokens_per_word / TOKENS_PER_WORD[-1][1]
        return TOKENS_PER_GPT2_TOKEN if self.shape.vocabulary <= 32000 else 1.0

    def size(self, number: Number) -> int:
        """Bytes of its parameters."""
        return self.shape.parameters() * cost.BYTES[number]

    def training_memory(self, recipe: Recipe, processes: int = 1) -> Memory:
        """Bytes where it is trained, in each of so many processes that share a batch."""
        engine = recipe.engine
        share = math.ceil(recipe.batch_size / processes)
        micro = min(engine.micro_batch_size, share)
        return memory.training_memory(
            self.shape,
            self.context,
            number=recipe.precision,
            micro_batch=micro,
            micro_batches=math.ceil(share / micro),
            zero_stage=engine.zero_stage,
            offload=engine.offload_optimizer,
            offload_parameters=engine.offload_parameters,
            checkpointing=engine.activation_checkpointing,
            processes=processes,
        )

    def scoring_memory(self, number: Number, batch_tokens: int, models: int = BESIDE) -> int:
        """Bytes of tensors where texts are scored, with so many such models there."""
        return memory.scoring_memory(
            self.shape,
            self.context,
            number=number,
            batch_tokens=batch_tokens,
            held_logits=GPU_LOGITS,
            models=models,
        )


def shape_of(name: str, model: Model, online: bool) -> Shape:
    """A model's architecture: from the study, the table, or its config.json; raises OdysseyError if none has it."""
    if isinstance(model, TrainedModel):
        return _trained_shape(model.architecture)
    if model.revision is None:
        return read_shape(Path(model.checkpoint))
    known = find_checkpoint(model.checkpoint)
    if known is not None:
        return SHAPES[known.repo]
    if not online:
        raise OdysseyError(
            f"model '{name}': {model.checkpoint} is not among the models that are known here "
            f"({', '.join(CHECKPOINTS)}), and the hub cannot be reached for its config.json; plan it online"
        )
    return read_shape(hub.fetch(model.checkpoint, "config.json", model.revision, "model").parent)


def _trained_shape(about: Architecture) -> Shape:
    return _gpt2(about.layers, about.width, about.heads, about.vocabulary, about.context)


def read_shape(folder: Path) -> Shape:
    """The architecture that a checkpoint's config.json describes; parameters are exact for any that transformers has.

    Kinds other than GPT-2's, OLMo's and LLaMA's are taken for the nearest of these. Raises
    OdysseyError if there is no readable config.json, or it is of no language model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config: Any = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            real = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
        gpt2 = config.model_type == "gpt2"
        norm: cost.Norm = "layer" if gpt2 else "plain" if config.model_type == "olmo" else "rms"
        heads = config.num_attention_heads
        inner = getattr(config, "n_inner", None) if gpt2 else config.intermediate_size
        shape = Shape(
            config.num_hidden_layers,
            config.hidden_size,
            heads,
            getattr(config, "num_key_value_heads", None) or heads,
            inner or 4 * config.hidden_size,
            config.vocab_size,
            config.max_position_embeddings,
            gated=not gpt2 and "gelu" not in getattr(config, "hidden_act", "silu"),
            tied=config.tie_word_embeddings,
            learned_positions=gpt2,
            biases=gpt2,
            norm=norm,
            gelu_tensors=PLAIN_GELU if getattr(config, "activation_function", "") == "gelu_new" else cost.FUSED_GELU,
            dropout=gpt2 and config.resid_pdrop > 0,
        )
    except (OSError, ValueError, KeyError, AttributeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise OdysseyError(f"{folder}: its config.json is of no language model that can be planned: {first}") from None
    return replace(shape, extra=real - shape.parameters())
