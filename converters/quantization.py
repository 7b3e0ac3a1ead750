"""The type of each tensor in a GGUF file, and its bytes in that type."""

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
from smolcli.models.file_errors import UnsupportedError
from smolcli.models.tensor_mapping import Weight

GgmlType = GGMLQuantizationType
F16_MAX = float(np.finfo(np.float16).max)
# The largest number of each type: its largest level times its largest scale, which is a float16.
LARGEST = {
    GgmlType.F32: float(np.finfo(np.float32).max),
    GgmlType.BF16: 3.38e38,
    GgmlType.F16: F16_MAX,
    GgmlType.Q8_0: 127 * F16_MAX,
    GgmlType.Q5_1: F16_MAX,
    GgmlType.Q5_0: 16 * F16_MAX,
    GgmlType.Q4_1: F16_MAX,
    GgmlType.Q4_0: 8 * F16_MAX,
}


@dataclass(frozen=True)
class Quantization:
    """A choice of --quant: the file type in the header (`file`) and the type of the matrices (`tensor`).

    The mixes of llama.cpp have several types (`tensor` is None): its quantizer makes them, of language models only.
    """

    name: str
    file: LlamaFileType
    tensor: GgmlType | None = None


QUANTIZATIONS = {
    quantization.name: quantization
    for quantization in (
        Quantization("f32", LlamaFileType.ALL_F32, GgmlType.F32),
        Quantization("f16", LlamaFileType.MOSTLY_F16, GgmlType.F16),
        Quantization("bf16", LlamaFileType.MOSTLY_BF16, GgmlType.BF16),
        Quantization("q8_0", LlamaFileType.MOSTLY_Q8_0, GgmlType.Q8_0),
        Quantization("q6_k", LlamaFileType.MOSTLY_Q6_K),
        Quantization("q5_k_m", LlamaFileType.MOSTLY_Q5_K_M),
        Quantization("q5_1", LlamaFileType.MOSTLY_Q5_1, GgmlType.Q5_1),
        Quantization("q5_0", LlamaFileType.MOSTLY_Q5_0, GgmlType.Q5_0),
        Quantization("q4_k_m", LlamaFileType.MOSTLY_Q4_K_M),
        Quantization("q4_1", LlamaFileType.MOSTLY_Q4_1, GgmlType.Q4_1),
        Quantization("q4_0", LlamaFileType.MOSTLY_Q4_0, GgmlType.Q4_0),
        Quantization("q3_k_m", LlamaFileType.MOSTLY_Q3_K_M),
    )
}
# Types whose files store the output matrix, which loses most by few bits, as q8_0. llama-quantize would use q6_k, which
# the gguf package cannot write.
SMALL = (GgmlType.Q5_1, GgmlType.Q5_0, GgmlType.Q4_1, GgmlType.Q4_0)


def find_quantization(name: str, is_mmproj: bool = False) -> Quantization:
    """Return the quantization called `name`, in either case. Raises UsageError if there is none, or none for mmproj."""
    known = [choice.name for choice in QUANTIZATIONS.values() if choice.tensor is not None or not is_mmproj]
    if name.lower() not in known:
        model = " of the vision half" if is_mmproj else ""
        raise UsageError(f"{name}: not a quantization{model}", f"choose from {', '.join(known)}")
    return QUANTIZATIONS[name.lower()]


def tensor_type(weight: Weight, wanted: GgmlType) -> GgmlType:
    """Return the type of `weight` in a file whose matrices are `wanted`, as llama.cpp's own converter chooses it.

    Norms, biases and what llama.cpp needs exact stay float32; a matrix whose rows are not whole blocks becomes f16.
    """
    if weight.exact or len(weight.shape) == 1:
        return GgmlType.F32
    if weight.head and wanted in SMALL:
        wanted = GgmlType.Q8_0
    block, _ = GGML_QUANT_SIZES[wanted]
    return wanted if weight.shape[-1] % block == 0 else GgmlType.F16


def fallbacks(weights: Iterable[Weight], wanted: GgmlType) -> list[str]:
    """Return a line for each length of rows that are not whole blocks of `wanted`."""
    block, _ = GGML_QUANT_SIZES[wanted]
    lengths = [w.shape[-1] for w in weights if not w.exact and len(w.shape) > 1 and w.shape[-1] % block]
    return [describe_fallback(count, length, wanted.name, "F16") for length, count in Counter(lengths).items()]


def describe_fallback(count: int, length: int, wanted: str, got: str) -> str:
    """Return a line for the user about `count` tensors that are stored as `got` instead of `wanted`."""
    tensors = "tensor" if count == 1 else "tensors"
    return f"{count} {tensors} as {got.lower()}, since rows of {length} are not whole blocks of {wanted.lower()}"


def tensor_bytes(weight: Weight, type: GgmlType) -> int:
    """Return the bytes that `weight` takes in a file as `type`."""
    block, block_bytes = GGML_QUANT_SIZES[type]
    return math.prod(weight.shape) // block * block_bytes


def encode(array: NDArray[Any], type: GgmlType) -> NDArray[Any]:
    """Return `array` (rows, columns) of float32 or float16 encoded as `type`: f16, f32 or bytes of blocks.

    Raises UnsupportedError for numbers that are not finite or too large for `type`.
    """
    largest = max(float(array.max()), -float(array.min()))
    if not math.isfinite(largest):
        raise UnsupportedError("holds NaN or infinite numbers", "train or download the checkpoint again")
    if largest > LARGEST[type]:
        raise UnsupportedError(f"holds {largest:g}, too large for {type.name.lower()}", "convert to bf16 or f32")
    if type != GgmlType.F16:
        array = array.astype(np.float32, copy=False)
    return quants.quantize(array, type)
