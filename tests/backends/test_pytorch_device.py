"""backends/pytorch_device.py: devices and dtypes, with functions of PyTorch that tell of GPUs that are not here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from smolcli.backends import pytorch_device
from smolcli.backends.pytorch_device import engine_devices, machine_facts, resolve_device, resolve_dtype
from smolcli.errors import UnavailableError


def set_gpus(monkeypatch: pytest.MonkeyPatch, cuda: list[tuple[int, int]], xpu: int = 0, mps: bool = False) -> None:
    """Have PyTorch see CUDA devices of these capabilities, and so many of XPU, with 8 GB of memory, 6 of them free."""
    for module, count in ((torch.cuda, len(cuda)), (torch.xpu, xpu)):
        properties = SimpleNamespace(name="A GPU", total_memory=int(8e9))
        fakes: dict[str, Any] = {
            "is_available": lambda count=count: count > 0,
            "device_count": lambda count=count: count,
            "get_device_properties": lambda device, properties=properties: properties,
            "mem_get_info": lambda device: (int(6e9), int(8e9)),
            "is_bf16_supported": lambda: True,  # as PyTorch says of those that emulate it too
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(module, name, fake, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: cuda[torch.device(device).index or 0])
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_a_kind_without_a_number_stands_for_all_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, [(9, 0)] * 3, xpu=2)
    assert engine_devices("auto") == engine_devices("cuda") == ("cuda:0", "cuda:1", "cuda:2")
    assert engine_devices("xpu") == ("xpu:0", "xpu:1")
    for one in ("cuda:1", "cpu", "mps"):
        assert engine_devices(one) == (one,)


def test_auto_takes_the_best_kind_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, [], xpu=1)
    assert engine_devices("auto") == ("xpu:0",)
    set_gpus(monkeypatch, [], mps=True)
    assert engine_devices("auto") == ("mps",)
    set_gpus(monkeypatch, [])
    assert engine_devices("auto") == ("cpu",)
    assert resolve_device("auto") == torch.device("cpu")
    assert engine_devices("cuda") == ("cuda",)  # which cannot be used, as loading will say


@pytest.mark.parametrize("name", ["meta", "nonsense", "cpu:x"])
def test_what_is_no_device_for_a_model_is_refused(name: str) -> None:
    with pytest.raises(UnavailableError, match=f"the device {name} cannot be used"):
        resolve_device(name)


def test_bfloat16_is_taken_where_the_gpu_has_units_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, [(7, 5), (8, 0)])
    dtypes = [resolve_dtype("auto", torch.device("cuda", number)) for number in range(2)]
    assert dtypes == [torch.float16, torch.bfloat16]  # T4, A100
    assert resolve_dtype("auto", torch.device("mps")) == torch.float16
    assert resolve_dtype("auto", torch.device("cpu")) == torch.float32
    assert resolve_dtype("float32", torch.device("cuda", 1)) == torch.float32


def test_doctor_is_told_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, [(7, 5), (9, 0)])
    common = {"name": "A GPU", "memory": 8_000_000_000, "free": 6_000_000_000}
    assert machine_facts() == {
        "gpus": [
            {"device": "cuda:0", "dtype": "float16", **common},
            {"device": "cuda:1", "dtype": "bfloat16", **common},
        ]
    }
    set_gpus(monkeypatch, [])
    assert machine_facts() == {"gpus": []}


def test_free_memory_where_an_old_pytorch_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(
        get_device_properties=lambda device: SimpleNamespace(total_memory=10), memory_reserved=lambda device: 3
    )
    monkeypatch.setattr(pytorch_device, "_module", lambda kind: old)
    assert pytorch_device._free_bytes(torch.device("xpu")) == 7
