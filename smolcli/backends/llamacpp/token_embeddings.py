"""What text is to the language half: the rows of its token_embd.weight, read from the GGUF as they are needed.

llama.cpp takes tokens or embeddings in one call, never both. With the text as embeddings too a prompt is one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smolcli.errors import ModelError
from smolcli.models.gguf_header import BLOCKS, Header

NAME = "token_embd.weight"
F32, F16, Q8_0 = 0, 1, 8  # enum ggml_type
BLOCK = np.dtype([("scale", "<f2"), ("weights", "i1", 32)])  # block_q8_0 of ggml-common.h


class TokenTable:
    """The table of a GGUF with this head. Raises ModelError where there is none, or of a type that is not known."""

    def __init__(self, path: Path, header: Header) -> None:
        try:
            self.width, count = header.shapes[NAME]  # floats of an embedding
            self._type, offset = header.places[NAME]
            weights, stored = BLOCKS.get(self._type) or _block(self._type)
            self._rows = np.memmap(path, np.uint8, "r", offset, (count, self.width // weights * stored))
        except (KeyError, ValueError, OSError) as error:
            raise ModelError(f"{path} has no {NAME} that can be read", "fetch or convert it again") from error

    def of(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """float32 (tokens, hidden)."""
        rows: NDArray[Any] = np.ascontiguousarray(self._rows[np.asarray(tokens, np.intp)])
        if self._type in (F32, F16):
            return rows.view(np.float32 if self._type == F32 else np.float16).astype(np.float32)
        if self._type == Q8_0:
            blocks = rows.view(BLOCK)
            scaled: NDArray[np.float32] = blocks["weights"] * blocks["scale"].astype(np.float32)[..., None]
            return scaled.reshape(len(rows), -1)
        from gguf import GGMLQuantizationType  # for files that most people have it would be a tenth of a second lost
        from gguf.quants import dequantize

        values: NDArray[np.float32] = dequantize(rows, GGMLQuantizationType(self._type))
        return values


def _block(kind: int) -> tuple[int, int]:
    """The weights and the bytes of a block of a seldom type."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    return GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
