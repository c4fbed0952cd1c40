"""What a transformer costs: parameters, floating-point operations, bytes of memory, seconds.

Numbers in, numbers out; a token of a sequence of `context` tokens is the unit. Parameters are
exact. Operations count matrix products and attention alone, which is nearly all of them. Memory
is derived tensor by tensor from what PyTorch keeps for the backward pass and from what DeepSpeed
0.19 holds in one process; tests compare both with tensors counted in real runs. Time rests on a
utilisation that is a guess, and is an estimate.
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
BUCKET = 500_000_000
"""Numbers that DeepSpeed handles gradients in at a time, its default (`reduce_bucket_size`)."""
CUDA_CONTEXT = 600_000_000
"""Bytes that a process takes on a GPU before its first tensor; about 0.5 GB on an A100 or H100. An estimate."""
FRAGMENTATION = 0.05
"""Share of the tensors' bytes that PyTorch's allocator loses between them. An estimate of ours."""
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


# -- memory


def layer_activations(shape: Shape, number: Number) -> int:
    """Bytes that one layer keeps of a token for the backward pass, its input included.

    After Korthikanti et al. 2022 (section 4.1), derived anew: their s b h (34 + 5 a s / h) is for
    float16 with dropout and with attention scores kept. Here attention is PyTorch's
    `scaled_dot_product_attention`, whose kernels keep no scores: queries, keys, values, output
    and one float32 a head. In numbers of the working precision unless said otherwise:

    - GPT-2: two layer norms keep input and output (4 w), attention 4 w, a fused GELU its input and
      output (2 f): 16 w for f = 4 w. `gelu_new` keeps 5 f: 28 w.
    - OLMo: as above, but norms keep their input as float32; the gated layer keeps gate, its
      activation, the other factor and the product: 8 w + 4 f.
    - LLaMA: RMS norms keep the input as float32, the normed value and the output: 10 w + 4 f.
    - Dropout keeps a byte for each number behind attention and feed-forward layer.
    """
    size = BYTES[number]
    w, f = shape.width, shape.ffn
    per_norm = {"layer": 2 * w * size, "rms": 4 * w + 2 * w * size, "plain": 4 * w + w * size}[shape.norm]
    attention = (2 * w + 2 * shape.kv_width) * size + 4 * shape.heads
    feed_forward = (4 if shape.gated else shape.gelu_tensors) * f * size
    return 2 * per_norm + attention + feed_forward + (2 * w if shape.dropout else 0)


def activations(shape: Shape, number: Number, checkpointing: bool = False) -> int:
    """Bytes kept of a token for the backward pass by all that is before the output layer.

    With activation checkpointing a layer keeps its input only, and one layer at a time all of it.
    """
    size = BYTES[number]
    last = {"layer": 2 * size, "rms": 4 + 2 * size, "plain": 4 + size}[shape.norm] * shape.width
    last += shape.width if shape.dropout else 0
    if not checkpointing:
        return shape.layers * layer_activations(shape, number) + last
    return shape.layers * shape.width * size + last


def logits_kept(shape: Shape) -> int:
    """Bytes kept of a token by the loss: log-probabilities of the whole vocabulary, float32."""
    return 4 * shape.vocabulary


def logits_training(shape: Shape) -> int:
    """Bytes of a token at the loss's peak: log-probabilities, their gradient and the logits', all float32.

    The forward pass is at most as high: logits, a copy of them as float32, log-probabilities.
    """
    return 12 * shape.vocabulary


def logits_scoring(shape: Shape, number: Number) -> int:
    """Bytes of a token where texts are scored: logits, a copy of them as float32, log-probabilities."""
    return (BYTES[number] + 8) * shape.vocabulary


@dataclass(frozen=True)
class States:
    """Bytes of a parameter that DeepSpeed holds in one process; on top of `gpu`, what comes and goes."""

    gpu: float
    """Between two steps: weights, and optimiser state where it is not offloaded."""
    held: float
    """More between two micro-batches: the gradients so far."""
    backward: float
    """More at the end of a backward pass, when its activations are gone."""
    step: float
    """More in the optimiser's step: gradients as float32, averaged and clipped."""
    host: float
    """In the machine's own memory, if the optimiser is offloaded."""


def states(number: Number, zero_stage: int, offload: bool) -> States:
    """What a parameter takes, for AdamW (two float32 moments), as counted in runs of DeepSpeed 0.19.8.

    ZeRO divides between processes; with one, it divides nothing, and what differs is how gradients
    are kept. With bfloat16 there are float32 weights beside the bfloat16 ones: 2 + 4 + 8 bytes; ZeRO
    keeps such copies with float32 too: 4 + 4 + 8. ZeRO 3 always has room for all gradients besides.
    Offloading leaves the weights in the working precision on the GPU, with stage 1 the gradients too.

    Raises ValueError for a stage that there is not, and for offloading without ZeRO.
    """
    if zero_stage not in (0, 1, 2, 3):
        raise ValueError(f"ZeRO has the stages 0 to 3, not {zero_stage}")
    if offload and not zero_stage:
        raise ValueError("the optimiser is offloaded by ZeRO stages 1 to 3 only")
    size = BYTES[number]
    if not zero_stage:
        # In float32 gradients are used as they are; else they are copied to float32 for the step.
        master = 0 if number == "float32" else 4
        return States(gpu=size + master + 8, held=size, backward=size, step=size + master, host=0)
    if offload:
        # Float32 weights, two moments, gradients, and a buffer of the working precision. ZeRO 2 and 3
        # move gradients there as they come; ZeRO 2 adds up those of several micro-batches in one more.
        kept = size if zero_stage == 1 else 0
        return States(gpu=size, held=kept, backward=kept, step=0, host=16 + size * (2 if zero_stage == 2 else 1))
    if zero_stage == 3:
        return States(gpu=2 * size + 12, held=0, backward=0, step=4 if number == "float32" else 6, host=0)
    return States(gpu=size + 12, held=size, backward=2 * size, step=8, host=0)


