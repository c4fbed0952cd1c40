"""Costs: exact counts, operations counted by PyTorch, tensors counted in real passes, and properties."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OlmoConfig,
    OlmoForCausalLM,
)

from odyssey import engine
from odyssey.planning.shapes import SHAPES
from odyssey.science import cost, memory
from odyssey.science.cost import PLAIN_GELU, Number, Shape
from odyssey.sections import Recipe
from odyssey.training import _loss

CONTEXT, BATCH, VOCABULARY = 128, 2, 384
GPT2 = Shape(3, 64, 4, 4, 256, VOCABULARY, CONTEXT, False, True, True, True, "layer")
GPT2_PLAIN = replace(GPT2, gelu_tensors=PLAIN_GELU)
OLMO = Shape(3, 64, 4, 4, 224, VOCABULARY, CONTEXT, True, True, False, False, "plain")
LLAMA = Shape(3, 64, 4, 4, 176, VOCABULARY, CONTEXT, True, False, False, False, "rms")
GROUPED = replace(LLAMA, kv_heads=2)
TINY = {"gpt2": GPT2, "gpt2 gelu_new": GPT2_PLAIN, "olmo": OLMO, "llama": LLAMA, "llama grouped": GROUPED}


def build(shape: Shape, attention: str = "sdpa") -> Any:
    """The real model of a tiny shape, without dropout."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"attn_implementation": attention}
    if shape.norm == "layer":
        gelu = "gelu_new" if shape.gelu_tensors == PLAIN_GELU else "gelu_pytorch_tanh"
        config: Any = GPT2Config(
            vocab_size=shape.vocabulary,
            n_positions=shape.context,
            n_embd=shape.width,
            n_layer=shape.layers,
            n_head=shape.heads,
            activation_function=gelu,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **options,
        )
        return GPT2LMHeadModel(config).train()
    kind, model = (OlmoConfig, OlmoForCausalLM) if shape.norm == "plain" else (LlamaConfig, LlamaForCausalLM)
    config = kind(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=shape.tied,
        **options,
    )
    return model(config).train()


def tokens() -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (BATCH, CONTEXT), generator=torch.Generator().manual_seed(0))


# -- parameters


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai-community/gpt2", 124_439_808),
        ("openai-community/gpt2-large", 774_030_080),
        ("openai-community/gpt2-xl", 1_557_611_200),
        ("allenai/OLMo-1B-hf", 1_176_764_416),
        ("huggyllama/llama-7b", 6_738_415_616),
    ],
)
def test_parameters_of_the_papers_models(name: str, expected: int) -> None:
    shape = SHAPES[name]
    assert shape.parameters() == expected
    if shape.norm == "layer":
        config: Any = GPT2Config(n_embd=shape.width, n_layer=shape.layers, n_head=shape.heads)
    else:
        config = (OlmoConfig if shape.norm == "plain" else LlamaConfig)(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            intermediate_size=shape.ffn,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            tie_word_embeddings=shape.tied,
        )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("shape", TINY.values(), ids=list(TINY))
def test_parameters_of_tiny_models(shape: Shape) -> None:
    assert shape.parameters() == sum(p.numel() for p in build(shape).parameters())


# -- operations


@pytest.mark.parametrize("shape", TINY.values(), ids=list(TINY))
def test_flops_are_those_that_pytorch_counts(shape: Shape) -> None:
    model, x = build(shape, "eager"), tokens()  # the counter knows no fused attention on a CPU
    with FlopCounterMode(display=False) as forward:
        loss = _loss(model, x)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    expected = cost.forward_flops(shape, CONTEXT) * x.numel()
    # Rotations, a product of frequencies and positions, are the per mille that is left.
    assert forward.get_total_flops() == pytest.approx(expected, rel=0.005)
    assert backward.get_total_flops() == pytest.approx(2 * expected, rel=0.005)
    assert cost.training_flops(shape, CONTEXT) == 3 * cost.forward_flops(shape, CONTEXT)


def test_checkpointing_costs_the_layers_once_more() -> None:
    model, x = build(GPT2, "eager"), tokens()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with FlopCounterMode(display=False) as counter:
        _loss(model, x).backward()
    expected = cost.training_flops(GPT2, CONTEXT, checkpointing=True) * x.numel()
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.005)


