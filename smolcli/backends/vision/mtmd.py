"""The vision half of a GGUF pair: tiles to embeddings, through llama.cpp's mtmd."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import mtmd_cpp as mtmd

from smolcli.backends.embedding_cache import EmbeddingCache
from smolcli.backends.image_processor import REFERENCE_TILES, Layout
from smolcli.backends.vision.base import Embeddings, LanguageModel
from smolcli.errors import EngineError, ModelError
from smolcli.models.gguf_header import read_header
from smolcli.options import Model
from smolcli.system.cpu import usable_cores


class MtmdEncoder:
    """Encodes tiles one at a time, as backends/vision/base.py says; the language half is needed for its sizes."""

    dtype = "float32"

    def __init__(self, mmproj: Path, layout: Layout, language: LanguageModel, options: Model) -> None:
        self._layout = layout
        self._embedding = language.embedding
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = False
        params.print_timings = False
        params.warmup = False
        params.n_threads = options.threads or usable_cores()
        # Takes the path without llama.cpp's own enlarging to the longest edge: the tile is cut already.
        params.image_max_tokens = layout.tokens
        self._context = mtmd.mtmd_init_from_file(os.fsencode(mmproj), language.model(), params)
        if self._context is None:
            raise ModelError(f"{mmproj} cannot be loaded beside this language model", "give the mmproj made with it")
        self._encoded = EmbeddingCache(lambda tiles: map(self._encode, tiles), at_once=1)

    def encode(self, tiles: Sequence[bytes], next_ones: Iterable[bytes] = ()) -> list[Embeddings]:
        return self._encoded.of(tiles, next_ones)

    def forget(self) -> None:
        self._encoded.clear()

    def close(self) -> None:
        """Frees the native context."""
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
            found = mtmd.mtmd_get_output_embd(self._context)
            embeddings: Embeddings = np.ctypeslib.as_array(found, (tokens * self._embedding,)).copy()
            return embeddings.reshape(tokens, self._embedding)
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            mtmd.mtmd_bitmap_free(bitmap)

    @staticmethod
    def _last_image(chunks: Any) -> Any:
        """mtmd makes slices of every picture and puts the overview last; of a tile only that one is wanted."""
        found = [mtmd.mtmd_input_chunks_get(chunks, n) for n in range(mtmd.mtmd_input_chunks_size(chunks))]
        images = [chunk for chunk in found if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE]
        return images[-1]


def layout_of(mmproj: Path) -> Layout:
    """How pictures are cut, from the file's clip.vision keys.

    Raises ModelError for what is no vision half of this family, or whose keys and tensors contradict each other:
    llama.cpp would end the process at the first picture.
    """
    header = read_header(mmproj)
    keys = header.keys
    if keys.get("clip.projector_type", keys.get("clip.vision.projector_type")) != "idefics3":
        raise ModelError(f"{mmproj} is not the vision half of a SmolVLM model", "give its mmproj-*.gguf")
    wanted = ("image_size", "patch_size", "embedding_length", "projector.scale_factor")
    try:
        side, patch, hidden, scale = (int(keys[f"clip.vision.{key}"]) for key in wanted)
        longest = int(keys.get("clip.vision.preproc_image_size", REFERENCE_TILES * side))
        position, projector = header.shapes["v.position_embd.weight"], header.shapes["mm.model.fc.weight"]
        patches = side // patch  # along a side
        fits = header.shapes["v.patch_embd.weight"] == (patch, patch, 3, hidden)
        fits = fits and position == (hidden, patches**2) and projector[0] == hidden * scale**2
        fits = fits and scale > 1 and patches % scale == 0 and longest >= side
    except KeyError as error:
        raise ModelError(f"{mmproj} lacks {error}", "convert it again: smolcli convert-to-gguf") from error
    except (TypeError, ValueError, ArithmeticError, IndexError):
        fits = False
    if not fits:
        raise ModelError(f"{mmproj} is damaged: its sizes contradict each other", "fetch or convert it again")
    return Layout(side, (patches // scale) ** 2, longest)
