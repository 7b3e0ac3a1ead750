"""Embeddings of text tokens: the rows of a GGUF's token_embd.weight, read as they are needed.

One call of llama.cpp takes tokens or embeddings, never both. With the text as embeddings too, a prompt is one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smolcli.errors import ModelError
from smolcli.models.gguf_header import BLOCKS, Header

TENSOR = "token_embd.weight"
F32, F16, Q8_0 = 0, 1, 8  # enum ggml_type
Q8_0_BLOCK = np.dtype([("scale", "<f2"), ("weights", "i1", 32)])  # block_q8_0 of ggml-common.h


class TokenEmbeddings:
    """The embedding table of the GGUF at `path`, mapped into memory. `header` is that of the same file.

    Raises ModelError if there is no table, or if its type is unknown.
    """

    def __init__(self, path: Path, header: Header) -> None:
        try:
            self.embedding_size, count = header.shapes[TENSOR]
            self._type, offset = header.places[TENSOR]
            block_weights, block_bytes = BLOCKS.get(self._type) or _block_size(self._type)
            shape = (count, self.embedding_size // block_weights * block_bytes)
            self._rows = np.memmap(path, np.uint8, "r", offset, shape)
        except (KeyError, ValueError, OSError) as error:
            raise ModelError(f"{path} has no {TENSOR} that can be read", "fetch or convert it again") from error

    def lookup(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Return the embeddings of `tokens`: float32 (tokens, hidden)."""
        rows: NDArray[Any] = np.ascontiguousarray(self._rows[np.asarray(tokens, np.intp)])
        if self._type in (F32, F16):
            return rows.view(np.float32 if self._type == F32 else np.float16).astype(np.float32)
        if self._type == Q8_0:
            blocks = rows.view(Q8_0_BLOCK)
            scaled: NDArray[np.float32] = blocks["weights"] * blocks["scale"].astype(np.float32)[..., None]
            return scaled.reshape(len(rows), -1)
        from gguf import GGMLQuantizationType  # takes a tenth of a second, which the usual types do not need
        from gguf.quants import dequantize

        values: NDArray[np.float32] = dequantize(rows, GGMLQuantizationType(self._type))
        return values


def _block_size(ggml_type: int) -> tuple[int, int]:
    """The weights and the bytes of a block of a rare type."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    return GGML_QUANT_SIZES[GGMLQuantizationType(ggml_type)]
