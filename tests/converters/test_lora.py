"""models/lora.py: adapters are merged as PEFT merges them, by both of its users, and broken ones are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from smolcli.backends.pytorch_checkpoint import load_model
from smolcli.converters import Adapter, plan, write
from smolcli.errors import ModelError
from smolcli.models.files import ModelFiles
from smolcli.models.tensor_mapping import halve
from tests.tiny import VOCABULARY, make_checkpoint

KINDS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ["q_proj", "v_proj", "down_proj", "fc1"], "lora_alpha": 16},
    "rslora": {"target_modules": ["k_proj", "proj"], "use_rslora": True},
    "dora": {"target_modules": ["q_proj", "up_proj", "fc2"], "use_dora": True},
    "patterns": {
        "target_modules": ["o_proj", "gate_proj"],
        "rank_pattern": {"layers.0.self_attn.o_proj": 2},
        "alpha_pattern": {"layers.1.self_attn.o_proj": 32, "gate_proj": 3},
    },
    "embeddings": {"target_modules": ["embed_tokens", "patch_embedding", "lm_head"]},
    "whole modules": {"target_modules": ["v_proj"], "modules_to_save": ["lm_head", "modality_projection"]},
    "a larger vocabulary": {
        "rows": 448,
        "target_modules": ["q_proj"],
        "modules_to_save": ["embed_tokens", "lm_head"],
    },
    "a larger vocabulary with LoRA of the embeddings": {"rows": 448, "target_modules": ["embed_tokens", "lm_head"]},
    "biases": {"target_modules": ["q_proj"], "bias": "lora_only"},
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "Base", "v2", seed=1)


def train(checkpoint: Path, directory: Path, rows: int = VOCABULARY, **options: Any) -> Path:
    """Make an adapter with random weights, and beside it in merged.test the model that PEFT makes with it.

    `rows` is the size of its vocabulary.
    """

    def resized() -> Any:
        model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
        if rows != VOCABULARY:
            model.resize_token_embeddings(rows, mean_resizing=False)
        return model

    torch.manual_seed(3)
    model = resized()
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, **options))
    with torch.no_grad():
        for weight in (weight for weight in wrapped.parameters() if weight.requires_grad):
            weight.add_(torch.randn_like(weight) * 0.1)
    wrapped.save_pretrained(str(directory))
    merged = peft.PeftModel.from_pretrained(resized(), directory).merge_and_unload()
    save_file(
        {name: weight.detach().clone().contiguous() for name, weight in merged.named_parameters()},
        directory / "merged.test",
    )
    return directory


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_merged_as_peft_merges_them(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    lora = train(checkpoint, tmp_path / "tuned", **KINDS[kind])
    expected = load_file(lora / "merged.test")
    planned = plan(checkpoint, tmp_path / "out", ["f32"], ["f32"], lora=lora)
    assert planned.language[0].path.name == "Base-tuned-F32.gguf"
    write(planned)
    model = load_model(ModelFiles("tuned", checkpoint=checkpoint, adapter=lora), torch.float32)
    for name, weight in model.named_parameters():
        assert torch.allclose(weight, expected[name], rtol=1e-5, atol=1e-6), name
    before = load_file(checkpoint / "model.safetensors")
    changed = 0
    for model, output in zip(planned.models, planned.outputs, strict=True):
        stored = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(output.path).tensors}
        for weight in model.weights:
            array = stored[weight.name].reshape(weight.shape)
            merged = halve(array, weight.rotary_heads) if weight.rotary_heads else array
            assert np.allclose(merged, expected[weight.source].numpy(), rtol=1e-5, atol=1e-6), weight.source
            old = before[weight.source].numpy()
            changed += merged.shape != old.shape or not np.allclose(merged, old, atol=1e-3)
    assert changed == len(Adapter(lora).changed)


def test_an_adapter_has_the_name_of_its_base(checkpoint: Path, tmp_path: Path) -> None:
    assert Adapter(train(checkpoint, tmp_path / "tuned", target_modules=["q_proj"])).base == str(checkpoint)


def config(**changes: Any) -> Callable[[Path], object]:
    def apply(directory: Path) -> None:
        path = directory / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return apply


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def apply(directory: Path) -> None:
        tensors = load_file(directory / "adapter_model.safetensors")
        change(tensors)
        save_file(tensors, directory / "adapter_model.safetensors")

    return apply


LAYER = "base_model.model.model.text_model.layers.0.self_attn.q_proj"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda d: (d / "adapter_config.json").unlink(), "has no adapter_config.json"),
    "not JSON": (lambda d: (d / "adapter_config.json").write_text("{"), "adapter_config.json: cannot be read"),
    "no object": (lambda d: (d / "adapter_config.json").write_text("[]"), "adapter_config.json: not a JSON object"),
    "another kind": (config(peft_type="IA3"), "an adapter of type 'IA3'; only LORA"),
    "transposed": (config(fan_in_fan_out=True), "fan_in_fan_out is set; merge it with PEFT"),
    "alpha": (config(lora_alpha="much"), "adapter_config.json: damaged .*could not convert string to float"),
    "patterns": (config(alpha_pattern={"(": 1}), "adapter_config.json: damaged"),
    "principal components": (config(init_lora_weights="pissa_niter_16"), "which changes the base model; merge it"),
    "pickle": (lambda d: (d / "adapter_model.safetensors").rename(d / "adapter_model.bin"), "unpickling runs code"),
    "no weights": (lambda d: (d / "adapter_model.safetensors").unlink(), "adapter_model.safetensors: no such file"),
    "half": (weights(lambda t: t.pop(f"{LAYER}.lora_B.weight")), "lacks lora_A or lora_B of model.text_model.la"),
    "unknown part": (weights(lambda t: t.update({f"{LAYER}.lora_C": torch.ones(1)})), "lora_C is of a kind that"),
    "of another": (
        weights(lambda t: t.update({f"{LAYER.replace('0', '9')}.lora_B.weight": torch.ones(64, 4),
                                    f"{LAYER.replace('0', '9')}.lora_A.weight": torch.ones(4, 64)})),
        "layers.9.self_attn.q_proj.weight that the model does not know",
    ),
    "lengths": (
        weights(lambda t: t.update({f"{LAYER}.lora_magnitude_vector": torch.ones(1)})),
        "do not fit .*q_proj.weight",
    ),
    "gathered nowhere": (
        weights(lambda t: t.update({f"{LAYER}.lora_A.weight": torch.ones(0)})), "do not fit .*q_proj.weight",
    ),
    "misshapen": (
        weights(lambda t: t.update({f"{LAYER}.lora_B.weight": torch.ones(63, 4)})),
        r"\(4, 64\) and \(63, 4\) do not fit .*q_proj.weight of the shape \(64, 64\); give the model that",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_adapter_is_an_error(case: str, checkpoint: Path, tmp_path: Path) -> None:
    lora = train(checkpoint, tmp_path / "tuned", target_modules=["q_proj"])
    damage, message = BROKEN[case]
    damage(lora)
    with pytest.raises(ModelError, match=message):
        plan(checkpoint, tmp_path / "out", ["f16"], ["f16"], lora=lora)
