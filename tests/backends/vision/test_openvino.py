"""vision/openvino.py and openvino_cache.py: settings, types and the cache; test_vision.py tests all encoders."""

from __future__ import annotations

import os
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
from smolcli.backends.vision.openvino_import import ov
from smolcli.converters import convert
from smolcli.errors import EngineError, UnavailableError
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from smolcli.system.disk_cache import cache_folder
from tests.backends.vision import encoders
from tests.backends.vision.encoders import exact, noise

EXACT = exact("openvino")


def make_encoder(mmproj: Path, options: Model = EXACT) -> openvino.OpenVinoEncoder:
    encoder = encoders.make_encoder(mmproj, options)
    assert isinstance(encoder, openvino.OpenVinoEncoder)
    return encoder


def encode(mmproj: Path, tiles: Sequence[bytes]) -> NDArray[np.float32]:
    return encoders.encode(mmproj, tiles, EXACT)


# ---- settings and types --------------------------------------------------------------------------------


def test_threads_and_precision_are_those_asked_for(mmproj: Path) -> None:
    for threads in (1, 2):
        with closing(
            make_encoder(mmproj, Model(threads=threads, dtype="float32", vision_encoder="openvino"))
        ) as vision:
            properties = {key: vision._compiled.get_property(key) for key in ("INFERENCE_NUM_THREADS", "NUM_STREAMS")}
            assert properties == {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
            assert vision._compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
            assert vision._compiled.get_property("ENABLE_CPU_PINNING") is False


class FakeCore:
    """An OpenVINO core on a CPU with these capabilities."""

    def __init__(self, *capabilities: str) -> None:
        self._capabilities = capabilities

    def get_property(self, device: str, key: str) -> Sequence[str]:
        assert (device, key) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self._capabilities


def test_auto_is_bfloat16_on_a_cpu_that_computes_in_it() -> None:
    assert openvino._resolve_dtype(FakeCore("FP32", "BF16", "FP16"), "auto") == "bfloat16"
    assert openvino._resolve_dtype(FakeCore("FP32", "INT8"), "auto") == "float32"
    assert openvino._resolve_dtype(FakeCore("FP32", "BF16"), "float32") == "float32"
    assert openvino._resolve_dtype(FakeCore("FP32", "FP16"), "float16") == "float16"
    for dtype in ("bfloat16", "float16"):
        with pytest.raises(UnavailableError, match=f"OpenVINO does not compute in {dtype}; .*torch"):
            openvino._resolve_dtype(FakeCore("FP32"), dtype)


@pytest.mark.parametrize(("kind", "dtype"), [("f16", "float16"), ("bf16", "bfloat16")])
def test_matrices_keep_the_type_of_the_file(checkpoint: Path, tmp_path: Path, kind: str, dtype: str) -> None:
    """If OpenVINO converted them to float32 first, it would keep both, in two to three times the memory."""
    mmproj = convert(checkpoint, tmp_path, "f32", kind)[1]
    matrices = sum(tensor.tensor_type == Type[kind.upper()] for tensor in GGUFReader(mmproj).tensors)
    with closing(make_encoder(mmproj)) as vision:  # it computes in float32
        types = [node.get_output_element_type(0).to_string() for node in vision._compiled.get_runtime_model().get_ops()]
    assert types.count({"float16": "f16", "bfloat16": "bf16"}[dtype]) == matrices == 2 * 6 + 1


def test_an_exception_of_openvino_is_an_engine_error(mmproj: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Exception from src/core.cpp:1:\nno room")

    with closing(make_encoder(mmproj)) as vision:
        vision._request = type("Request", (), {"infer": fail})()
        with pytest.raises(EngineError, match="OpenVINO could not encode a tile: no room; try --vision-engine mtmd"):
            vision.encode([noise(1, 64)])
    monkeypatch.setattr(ov.Core, "compile_model", fail)
    with pytest.raises(EngineError, match="OpenVINO could not compile .*: no room"):
        make_encoder(mmproj)


WATCHED = """
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event.startswith(WATCH) else None)
from smolcli import registry
registry.load(registry.VISION_ENCODERS, "openvino")
print(seen, [name for name in sys.modules if name.startswith("openvino_telemetry.")])
"""


def test_importing_openvino_sends_no_telemetry() -> None:
    """By default the import sends a report, from a process of its own."""
    watch = ("socket.", "os.fork", "os.posix_spawn", "subprocess.")
    done = subprocess.run([sys.executable, "-c", f"WATCH = {watch}{WATCHED}"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[] []\n", "")


def test_without_openvino_it_is_an_error_to_ask_for_it_and_auto_is_mtmd(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "openvino" else object())
    with pytest.raises(UnavailableError, match=r"library openvino, which is not installed; pip install 'smolcli\[open"):
        LlamaCpp(files, EXACT)
    with closing(LlamaCpp(files, Model(threads=1))) as backend:
        assert type(backend._vision).__name__ == "MtmdEncoder"


# ---- the cache -------------------------------------------------------------------------------------


@pytest.fixture
def quantized(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A quantized mmproj whose compiled model is cached though it is small, and an empty cache."""
    monkeypatch.setattr(select, "MIN_BYTES_FOR_LOADED_ENCODER", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(openvino, "_resolve_dtype", lambda core, dtype: "bfloat16")
    return Path(convert(checkpoint, tmp_path, "f32", "q8_0")[1])


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The file of every model that was built rather than loaded from the cache."""
    model, files = Graph.model, list[Path]()
    monkeypatch.setattr(Graph, "model", lambda self: files.append(self.file.mmproj) or model(self))
    return files


TILE = noise(7, 64)


def cached_files() -> list[Path]:
    return sorted(cache_folder("openvino").glob("*"))


def test_a_model_is_built_once(quantized: Path, built: list[Path], tmp_path: Path) -> None:
    first = encode(quantized, [TILE])
    assert len(built) == 1
    [blob] = cached_files()
    assert blob.parent == tmp_path / "cache" / "smolcli" / "openvino"
    copy = tmp_path / "mmproj-copy.gguf"
    copy.write_bytes(quantized.read_bytes())
    for again in (quantized, copy):
        assert np.array_equal(encode(again, [TILE]), first)
    assert len(built) == 1 and cached_files() == [blob]
    with closing(make_encoder(quantized, Model(threads=2, vision_encoder="openvino"))) as vision:
        assert vision._compiled.get_property("INFERENCE_NUM_THREADS") == 2
        assert np.array_equal(vision.encode([TILE])[0], first[0])
    assert len(built) == 1


def resident(path: Path) -> list[int]:
    """Resident KiB of each mapping of a file in this process."""
    maps = Path("/proc/self/smaps").read_text().split(f" {path}\n")[1:]
    return [int(mapping.split("\nRss:")[1].split()[0]) for mapping in maps]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says what is resident")
def test_the_cached_file_takes_no_memory_after_the_first_tile(quantized: Path) -> None:
    encode(quantized, [TILE])
    [blob] = cached_files()
    with closing(make_encoder(quantized)) as vision:
        assert resident(blob) and sum(resident(blob)) > 0
        vision.encode([TILE])
        assert resident(blob) and sum(resident(blob)) == 0


def test_a_model_of_another_file_type_or_version_is_not_loaded_from_the_cache(
    quantized: Path, built: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode(quantized, [TILE])
    data = bytearray(quantized.read_bytes())
    offset = next(
        int(tensor.data_offset) for tensor in GGUFReader(quantized).tensors if tensor.name == "v.blk.1.attn_v.weight"
    )
    data[offset + 2 : offset + 34] = bytes(32)  # the first block of a matrix in the middle of the file
    other = tmp_path / "mmproj-edited.gguf"
    other.write_bytes(data)
    assert not np.array_equal(encode(other, [TILE]), first)
    monkeypatch.setattr(openvino, "_resolve_dtype", lambda core, dtype: "float16")
    encode(quantized, [TILE])
    monkeypatch.setattr(ov, "get_version", lambda: "2031.1")
    encode(quantized, [TILE])
    assert len(built) == len(cached_files()) == 4
    encode(other, [TILE])
    assert len(built) == 5 and len(cached_files()) == openvino_cache.MAX_FILES == 4


def flip_bit(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a bit": flip_bit,
    "cut short": lambda data: data[:-100],
    "the digest alone": lambda data: data[: openvino_cache.DIGEST],
    "empty": lambda data: b"",
    "text": lambda data: b"no model",
    "a right digest, but no model": lambda data: sha256(b"no model" * 99).hexdigest().encode() + b"no model" * 99,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_replaced(quantized: Path, built: list[Path], how: str) -> None:
    first = encode(quantized, [TILE])
    [blob] = cached_files()
    blob.write_bytes(DAMAGE[how](blob.read_bytes()))
    assert np.array_equal(encode(quantized, [TILE]), first)
    assert len(built) == 2 and cached_files() == [blob]
    assert np.array_equal(encode(quantized, [TILE]), first)
    assert len(built) == 2  # the file was replaced


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError(), RuntimeError("no room")])
def test_a_cache_that_cannot_be_written_is_ignored(
    error: Exception, quantized: Path, built: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode(quantized, [TILE])
    monkeypatch.setenv("XDG_CACHE_HOME", str(quantized))  # a file
    assert np.array_equal(encode(quantized, [TILE]), first)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "full"))

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "replace", fail)
    assert np.array_equal(encode(quantized, [TILE]), first)
    assert len(built) == 3 and cached_files() == []


def test_only_large_quantized_models_in_a_narrow_type_are_cached(
    quantized: Path, mmproj: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(mmproj, [TILE])
    monkeypatch.setattr(select, "MIN_BYTES_FOR_LOADED_ENCODER", 2**25)
    encode(quantized, [TILE])
    monkeypatch.setattr(select, "MIN_BYTES_FOR_LOADED_ENCODER", 0)
    monkeypatch.setattr(openvino, "_resolve_dtype", lambda core, dtype: "float32")
    encode(quantized, [TILE])
    assert cached_files() == []
