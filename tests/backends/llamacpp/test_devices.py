"""llamacpp/devices.py and build.py: ggml's device list, a made-up one, and what --device names of them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
import pytest

from smolcli.backends.base import PrefillRequest
from smolcli.backends.llamacpp import build, devices
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.llamacpp.mtmd_model import MtmdModel
from smolcli.backends.vision import select
from smolcli.errors import UnavailableError
from smolcli.models.files import ModelFiles
from smolcli.options import Model
from smolcli.types import Frame, Prompt
from tests.families import make_pair

LARGE = build.MIN_BYTES_FOR_GPU  # bytes of a vision half for which auto takes a GPU
NAMES = [  # of ggml's backends, with the type of enum ggml_backend_dev_type and the description of the device
    ("CUDA", 1, "NVIDIA L4"), ("CUDA", 1, "NVIDIA T4"), ("Vulkan", 1, "NVIDIA L4"), ("Vulkan", 2, "Intel Graphics"),
    ("SYCL", 2, "Intel Graphics"), ("BLAS", 3, "OpenBLAS"), ("CPU", 0, "A CPU"),
]  # fmt: skip


@pytest.fixture
def ggml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Puts the devices of NAMES in the place of ggml's, for a build that can use GPUs of some kinds.

    A handle is an index into NAMES, counted from 1. Returns the bytes that are free on each, which a test may change.
    """
    free_bytes = [20 * 10**9] * len(NAMES)

    def memory(handle: int, free: Any, total: Any) -> None:
        free._obj.value, total._obj.value = free_bytes[handle - 1], 24 * 10**9

    def put(*kinds: str) -> list[int]:
        functions: dict[str, Callable[..., Any]] = {
            "ggml_backend_dev_count": lambda: len(NAMES),
            "ggml_backend_dev_get": lambda index: index + 1,
            "ggml_backend_dev_backend_reg": lambda handle: handle,
            "ggml_backend_reg_name": lambda handle: NAMES[handle - 1][0].encode(),
            "ggml_backend_dev_type": lambda handle: NAMES[handle - 1][1],
            "ggml_backend_dev_description": lambda handle: NAMES[handle - 1][2].encode(),
            "ggml_backend_dev_memory": memory,
        }
        assert functions.keys() == devices.SIGNATURES.keys()
        monkeypatch.setattr(devices, "_function", functions.__getitem__)
        monkeypatch.setattr(build, "gpu_kinds", lambda: kinds)
        return free_bytes

    return put


def test_the_devices_of_this_build_are_those_of_the_system() -> None:
    listed = devices.list_devices()
    cpu = next(device for device in listed if device.name == "cpu")
    assert not cpu.is_gpu and cpu.description
    free, total = cpu.memory()
    assert total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >= free > 0
    assert any(device.is_gpu for device in listed) == llama.llama_supports_gpu_offload()
    assert {device.kind for device in listed if device.is_gpu} <= set(build.gpu_kinds())
    assert [gpu["device"] for gpu in devices.machine_facts()["gpus"]] == [gpu.name for gpu in listed if gpu.is_gpu]


def test_gpus_are_numbered_within_their_kind(ggml: Callable[..., list[int]]) -> None:
    ggml("cuda", "vulkan")
    names = ["cuda:0", "cuda:1", "vulkan:0", "vulkan:1", "sycl:0", "blas", "cpu"]
    assert [device.name for device in devices.list_devices()] == names
    assert [device.is_gpu for device in devices.list_devices()] == [True] * 5 + [False] * 2
    [first, second, *_] = devices.machine_facts()["gpus"]
    assert first == {"device": "cuda:0", "name": "NVIDIA L4", "memory": 24 * 10**9, "free": 20 * 10**9}
    assert second["name"] == "NVIDIA T4"


@pytest.mark.parametrize(
    ("name", "size", "index"),
    [
        ("auto", LARGE, 0), ("auto", LARGE - 1, None), ("cpu", LARGE, None), ("cuda", 0, 0), ("cuda:0", LARGE, 0),
        ("cuda:1", LARGE, 1), ("vulkan", LARGE, 2), ("vulkan:1", LARGE, 3), ("sycl", LARGE, 4),
    ],
)  # fmt: skip
def test_which_device_is_meant(name: str, size: int, index: int | None, ggml: Callable[..., list[int]]) -> None:
    ggml("cuda", "vulkan")
    chosen = devices.choose(name, size)
    assert (chosen and chosen.handle) == (None if index is None else index + 1)
    listed = devices.model_devices(chosen)
    assert list(listed) == [None] if chosen is None else [chosen.handle, None]
    assert devices.device_name(name, size) == (chosen.name if chosen else "cpu")


