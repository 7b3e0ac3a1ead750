"""Which type each tensor of a GGUF file gets, and its bytes in that type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType, quants
from numpy.typing import NDArray

from smolcli.errors import ModelError

from .smolvlm import Weight

F16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Quantization:
    """How matrices are stored (`tensor`), and what the file says of itself (`file`)."""

    name: str
    tensor: GGMLQuantizationType
    file: LlamaFileType


QUANTIZATIONS = {
    "f32": Quantization("f32", GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": Quantization("f16", GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": Quantization("bf16", GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": Quantization("q8_0", GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}


def quantization(name: str) -> Quantization:
    """The quantization of that name, in either case; ModelError names those there are."""
    try:
        return QUANTIZATIONS[name.lower()]
    except KeyError:
        raise ModelError(f"no quantization is called {name}", f"choose from {', '.join(QUANTIZATIONS)}") from None


def tensor_type(weight: Weight, quantization: Quantization) -> GGMLQuantizationType:
    """The type of `weight` in a file of that quantization, as llama.cpp's own converter chooses.

    Norms, biases and what llama.cpp wants exact stay float32; a row that the blocks do not divide falls back to f16.
    """
    if weight.exact or len(weight.shape) == 1:
        return GGMLQuantizationType.F32
    block, _ = GGML_QUANT_SIZES[quantization.tensor]
    return quantization.tensor if weight.shape[-1] % block == 0 else GGMLQuantizationType.F16


def size(weight: Weight, kind: GGMLQuantizationType) -> int:
    """The bytes that `weight` takes in a file as `kind`."""
    block, width = GGML_QUANT_SIZES[kind]
    return int(np.prod(weight.shape)) // block * width


def encode(array: NDArray[Any], kind: GGMLQuantizationType, name: str) -> NDArray[Any]:
    """`array` (float32 or float16) as the bytes of `kind`; ModelError if `name` holds what `kind` cannot."""
    largest = max(float(array.max()), -float(array.min()))
    if not np.isfinite(largest):
        raise ModelError(f"{name} holds NaN or infinite numbers", "train or download the checkpoint again")
    if kind == GGMLQuantizationType.F16 and largest > F16_MAX:
        raise ModelError(f"{name} holds {largest:g}, too large for f16", "convert to bf16 or f32")
    if kind != GGMLQuantizationType.F16:
        array = array.astype(np.float32, copy=False)
    return quants.quantize(array, kind)
