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
from smolcli.backends.image_processor import DEFAULT_TILES_ALONG, Layout
from smolcli.backends.vision.base import Embeddings, LanguageModel
from smolcli.errors import EngineError, ModelError
from smolcli.models.gguf_header import read_header
from smolcli.options import Model
from smolcli.system.cpu import usable_cores


class MtmdEncoder:
    """A VisionEncoder that encodes one tile at a time; it waits for the language half, whose sizes mtmd checks."""

    dtype = "float32"

    def __init__(self, mmproj: Path, layout: Layout, language: LanguageModel, options: Model) -> None:
        self._layout = layout
        self._embedding_size = language.embedding_size
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = False
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


def read_layout(mmproj: Path) -> Layout:
    """Read how pictures are cut from the clip.vision keys of a vision half.

    Raises ModelError if the file is not a vision half of this family, or if its keys and tensors contradict each
    other: llama.cpp would end the process at the first picture.
    """
    header = read_header(mmproj)
    keys = header.keys
    if keys.get("clip.projector_type", keys.get("clip.vision.projector_type")) != "idefics3":
        raise ModelError(f"{mmproj} is not the vision half of a SmolVLM model", "give its mmproj-*.gguf")
    names = ("image_size", "patch_size", "embedding_length", "projector.scale_factor")
    try:
        side, patch, hidden, scale = (int(keys[f"clip.vision.{name}"]) for name in names)
        longest_edge = int(keys.get("clip.vision.preproc_image_size", DEFAULT_TILES_ALONG * side))
        position, projector = header.shapes["v.position_embd.weight"], header.shapes["mm.model.fc.weight"]
        patches_along = side // patch
        is_consistent = header.shapes["v.patch_embd.weight"] == (patch, patch, 3, hidden)
        is_consistent = is_consistent and position == (hidden, patches_along**2) and projector[0] == hidden * scale**2
        is_consistent = is_consistent and scale > 1 and patches_along % scale == 0 and longest_edge >= side
    except KeyError as error:
        raise ModelError(f"{mmproj} lacks {error}", "convert it again: smolcli convert-to-gguf") from error
    except (TypeError, ValueError, ArithmeticError, IndexError):
        is_consistent = False
    if not is_consistent:
        raise ModelError(f"{mmproj} is damaged: its sizes contradict each other", "fetch or convert it again")
    return Layout(side, (patches_along // scale) ** 2, longest_edge)
