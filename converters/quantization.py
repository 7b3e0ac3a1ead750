"""Which type each tensor of a GGUF file gets, and its bytes in that type."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType, quants
from numpy.typing import NDArray

from smolcli.errors import UsageError

from .errors import Unfit
from .tensor_mapping import Weight

Type = GGMLQuantizationType
F16_MAX = float(np.finfo(np.float16).max)
# The largest number of each type: what its scales, half precision, times its largest level give.
LARGEST = {
    Type.F32: float(np.finfo(np.float32).max),
    Type.BF16: 3.38e38,
    Type.F16: F16_MAX,
    Type.Q8_0: 127 * F16_MAX,
    Type.Q5_1: F16_MAX,
    Type.Q5_0: 16 * F16_MAX,
    Type.Q4_1: F16_MAX,
    Type.Q4_0: 8 * F16_MAX,
}


@dataclass(frozen=True)
class Quantization:
    """What the file says of itself (`file`) and how its matrices are stored (`tensor`).

    llama.cpp's own mixes have no one type (`tensor` is None): it makes them, of the language half alone.
    """

    name: str
    file: LlamaFileType
    tensor: Type | None = None


QUANTIZATIONS = {
    one.name: one
    for one in (
        Quantization("f32", LlamaFileType.ALL_F32, Type.F32),
        Quantization("f16", LlamaFileType.MOSTLY_F16, Type.F16),
        Quantization("bf16", LlamaFileType.MOSTLY_BF16, Type.BF16),
        Quantization("q8_0", LlamaFileType.MOSTLY_Q8_0, Type.Q8_0),
        Quantization("q6_k", LlamaFileType.MOSTLY_Q6_K),
        Quantization("q5_k_m", LlamaFileType.MOSTLY_Q5_K_M),
        Quantization("q5_1", LlamaFileType.MOSTLY_Q5_1, Type.Q5_1),
        Quantization("q5_0", LlamaFileType.MOSTLY_Q5_0, Type.Q5_0),
        Quantization("q4_k_m", LlamaFileType.MOSTLY_Q4_K_M),
        Quantization("q4_1", LlamaFileType.MOSTLY_Q4_1, Type.Q4_1),
        Quantization("q4_0", LlamaFileType.MOSTLY_Q4_0, Type.Q4_0),
        Quantization("q3_k_m", LlamaFileType.MOSTLY_Q3_K_M),
    )
}
# The output matrix loses most by few bits. llama-quantize keeps it at q6_k, which the gguf package cannot write.
SMALL = (Type.Q5_1, Type.Q5_0, Type.Q4_1, Type.Q4_0)


def quantization(name: str, vision: bool = False) -> Quantization:
    """The quantization of that name, in either case; UsageError names those there are, for `vision` of an mmproj."""
    known = [one.name for one in QUANTIZATIONS.values() if one.tensor is not None or not vision]
    if name.lower() not in known:
        half = " of the vision half" if vision else ""
        raise UsageError(f"{name}: not a quantization{half}", f"choose from {', '.join(known)}")
    return QUANTIZATIONS[name.lower()]


def tensor_type(weight: Weight, wanted: Type) -> Type:
    """The type of `weight` in a file whose matrices are `wanted`, as llama.cpp's own converter chooses.

    Norms, biases and what llama.cpp wants exact stay float32; a row that the blocks do not divide falls back to f16.
    """
    if weight.exact or len(weight.shape) == 1:
        return Type.F32
    if weight.head and wanted in SMALL:
        wanted = Type.Q8_0
    block, _ = GGML_QUANT_SIZES[wanted]
    return wanted if weight.shape[-1] % block == 0 else Type.F16


def fallbacks(weights: Iterable[Weight], wanted: Type) -> list[str]:
    """A line for every length of rows that the blocks of `wanted` do not divide."""
    block, _ = GGML_QUANT_SIZES[wanted]
    odd = [w.shape[-1] for w in weights if not w.exact and len(w.shape) > 1 and w.shape[-1] % block]
    return [fallback(count, length, wanted.name, "F16") for length, count in Counter(odd).items()]


def fallback(count: int, length: int, wanted: str, got: str) -> str:
    """What is told of `count` tensors that are not stored as the quantization would have them."""
    tensors = "tensor" if count == 1 else "tensors"
    return f"{count} {tensors} as {got.lower()}, since rows of {length} are not whole blocks of {wanted.lower()}"


def size(weight: Weight, kind: Type) -> int:
    """The bytes that `weight` takes in a file as `kind`."""
    block, width = GGML_QUANT_SIZES[kind]
    return math.prod(weight.shape) // block * width


def encode(array: NDArray[Any], kind: Type) -> NDArray[Any]:
    """`array` (rows of float32 or float16) as the bytes of `kind`. Raises Unfit for what it cannot hold."""
    largest = max(float(array.max()), -float(array.min()))
    if not math.isfinite(largest):
        raise Unfit("holds NaN or infinite numbers", "train or download the checkpoint again")
    if largest > LARGEST[kind]:
        raise Unfit(f"holds {largest:g}, too large for {kind.name.lower()}", "convert to bf16 or f32")
    if kind != Type.F16:
        array = array.astype(np.float32, copy=False)
    return quants.quantize(array, kind)
