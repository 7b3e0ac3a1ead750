"""backends/pytorch.py: which checkpoints load, and errors; test_contract.py and test_parity.py test the replies."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from smolcli.backends.pytorch import PyTorch
from smolcli.errors import EngineError, ModelError
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from smolcli.system.cpu import usable_cores
from smolcli.types import Prompt
from tests.tiny import make_checkpoint


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undamaged") / "Tiny"
    make_checkpoint(folder, "v2", 1, tied=False, tile=64)
    return folder


@pytest.fixture
def folder(undamaged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(undamaged, tmp_path / "Tiny"))


def load(folder: Path, dtype: str = "auto") -> PyTorch:
    return PyTorch(ModelFiles("Tiny", folder), Model(threads=1, device="cpu", dtype=dtype))


def edit(file: Path, **keys: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_the_longest_edge_is_read_from_the_file_of_either_release_of_transformers(folder: Path, name: str) -> None:
    (folder / "preprocessor_config.json").unlink()
    settings = {"size": {"longest_edge": 192}}
    content = settings if name.startswith("pre") else {"image_processor": settings}
    (folder / name).write_text(json.dumps(content))
    assert load(folder).layout.longest_edge == 192


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("evil",)


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"a": Evil()}, folder / "pytorch_model.bin")


NORM = "model.text_model.norm.weight"
DAMAGE = {
    "another architecture": (lambda d: edit(d / "config.json", model_type="qwen2_vl"), "is a model of type qwen2_vl"),
    "no architecture": (lambda d: (d / "config.json").write_text("{}"), "names no model_type"),
    "a list for a config": (lambda d: (d / "config.json").write_text("[]"), "config.json is not a JSON object"),
    "a broken config": (lambda d: (d / "config.json").write_text("{"), "cannot be loaded"),
    "a broken tokenizer": (lambda d: (d / "tokenizer.json").write_text("{}"), "cannot be loaded"),
    "cut weights": (lambda d: os.truncate(d / "model.safetensors", 10_000), "cannot be loaded"),
    "a strange size": (lambda d: edit(d / "preprocessor_config.json", size={"longest_edge": "x"}), "cannot be loaded"),
    "no picture's edge": (lambda d: edit(d / "preprocessor_config.json", size={"longest_edge": 0}), "contradict"),
    "other colors": (lambda d: edit(d / "preprocessor_config.json", image_mean=[0, 0, 0]), "image_mean is .*only mod"),
    "weights that run code": (pickled, "cannot be loaded"),
    "a missing weight": (
        lambda d: change_weights(d, lambda w: w.pop(NORM)),
        f"lacks 1 of .*the first {NORM}; download",
    ),
    "a renamed weight": (
        lambda d: change_weights(d, lambda w: w.update(norm=w.pop(NORM))),
        f"the first {NORM}, and has 1 tensor that",
    ),
    "a weight that is not a number": (
        lambda d: change_weights(d, lambda w: w[NORM].fill_(math.nan)),
        f"{NORM} has numbers that are not finite; use --dtype float32, or save",
    ),
    "another model's tokenizer": (
        lambda d: edit(d / "config.json", image_token_id=7),
        "config.json says that <image> is the token 7, and tokenizer.json that it is 358; take both from the same",
    ),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_the_error_for_a_damaged_checkpoint_names_it(folder: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    damage, message = DAMAGE[how]
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert not Path("evil").exists()


def test_code_that_comes_with_a_checkpoint_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    classes = {"AutoConfig": "evil.Evil", "AutoModelForImageTextToText": "evil.Evil", "AutoModel": "evil.Evil"}
    edit(folder / "config.json", auto_map=classes)
    (folder / "evil.py").write_text("import os; os.mkdir('evil')")
    load(folder).close()
    assert not Path("evil").exists()


def test_weights_that_are_too_large_for_float16_are_refused_for_it_alone(folder: Path) -> None:
    change_weights(folder, lambda weights: weights[NORM].fill_(1e6))
    with pytest.raises(ModelError, match=f"{NORM} .*use --dtype float32"):
        load(folder, "float16")
    load(folder, "float32").close()


def test_what_a_tokenizer_does_for_training_changes_no_prompt(folder: Path) -> None:
    prompt = Prompt.user("one two three four five six")
    expected = load(folder).prepare(prompt)
    file = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    for enable in (lambda: tokenizer.enable_truncation(4), lambda: tokenizer.enable_padding(length=100)):
        enable()
        tokenizer.save(str(file))
        assert load(folder).prepare(prompt) == expected
    assert expected.length > 4


def test_a_model_that_does_not_fit_in_memory_is_a_memory_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    monkeypatch.setattr("transformers.SmolVLMForConditionalGeneration.from_pretrained", fail)
    with pytest.raises(EngineError, match="does not fit in memory") as caught:
        load(folder)
    assert caught.value.kind == "memory"


@pytest.mark.parametrize(("threads", "expected"), [(None, [usable_cores()]), (3, [3])])
def test_a_model_on_the_cpu_has_all_cores_though_there_is_a_gpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch, threads: int | None, expected: list[int]
) -> None:
    numbers: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    PyTorch(ModelFiles("Tiny", folder), Model(threads=threads, device="cpu")).close()
    assert numbers == expected
