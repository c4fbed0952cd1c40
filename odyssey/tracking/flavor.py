"""A checkpoint as an MLflow model: its own files, byte for byte, in the layout of MLflow's transformers flavor.

`mlflow.transformers.save_model` does not serve: from a folder it fails with transformers 5, and
from a loaded model it writes the weights anew, in the precision that they were loaded in.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from odyssey.provenance import versions
from odyssey.sections import Precision

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

MODEL = "model"
"""Folder of the checkpoint in an MLflow model."""
REQUIREMENTS = ("mlflow", "numpy", "pandas", "safetensors", "tokenizers", "torch", "transformers")
"""Packages that load the model and predict with it."""
NEW_TOKENS = 20
"""Tokens that `predict` generates unless it is told otherwise."""


def write_model(
    folder: Path, checkpoint: Mapping[str, Path], base: str, precision: Precision, logged: LoggedModel
) -> None:
    """Write what makes `folder` an MLflow model, with links to the checkpoint's files (by name).

    It is loaded in `precision`, the one that it was scored in. `predict` takes a text and returns
    it with NEW_TOKENS more tokens; of a text that is too long for that, it reads the end.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import add_to_model
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    tokenizer = {name: path for name, path in checkpoint.items() if ".safetensors" not in name}
    for place, files in ((MODEL, checkpoint), ("components/tokenizer", tokenizer)):
        (folder / place).mkdir(parents=True)
        for name, path in files.items():
            (folder / place / name).symlink_to(path.absolute())
    text = Schema([ColSpec("string")])
    params = ParamSchema([ParamSpec("max_new_tokens", "long", NEW_TOKENS), ParamSpec("do_sample", "boolean", False)])
    model = Model(
        artifact_path=logged.artifact_location,
        run_id=logged.source_run_id,
        model_id=logged.model_id,
        model_uuid=logged.model_id,
        signature=ModelSignature(text, text, params),
    )
    needed = versions(*REQUIREMENTS)
    model.add_flavor(
        "transformers",
        transformers_version=needed["transformers"],
        code=None,
        task="text-generation",
        instance_type="TextGenerationPipeline",
        source_model_name=base,
        # Loaded as the study loads it, whatever class that turns out to be.
        pipeline_model_type="AutoModelForCausalLM",
        model_binary=MODEL,
        components=["tokenizer"],
        tokenizer_type="AutoTokenizer",
        torch_dtype=f"torch.{precision}",
    )
    add_to_model(  # type: ignore[no-untyped-call]
        model,
        "mlflow.transformers",
        conda_env="conda.yaml",
        python_env="python_env.yaml",
        model_config={"handle_long_generation": "hole"},
    )
    model.model_size_bytes = sum(path.stat().st_size for path in checkpoint.values())
    model.save(str(folder / "MLmodel"))
    _write_environment(folder, [f"{name}=={version}" for name, version in needed.items()])


def _write_environment(folder: Path, requirements: list[str]) -> None:
    """What `mlflow models serve` installs, by pip or by conda."""
    python = platform.python_version()
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
    virtual = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": requirements}],
    }
    for name, content in (("python_env.yaml", virtual), ("conda.yaml", conda)):
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False))
