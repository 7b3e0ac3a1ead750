"""models/tensor_names.py: wrappers come off names, and what a checkpoint lacks or has too much is told in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from smolcli.errors import ModelError
from smolcli.models.tensor_names import Findings, stored_types, unwrap, wrapper_notice

OWN = ["lm_head.weight", "model.text_model.layers.0.mlp.up_proj.weight", "model.text_model.norm.weight"]


@pytest.mark.parametrize(
    "wrapper",
    ["", "_orig_mod.", "module.", "base_model.model.", "module._orig_mod.", "_orig_mod.module.base_model.model."],
)
def test_a_wrapper_of_all_names_comes_off(wrapper: str) -> None:
    unwrapped = unwrap(wrapper + name for name in OWN)
    assert dict(unwrapped.names) == {wrapper + name: name for name in OWN}
    assert bool(unwrapped.wrappers) == bool(wrapper)


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_a_wrapper_of_single_layers_comes_off(wrapper: str) -> None:
    names = [name.replace("layers.0.", f"layers.0.{wrapper}.") for name in OWN]
    assert sorted(unwrap(names).names.values()) == OWN
    assert unwrap(names).wrappers == (f"{wrapper}.",)


@pytest.mark.parametrize("names", [[], ["module.a", "b"], ["_orig_mod.a", "a"], ["foo.a", "foo.b"]])
def test_other_names_stay(names: list[str]) -> None:
    assert dict(unwrap(names).names) == {name: name for name in names}
    assert wrapper_notice(Path("x"), unwrap(names).wrappers) == ""


def test_a_wrapper_is_told() -> None:
    assert wrapper_notice(Path("x"), ("_orig_mod.",)).startswith("x: its tensors are read without _orig_mod. in their")


def test_names_are_read_from_headers_without_a_library(tmp_path: Path) -> None:
    arrays = {name: np.zeros(2, np.float32) for name in OWN}
    save_file(arrays, tmp_path / "a.safetensors", metadata={"format": "pt"})
    damaged = tmp_path / "b.safetensors"
    damaged.write_bytes(b"\xff" * 32)
    assert stored_types([tmp_path / "a.safetensors", damaged, tmp_path / "none"]) == dict.fromkeys(OWN, "F32")


@pytest.mark.parametrize(
    ("findings", "message"),
    [
        (Findings(missing=["b", "a"], total=9), "x: lacks 2 of 9 tensors, the first a; download or save it again"),
        (
            Findings(missing=["a"], unread=["foo.b", "foo.a"], total=1),
            "x: lacks 1 of 1 tensor, the first a, and has 2 tensors that the model does not know, the first foo.a; "
            "save the whole model with its own save_pretrained",
        ),
        (
            Findings(missing=["q.weight"], unread=["q.base_layer.weight", "q.lora_A.default.weight"], total=1),
            "x: lacks 1 of 1 tensor, the first q.weight, and has 2 tensors that the model does not know, the first "
            "q.base_layer.weight; it holds an adapter that is not merged: save what PEFT's merge_and_unload returns",
        ),
        (
            Findings(unread=["model.text_model.layers.4.mlp.up_proj.weight"], total=9),
            "x: has 1 tensor that the model does not know, the first model.text_model.layers.4.mlp.up_proj.weight; "
            "give the config.json that it was saved with",
        ),
        (
            Findings(misshapen=[("b", (1,), (2,)), ("a", (63,), (64,))], total=9),
            "x: the tensor a has the shape (63,), not (64,) as in config.json, and 1 more differ; "
            "download or save it again",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_line(findings: Findings, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        findings.raise_for(Path("x"))
    assert str(caught.value) == message
    assert caught.value.code == 3


def test_buffers_that_the_model_computes_are_no_error() -> None:
    unread = ["model.text_model.layers.0.self_attn.rotary_emb.inv_freq", "model.vision_model.embeddings.position_ids"]
    Findings(unread=unread, total=9).raise_for(Path("x"))


def test_of_a_gguf_file_it_names_the_keys() -> None:
    with pytest.raises(ModelError, match=r"x: the tensor a has the shape \(1,\), not \(2,\) as in its keys;"):
        Findings(misshapen=[("a", (1,), (2,))], total=9).raise_for(Path("x"), is_gguf=True)
    with pytest.raises(ModelError, match=r"the first rope_freqs; llama.cpp may run it: --backend llamacpp"):
        Findings(unread=["rope_freqs"], total=9).raise_for(Path("x"), is_gguf=True)
    with pytest.raises(ModelError, match="lacks 1 of 9 tensors, .* the first b; fetch or convert it again"):
        Findings(missing=["a"], unread=["b"], total=9).raise_for(Path("x"), is_gguf=True)