def test_a_long_context_costs_by_its_attention() -> None:
    # One layer of width 1, feed-forward 1, vocabulary 1: matrices 4 + 2, output 1, so 2 x 7, and 4 a position
    assert cost.forward_flops(Shape(1, 1, 1, 1, 1, 1, 8, False, True, False, False, "plain"), 8) == 14 + 32


# -- memory


def kept(model: Any, x: torch.Tensor) -> tuple[int, Any]:
    """Bytes of the distinct storages that the loss keeps for its backward pass, parameters left out; the loss."""
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage  # held, so that no address is given out twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = _loss(model, x)
    return sum(storage.nbytes() for storage in found.values()), loss


def predicted(shape: Shape, number: Number) -> int:
    return (memory.activations(shape, number) + memory.logits_kept(shape)) * BATCH * CONTEXT


@pytest.mark.parametrize("shape", TINY.values(), ids=list(TINY))
def test_activations_are_those_that_autograd_keeps(shape: Shape) -> None:
    found, _ = kept(build(shape), tokens())
    assert predicted(shape, "float32") == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("shape", TINY.values(), ids=list(TINY))
def test_activations_in_bfloat16(shape: Shape) -> None:
    found, _ = kept(build(shape).bfloat16(), tokens())
    assert predicted(shape, "bfloat16") == pytest.approx(found, rel=0.08)


def test_checkpointing_keeps_the_layers_inputs() -> None:
    shape = replace(GPT2, layers=12)
    model = build(shape)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    found, _ = kept(model, tokens())
    expected = (memory.activations(shape, "float32", checkpointing=True) + memory.logits_kept(shape)) * BATCH * CONTEXT
    assert expected == pytest.approx(found, rel=0.05)
    assert expected < 0.3 * predicted(shape, "float32")


def test_gpt2_keeps_sixteen_numbers_for_each_of_its_width() -> None:
    # Two norms 2 x 2, attention 4, GELU 2 x 4, and one float32 a head
    assert memory.layer_activations(GPT2, "bfloat16") == 16 * 64 * 2 + 4 * 4
    assert memory.layer_activations(GPT2_PLAIN, "bfloat16") == 28 * 64 * 2 + 4 * 4
    assert memory.layer_activations(replace(GPT2, dropout=True), "bfloat16") == 16 * 64 * 2 + 4 * 4 + 2 * 64


def test_states_of_adam() -> None:
    # float32: weights 4, moments 8, gradients 4; bfloat16: weights 2, copies 4, moments 8, gradients 2 and 4
    plain, mixed = memory.states("float32", 0, False), memory.states("bfloat16", 0, False)
    assert (plain.gpu, plain.held, plain.gpu + plain.step) == (12, 4, 16)
    assert (mixed.gpu, mixed.held, mixed.gpu + mixed.step) == (14, 2, 20)
    offloaded = memory.states("bfloat16", 1, True)
    assert (offloaded.gpu, offloaded.host) == (2, 18)
    # Weights in bfloat16, weights and moments in float32, gradients as both: 2 + 12 + 6
    nothing = memory.states("bfloat16", 3, True, offload_parameters=True)
    assert (nothing.gpu, nothing.host) == (0, 20)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        # Of 2 + 2 + 12 bytes (Rajbhandari et al. 2020, figure 1), 64 processes divide 12, 14 or all, and 16 / 64 = 0.25
        (1, 4 + 12 / 64),
        (2, 2 + 14 / 64),
        (3, 16 / 64),
    ],
)
def test_what_processes_divide(stage: int, expected: float) -> None:
    per = memory.states("bfloat16", stage, False, processes=64)
    assert per.gpu + per.held == pytest.approx(expected)


@pytest.mark.parametrize(
    ("stage", "offload", "parameters"), [(4, False, False), (-1, False, False), (0, True, False), (2, True, True)]
)
def test_states_that_there_are_not(stage: int, offload: bool, parameters: bool) -> None:
    with pytest.raises(ValueError, match="ZeRO"):
        memory.states("float32", stage, offload, offload_parameters=parameters)


