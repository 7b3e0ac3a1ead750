"""Loads a checkpoint into transformers' model, with a LoRA adapter merged into it, and judges what is in the files.

    model = load_model(ModelFiles("mine", checkpoint=Path("base"), adapter=Path("tuned")), torch.float32)

transformers fills the tensors that a checkpoint lacks with random numbers; here that is an error.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, GenerationConfig

from smolcli.backends.vision.pytorch_tower import Layer, Tower, WeightAndBias
from smolcli.errors import EngineError, ErrorKind, ModelError, SmolError
from smolcli.models.family import check_config
from smolcli.models.files import ADAPTER_CONFIG, ModelFiles, weight_files
from smolcli.models.lora import Adapter
from smolcli.models.tensor_names import COMPUTED, EMBEDDINGS, LM_HEAD, Findings, stored_types, unwrap
from smolcli.system.memory import is_out_of_memory
from smolcli.system.temporary import name_folder

# transformers' class for each model type of MODEL_TYPES.
CLASSES = {"smolvlm": "SmolVLMForConditionalGeneration", "idefics3": "Idefics3ForConditionalGeneration"}
FLOAT_TYPES = ("F32", "F16", "BF16", "F64")  # of safetensors


def load_model(files: ModelFiles, dtype: torch.dtype) -> Any:
    """Load the model on the CPU in evaluation mode.

    Raises ModelError for a model of another family, for tensors that are missing, unknown, of another shape or not
    finite, and for an adapter that does not fit. What loading damaged files raises is for name_checkpoint_in_errors.
    """
    checkpoint = files.checkpoint
    assert checkpoint is not None
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError("config.json is not a JSON object")
    check_config(str(checkpoint), config)
    if "quantization_config" not in config:  # else a library of transformers' reads them
        _refuse_integers(checkpoint, stored_types(weight_files(checkpoint)))
    model = _load_base(getattr(transformers, CLASSES[config["model_type"]]), checkpoint, dtype)
    if files.adapter is not None:
        _merge(model, Adapter(files.adapter))
    _refuse_not_finite(checkpoint, dict(model.named_parameters()))
    return model


def load_tower(model: Any) -> Tower:
    """Take the vision tower and the connector of transformers' model, on its device.

    Raises ModelError for a setting that no published model has.
    """
    vision, config = model.model.vision_model, model.config.vision_config
    if config.hidden_act != "gelu_pytorch_tanh":
        raise ModelError(f"the vision tower's activation is {config.hidden_act}", "torch cannot run it")
    patches, positions = vision.embeddings.patch_embedding, vision.embeddings.position_embedding.weight
    half = torch.full((3,), 0.5, device=positions.device)
    return Tower(
        mean=half,
        deviation=half,
        filters=patches.weight.float(),
        bias=patches.bias.float(),
        positions=positions.float(),
        layers=[_tower_layer(layer) for layer in vision.encoder.layers],
        last_norm=_norm(vision.post_layernorm),
        projector=model.model.connector.modality_projection.proj.weight,
        heads=config.num_attention_heads,
        scale=model.config.scale_factor,
        epsilon=config.layer_norm_eps,
    )


def _tower_layer(layer: Any) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    *projections, out, up, down = (
        (linear.weight, linear.bias)
        for linear in (
            attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj, mlp.fc1, mlp.fc2,
        )
    )  # fmt: skip
    return Layer(_norm(layer.layer_norm1), projections, out, _norm(layer.layer_norm2), up, down)


def _norm(module: Any) -> WeightAndBias:
    return module.weight.float(), module.bias.float()


def _load_base(model_class: Any, checkpoint: Path, dtype: torch.dtype) -> Any:
    """Load a checkpoint, whatever its tensors' names were wrapped in. Raises ModelError as Findings does."""
    options = {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}  # Findings names those
    weights = weight_files(checkpoint)
    unwrapped = unwrap(stored_types(weights))
    # transformers would look for the adapter of such a file if PEFT is installed, and only then.
    if unwrapped.wrappers or (checkpoint / ADAPTER_CONFIG).is_file():
        tensors = {unwrapped.names[name]: tensor for file in weights for name, tensor in load_file(file).items()}
        config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
        model, loading = model_class.from_pretrained(None, config=config, state_dict=tensors, **options)
        if (checkpoint / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(checkpoint, local_files_only=True)
    else:
        model, loading = model_class.from_pretrained(checkpoint, local_files_only=True, use_safetensors=True, **options)
    misshapen = [(name, tuple(stored), tuple(wanted)) for name, stored, wanted in loading["mismatched_keys"]]
    total = len(model.state_dict())
    Findings(loading["missing_keys"], loading["unexpected_keys"], misshapen, total).raise_for(checkpoint)
    return model


def _refuse_integers(checkpoint: Path, types: Mapping[str, str]) -> None:
    """Raise ModelError for weights that are quantized in a way of their own; PyTorch would take them as they are."""
    for name, stored_as in sorted(types.items()):
        if stored_as not in FLOAT_TYPES and not name.endswith(COMPUTED):
            message = f"{checkpoint}: the tensor {name} is stored as {stored_as}"
            raise ModelError(message, f"save it as {', '.join(FLOAT_TYPES)}")


def _refuse_not_finite(checkpoint: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Raise ModelError for weights that are NaN or infinite, perhaps only in the dtype that they were loaded in."""
    for name, weight in weights.items():
        if not all(map(math.isfinite, torch.aminmax(weight.detach()))):
            message = f"{checkpoint}: {name} has numbers that are not finite"
            raise ModelError(message, "use --dtype float32, or save the checkpoint again")


def _merge(model: Any, adapter: Adapter) -> None:
    """Merge an adapter into the model's weights. Raises ModelError for one that does not fit."""
    is_tied = model.lm_head.weight is model.get_input_embeddings().weight
    stored = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    wanted = dict(stored)
    if is_tied:
        del stored[LM_HEAD]
    if adapter.vocabulary is not None:
        for name in (EMBEDDINGS, LM_HEAD):
            wanted[name] = (adapter.vocabulary, *wanted[name][1:])
        model.config.text_config.vocab_size = adapter.vocabulary
    adapter.check(wanted, stored)
    for name in sorted(adapter.changed):
        weight = model.get_parameter(name)
        rows = adapter.rows(name) if name in adapter.replaced else weight.detach().float().numpy()
        merged = torch.from_numpy(np.array(adapter.merge(name, rows, 0), np.float32)).to(weight.dtype)
        module, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(module), leaf, torch.nn.Parameter(merged, requires_grad=False))
    if is_tied and LM_HEAD not in adapter.changed:
        model.lm_head.weight = model.get_input_embeddings().weight


@contextlib.contextmanager
def name_checkpoint_in_errors(checkpoint: Path, device: torch.device | None = None) -> Iterator[None]:
    """Turn any exception of loading a checkpoint into a ModelError or EngineError that names it, and its device."""
    name_folder()
    try:
        yield
    except SmolError:
        raise
    except Exception as error:  # damaged files and unknown settings raise unrelated classes
        if is_out_of_memory(error):
            advice = "use a smaller model, or --dtype bfloat16"
            place = f" of {device}" if device is not None and device.type != "cpu" else ""
            raise EngineError(f"{checkpoint} does not fit in memory{place}", advice, kind=ErrorKind.MEMORY) from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{checkpoint} cannot be loaded: {reason}", "fetch or save the checkpoint again") from error