def test_a_kind_that_is_named_stands_for_all_its_gpus(ggml: Callable[..., list[int]]) -> None:
    ggml("cuda", "vulkan")
    assert devices.engine_devices("cuda") == ("cuda:0", "cuda:1")
    assert [devices.engine_devices(name) for name in ("cuda:1", "cpu", "auto", "metal")] == [
        ("cuda:1",), ("cpu",), ("auto",), ("metal",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kinds", "message"),
    [
        ("cuda:7", ("cuda",), "llama.cpp finds no device cuda:7; the last of the kind is cuda:1$"),
        ("metal", ("cuda",), r"this llama.cpp was not built for metal; CMAKE_ARGS='-DGGML_METAL=on' pip install .*=="),
        ("metal", ("metal",), "llama.cpp is built for metal and finds no such device; use --device cpu$"),
        ("gpu", ("cuda",), "the device gpu cannot be used; choose one of auto, cpu, cuda, metal, vulkan$"),
    ],
)
def test_a_device_that_cannot_be_used(
    name: str, kinds: tuple[str, ...], message: str, ggml: Callable[..., list[int]]
) -> None:
    ggml(*kinds)
    with pytest.raises(UnavailableError, match=message):
        devices.choose(name, LARGE)


def test_the_peak_is_the_most_that_was_taken_since_the_start(ggml: Callable[..., list[int]]) -> None:
    free = ggml("cuda")
    peak = devices.GpuMemory(devices.choose("cuda", 0))
    values = []
    for free[0] in (20 * 10**9, 14 * 10**9, 16 * 10**9):
        values.append(peak.peak())
    assert values == [0, 6 * 10**9, 6 * 10**9]
    assert devices.GpuMemory(None).peak() == 0
    assert devices.cache_bytes(devices.choose("cuda", 0)) == int(0.7 * 16 * 10**9)


def test_the_kinds_of_a_build_are_told_by_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.LIBRARY_PATH, str(tmp_path))
    (tmp_path / "libggml-cpu.so.0").touch()
    assert build.gpu_kinds() == () and not build.may_use_gpu("auto", LARGE)
    for name in ("libggml-vulkan.so", "ggml-cuda.dll", "libggml-metal.dylib"):
        (tmp_path / name).touch()
    assert build.gpu_kinds() == ("cuda", "metal", "vulkan")
    monkeypatch.setattr(build, "_has_driver", lambda: True)
    assert [build.may_use_gpu("auto", size) for size in (LARGE, LARGE - 1)] == [True, False]
    assert [build.may_use_gpu(name, 0) for name in ("cpu", "vulkan")] == [False, True]
    assert select.choose_vision_encoder("auto", "auto", LARGE) == "mtmd"  # which computes on the GPU
    assert select.choose_vision_encoder("auto", "auto", LARGE, "cpu") != "mtmd"


@pytest.mark.parametrize(("kind", "flag"), [("cuda", "CUDA"), ("metal", "METAL"), ("vulkan", "VULKAN")])
def test_the_command_that_builds_it(kind: str, flag: str) -> None:
    package = f"llama-cpp-python=={version('llama-cpp-python')}"
    assert build.build_command(kind) == (
        f"CMAKE_ARGS='-DGGML_{flag}=on' pip install --force-reinstall --no-cache-dir --no-deps --no-binary "
        f"llama-cpp-python {package}"
    )
    assert build.suggested_kind() in build.FLAGS


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> devices.Device:
    """The CPU under the name of a GPU: llama.cpp and mtmd take it as they take one."""
    cpu = next(device for device in devices.list_devices() if device.name == "cpu")
    device = devices.Device("cuda:0", "not a GPU", True, cpu.handle)
    monkeypatch.setattr(devices, "list_devices", lambda: [device])
    return device


def test_the_layers_and_the_vision_half_go_to_the_device(
    files: ModelFiles, gpu: devices.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, list[int | None], bool]] = []
    load = llama.llama_model_load_from_file

    def spied(path: bytes, params: Any) -> Any:
        listed = ctypes.cast(params.devices, ctypes.POINTER(ctypes.c_void_p))
        seen.append((params.n_gpu_layers, [listed[0]], params.use_extra_bufts))
        return load(path, params)

    monkeypatch.setattr(llama, "llama_model_load_from_file", spied)
    picture = Frame(np.random.default_rng(1).integers(0, 256, 64 * 64 * 3, np.uint8).tobytes(), 64, 64)
    prompt = Prompt.user(picture, "What is this?")
    logits = []
    for device in ("cpu", "cuda"):
        with closing(LlamaCpp(files, Model(threads=1, device=device, vision_encoder="mtmd"))) as backend:
            logits.append(backend.logits(prompt)[0])
            assert backend.device_summary.startswith(str(gpu) if device == "cuda" else "cpu,")
            assert backend.gpu_peak() >= 0
    assert seen[0][:2] == (0, [None]) and seen[1] == (-1, [gpu.handle], False)
    np.testing.assert_allclose(logits[0], logits[1], atol=2e-2)  # flash attention sums in another order


def test_a_model_of_another_family_goes_to_the_device_too(tmp_path: Path, gpu: devices.Device) -> None:
    pair, picture = make_pair(tmp_path, "internvl"), Frame(bytes(3 * 56 * 56), 56, 56)
    logits = []
    for device in ("cpu", "cuda"):
        with closing(MtmdModel(pair, Model(threads=1, device=device))) as model:
            prompt = model.prepare(Prompt.user(picture, "What?"))
            logits.append(np.asarray(model.prefill([PrefillRequest(0, prompt, prompt.length + 1)], []).logits[0]))
            assert model.device_summary.startswith(str(gpu) if device == "cuda" else "cpu,")
    np.testing.assert_allclose(logits[0], logits[1], atol=2e-2)
