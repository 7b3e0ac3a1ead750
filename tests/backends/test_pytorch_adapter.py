"""Adapters as training programs save them: their rows, tokenizer and template are taken, or they are named.

Both readers of an adapter are tested: backends/pytorch_checkpoint.py and the converter. tests/converters/test_lora.py
compares the merging of every kind of LoRA with PEFT's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file

from smolcli.backends.pytorch_checkpoint import load_model
from smolcli.converters import plan, write
from smolcli.errors import ModelError
from smolcli.models.files import BUILT_IN
from smolcli.models.resolve import find_files
from smolcli.models.tokenizer import load_tokenizer

Weights = dict[str, torch.Tensor]
HEAD = "lm_head.weight"
QUERY = "model.text_model.layers.1.self_attn.q_proj"
EMBEDDINGS = "model.text_model.embed_tokens.weight"
ROWS = 384  # of an adapter whose vocabulary was enlarged from nano's 320


def save_adapter(folder: Path, weights: Mapping[str, torch.Tensor], new_tokens: int = ROWS - 320) -> Path:
    """Write an adapter of nano with rank 2 and alpha 4, its tokenizer with `new_tokens` more, and a chat template."""
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(BUILT_IN), "r": 2, "lora_alpha": 4}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tokenizer = json.loads((BUILT_IN / "tokenizer.json").read_text())
    like = tokenizer["added_tokens"][-1]
    tokenizer["added_tokens"] += [like | {"id": 320 + n, "content": f"<new_{n}>"} for n in range(new_tokens)]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "the adapter's"}))
    save_file(dict(weights), folder / "adapter_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def nano() -> Weights:
    return load_file(BUILT_IN / "model.safetensors")


@pytest.fixture(scope="module")
def tuned() -> Weights:
    """What an adapter with whole embeddings and output matrix holds, by the model's own names."""
    generator = torch.Generator().manual_seed(0)
    shapes = {EMBEDDINGS: (ROWS, 192), HEAD: (ROWS, 192), f"{QUERY}.lora_A.weight": (2, 192),
              f"{QUERY}.lora_B.weight": (192, 2)}  # fmt: skip
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def raw(name: str) -> str:
    """A tensor's name in a PEFT model's own state_dict, which holds the adapter's name."""
    module, _, leaf = name.rpartition(".")
    return f"{module}.{'default' if 'lora' in name else 'modules_to_save.default'}.{leaf}"


NAMES: dict[str, Callable[[str], str]] = {
    "as PEFT saves": lambda name: f"base_model.model.{name}",
    "compiled outside": lambda name: f"_orig_mod.base_model.model.{name}",
    "compiled inside": lambda name: f"base_model.model._orig_mod.{name}",
    "distributed": lambda name: f"module.base_model.model.{name}",
    "its state_dict": lambda name: f"base_model.model.{raw(name)}",
}


@pytest.mark.parametrize("kind", NAMES)
def test_pytorch_takes_the_adapters_rows_and_tokenizer(
    kind: str, nano: Weights, tuned: Weights, tmp_path: Path
) -> None:
    weights = {NAMES[kind](name): weight for name, weight in tuned.items()}
    if kind == "its state_dict":
        weights["base_model.model.lm_head.original_module.weight"] = nano[HEAD].clone()
    folder = save_adapter(tmp_path / "Tuned", weights)
    files = find_files(str(folder))
    assert (files.name, files.checkpoint, files.adapter) == ("Tuned", BUILT_IN, folder)
    assert files.tokenizer == folder / "tokenizer.json"
    model = load_model(files, torch.float32)
    state = model.state_dict()
    assert torch.equal(state[EMBEDDINGS], tuned[EMBEDDINGS]) and torch.equal(state[HEAD], tuned[HEAD])
    delta = 4 / 2 * tuned[f"{QUERY}.lora_B.weight"] @ tuned[f"{QUERY}.lora_A.weight"]
    assert torch.allclose(state[f"{QUERY}.weight"], nano[f"{QUERY}.weight"].float() + delta, atol=1e-5)
    assert model.get_input_embeddings()(torch.tensor([ROWS - 1])).shape == (1, 192)


def test_the_converter_takes_the_adapters_rows_tokenizer_and_template(tuned: Weights, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "Tuned", {f"base_model.model.{name}": tuned[name] for name in tuned})
    planned = plan(BUILT_IN, tmp_path / "out", ["f32"], ["f32"], lora=folder)
    write(planned)
    pair = GGUFReader(planned.language[0].path)
    stored = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in pair.tensors}
    assert torch.equal(stored["token_embd.weight"], tuned[EMBEDDINGS])
    assert torch.equal(stored["output.weight"], tuned[HEAD])
    assert pair.fields["tokenizer.ggml.tokens"].contents()[-1] == "<new_63>"
    assert pair.fields["tokenizer.chat_template"].contents() == "the adapter's"
    assert pair.fields["llama.vocab_size"].contents() == ROWS


def test_an_adapter_that_does_not_fit_is_named_and_not_its_base(tuned: Weights, tmp_path: Path) -> None:
    lacking = save_adapter(tmp_path / "lacking", {name: tuned[name] for name in tuned if name != HEAD})
    wide = save_adapter(tmp_path / "wide", {f"{QUERY}.lora_A.weight": torch.ones(2, 64),
                                            f"{QUERY}.lora_B.weight": torch.ones(64, 2)}, 0)  # fmt: skip
    foreign = save_adapter(tmp_path / "foreign", {"base_model.model.model.text_model.layers.9.mlp.up_proj.weight":
                                                  torch.ones(2, 2)}, 0)  # fmt: skip
    for folder, message in {
        lacking: "lacks lm_head.weight, of which its base has 320; save the adapter with .*save_embedding_layers=True",
        wide: "do not fit .*q_proj.weight of the shape .*; give the model that it was trained on",
        foreign: "layers.9.mlp.up_proj.weight that the model does not know; give the model that it was trained on",
    }.items():
        with pytest.raises(ModelError, match=f"^{folder}.*{message}"):
            load_model(find_files(str(folder)), torch.float32)
        with pytest.raises(ModelError, match=f"^{folder}.*{message}"):
            plan(BUILT_IN, tmp_path / "out", ["f16"], ["f16"], lora=folder)


def test_a_tokenizer_with_more_tokens_than_the_model_has_is_named(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "tuned", {f"{QUERY}.lora_A.weight": torch.ones(2, 192),
                                               f"{QUERY}.lora_B.weight": torch.ones(192, 2)}, 3)  # fmt: skip
    message = f"^{folder}/tokenizer.json: the token <new_.> has the id .*, but the model has 320 tokens; save the ad"
    with pytest.raises(ModelError, match=message):
        load_tokenizer(find_files(str(folder)), 320)
    with pytest.raises(ModelError, match=message):
        plan(BUILT_IN, tmp_path / "out", ["f16"], ["f16"], lora=folder)
    assert load_tokenizer(find_files(str(folder)), 323).token_to_id("<new_2>") == 322