class Live(TorchDispatchMode):
    """Bytes of the storages that are alive, of those made within it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta":
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@pytest.mark.parametrize("number", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("stage", "offload", "parameters"),
    [
        *((stage, False, False) for stage in (0, 1, 2, 3)),
        *((stage, True, False) for stage in (1, 2, 3)),
        (3, True, True),
    ],
)
def test_states_are_those_that_deepspeed_holds(number: Number, stage: int, offload: bool, parameters: bool) -> None:
    # On a CPU what is offloaded and what is not is in one place: the sum is compared.
    fits = {
        "micro_batch_size": 1,
        "zero_stage": stage,
        "offload_optimizer": offload,
        "offload_parameters": parameters,
        "activation_checkpointing": False,
        "checkpoint_minutes": 1,
    }
    usual = {"epochs": 1, "batch_size": 2, "schedule": "constant", "warmup": 0, "weight_decay": 0}
    recipe = Recipe.model_validate({**usual, "gradient_clipping": 1, "precision": number, "engine": fits})
    shape = replace(GPT2, width=256, ffn=1024, layers=4)
    x = tokens()[:1, :4]
    with Live() as live:
        running = engine.start(build(shape), recipe, 1, 1e-3, lambda _: 1.0)
        for _ in range(2):
            running.backward(_loss(running, x))
            live.peak = 0
            running.step()
        gc.collect()
    per = memory.states(number, stage, offload, offload_parameters=parameters)
    # ZeRO 3 has its buffer for gradients from the start.
    bucket = memory.BUCKET * cost.BYTES[number] if stage == 3 else 0
    # With one micro-batch a step, ZeRO 2 needs no buffer for the gradients of earlier ones.
    spare = cost.BYTES[number] if offload and stage == 2 else 0
    count = shape.parameters()
    assert live.now - bucket == pytest.approx((per.gpu + per.host - spare) * count, rel=0.04)
    assert live.peak - bucket == pytest.approx((per.gpu + per.host + per.step - spare) * count, rel=0.06)
    running.destroy()


def test_logits_are_the_largest_term_of_a_small_model() -> None:
    # 16 x 1024 tokens x 50257 x 12 bytes = 9.88 GB, against 12 layers of 28 x 768 bfloat16
    found = memory.training_memory(
        SHAPES["openai-community/gpt2"], 1024, number="bfloat16", micro_batch=16, micro_batches=1
    )
    assert found.logits == 16 * 1024 * 50257 * 12
    assert found.logits > found.activations > found.states


def test_llama_with_its_parameters_offloaded() -> None:
    llama = SHAPES["huggyllama/llama-7b"]
    engine: dict[str, Any] = {"zero_stage": 3, "offload": True, "offload_parameters": True, "checkpointing": True}
    found = memory.training_memory(llama, 2048, number="bfloat16", micro_batch=4, micro_batches=4, **engine)
    # All weights while it starts, 6.74e9 x 2; then 1.05e9 x 2 of them; logits 4 x 2048 x 32000 x 12
    assert (found.start, found.states, found.logits) == (13_476_831_232, 2_100_000_000, 3_145_728_000)
    # Layers' inputs 32 x 4096 x 2, the last norm's 8 x 4096
    assert found.activations == 8192 * (32 * 4096 * 2 + 8 * 4096)
    assert found.host == 20 * 6_738_415_616
    assert found.peak == found.start


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_more_processes_take_no_more_of_each(stage: int) -> None:
    llama = SHAPES["huggyllama/llama-7b"]
    usual: dict[str, Any] = {"number": "bfloat16", "micro_batch": 1, "micro_batches": 4, "zero_stage": stage}
    peaks = [memory.training_memory(llama, 2048, **usual, processes=n).peak for n in (2, 4, 8, 64)]
    assert peaks == sorted(peaks, reverse=True)
    assert (peaks[0] > peaks[-1]) == (stage > 0)


NUMBERS = st.sampled_from(["float32", "bfloat16"])
SHAPE = st.sampled_from([*TINY.values(), *SHAPES.values()])


def trained(shape: Shape, **changes: Any) -> memory.Memory:
    usual: dict[str, Any] = {"number": "bfloat16", "micro_batch": 4, "micro_batches": 4, "zero_stage": 1}
    return memory.training_memory(shape, shape.context, **(usual | changes))


@settings(max_examples=60, deadline=None)
@given(SHAPE, NUMBERS, st.integers(1, 3), st.integers(1, 16), st.booleans())
def test_memory_grows_and_shrinks_as_it_should(
    shape: Shape, number: Number, stage: int, micro: int, checkpointing: bool
) -> None:
    some: dict[str, Any] = {"number": number, "zero_stage": stage, "micro_batch": micro, "checkpointing": checkpointing}
    one = trained(shape, **some)
    assert trained(shape, **some, offload=True).peak <= one.peak
    assert trained(shape, **some, offload=True).host > one.host == 0
    assert trained(shape, **{**some, "micro_batch": micro + 1}).peak >= one.peak
    peaks = [trained(shape, **(some | {"checkpointing": choice})).peak for choice in (True, False)]
    assert peaks[0] <= peaks[1]
    assert trained(replace(shape, layers=shape.layers + 1), **some).peak > one.peak
    assert one.peak >= one.states > 0
    assert memory.on_gpu(one.peak) > one.peak


@settings(max_examples=40, deadline=None)
@given(SHAPE, NUMBERS, st.integers(1, 64))
def test_scoring_takes_less_than_training(shape: Shape, number: Number, windows: int) -> None:
    def scored(tokens: int, held: int = 1 << 40, models: int = 1) -> int:
        return memory.scoring_memory(
            shape, shape.context, number=number, batch_tokens=tokens, held_logits=held, models=models
        )

    tokens = windows * shape.context
    scoring = scored(tokens)
    assert scoring <= trained(shape, number=number, micro_batch=windows).peak
    assert scored(tokens + shape.context) > scoring
    assert scored(tokens, models=2) == scoring + shape.parameters() * cost.BYTES[number]
    # Of 5 tokens the logits are there at a time, not of all.
    less = (tokens - 5) * memory.logits_scoring(shape, number)
    assert scored(tokens, held=6 * shape.vocabulary - 1) == scoring - less


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shape", TINY.values(), ids=list(TINY))
def test_peak_on_a_gpu(shape: Shape) -> None:
    large = replace(shape, width=256, ffn=4 * shape.ffn, layers=8, vocabulary=8192, context=512)
    model, x = build(large).bfloat16().cuda(), torch.randint(0, 8192, (8, 512), device="cuda")
    _loss(model, x).backward()  # CUDA's work space and the gradients are there from now on
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    _loss(model, x).backward()
    expected = (memory.activations(large, "bfloat16") + memory.logits_training(large)) * x.numel()
    assert expected == pytest.approx(torch.cuda.max_memory_allocated() - before, rel=0.2)


# -- time


def test_seconds() -> None:
    assert cost.seconds(1e15, 1e12, 0.5) == 2000
    assert cost.GPUS["V100-32GB"].rate("bfloat16") == cost.GPUS["V100-32GB"].rate("float32") == 15.7e12
    assert cost.GPUS["A100-80GB"].rate("bfloat16") == 312e12


@pytest.mark.parametrize(
    ("stage", "micro_batches", "optimizer", "parameters", "expected"),
    [
        # Gradients out (2), out again as float32 (4), weights back (2)
        (2, 1, True, False, 8),
        # Out four times and back in between (7 x 2), 4, 2
        (2, 4, True, False, 20),
        # Added up on the GPU
        (1, 4, True, False, 8),
        # Gradients as above, 18; weights in for eight passes, 16
        (3, 4, True, True, 34),
        # Weights alone: in for two passes, and back
        (3, 1, False, True, 6),
        (2, 4, False, False, 0),
    ],
)
def test_what_is_carried_in_a_step(
    stage: int, micro_batches: int, optimizer: bool, parameters: bool, expected: int
) -> None:
    assert cost.carried("bfloat16", stage, micro_batches, optimizer=optimizer, parameters=parameters) == expected


def test_an_offloaded_step() -> None:
    # 5e9 parameters: 32 bytes each at 50 GB/s, 3.2 s; 8 bytes each at 20 GB/s, 2 s
    assert cost.offloaded_step(5 * 10**9, 8) == pytest.approx(5.2)
    assert cost.offloaded_step(5 * 10**9, 8, optimizer=False) == pytest.approx(2)
