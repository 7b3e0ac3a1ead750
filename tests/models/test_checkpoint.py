"""models/checkpoint.py: defaults are filled in, and broken checkpoints are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from smolcli.converters import convert
from smolcli.errors import ModelError, UsageError
from smolcli.models.checkpoint import Checkpoint
from tests import tiny


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny.make_checkpoint(tmp_path / "tiny", "v2", seed=1)


@pytest.mark.parametrize("family", ["idefics3", "smolvlm"])
def test_defaults_are_those_of_transformers(family: str, checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    for key in ("rms_norm_eps", "head_dim", "num_key_value_heads", "rope_parameters", "max_position_embeddings"):
        del config["text_config"][key]
    config |= {"model_type": family, "vision_config": {}}
    del config["scale_factor"]
    (checkpoint / "config.json").write_text(json.dumps(config))
    reference, checked = AutoConfig.from_pretrained(checkpoint), Checkpoint(checkpoint)
    text, vision = reference.text_config, reference.vision_config
    assert checked.text.rms_epsilon == text.rms_norm_eps
    assert checked.text.head_dim == text.head_dim
    assert checked.text.kv_heads == text.num_key_value_heads
    assert checked.text.rope_theta == text.rope_parameters["rope_theta"]
    assert checked.text.positions == text.max_position_embeddings
    assert checked.vision.scale == reference.scale_factor
    assert (checked.vision.hidden, checked.vision.feed_forward) == (vision.hidden_size, vision.intermediate_size)
    assert (checked.vision.layers, checked.vision.heads) == (vision.num_hidden_layers, vision.num_attention_heads)
    assert (checked.vision.image, checked.vision.patch) == (vision.image_size, vision.patch_size)
    assert checked.vision.epsilon == vision.layer_norm_eps


def edit(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        value = json.loads((directory / name).read_text())
        change(value)
        (directory / name).write_text(json.dumps(value))

    return apply


def edit_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors")

    return apply


def truncate(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pickle_only(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def lose_a_shard(directory: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


NORM = "model.text_model.norm.weight"
UP = "model.text_model.layers.1.mlp.up_proj.weight"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "no config.json"),
    "not JSON": (lambda d: (d / "config.json").write_text("{"), "cannot be read"),
    "another model": (edit("config.json", lambda c: c.update(model_type="llava")), "'llava'.* idefics3, smolvlm"),
    "no llama": (edit("config.json", lambda c: c["text_config"].update(model_type="phi")), "'phi'; only llama"),
    "exact gelu": (edit("config.json", lambda c: c["vision_config"].update(hidden_act="gelu")), "hidden_act"),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "no tokenizer.json"),
    "another tokenizer": (edit("tokenizer.json", lambda t: t.update(normalizer={"type": "NFC"})), "splits text"),
    "another splitting": (
        edit("tokenizer.json", lambda t: t["pre_tokenizer"]["pretokenizers"][1].update(use_regex=False)),
        "splits text in a way that llama.cpp would not",
    ),
    "no vocabulary": (edit("tokenizer.json", lambda t: t["model"].pop("vocab")), "tokenizer.json: damaged"),
    "odd merges": (edit("tokenizer.json", lambda t: t["model"].update(merges={"a": 1})), "tokenizer.json: damaged"),
    "a card that is no text": (lambda d: (d / "README.md").write_bytes(b"---\n\xff\n---\n"), "README.md: not valid"),
    "no end of a turn": (
        edit("tokenizer.json", lambda t: t["added_tokens"].pop()),
        "has no token <end_of_utterance>; only tokenizers of SmolVLM and the docling models",
    ),
    "no size": (edit("config.json", lambda c: c["text_config"].update(hidden_size="64")), "hidden_size is '64'"),
    "no layers": (edit("config.json", lambda c: c["vision_config"].update(num_hidden_layers=-1)), "num_hidden_layers"),
    "no text": (edit("config.json", lambda c: c.update(text_config=[1])), "text_config is not an object"),
    "odd heads": (
        edit("config.json", lambda c: c["vision_config"].update(num_attention_heads=7)),
        "the remainder of vision_config.hidden_size and num_attention_heads is 1; only 0",
    ),
    "endless layers": (
        edit("config.json", lambda c: c["text_config"].update(num_hidden_layers=10**9)),
        "from 1 to 512",
    ),
    "endless context": (
        edit("config.json", lambda c: c["text_config"].update(max_position_embeddings=10**30)),
        "max_position_embed",
    ),
    "no rotation": (edit("config.json", lambda c: c["text_config"].update(rope_parameters=[1])), "is not an object"),
    "no colors": (edit("preprocessor_config.json", lambda c: c.update(image_mean=[])), "3 numbers are wanted"),
    "no contrast": (edit("preprocessor_config.json", lambda c: c.update(image_std=[0.0, 1, 1])), "image_std is 0.0"),
    "no edge": (edit("preprocessor_config.json", lambda c: c.update(size={})), "longest_edge is 'None'"),
    "two of one id": (
        edit("tokenizer.json", lambda t: t["added_tokens"][4].update(id=t["added_tokens"][3]["id"])),
        "have one id",
    ),
    "an odd template": (
        edit("tokenizer_config.json", lambda t: t.update(chat_template=[1])),
        "tokenizer.json: damaged",
    ),
    "odd sampling": (
        edit("generation_config.json", lambda c: c.update(temperature="hot")),
        "generation_config.json: damaged",
    ),
    "no sampling": (lambda d: (d / "generation_config.json").write_text("{"), "generation_config.json: cannot be read"),
    "biased": (edit("config.json", lambda c: c["text_config"].update(attention_bias=True)), "attention_bias is True"),
    "scaled rotation": (
        edit("config.json", lambda c: c["text_config"]["rope_parameters"].update(rope_type="linear")),
        "the rotary embedding is 'linear'; only default",
    ),
    "no header": (lambda d: (d / "model.safetensors").write_bytes(b"\xff" * 64), "model.safetensors: damaged"),
    "no index": (
        lambda d: [
            (d / "model.safetensors").unlink(),
            (d / "model.safetensors.index.json").write_text('{"weight_map": 1}'),
        ],
        "model.safetensors.index.json: not an index of weights",
    ),
    "small vocabulary": (
        edit("tokenizer.json", lambda t: t["model"]["vocab"].update(more=tiny.VOCABULARY)),
        f"the token more has the id {tiny.VOCABULARY}, but the model has {tiny.VOCABULARY} tokens",
    ),
    "no sizes of tiles": (lambda d: (d / "preprocessor_config.json").unlink(), "image_mean"),
    "bad model card": (lambda d: (d / "README.md").write_text("---\na: [\n---\n"), "README.md: not valid YAML"),
    "truncated": (truncate, "damaged"),
    "pickle": (pickle_only, "unpickling runs code"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "no model.safetensors"),
    "missing shard": (lose_a_shard, "model-00001-of-00002.safetensors: no such file"),
    "missing tensor": (edit_tensors(lambda t: t.pop(NORM)), f"lacks 1 of 59 tensors, the first {NORM}"),
    "extra tensor": (edit_tensors(lambda t: t.update(adapter=torch.zeros(1))), "1 tensor that .*, the first adapter"),
    "misshapen": (edit_tensors(lambda t: t.update({NORM: torch.ones(63)})), rf"{NORM} has the shape \(63,\)"),
    "not a number": (edit_tensors(lambda t: t[UP].fill_(float("nan"))), f"{UP}: holds NaN"),
    "too large": (edit_tensors(lambda t: t[UP].fill_(1e6)), f"{UP}: holds 1e.06, too large for f16"),
    "integers": (edit_tensors(lambda t: t.update({NORM: torch.ones(64, dtype=torch.int8)})), f"{NORM} is stored as I8"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_checkpoint_is_an_error_and_leaves_no_file(case: str, checkpoint: Path, tmp_path: Path) -> None:
    damage, message = BROKEN[case]
    damage(checkpoint)
    with pytest.raises(ModelError, match=message):
        convert(checkpoint, tmp_path / "out", "f16", "f16")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_an_output_directory_that_cannot_be_written(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        convert(checkpoint, tmp_path / "file", "f16", "f16")


def test_an_interrupted_file_does_not_replace_the_old_one(checkpoint: Path, tmp_path: Path) -> None:
    language, _ = convert(checkpoint, tmp_path / "out", "f16", "f16")
    before = language.read_bytes()
    edit_tensors(lambda tensors: tensors[UP].fill_(float("inf")))(checkpoint)
    with pytest.raises(ModelError):
        convert(checkpoint, tmp_path / "out", "f16", "f16")
    assert language.read_bytes() == before
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_the_files_are_named_after_the_directory(checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "SmolVLM-256M-Instruct"
    shutil.move(checkpoint, other)
    language, mmproj = convert(other, tmp_path / "out", "f16", "q8_0")
    assert language.name == "SmolVLM-256M-Instruct-F16.gguf"
    assert mmproj.name == "mmproj-SmolVLM-256M-Instruct-Q8_0.gguf"
    assert GGUFReader(language).fields["general.basename"].contents() == "SmolVLM"


def test_a_model_saved_without_its_head_is_the_same(tmp_path: Path) -> None:
    source = tiny.make_checkpoint(tmp_path / "Tiny", "v2", seed=1, tied=True)
    headless = tmp_path / "bare" / "Tiny"
    shutil.copytree(source, headless)
    (headless / "model.safetensors").unlink()
    AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32).model.save_pretrained(headless)
    assert "text_model.norm.weight" in load_file(headless / "model.safetensors")
    whole = convert(source, tmp_path / "whole", "q8_0", "f16")
    for first, second in zip(whole, convert(headless, tmp_path / "again", "q8_0", "f16"), strict=True):
        assert first.read_bytes() == second.read_bytes()
