"""What a transformer costs: parameters, floating-point operations, seconds. Its memory is in `science.memory`.

Numbers in, numbers out; a token of a sequence of `context` tokens is the unit. Parameters are
exact. Operations count matrix products and attention alone, which is nearly all of them. Time
rests on a utilisation that is a guess, and is an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Norm = Literal["layer", "rms", "plain"]
"""Layer norm with weight and bias (GPT-2), RMS norm with a weight (LLaMA), layer norm without either (OLMo)."""
Number = Literal["float32", "bfloat16"]

BYTES: Mapping[Number, int] = MappingProxyType({"float32": 4, "bfloat16": 2})
"""Bytes of a number."""
UTILISATION: Mapping[str, float] = MappingProxyType({"training": 0.35, "scoring": 0.4, "encoding": 0.2})
"""Share of a GPU's peak that is reached. Estimates of ours: 0.3 to 0.5 is what training codes report
(the PaLM paper, appendix B, for several); short rows in a small encoder reach less."""

HOST_BANDWIDTH = 50e9
"""Bytes a second between a processor and its memory that an optimiser reaches there. An estimate of ours."""
LINK_BANDWIDTH = 20e9
"""Bytes a second between GPU and machine: PCIe 4.0 x16 has 32e9 on paper. An estimate of ours."""

FUSED_GELU, PLAIN_GELU = 2, 5
"""Tensors of the feed-forward width that an ungated layer keeps: GELU's input and output, and for
transformers' `gelu_new`, which is written out in five operations, three intermediate results more."""


