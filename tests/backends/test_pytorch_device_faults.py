"""backends/pytorch_device.py: what is said of devices that cannot be used, and which errors lose one."""

from __future__ import annotations

import pytest
import torch

from smolcli.backends import pytorch_device
from smolcli.backends.pytorch_device import detect_loss, resolve_device, resolve_dtype
from smolcli.errors import DeviceLostError, UnavailableError
from smolcli.system.memory import is_out_of_memory

SEES_NO_GPU = torch.version.cuda is None and torch.version.hip is None

# The first words of what PyTorch 2.13 says, with the lines after them.
TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading "
    "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
)
NO_SUCH_NUMBER = (
    "CUDA error: invalid device ordinal\nGPU device may be out of range, do you have enough GPUs?\n"
    "CUDA kernel errors might be asynchronously reported at some other API call"
)
ASSERT = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"
OUT_OF_MEMORY = [
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.56 GiB",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "HIP out of memory. Tried to allocate 2.00 GiB",
    "MPS backend out of memory (MPS allocated: 1 GB, other allocations: 2 GB, max allowed: 3 GB)",
    "XPU out of memory. Tried to allocate 2.00 GiB",
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate",
    "[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: not enough memory: you tried to allocate",
]


@pytest.mark.parametrize("name", ["meta", "privateuseone", "privateuseone:0", "fpga", "vulkan", "gpu", "", "CUDA"])
def test_a_device_that_runs_no_models_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UnavailableError, match="cannot be used; choose one of auto, cuda, xpu, mps, cpu$") as caught:
        resolve_device(name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:x", "mps", "xpu", "xpu:1", "cpu:x"])
@pytest.mark.skipif(not SEES_NO_GPU, reason="this PyTorch may use a GPU")
def test_a_gpu_that_there_is_not_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UnavailableError, match=name.partition(":")[0] + ".*use --device cpu") as caught:
        resolve_device(name)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 200


@pytest.mark.skipif(not SEES_NO_GPU, reason="this PyTorch may use a GPU")
def test_auto_is_the_cpu_without_a_gpu() -> None:
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    assert resolve_dtype("auto", torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(
    ("name", "message", "gpus", "expected"),
    [
        ("cuda", TOO_OLD, 0, "driver on your system is too old .*; use --device cpu"),
        ("cuda", "No CUDA GPUs are available", 0, r"cuda cannot be used \(No CUDA GPUs are available\); use --device"),
        (
            "cuda:7",
            NO_SUCH_NUMBER,
            1,
            r"cuda:7 cannot be used \(CUDA error: invalid device ordinal\); the last .*cuda:0$",
        ),
    ],
)
def test_the_error_for_a_gpu_says_why_and_what_to_do(
    name: str, message: str, gpus: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch, "ones", fail)
    with pytest.raises(UnavailableError, match=expected):
        resolve_device(name)


def test_the_device_becomes_the_current_one_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`synchronize`, and streams that libraries make, are of the current device."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch, "ones", lambda *_, **__: torch.zeros(1))
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert resolve_device("cuda:3") == torch.device("cuda:3")
    assert current == [torch.device("cuda:3")]


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 0), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16),
                              ((8, 9), torch.bfloat16), ((9, 0), torch.bfloat16), ((12, 0), torch.bfloat16)],
)  # fmt: skip
def test_auto_is_bfloat16_where_the_gpu_that_is_used_computes_in_it(
    capability: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch says that it supports it on every GPU since 2016, where it is emulated."""
    device = torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", {device: capability, None: (9, 0)}.__getitem__)
    assert resolve_dtype("auto", device) == dtype
    assert resolve_dtype("bfloat16", device) == torch.bfloat16


def test_products_of_float32_are_computed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch allows convolutions of 10 bits of mantissa (TF32) otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.set_float32_matmul_precision("high")
    resolve_dtype("float32", torch.device("cpu"))
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("message", OUT_OF_MEMORY)
def test_messages_of_short_memory_are_known_and_lose_no_device(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    with pytest.raises(RuntimeError, match=message[:10].replace("[", r"\[")), detect_loss():
        raise RuntimeError(message)


@pytest.mark.parametrize(
    "message",
    [
        ASSERT,
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "HIP error: unspecified launch failure",
    ],
)
def test_other_errors_of_the_driver_lose_the_device(message: str) -> None:
    assert not is_out_of_memory(RuntimeError(message))
    with pytest.raises(DeviceLostError) as caught, detect_loss():
        raise RuntimeError(message)
    assert message.partition("\n")[0] in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes cannot be multiplied"), IndexError("out of range"), MemoryError()]
)
def test_errors_of_the_program_lose_no_device(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, detect_loss():
        raise error
    assert caught.value is error


def test_synchronize_waits_for_every_kind_of_device(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    for kind in ("cuda", "mps", "xpu"):
        monkeypatch.setattr(getattr(torch, kind), "synchronize", lambda *_, kind=kind: waited.append(kind))
        pytorch_device.synchronize(torch.device(kind))
    pytorch_device.synchronize(torch.device("cpu"))
    assert waited == ["cuda", "mps", "xpu"]
