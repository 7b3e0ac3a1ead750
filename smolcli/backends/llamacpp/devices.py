"""The devices that this build of llama.cpp computes on: ggml's list, and which of them --device names.

    [device.name for device in list_devices()]     # cpu, and for each GPU cuda:0, metal:0, vulkan:0
    choose("auto", mmproj_bytes)                   # the first GPU, or None: the CPU

ggml's functions are not bound by llama-cpp-python, but its libraries are loaded: they are called here through ctypes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import llama_cpp as llama

from smolcli.backends.llamacpp import amx_probe, build
from smolcli.errors import UnavailableError
from smolcli.system import memory

CPU = "cpu"
KINDS = {"CUDA": "cuda", "ROCm": "cuda", "MTL": "metal", "Vulkan": "vulkan"}  # by the name of ggml's backend
GPU, INTEGRATED_GPU = 1, 2  # of enum ggml_backend_dev_type in ggml-backend.h
CACHE_SHARE = {"cpu": 0.25, "gpu": 0.7}  # of the memory that is free once the model is loaded, for the KV cache
SIGNATURES: dict[str, tuple[Any, list[Any]]] = {  # result and arguments, of ggml-backend.h
    "ggml_backend_dev_count": (ctypes.c_size_t, []),
    "ggml_backend_dev_get": (ctypes.c_void_p, [ctypes.c_size_t]),
    "ggml_backend_dev_description": (ctypes.c_char_p, [ctypes.c_void_p]),
    "ggml_backend_dev_type": (ctypes.c_int, [ctypes.c_void_p]),
    "ggml_backend_dev_memory": (
        None, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)]
    ),
    "ggml_backend_dev_backend_reg": (ctypes.c_void_p, [ctypes.c_void_p]),
    "ggml_backend_reg_name": (ctypes.c_char_p, [ctypes.c_void_p]),
}  # fmt: skip


@dataclass(frozen=True)
class Device:
    """A device: `name` is what --device calls it, `description` the maker's name, `handle` its ggml_backend_dev_t."""

    name: str
    description: str
    is_gpu: bool
    handle: int

    @property
    def kind(self) -> str:
        """The name without its number."""
        return self.name.partition(":")[0]

    def memory(self) -> tuple[int, int]:
        """Return the bytes that are free now, and all bytes."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        _function("ggml_backend_dev_memory")(self.handle, ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def __str__(self) -> str:
        return f"{self.name} ({self.description})"


class GpuMemory:
    """The most memory of a GPU that was taken since this was made, by whomever: ggml tells only what is free."""

    def __init__(self, gpu: Device | None) -> None:
        self._gpu, self._peak = gpu, 0
        self._free = 0 if gpu is None else gpu.memory()[0]

    def peak(self) -> int:
        """Return the largest number of bytes so far, of all calls of this; 0 without a GPU."""
        if self._gpu is not None:
            self._peak = max(self._peak, self._free - self._gpu.memory()[0])
        return self._peak


def list_devices() -> list[Device]:
    """Return ggml's devices in its order; GPUs are numbered within their kind. A kind without a name has ggml's."""
    devices: list[Device] = []
    for index in range(_function("ggml_backend_dev_count")()):
        handle = _function("ggml_backend_dev_get")(index)
        backend = _function("ggml_backend_reg_name")(_function("ggml_backend_dev_backend_reg")(handle)).decode()
        kind = KINDS.get(backend, backend.lower())
        is_gpu = _function("ggml_backend_dev_type")(handle) in (GPU, INTEGRATED_GPU)
        number = sum(device.kind == kind for device in devices)
        description = _function("ggml_backend_dev_description")(handle).decode("utf-8", "replace")
        devices.append(Device(f"{kind}:{number}" if is_gpu else kind, description, is_gpu, handle))
    return devices


def choose(name: str, size: int) -> Device | None:
    """Return the GPU that --device `name` stands for, for a vision half of `size` bytes; None is the CPU.

    Raises UnavailableError that says whether the build or the machine lacks it.
    """
    if name == CPU or (name == "auto" and size < build.MIN_BYTES_FOR_GPU):
        return None
    gpus = [device for device in list_devices() if device.is_gpu]
    if name == "auto":
        return next(iter(gpus), None)
    chosen = next((gpu for gpu in gpus if name in (gpu.name, gpu.kind)), None)
    if chosen is None:
        raise _unusable(name, gpus)
    return chosen


def engine_devices(name: str) -> tuple[str, ...]:
    """Return the devices for which --device stands: all GPUs of a kind that is named, else the name itself."""
    if name in ("auto", CPU):
        return (name,)
    return tuple(gpu.name for gpu in list_devices() if gpu.is_gpu and gpu.kind == name) or (name,)


def device_name(name: str, size: int) -> str:
    """Return the name of the device that `choose` gives, for reports. Raises as it does."""
    device = choose(name, size)
    return CPU if device is None else device.name


def cache_bytes(gpu: Device | None) -> int:
    """Return the bytes that the KV cache may take where the model is loaded."""
    if gpu is None:
        return int(memory.available_bytes() * CACHE_SHARE["cpu"])
    return int(gpu.memory()[0] * CACHE_SHARE["gpu"])


def model_devices(device: Device | None) -> ctypes.Array[ctypes.c_void_p]:
    """Return what llama_model_params.devices takes: a list that ends with NULL, and is empty for the CPU alone."""
    handles = [] if device is None else [device.handle]
    return (ctypes.c_void_p * (len(handles) + 1))(*handles, None)


def machine_facts() -> dict[str, Any]:
    """Return the state of AMX, the GPUs of ggml's list, and the kinds of GPUs of the build, for doctor.

    Each GPU has its device, its name, its memory and what is free of it in bytes.
    """
    gpus = []
    for device in list_devices():
        if device.is_gpu:
            free, total = device.memory()
            gpus.append({"device": device.name, "name": device.description, "memory": total, "free": free})
    return {**amx_probe.machine_facts(), "gpus": gpus, "gpu_kinds": list(build.gpu_kinds())}


def _unusable(name: str, gpus: Sequence[Device]) -> UnavailableError:
    kind = name.partition(":")[0]
    same = [gpu.name for gpu in gpus if gpu.kind == kind]
    if same:
        return UnavailableError(f"llama.cpp finds no device {name}", f"the last of the kind is {same[-1]}")
    if kind not in build.LIBRARIES:
        choices = ", ".join(("auto", CPU, *build.LIBRARIES))
        return UnavailableError(f"the device {name} cannot be used", f"choose one of {choices}")
    if kind in build.gpu_kinds():
        return UnavailableError(f"llama.cpp is built for {kind} and finds no such device", "use --device cpu")
    return UnavailableError(f"this llama.cpp was not built for {kind}", build.build_command(kind))


@lru_cache
def _function(name: str) -> Any:
    """A function of ggml, which is in one of the libraries beside libllama, or in itself where all are one."""
    result, arguments = SIGNATURES[name]
    function: Any = next(getattr(library, name) for library in _libraries() if hasattr(library, name))
    function.restype, function.argtypes = result, arguments
    return function


def _libraries() -> Iterator[ctypes.CDLL]:
    from llama_cpp._ctypes_extensions import load_shared_library

    loaded = llama.llama_cpp._lib
    for name in ("ggml-base", "ggml"):
        with suppress(FileNotFoundError, RuntimeError):
            yield load_shared_library(name, Path(loaded._name).parent)
    yield loaded
