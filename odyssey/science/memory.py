"""What a transformer takes of a GPU's and a machine's memory, in training and in scoring, in bytes.

Derived tensor by tensor from what PyTorch keeps for the backward pass and from what DeepSpeed 0.19 holds in one
process; tests compare both with tensors counted in real runs. What several processes divide is what ZeRO's papers
say, and counted nowhere here. A token of a sequence of `context` tokens is the unit.
"""

from __future__ import annotations

from dataclasses import dataclass

from odyssey.science.cost import BYTES, Number, Shape

BUCKET = 500_000_000
"""Numbers that DeepSpeed handles gradients in at a time, its default (`reduce_bucket_size`)."""
LIVE = 1_050_000_000
"""Parameters that ZeRO 3 has fetched at a time, at most: DeepSpeed's defaults, 1e9 that are kept for what comes next
(`stage3_max_live_parameters`, `stage3_max_reuse_distance`) and 5e7 fetched ahead (`stage3_prefetch_bucket_size`)."""
CUDA_CONTEXT = 600_000_000
"""Bytes that a process takes on a GPU before its first tensor; about 0.5 GB on an A100 or H100. An estimate."""
FRAGMENTATION = 0.05
"""Share of the tensors' bytes that PyTorch's allocator loses between them. An estimate of ours."""


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
    """Bytes of a parameter that DeepSpeed holds in each process; on top of `gpu`, what comes and goes."""

    gpu: float
    """Between two steps: weights, and optimiser state where they are not offloaded."""
    held: float
    """More between two micro-batches: the gradients so far."""
    backward: float
    """More at the end of a backward pass, when its activations are gone."""
    step: float
    """More in the optimiser's step: gradients as float32, averaged and clipped."""
    host: float
    """In the machine's own memory: what is offloaded."""


def states(
    number: Number, zero_stage: int, offload: bool, *, offload_parameters: bool = False, processes: int = 1
) -> States:
    """What a parameter takes, for AdamW (two float32 moments), as counted in runs of DeepSpeed 0.19.8.

    With bfloat16 there are float32 weights beside the bfloat16 ones: 2 + 4 + 8 bytes; ZeRO keeps such copies
    with float32 too: 4 + 4 + 8. ZeRO divides between processes, stage 1 optimiser state, 2 gradients, 3 weights
    too (Rajbhandari et al. 2020, section 5); with one it divides nothing, and what differs is how gradients are
    kept. ZeRO 3 always has room for all of its gradients besides.

    Offloading the optimiser (ZeRO-Offload: Ren et al. 2021) leaves the weights in the working precision on the
    GPU, with stage 1 the gradients too. Offloading the parameters (ZeRO-Infinity: Rajbhandari et al. 2021) leaves
    none of them there; what is fetched for as long as it is computed with is not among these (`LIVE`).

    Raises ValueError for a stage that there is not, and for offloading that the stage does not have.
    """
    if zero_stage not in (0, 1, 2, 3):
        raise ValueError(f"ZeRO has the stages 0 to 3, not {zero_stage}")
    if offload and not zero_stage:
        raise ValueError("the optimiser is offloaded by ZeRO stages 1 to 3 only")
    if offload_parameters and zero_stage != 3:
        raise ValueError("parameters are offloaded by ZeRO stage 3 only")
    size, n = BYTES[number], processes
    if not zero_stage:
        # In float32 gradients are used as they are; else they are copied to float32 for the step.
        master = 0 if number == "float32" else 4
        return States(gpu=size + master + 8, held=size, backward=size, step=size + master, host=0)
    weights = size / n if zero_stage == 3 else size
    on_gpu, on_host = (0.0, weights) if offload_parameters else (weights, 0.0)
    if offload:
        # Float32 weights, two moments, gradients, and a buffer of the working precision. ZeRO 2 and 3
        # move gradients there as they come; ZeRO 2 adds up those of several micro-batches in one more.
        kept = size if zero_stage == 1 else 0
        host = (16 + size * (2 if zero_stage == 2 else 1)) / n
        return States(gpu=on_gpu, held=kept, backward=kept, step=0, host=host + on_host)
    if zero_stage == 3:
        step = (4 if number == "float32" else 6) / n
        return States(gpu=on_gpu + (size + 12) / n, held=0, backward=0, step=step, host=on_host)
    held = size / (n if zero_stage == 2 else 1)
    return States(gpu=size + 12 / n, held=held, backward=held + size / n, step=8 / n, host=0)


@dataclass(frozen=True)
class Memory:
    """Bytes that a process takes: its parts, and the highest sum of those that are there at once."""

    start: int
    """While the engine is made, and when it ends: all weights are on the GPU before they leave it, and after."""
    states: int
    """Weights and optimiser state on the GPU, fetched weights included."""
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
        return max(self.start, self.forward, self.backward, self.step)


def training_memory(
    shape: Shape,
    context: int,
    *,
    number: Number,
    micro_batch: int,
    micro_batches: int,
    zero_stage: int = 0,
    offload: bool = False,
    offload_parameters: bool = False,
    checkpointing: bool = False,
    processes: int = 1,
    bucket: int = BUCKET,
) -> Memory:
    """Memory of a training process; `micro_batch` sequences at a time, `micro_batches` of them a step.

    `processes` train one model together, a GPU each, with data of their own.
    """
    parameters, tokens, size = shape.parameters(), micro_batch * context, BYTES[number]
    per = states(number, zero_stage, offload, offload_parameters=offload_parameters, processes=processes)
    kept = activations(shape, number, checkpointing) * tokens
    logits = logits_training(shape) * tokens
    layer = layer_activations(shape, number) * tokens
    # ZeRO makes its buffer at full size, and stage 3 fills two more from it, to add up and to divide; without
    # ZeRO, gradients are copied into one of their own size.
    buffer = (bucket * (3 if zero_stage == 3 else 1) if zero_stage else min(parameters, bucket)) * size
    # What is divided, or elsewhere, is fetched to be computed with.
    fetched = min(parameters, LIVE) * size if zero_stage == 3 and (offload_parameters or processes > 1) else 0
    between = round(per.gpu * parameters)
    state = between + fetched
    return Memory(
        start=max(parameters * size, between),
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
