"""openvino.py and openvino_cache.py: how it is computed, and a damaged cache; the rest is in test_vision.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader
from numpy.typing import NDArray

from smolcli import registry
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.vision import openvino, openvino_cache, select
from smolcli.backends.vision.openvino import Graph
from smolcli.converters import convert
from smolcli.errors import EngineError, UnavailableError
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from tests.backends.vision import encoders
from tests.backends.vision.encoders import exact, noise

EXACT = exact("openvino")


def encoder(mmproj: Path, options: Model = EXACT) -> openvino.OpenVinoEncoder:
    made = encoders.encoder(mmproj, options)
    assert isinstance(made, openvino.OpenVinoEncoder)
    return made


def encoded(mmproj: Path, tiles: Sequence[bytes]) -> NDArray[np.float32]:
    return encoders.encoded(mmproj, tiles, EXACT)


# ---- how it is computed --------------------------------------------------------------------------------


def test_threads_and_precision_are_those_asked_for(mmproj: Path) -> None:
    for threads in (1, 2):
        with closing(encoder(mmproj, Model(threads=threads, dtype="float32", vision_engine="openvino"))) as vision:
            found = {key: vision._compiled.get_property(key) for key in ("INFERENCE_NUM_THREADS", "NUM_STREAMS")}
            assert found == {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
            assert vision._compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.ov.Type.f32
            assert vision._compiled.get_property("ENABLE_CPU_PINNING") is False


class Cpu:
    def __init__(self, *able: str) -> None:
        self._able = able

    def get_property(self, device: str, key: str) -> Sequence[str]:
        assert (device, key) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self._able


def test_bfloat16_is_taken_where_the_cpu_has_it() -> None:
    assert openvino._dtype(Cpu("FP32", "BF16", "FP16"), "auto") == "bfloat16"
    assert openvino._dtype(Cpu("FP32", "INT8"), "auto") == "float32"
    assert openvino._dtype(Cpu("FP32", "BF16"), "float32") == "float32"
    assert openvino._dtype(Cpu("FP32", "FP16"), "float16") == "float16"
    for dtype in ("bfloat16", "float16"):
        with pytest.raises(UnavailableError, match=f"OpenVINO does not compute in {dtype}; .*torch"):
            openvino._dtype(Cpu("FP32"), dtype)


@pytest.mark.parametrize(("kind", "stays"), [("f16", "float16"), ("bf16", "bfloat16")])
def test_matrices_stay_as_the_file_has_them(checkpoint: Path, tmp_path: Path, kind: str, stays: str) -> None:
    """Were they made float32 first, both would be kept: twice to three times the memory."""
    mmproj = convert(checkpoint, tmp_path, "f32", kind)[1]
    matrices = sum(tensor.tensor_type == Type[kind.upper()] for tensor in GGUFReader(mmproj).tensors)
    with closing(encoder(mmproj)) as vision:  # which computes in neither
        found = [node.get_output_element_type(0).to_string() for node in vision._compiled.get_runtime_model().get_ops()]
    assert found.count({"float16": "f16", "bfloat16": "bf16"}[stays]) == matrices == 2 * 6 + 1


def test_a_failure_of_openvino_is_an_error_of_the_engine(mmproj: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("Exception from src/core.cpp:1:\nno room")

    with closing(encoder(mmproj)) as vision:
        vision._request = type("Request", (), {"infer": fails})()
        with pytest.raises(EngineError, match="OpenVINO could not encode a tile: no room; try --vision-engine mtmd"):
            vision.encode([noise(1, 64)])
    monkeypatch.setattr(openvino.ov.Core, "compile_model", fails)
    with pytest.raises(EngineError, match="OpenVINO could not compile .*: no room"):
        encoder(mmproj)


WATCHED = """
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event.startswith(WATCH) else None)
from smolcli import registry
registry.load(registry.VISION_ENCODERS, "openvino")
print(seen, [name for name in sys.modules if name.startswith("openvino_telemetry.")])
"""


def test_importing_it_tells_nobody() -> None:
    """Of itself it reports to its makers, from a process of its own."""
    watch = ("socket.", "os.fork", "os.posix_spawn", "subprocess.")
    done = subprocess.run([sys.executable, "-c", f"WATCH = {watch}{WATCHED}"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[] []\n", "")


def test_openvino_that_is_not_installed(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "openvino" else object())
    with pytest.raises(UnavailableError, match=r"library openvino, which is not installed; pip install 'smolcli\[open"):
        LlamaCpp(files, EXACT)
    with closing(LlamaCpp(files, Model(threads=1))) as backend:
        assert type(backend._vision).__name__ == "MtmdEncoder"


# ---- compiled models on disk ---------------------------------------------------------------------------


@pytest.fixture
def quantized(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose compiled model is worth keeping, though it is small, and an empty cache."""
    monkeypatch.setattr(select, "LARGE", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(openvino, "_dtype", lambda core, dtype: "bfloat16")
    return Path(convert(checkpoint, tmp_path, "f32", "q8_0")[1])


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every model that was made of its file."""
    model, found = Graph.model, list[Path]()
    monkeypatch.setattr(Graph, "model", lambda self: found.append(self.tower.mmproj) or model(self))
    return found


TILE = noise(7, 64)


def kept() -> list[Path]:
    return sorted(openvino_cache.folder("openvino").glob("*"))


def test_a_model_is_compiled_once(quantized: Path, made: list[Path], tmp_path: Path) -> None:
    first = encoded(quantized, [TILE])
    assert len(made) == 1
    [blob] = kept()
    assert blob.parent == tmp_path / "cache" / "smolcli" / "openvino"
    copy = tmp_path / "mmproj-copy.gguf"
    copy.write_bytes(quantized.read_bytes())
    for again in (quantized, copy):
        assert np.array_equal(encoded(again, [TILE]), first)
    assert len(made) == 1 and kept() == [blob]
    with closing(encoder(quantized, Model(threads=2, vision_engine="openvino"))) as vision:
        assert vision._compiled.get_property("INFERENCE_NUM_THREADS") == 2
        assert np.array_equal(vision.encode([TILE])[0], first[0])
    assert len(made) == 1


def resident(path: Path) -> list[int]:
    """KiB of each map that this process has of a file."""
    maps = Path("/proc/self/smaps").read_text().split(f" {path}\n")[1:]
    return [int(one.split("\nRss:")[1].split()[0]) for one in maps]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells what is resident")
def test_a_compiled_models_file_takes_no_memory_once_a_tile_is_encoded(quantized: Path) -> None:
    encoded(quantized, [TILE])
    [blob] = kept()
    with closing(encoder(quantized)) as vision:
        assert resident(blob) and sum(resident(blob)) > 0
        vision.encode([TILE])
        assert resident(blob) and sum(resident(blob)) == 0


def test_what_was_compiled_of_another_file_or_otherwise_is_not_taken(
    quantized: Path, made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encoded(quantized, [TILE])
    data = bytearray(quantized.read_bytes())
    at = next(int(each.data_offset) for each in GGUFReader(quantized).tensors if each.name == "v.blk.1.attn_v.weight")
    data[at + 2 : at + 34] = bytes(32)  # the first block of a matrix in the middle of the file
    other = tmp_path / "mmproj-edited.gguf"
    other.write_bytes(data)
    assert not np.array_equal(encoded(other, [TILE]), first)
    monkeypatch.setattr(openvino, "_dtype", lambda core, dtype: "float16")
    encoded(quantized, [TILE])
    monkeypatch.setattr(openvino_cache.ov, "get_version", lambda: "2031.1")
    encoded(quantized, [TILE])
    assert len(made) == len(kept()) == 4
    encoded(other, [TILE])
    assert len(made) == 5 and len(kept()) == openvino_cache.KEPT == 4


def flip(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


WRECK: dict[str, Callable[[bytes], bytes]] = {
    "a bit": flip,
    "cut short": lambda data: data[:-100],
    "the digest alone": lambda data: data[: openvino_cache.DIGEST],
    "empty": lambda data: b"",
    "text": lambda data: b"no model",
    "whole, but no model": lambda data: sha256(b"no model" * 99).hexdigest().encode() + b"no model" * 99,
}


@pytest.mark.parametrize("how", WRECK)
def test_a_damaged_cache_costs_only_time(quantized: Path, made: list[Path], how: str) -> None:
    first = encoded(quantized, [TILE])
    [blob] = kept()
    whole = blob.read_bytes()
    blob.write_bytes(WRECK[how](whole))
    assert np.array_equal(encoded(quantized, [TILE]), first)
    assert len(made) == 2 and kept() == [blob]
    assert np.array_equal(encoded(quantized, [TILE]), first)
    assert len(made) == 2  # it was mended


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError(), RuntimeError("no room")])
def test_a_cache_that_cannot_be_written_costs_only_time(
    error: Exception, quantized: Path, made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encoded(quantized, [TILE])
    monkeypatch.setenv("XDG_CACHE_HOME", str(quantized))  # a file
    assert np.array_equal(encoded(quantized, [TILE]), first)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "full"))

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(openvino_cache.os, "replace", full)
    assert np.array_equal(encoded(quantized, [TILE]), first)
    assert len(made) == 3 and kept() == []


def test_only_what_is_sooner_read_than_made_is_kept(
    quantized: Path, mmproj: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded(mmproj, [TILE])
    monkeypatch.setattr(select, "LARGE", 2**25)
    encoded(quantized, [TILE])
    monkeypatch.setattr(select, "LARGE", 0)
    monkeypatch.setattr(openvino, "_dtype", lambda core, dtype: "float32")
    encoded(quantized, [TILE])
    assert kept() == []
