"""The devices and number types of the PyTorch backend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch

from smolcli.errors import DeviceLostError, UnavailableError
from smolcli.system import memory

KINDS = ("cuda", "xpu", "mps", "cpu")  # what --device takes, best first; cuda is AMD's GPUs too
CACHE_SHARE = {"cpu": 0.25, "gpu": 0.7}  # of the memory that is free once the model is loaded, for the KV cache


def resolve_device_and_dtype(device: str, dtype: str) -> tuple[str, str]:
    """Return what --device and --dtype are on this machine if they are "auto". Raises UnavailableError."""
    resolved = resolve_device(device)
    return str(resolved), str(resolve_dtype(dtype, resolved)).removeprefix("torch.")


def resolve_device(name: str) -> torch.device:
    """Return the device of --device, the best one for "auto", which is this process's current one from now on.

    Raises UnavailableError for another kind than KINDS, and if nothing can be computed on it.
    """
    if name == "auto":
        name = next(kind for kind in KINDS if _is_available(kind))
    kind = name.partition(":")[0]
    if kind not in KINDS:
        raise UnavailableError(f"the device {name} cannot be used", f"choose one of auto, {', '.join(KINDS)}")
    if kind in ("mps", "xpu") and not _is_available(kind):
        raise UnavailableError(f"PyTorch finds no device {kind}", "use --device cpu")
    try:
        device = torch.device(name)
        torch.ones(1, device=device).sum().item()
        if device.index is not None and kind in ("cuda", "xpu"):
            _module(kind).set_device(device)
    except (RuntimeError, AssertionError) as error:
        reason = _first_line(error).rstrip(".")
        raise UnavailableError(f"the device {name} cannot be used ({reason})", _advice(kind)) from error
    return device


def _advice(kind: str) -> str:
    """What to do where a device of this kind cannot be used."""
    if kind == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        return "install PyTorch for a GPU, or use --device cpu"
    count = torch.cuda.device_count() if kind == "cuda" else 0
    return f"the last GPU is cuda:{count - 1}" if count else "use --device cpu"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def engine_devices(name: str) -> tuple[str, ...]:
    """Return the devices for which --device stands: all GPUs of a kind, first the one that resolve_device returns.

    A device with a number stands for itself, as everything does that is no GPU.
    """
    kind = next(kind for kind in KINDS if _is_available(kind)) if name == "auto" else name
    if kind not in ("cuda", "xpu"):
        return (kind,)
    return tuple(f"{kind}:{number}" for number in range(_module(kind).device_count())) or (kind,)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the type of --dtype, for "auto" one in which the device computes fast.

    From now on this process computes products of float32 in float32.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    if name == "auto":
        if device.type in ("cuda", "xpu"):
            return torch.bfloat16 if has_bfloat16(device) else torch.float16
        return torch.float16 if device.type == "mps" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a GPU computes in bfloat16 by units of its own; PyTorch also counts those that emulate it."""
    if device.type == "cuda" and torch.version.hip is None:
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere
    return device.type != "mps" and bool(_module(device.type).is_bf16_supported())


def cache_bytes(device: torch.device) -> int:
    """Return the bytes that the KV cache may take on a device on which the model is loaded."""
    if device.type in ("cuda", "xpu"):
        return int(_free_bytes(device) * CACHE_SHARE["gpu"])
    return int(memory.available_bytes() * CACHE_SHARE["cpu"])


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done the work that was submitted to it."""
    _module(device.type).synchronize()  # waits for the current device


@contextlib.contextmanager
def detect_loss() -> Iterator[None]:
    """Turn an error after which the driver refuses every call, such as a failed assertion, into a DeviceLostError."""
    try:
        yield
    except RuntimeError as error:
        is_of_driver = any(words in str(error) for words in ("CUDA error", "cuDNN error", "HIP error"))
        if not is_of_driver or memory.is_out_of_memory(error):
            raise
        message = f"the GPU has failed ({_first_line(error)})"
        raise DeviceLostError(message, "see what its driver has logged") from error


def gpu_peak(device: torch.device) -> int:
    """Return the peak that PyTorch's allocator reserved on CUDA or XPU. MPS only tells what is allocated now."""
    if device.type in ("cuda", "xpu"):
        return int(_module(device.type).max_memory_reserved(device))
    return int(torch.mps.driver_allocated_memory()) if device.type == "mps" else 0


def machine_facts() -> dict[str, Any]:
    """Return the GPUs that PyTorch sees, for doctor, as "gpus".

    Each has its device, its name, its memory and what is free of it in bytes, and the dtype of --dtype auto.
    """
    return {"gpus": [_gpu_facts(torch.device(name)) for kind in KINDS[:-1] for name in _gpus_of(kind)]}


def _gpus_of(kind: str) -> tuple[str, ...]:
    return engine_devices(kind) if _is_available(kind) else ()


def _gpu_facts(device: torch.device) -> dict[str, Any]:
    if device.type == "mps":
        name, total = "Apple", int(torch.mps.recommended_max_memory())
        free = total - int(torch.mps.driver_allocated_memory())
    else:
        properties = _module(device.type).get_device_properties(device)
        name, total, free = properties.name, int(properties.total_memory), _free_bytes(device)
    dtype = str(resolve_dtype("auto", device)).removeprefix("torch.")
    return {"device": str(device), "name": name, "memory": total, "free": free, "dtype": dtype}


def _is_available(kind: str) -> bool:
    return bool(torch.backends.mps.is_available() if kind == "mps" else kind == "cpu" or _module(kind).is_available())


def _module(kind: str) -> ModuleType:
    """The module of torch for a kind of devices; those of cuda and xpu have the same functions."""
    module: ModuleType = getattr(torch, kind)
    return module


def _free_bytes(device: torch.device) -> int:
    module = _module(device.type)
    if hasattr(module, "mem_get_info"):
        return int(module.mem_get_info(device)[0])
    return int(module.get_device_properties(device).total_memory - module.memory_reserved(device))  # torch 2.6's xpu
