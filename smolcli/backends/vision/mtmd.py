"""The vision encoder of llama.cpp itself: mtmd."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import mtmd_cpp as mtmd

from smolcli.backends.embedding_cache import EmbeddingCache
from smolcli.backends.image_processor import Layout
from smolcli.backends.vision.base import Embeddings, LanguageModel
from smolcli.errors import EngineError, ModelError
from smolcli.options import Model
from smolcli.system.cpu import usable_cores


class MtmdEncoder:
    """A VisionEncoder that encodes one tile at a time; it waits for the language half, whose sizes mtmd checks."""

    dtype = "float32"

    def __init__(self, mmproj: Path, layout: Layout, language: LanguageModel, options: Model) -> None:
        self._layout = layout
        self._embedding_size = language.embedding_size
        params = mtmd.mtmd_context_params_default()
        params.use_gpu, params.device = language.gpu is not None, language.gpu
        params.print_timings = False
        params.warmup = False
        params.n_threads = options.threads or usable_cores()
        # With this, llama.cpp does not enlarge the picture to the longest edge: a tile is cut already.
        params.image_max_tokens = layout.tokens
        self._context = mtmd.mtmd_init_from_file(os.fsencode(mmproj), language.model(), params)
        if self._context is None:
            raise ModelError(f"{mmproj} cannot be loaded beside this language model", "give the mmproj made with it")
        self._embedding_cache = EmbeddingCache(lambda tiles: map(self._encode, tiles), batch_size=1)

    def encode(self, tiles: Sequence[bytes], upcoming: Iterable[bytes] = ()) -> list[Embeddings]:
        return self._embedding_cache.get(tiles, upcoming)

    def clear_cache(self) -> None:
        self._embedding_cache.clear()

    def close(self) -> None:
        """Free the native context."""
        if self._context is not None:
            mtmd.mtmd_free(self._context)
            self._context = None

    def _encode(self, tile: bytes) -> Embeddings:
        side = self._layout.tile
        pixels = (ctypes.c_uint8 * len(tile)).from_buffer_copy(tile)
        bitmap = mtmd.mtmd_bitmap_init(side, side, pixels)
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            marker = mtmd.mtmd_default_marker()
            text = mtmd.mtmd_input_text(marker, len(marker), False, True)
            bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
            if mtmd.mtmd_tokenize(self._context, chunks, ctypes.byref(text), bitmaps, 1) != 0:
                raise EngineError("llama.cpp did not take a tile", "-v shows what it says")
            image = self._last_image(chunks)
            tokens = mtmd.mtmd_input_chunk_get_n_tokens(image)
            if tokens != self._layout.tokens or mtmd.mtmd_encode_chunk(self._context, image) != 0:
                raise EngineError("llama.cpp could not encode a tile", "-v shows what it says")
            output = mtmd.mtmd_get_output_embd(self._context)
            embeddings: Embeddings = np.ctypeslib.as_array(output, (tokens * self._embedding_size,)).copy()
            return embeddings.reshape(tokens, self._embedding_size)
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            mtmd.mtmd_bitmap_free(bitmap)

    @staticmethod
    def _last_image(chunks: Any) -> Any:
        """The chunk of the overview. mtmd slices every picture and puts the overview last; a tile needs only that."""
        all_chunks = [mtmd.mtmd_input_chunks_get(chunks, n) for n in range(mtmd.mtmd_input_chunks_size(chunks))]
        images = [
            chunk for chunk in all_chunks if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE
        ]
        return images[-1]
