"""models/fingerprint.py: every byte of every file counts, and a large file is read once."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file

from smolcli.errors import ModelError
from smolcli.models import fingerprint as module
from smolcli.models.files import BUILT_IN, ModelFiles, scan
from smolcli.models.fingerprint import fingerprint
from smolcli.system.disk_cache import cache_folder

LARGE = module.SMALL + 2


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is old enough for its digest to be kept."""
    monkeypatch.setattr(module, "LONGEST_TICK", -60.0)


@pytest.fixture
def pair(tmp_path: Path) -> ModelFiles:
    language, vision = tmp_path / "a.gguf", tmp_path / "mmproj-a.gguf"
    for path in (language, vision):
        path.write_bytes(bytes(LARGE))
    return ModelFiles("a", gguf=language, mmproj=vision)


@pytest.fixture
def checkpoint(tmp_path: Path) -> ModelFiles:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in module.CONFIGURATION:
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(LARGE))
    return ModelFiles("a", checkpoint=folder)


def change_byte(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\1")


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("half", ["gguf", "mmproj"])
@pytest.mark.parametrize("offset", [0, LARGE // 2, LARGE - 1])
def test_every_byte_of_a_pair_counts(half: str, offset: int, pair: ModelFiles) -> None:
    before = fingerprint(pair, "llamacpp")
    change_byte(getattr(pair, half), offset)
    assert fingerprint(pair, "llamacpp") != before


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("name", [*module.CONFIGURATION, "model.safetensors"])
def test_every_file_of_a_checkpoint_counts(name: str, checkpoint: ModelFiles) -> None:
    assert checkpoint.checkpoint is not None
    before = fingerprint(checkpoint, "torch")
    change_byte(checkpoint.checkpoint / name, 1)
    assert fingerprint(checkpoint, "torch") != before


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"])
def test_every_file_of_an_adapter_counts(name: str, checkpoint: ModelFiles, tmp_path: Path) -> None:
    tuned = replace(checkpoint, adapter=tmp_path)
    without = fingerprint(tuned, "torch")
    (tmp_path / name).write_bytes(bytes(9))
    before = fingerprint(tuned, "torch")
    change_byte(tmp_path / name, 5)
    assert len({without, before, fingerprint(tuned, "torch")}) == 3


@pytest.mark.usefixtures("settled")
def test_two_trainings_of_nano_are_two_models(tmp_path: Path) -> None:
    """They have the same size and header, and differ in the middle only."""
    folder = Path(shutil.copytree(BUILT_IN, tmp_path / "nano"))
    before = [fingerprint(scan(folder), backend) for backend in ("torch", "llamacpp")]
    size = (folder / "model.safetensors").stat().st_size
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if ".text_model.layers.2." in name and "proj" in name:
            weight[:] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert (folder / "model.safetensors").stat().st_size == size
    gguf = GGUFReader(folder / "nano-F16.gguf", "r+")
    for tensor in gguf.tensors:
        if tensor.name.startswith(("blk.2.attn_q.", "blk.2.ffn_up.")):
            tensor.data[:] = 0
    gguf.data.flush()
    after = [fingerprint(scan(folder), backend) for backend in ("torch", "llamacpp")]
    assert len({*before, *after}) == 4


@pytest.mark.usefixtures("settled")
def test_what_one_file_ends_with_is_not_what_the_next_begins_with(pair: ModelFiles) -> None:
    assert pair.gguf is not None and pair.mmproj is not None
    before = fingerprint(pair, "llamacpp")
    os.truncate(pair.gguf, LARGE - 1)
    os.truncate(pair.mmproj, LARGE + 1)
    assert fingerprint(pair, "llamacpp") != before


@pytest.mark.usefixtures("settled")
def test_a_large_file_is_read_once(pair: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(pair, "llamacpp")
    assert len(list((tmp_path / "cache" / "smolcli" / "fingerprints").iterdir())) == 2
    monkeypatch.setattr(module, "sha256_and_size", None)
    assert fingerprint(pair, "llamacpp") == before
    assert pair.gguf is not None
    os.utime(pair.gguf)  # as after a copy over it: its content must be read again
    with pytest.raises(TypeError):
        fingerprint(pair, "llamacpp")


def test_a_file_changed_within_the_clock_tick_of_its_times_is_read_again(
    pair: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "stamp", lambda status: "the same tick")
    before = fingerprint(pair, "llamacpp")
    assert pair.gguf is not None
    change_byte(pair.gguf, LARGE // 2)
    assert fingerprint(pair, "llamacpp") != before


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("damage", [b"", b"torn"])
def test_a_damaged_cache_costs_only_time(damage: bytes, pair: ModelFiles) -> None:
    before = fingerprint(pair, "llamacpp")
    for kept in cache_folder("fingerprints").iterdir():
        line = kept.read_bytes()
        kept.write_bytes(line[: line.index(b" ") + 9] if damage else b"")
    assert fingerprint(pair, "llamacpp") == before


@pytest.mark.usefixtures("settled")
def test_a_cache_that_cannot_be_written_costs_only_time(
    pair: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(pair, "llamacpp")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert fingerprint(pair, "llamacpp") == before


def test_a_file_that_cannot_be_read_is_named(pair: ModelFiles) -> None:
    assert pair.gguf is not None
    pair.gguf.unlink()
    with pytest.raises(ModelError, match="a.gguf: cannot be read"):
        fingerprint(pair, "llamacpp")
