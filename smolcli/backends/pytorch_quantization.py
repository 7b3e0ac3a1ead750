"""Quantizes the matrices of the language half while they are loaded, through torchao or bitsandbytes.

    quantize = quantizer("nf4", torch.device("cuda"), torch.bfloat16)
    matrix = quantize(weight)              # (outputs, inputs), on the device
    F.linear(hidden, matrix)               # as with the weight itself

Embeddings, the language model's head, norms and the vision tower stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import huggingface_hub.constants
import torch
import torch.nn.functional as F
from torch import Tensor

from smolcli import registry
from smolcli.errors import UnavailableError, UsageError

BLOCK = 64  # weights of a row that share a scale, in 4 bits
EXTRA = "quant"  # of pyproject.toml, which installs all packages

Quantize = Callable[[Tensor], Tensor]


class Nf4Matrix(Tensor):
    """A matrix in bitsandbytes' 4-bit NormalFloat, whose only use is as the weight of F.linear."""

    state: Any  # bitsandbytes' QuantState

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not F.linear:
            return super().__torch_function__(function, types, args, kwargs)  # type: ignore[no-untyped-call]
        from bitsandbytes import matmul_4bit

        hidden, matrix = args
        return matmul_4bit(hidden, matrix.as_subclass(Tensor).t(), quant_state=matrix.state)


def _int8(weight: Tensor) -> Tensor:
    from torchao.quantization import Int8WeightOnlyConfig

    return _by_torchao(weight, Int8WeightOnlyConfig())


def _int4(weight: Tensor) -> Tensor:
    from torchao.quantization import Int4WeightOnlyConfig

    config = Int4WeightOnlyConfig(
        BLOCK, int4_packing_format="tile_packed_to_4d", int4_choose_qparams_algorithm="hqq"
    )  # the kernels that PyTorch itself has
    return _by_torchao(weight, config)


def _by_torchao(weight: Tensor, config: Any) -> Tensor:
    from torchao.quantization import quantize_

    linear = torch.nn.Linear(1, 1, bias=False, device="meta")
    linear.weight = torch.nn.Parameter(weight, requires_grad=False)
    quantize_(linear, config)
    return linear.weight


def _nf4(weight: Tensor) -> Tensor:
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), blocksize=BLOCK, quant_type="nf4")
    matrix: Nf4Matrix = packed.as_subclass(Nf4Matrix)
    matrix.state = state
    return matrix


class Method(NamedTuple):
    """The package that computes with a quantization, where it does, the dtypes beside which it does, and how."""

    package: str
    devices: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    quantize: Quantize


FLOATS = (torch.float32, torch.bfloat16, torch.float16)
METHODS = {
    "int8": Method("torchao", ("cuda", "xpu", "mps", "cpu"), FLOATS, _int8),
    "int4": Method("torchao", ("cuda",), (torch.bfloat16,), _int4),
    "nf4": Method("bitsandbytes", ("cuda", "xpu", "cpu"), FLOATS, _nf4),  # on mps it would fetch its kernels
}


def quantizer(name: str, device: torch.device, dtype: torch.dtype) -> Quantize:
    """Return what quantizes a matrix of `dtype` on `device`, as --quant says; for "none" it returns the matrix.

    Raises UnavailableError if the package is missing or the device is another, and UsageError for another dtype.
    """
    if name == "none":
        return lambda weight: weight
    method = METHODS[name]
    if device.type not in method.devices:
        others = [other for other, its in METHODS.items() if device.type in its.devices]
        raise UnavailableError(f"--quant {name} does not run on {device.type}", f"use {' or '.join(others)}")
    if dtype not in method.dtypes:
        words = " or ".join(str(its).removeprefix("torch.") for its in method.dtypes)
        raise UsageError(f"--quant {name} computes in {words} alone", f"add --dtype {words}, or use another --quant")
    huggingface_hub.constants.HF_HUB_OFFLINE = True  # bitsandbytes would fetch kernels when it is imported
    try:
        import_module(method.package)
    except ImportError as error:
        command = registry.install_command(f"smolcli[{EXTRA}]")
        raise UnavailableError(f"--quant {name} needs {method.package}", command) from error
    return method.quantize