@dataclass(frozen=True)
class Shape:
    """The architecture of a decoder-only transformer."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    """Key and value heads; `heads`, or fewer for grouped queries."""
    ffn: int
    """Width inside the feed-forward layer."""
    vocabulary: int
    context: int
    """Longest sequence, in tokens."""
    gated: bool
    """Three matrices in the feed-forward layer (SwiGLU) instead of two."""
    tied: bool
    """One matrix is embedding and output layer."""
    learned_positions: bool
    """An embedding for each position instead of rotations, which have no parameters."""
    biases: bool
    norm: Norm
    gelu_tensors: int = FUSED_GELU
    """Tensors that an ungated feed-forward layer keeps for the backward pass."""
    dropout: bool = False
    """Dropout behind the embedding, attention and feed-forward layers in training."""
    extra: int = 0
    """Parameters of a kind that the other fields do not describe; they take part in no product."""

    @property
    def kv_width(self) -> int:
        """Width of keys and of values."""
        return self.width * self.kv_heads // self.heads

    def matrices(self) -> int:
        """Parameters of the layers' matrices, without the output layer's."""
        attention = self.width * (self.width + 2 * self.kv_width) + self.width * self.width
        return self.layers * (attention + (3 if self.gated else 2) * self.width * self.ffn)

    def parameters(self) -> int:
        """All parameters; a tied matrix counts once."""
        per_norm = {"layer": 2, "rms": 1, "plain": 0}[self.norm] * self.width
        embeddings = self.vocabulary * self.width * (1 if self.tied else 2)
        positions = self.context * self.width if self.learned_positions else 0
        attention = self.width + 2 * self.kv_width + self.width
        feed_forward = (2 if self.gated else 1) * self.ffn + self.width
        biases = self.layers * (attention + feed_forward) if self.biases else 0
        return self.matrices() + embeddings + positions + biases + (2 * self.layers + 1) * per_norm + self.extra


def forward_flops(shape: Shape, context: int) -> int:
    """Floating-point operations of one token's forward pass in a sequence of `context` tokens.

    A multiplication and an addition for every parameter of a matrix, the output layer's included
    (an embedding is looked up and costs nothing), and in each layer 2 x width x context for the
    scores and as many for the weighted sum: 2 P + 4 layers x width x context. All positions are
    counted, as attention without a fused kernel computes them; a fused causal one does half.
    """
    return 2 * (shape.matrices() + shape.vocabulary * shape.width) + 4 * shape.layers * shape.width * context


def training_flops(shape: Shape, context: int, checkpointing: bool = False) -> int:
    """Operations of one token in training: forward, twice that backward (gradients of inputs and of weights).

    With activation checkpointing the layers are computed once more, except for their last product:
    what it gives is not wanted, and PyTorch stops before it.
    """
    forward = forward_flops(shape, context)
    spared = 2 * shape.width * (shape.vocabulary + shape.layers * shape.ffn)
    return 3 * forward + (forward - spared if checkpointing else 0)


def resumable(number: Number, zero_stage: int) -> int:
    """Bytes on disk, for each parameter, of all that training needs to go on: weights, and AdamW's two moments.

    With bfloat16, and with ZeRO, the optimiser's own float32 weights besides; with ZeRO 3 those alone, of which
    the others are made.
    """
    if zero_stage == 3:
        return 4 + 8
    master = 4 if number == "bfloat16" or zero_stage else 0
    return BYTES[number] + master + 8


# -- GPUs


@dataclass(frozen=True)
class Gpu:
    """A GPU as its vendor's data sheet has it (NVIDIA's, for each); dense figures, without sparsity."""

    name: str
    memory: float
    """GB, taken as 1e9 bytes: drivers report up to 6 % more, or with error correction a little less."""
    bfloat16: float | None
    """TFLOP/s with bfloat16 inputs; None for GPUs of before 2020, which compute it through float32."""
    float32: float
    """TFLOP/s of float32 without tensor cores: PyTorch uses TF32 only if asked to."""
    tf32: float | None
    bandwidth: float
    """Memory, GB/s."""

    def rate(self, number: Number) -> float:
        """Peak operations a second."""
        return 1e12 * (self.float32 if number == "float32" or self.bfloat16 is None else self.bfloat16)


GPUS: Mapping[str, Gpu] = MappingProxyType(
    {
        gpu.name: gpu
        for gpu in (
            Gpu("H200", 141, 989, 67, 495, 4800),
            Gpu("H100-80GB", 80, 989, 67, 495, 3350),
            Gpu("A100-80GB", 80, 312, 19.5, 156, 2039),
            Gpu("A100-40GB", 40, 312, 19.5, 156, 1555),
            Gpu("L40S", 48, 362, 91.6, 183, 864),
            Gpu("A10", 24, 125, 31.2, 62.5, 600),
            Gpu("A10G", 24, 70, 31.5, 35, 600),
            Gpu("L4", 24, 121, 30.3, 60, 300),
            Gpu("RTX-3090", 24, 71, 35.6, 35.6, 936),
            Gpu("RTX-4090", 24, 165, 82.6, 82.6, 1008),
            Gpu("V100-32GB", 32, None, 15.7, None, 900),
            Gpu("T4", 16, None, 8.1, None, 320),
        )
    }
)
"""By name. H100 and H200: SXM; A100: SXM, V100: SXM2. A10G: as Amazon, whose card it is, states it. A10, L4 and
RTX-3090: from memory of their data sheets."""


def carried(number: Number, zero_stage: int, micro_batches: int, *, optimizer: bool, parameters: bool) -> int:
    """Bytes of a parameter that go between GPU and machine in one step of so many micro-batches.

    As DeepSpeed 0.19.8 does it, in one process. With the optimiser offloaded, gradients go out with each
    micro-batch and are fetched again to be added to by the next (ZeRO 1 adds them up on the GPU); at the last
    they go out once more as float32, and the new weights come back. With parameters offloaded, weights come for
    each forward pass and for each backward pass, activations that are computed again along with it included,
    and need not come back after the step (ZeRO-Infinity: Rajbhandari et al. 2021, section 4, counts alike).
    """
    size = BYTES[number]
    added = micro_batches if zero_stage > 1 else 1
    gradients = (2 * added - 1) * size + 4 if optimizer else 0
    if parameters:
        return gradients + 2 * micro_batches * size + (0 if optimizer else size)
    return gradients + (size if optimizer else 0)


def offloaded_step(parameters: int, each: int, *, optimizer: bool = True) -> float:
    """Seconds that offloading adds to a step: `each` bytes of a parameter carried, and AdamW in memory.

    Weights and both moments are read and written there, gradients written and read: 32 bytes a parameter. Nothing
    is taken to be carried while something is computed, as DeepSpeed does where it can: at most so long.
    """
    return parameters * ((32 / HOST_BANDWIDTH if optimizer else 0) + each / LINK_BANDWIDTH)


def seconds(flops: float, rate: float, utilisation: float) -> float:
    """Time for so many operations at a share of a peak rate (operations a second)."""
    return flops / (rate * utilisation)