def resumable(number: Number, zero_stage: int) -> int:
    """Bytes on disk, for each parameter, of all that training needs to go on: weights, and AdamW's two moments.

    With bfloat16, and with ZeRO, the optimiser's own float32 weights besides.
    """
    master = 4 if number == "bfloat16" or zero_stage else 0
    return BYTES[number] + master + 8


@dataclass(frozen=True)
class Memory:
    """Bytes that a run takes: its parts, and the highest sum of those that are there at once."""

    states: int
    """Weights and optimiser state on the GPU."""
    gradients: int
    """Gradients while micro-batches are computed."""
    activations: int
    """Kept for the backward pass, one micro-batch."""
    logits: int
    """Loss over the vocabulary, one micro-batch."""
    backward: int
    """Sum at the end of a backward pass, DeepSpeed's buffer for gradients included."""
    step: int
    """Sum in the optimiser's step."""
    host: int
    """In the machine's memory: what is offloaded."""

    @property
    def forward(self) -> int:
        """Sum where the loss is computed."""
        return self.states + self.gradients + self.activations + self.logits

    @property
    def peak(self) -> int:
        """The highest sum of tensors, without what CUDA and the allocator take."""
        return max(self.forward, self.backward, self.step)


def training_memory(
    shape: Shape,
    context: int,
    *,
    number: Number,
    micro_batch: int,
    micro_batches: int,
    zero_stage: int = 0,
    offload: bool = False,
    checkpointing: bool = False,
    bucket: int = BUCKET,
) -> Memory:
    """Memory of one training process; `micro_batch` sequences at a time, `micro_batches` of them a step."""
    parameters, tokens, size = shape.parameters(), micro_batch * context, BYTES[number]
    per = states(number, zero_stage, offload)
    kept = activations(shape, number, checkpointing) * tokens
    logits = logits_training(shape) * tokens
    layer = layer_activations(shape, number) * tokens
    # ZeRO makes its buffer at full size; without ZeRO, gradients are copied into one of their own size.
    buffer = (bucket if zero_stage else min(parameters, bucket)) * size
    state = round(per.gpu * parameters)
    return Memory(
        states=state,
        gradients=round(per.held * parameters) if micro_batches > 1 else 0,
        activations=kept,
        # A layer that is computed again does not meet the loss's peak.
        logits=max(logits, layer) if checkpointing else logits,
        backward=state + round(per.backward * parameters) + buffer + layer,
        step=state + round(per.step * parameters),
        host=round(per.host * parameters),
    )


def scoring_memory(
    shape: Shape, context: int, *, number: Number, batch_tokens: int, held_logits: int, models: int = 1
) -> int:
    """Bytes of tensors where texts are scored, `batch_tokens` tokens (a window at least) at a time.

    Weights of `models` models, logits, at most `held_logits` of them at a time, and of one layer what
    it has at hand: input, queries, keys, values, output, and twice the feed-forward width.
    """
    size = BYTES[number]
    tokens = max(1, batch_tokens // context) * context
    layer = (4 * shape.width + 2 * shape.kv_width + 2 * shape.ffn) * size
    logits = logits_rows(shape, tokens, held_logits) * logits_scoring(shape, number)
    return models * shape.parameters() * size + logits + tokens * layer


def logits_rows(shape: Shape, tokens: int, held_logits: int) -> int:
    """Of how many of so many tokens the logits are there at a time where texts are scored."""
    return min(tokens, max(1, held_logits // shape.vocabulary))


def on_gpu(tensors: int) -> int:
    """Bytes that a GPU must have for so many bytes of tensors: with CUDA's own and the allocator's gaps."""
    return round(tensors * (1 + FRAGMENTATION)) + CUDA_CONTEXT


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
            Gpu("A10G", 24, 70, 31.5, 35, 600),
            Gpu("RTX-4090", 24, 165, 82.6, 82.6, 1008),
            Gpu("V100-32GB", 32, None, 15.7, None, 900),
            Gpu("T4", 16, None, 8.1, None, 320),
        )
    }
)
"""By name. H100 and H200: SXM; A100: SXM, V100: SXM2. A10G: as
Amazon, whose card it is, states it."""


def offloaded_step(parameters: int, number: Number) -> float:
    """Seconds of one step of AdamW in the machine's memory, gradients and weights carried included.

    Weights and both moments are read and written, gradients written and read: 32 bytes a parameter;
    gradients come, and weights go back, in the working precision.
    """
    return parameters * (32 / HOST_BANDWIDTH + 2 * BYTES[number] / LINK_BANDWIDTH)


def seconds(flops: float, rate: float, utilisation: float) -> float:
    """Time for so many operations at a share of a peak rate (operations a second)."""
    return flops / (rate * utilisation)
