"""backends/pytorch_checkpoint.py: nano as training programs save it is nano, and a checkpoint lacking tensors is none.

The converter is given the same checkpoints, so that both backends say the same of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file

from smolcli.backends.pytorch_checkpoint import load_model, name_checkpoint_in_errors
from smolcli.converters import plan, write
from smolcli.errors import EngineError, ModelError
from smolcli.models.files import BUILT_IN, ModelFiles
from tests.tiny import make_checkpoint

Weights = dict[str, torch.Tensor]
NORM = "model.text_model.norm.weight"
HEAD = "lm_head.weight"


@pytest.fixture(scope="module")
def nano() -> Weights:
    return load_file(BUILT_IN / "model.safetensors")


def save(folder: Path, weights: Mapping[str, torch.Tensor]) -> Path:
    """Write a checkpoint of nano's configuration and tokenizer with these weights."""
    folder.mkdir()
    for path in BUILT_IN.glob("*.json"):
        shutil.copy(path, folder)
    save_file(dict(weights), folder / "model.safetensors")
    return folder


def load(folder: Path) -> Weights:
    state: Weights = load_model(ModelFiles("a", checkpoint=folder), torch.float16).state_dict()
    return state


def convert(folder: Path) -> dict[str, bytes]:
    """The bytes of each tensor of the converted pair."""
    planned = plan(folder, folder / "out", ["f16"], ["f16"])
    write(planned)
    files = [output.path for output in planned.outputs]
    return {tensor.name: tensor.data.tobytes() for file in files for tensor in GGUFReader(file).tensors}


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module._orig_mod.", "base_model.model."])
def test_a_wrapped_checkpoint_is_the_model(wrapper: str, nano: Weights, tmp_path: Path) -> None:
    folder = save(tmp_path / "wrapped", {wrapper + name: weight for name, weight in nano.items()})
    model = load_model(ModelFiles("a", checkpoint=folder), torch.float16)
    state = model.state_dict()
    assert state.keys() == nano.keys()
    assert all(torch.equal(state[name], weight) for name, weight in nano.items())
    assert model.generation_config.eos_token_id == json.loads((BUILT_IN / "generation_config.json").read_text()).get(
        "eos_token_id"
    )


def test_a_wrapped_checkpoint_is_converted_to_the_models_own_pair(nano: Weights, tmp_path: Path) -> None:
    folder = save(tmp_path / "wrapped", {f"module._orig_mod.{name}": weight for name, weight in nano.items()})
    own = {t.name: t.data.tobytes() for path in BUILT_IN.glob("*.gguf") for t in GGUFReader(path).tensors}
    assert convert(folder) == own
    assert plan(folder, folder / "again", ["f16"], ["f16"]).notices[0].startswith(f"{folder}: its tensors are read")


def without(*names: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: weight for name, weight in weights.items() if name not in names}


def with_more(**more: torch.Tensor) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {name.replace("__", "."): weight for name, weight in more.items()}


BROKEN = {
    "lacking": (without(NORM, "model.connector.modality_projection.proj.weight"), "lacks 2 of 141 tensors, the first "
                "model.connector.modality_projection.proj.weight; download"),
    "no head and none tied": (without(HEAD), "lacks 1 of 141 tensors, the first lm_head.weight"),
    "another model's names": (
        lambda weights: {f"foo.{name}": weight for name, weight in weights.items()},
        "lacks 141 of 141 tensors, the first lm_head.weight, and has 141 tensors that .* the first foo.lm_head.weight",
    ),
    "more layers than config.json says": (
        with_more(model__text_model__layers__4__mlp__up_proj__weight=torch.zeros(512, 192)),
        r"has 1 tensor that .*layers.4.mlp.up_proj.weight; give the config.json",
    ),
    "another shape": (
        lambda weights: weights | {NORM: torch.ones(63)}, r"norm.weight has the shape \(63,\), not \(192,\)",
    ),
    "integers": (
        lambda weights: weights | {NORM: torch.ones(192, dtype=torch.int8)}, "norm.weight is stored as I8; save it as",
    ),
    "an adapter that is not merged": (
        lambda weights: {name.replace("q_proj.", "q_proj.base_layer."): weight for name, weight in weights.items()},
        "lacks 16 of 141 tensors.*save what PEFT's merge_and_unload returns",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_another_model_than_config_json_describes_is_an_error(case: str, nano: Weights, tmp_path: Path) -> None:
    change, message = BROKEN[case]
    folder = save(tmp_path / "broken", change(nano))
    for read in (load, lambda folder: plan(folder, folder / "out", ["f16"], ["f16"])):
        with pytest.raises(ModelError, match=f"{folder}.*: .*{message}"):
            read(folder)


def test_buffers_that_nobody_reads_are_no_error(nano: Weights, tmp_path: Path) -> None:
    buffers = {
        "model.text_model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(16),
        "model.vision_model.embeddings.position_ids": torch.arange(256)[None],
    }
    folder = save(tmp_path / "old", nano | buffers)
    assert load(folder).keys() == nano.keys()
    assert not plan(folder, folder / "out", ["f16"], ["f16"]).notices


def test_what_is_left_over_of_an_adapter_changes_nothing(nano: Weights, tmp_path: Path) -> None:
    """With PEFT installed transformers would apply the adapter, or fail where its weights are gone."""
    folder = save(tmp_path / "merged", nano)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "a/b"}))
    assert torch.equal(load(folder)[HEAD], nano[HEAD])


def test_a_tied_checkpoint_needs_no_head(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "tied", "v2", tied=True)
    assert HEAD not in load_file(folder / "model.safetensors")
    state = load(folder)
    assert torch.equal(state[HEAD], state["model.text_model.embed_tokens.weight"])


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_shard_that_lacks_a_tensor(is_listed: bool, nano: Weights, tmp_path: Path) -> None:
    folder = save(tmp_path / "sharded", {})
    (folder / "model.safetensors").unlink()
    names = sorted(nano)
    places: dict[str, str] = {}
    for number, part in enumerate((names[:70], names[70:]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: nano[name] for name in part if name != NORM}, folder / file)
        places |= {name: file for name in part if is_listed or name != NORM}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for read in (load, lambda folder: plan(folder, folder / "out", ["f16"], ["f16"])):
        with pytest.raises(ModelError, match=f"lacks 1 of 141 tensors, the first {NORM}"):
            read(folder)


@pytest.mark.parametrize(("device", "place"), [("cuda:1", " of cuda:1"), ("cpu", "")])
def test_a_gpu_whose_memory_is_too_small_is_named(tmp_path: Path, device: str, place: str) -> None:
    with (
        pytest.raises(EngineError, match=f"does not fit in memory{place};"),
        name_checkpoint_in_errors(tmp_path, torch.device(device)),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory.")
