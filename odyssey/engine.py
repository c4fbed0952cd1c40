"""DeepSpeed's engine: made, saved and loaded. The one module that imports it.

The same code runs on a CPU without a launcher and on a GPU. The optimiser is torch's,
so nothing has to be compiled.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odyssey import processes
from odyssey.allocation import keep_freed_memory
from odyssey.progress import verbose
from odyssey.sections import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TAG = "engine"
_GENERATORS = "generators-{}.pt"
_PLAIN = (
    ("deepspeed.runtime.fp16.loss_scaler", "LossScaler"),
    ("deepspeed.runtime.zero.config", "ZeroStageEnum"),
    ("deepspeed.utils.tensor_fragment", "fragment_address"),
)
"""Classes in DeepSpeed's checkpoints beside tensors and plain values: numbers under names, no code that is run."""

_LEFT = {
    *("all_parameters", "applied_pre_backward_ref_cnt", "ds_external_parameters", "ds_grads_remaining", "ds_id"),
    *("ds_inflight_param_registry", "ds_recompute_parameters", "post_bwd_fn", "pre_bwd_fn"),
    *("_external_params", "_original_parameters"),
}
"""What DeepSpeed leaves in the modules of a model whose weights it divided; another engine would take it as its own."""


def start(
    model: PreTrainedModel, recipe: Recipe, micro_batch_size: int, learning_rate: float, rate: Callable[[int], float]
) -> Any:
    """DeepSpeed's engine around a model, with AdamW; `rate(step)` is the factor on the learning rate."""
    import torch

    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
        keep_freed_memory()
    level = logging.INFO if verbose() else logging.ERROR
    logging.getLogger("DeepSpeed").setLevel(level)
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel(level)
    # DeepSpeed would ask compilers which of its C++ parts can be built, and build one for
    # collectives between processes of a machine. None is used here, and a machine may have no
    # compiler: the answer is given beforehand.
    deepspeed.ops.__compatible_ops__ = defaultdict(bool)
    _single_process()
    if recipe.engine.activation_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.95), fused=True
    )
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        lr_scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, rate),
        config=configuration(recipe, micro_batch_size),
    )
    if engine.dp_world_size == 1 and recipe.engine.zero_stage == 0:
        engine.enable_backward_allreduce = False  # nobody else's to add, and all would be copied for it
    _load_no_code(engine)
    return engine


def configuration(recipe: Recipe, micro_batch_size: int) -> dict[str, Any]:
    """DeepSpeed's configuration of a recipe. Micro-batches are added up by `training`, not by DeepSpeed:
    it counts on whole batches, and the last one of an epoch may be small."""
    zero: dict[str, Any] = {"stage": recipe.engine.zero_stage}
    if recipe.engine.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    if recipe.engine.offload_parameters:
        zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": micro_batch_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": recipe.gradient_clipping,
        "bf16": {"enabled": recipe.precision == "bfloat16"},
        "zero_optimization": zero,
        # The optimiser is torch's on the machine's side too: DeepSpeed's own would have to be compiled.
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
    }


def save(engine: Any, folder: Path) -> None:
    """Write all that the next step depends on: weights, optimiser, scheduler, and torch's random generators."""
    import torch

    generators = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["gpu"] = torch.cuda.get_rng_state()
    engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False)
    torch.save(generators, folder / _GENERATORS.format(processes.rank()))


def load(engine: Any, folder: Path) -> None:
    """Have a new engine, and torch's random generators, go on where one was saved by `save`."""
    import torch

    engine.load_checkpoint(str(folder), tag=_TAG)
    generators = torch.load(folder / _GENERATORS.format(processes.rank()), weights_only=True)
    torch.set_rng_state(generators["cpu"])
    if "gpu" in generators and torch.cuda.is_available():
        torch.cuda.set_rng_state(generators["gpu"])


def end(engine: Any) -> None:
    """Let go of an engine, and leave its model whole and by itself in each process, as it was before it had one."""
    import deepspeed
    from torch import nn

    model = engine.module
    if engine.zero_optimization_partition_weights():
        whole: dict[int, nn.Parameter] = {}
        for module in model.modules():
            for weights in module.parameters(recurse=False):
                with deepspeed.zero.GatheredParameters([weights]):
                    whole[id(weights)] = nn.Parameter(weights.data.clone(), weights.requires_grad)
        engine.destroy()
        for module in model.modules():
            # Not DeepSpeed's own kind of dict, which fetches weights that are elsewhere.
            module._parameters = {
                name: weights if weights is None else whole[id(weights)] for name, weights in module._parameters.items()
            }
            for name in _LEFT & vars(module).keys():
                delattr(module, name)
    else:
        engine.destroy()
    for hook in (engine.module_forward_pre_hook, engine.module_forward_post_hook):
        hook.remove()


def _load_no_code(engine: Any) -> None:
    """Have an engine's checkpoints read without running what a pickle says, which DeepSpeed itself would do."""
    import torch
    from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine

    class NoCode(TorchCheckpointEngine):  # type: ignore[misc]
        def load(self, path: str, map_location: Any = None) -> Any:
            plain = [getattr(importlib.import_module(module), name) for module, name in _PLAIN]
            with torch.serialization.safe_globals(plain):
                return torch.load(path, map_location=map_location, weights_only=True)

    engine.checkpoint_engine = NoCode(engine._config)


def _single_process() -> None:
    """Be what a launcher would make, if none did: one process, that no other machine can reach."""
    import torch

    if torch.distributed.is_initialized():
        return
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    processes.stay_inside()
    # Left to itself, PyTorch listens on all of the machine's addresses for processes that never come.
    alone = torch.distributed.HashStore()  # type: ignore[attr-defined]
    name = "nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(name, store=alone, rank=0, world_size=1)
