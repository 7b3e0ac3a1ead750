"""backends/pytorch.py: which checkpoints load, and errors; test_contract.py and test_parity.py test the replies."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from smolcli.backends.pytorch import PyTorch
from smolcli.errors import EngineError, ModelError
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from tests.tiny import make_checkpoint


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undamaged") / "Tiny"
    make_checkpoint(folder, "v2", 1, tied=False, tile=64)
    return folder


@pytest.fixture
def folder(undamaged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(undamaged, tmp_path / "Tiny"))


def load(folder: Path) -> PyTorch:
    return PyTorch(ModelFiles("Tiny", folder), Model(threads=1, device="cpu"))


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


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"a": Evil()}, folder / "pytorch_model.bin")


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


def test_a_model_that_does_not_fit_in_memory_is_a_memory_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    monkeypatch.setattr("transformers.SmolVLMForConditionalGeneration.from_pretrained", fail)
    with pytest.raises(EngineError, match="does not fit in memory") as caught:
        load(folder)
    assert caught.value.kind == "memory"
