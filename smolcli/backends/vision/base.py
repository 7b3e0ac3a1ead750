"""The protocol of a vision encoder: the part of the llama.cpp backend that turns tiles into embeddings.

    vision = MtmdEncoder(mmproj, layout, LanguageModel(lambda: model, 576), options)
    [embeddings] = vision.encode([tile])

`registry.VISION_ENCODERS` lists them. mtmd is the reference; the others compute the same numbers faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]  # (tokens, hidden)


class LanguageModel(NamedTuple):
    """The language half that the embeddings are for.

    `model` returns its llama_model, and waits until it is loaded. `embedding_size` is the floats of one embedding.
    `gpu` is the ggml_backend_dev_t of the GPU on which it is loaded, None for the CPU.
    """

    model: Callable[[], Any]
    embedding_size: int
    gpu: int | None = None


class VisionEncoder(Protocol):
    """Encodes tiles.

    The constructor takes `(mmproj: Path, layout: Layout, language: LanguageModel, options: Model)`, where `layout` is
    what gguf_layout.read_layout reads from the file. It raises ModelError if the two halves do not fit each other.
    """

    dtype: str  # of its computations, as --dtype names it

    def encode(self, tiles: Sequence[bytes], upcoming: Iterable[bytes] = ()) -> list[Embeddings]:
        """Return the embeddings of each tile: tile * tile * 3 bytes of RGB become float32 (tokens, hidden).

        Embeddings are cached. If the last batch is not full, it is filled from `upcoming`: tiles that will be asked
        for soon. Raises EngineError.
        """
        ...

    def clear_cache(self) -> None:
        """Empty the cache of embeddings."""
        ...

    def close(self) -> None:
        """Free the model; the encoder cannot be used afterwards."""
        ...


class ThreadedEncoder:
    """Creates an encoder with `make` in a thread of its own, and runs all its methods there.

    llama.cpp configures AMX's tiles once in each of its threads (ggml_tile_config_init in its amx/mmq.cpp) and relies
    on that configuration from then on. OpenVINO and PyTorch, computing in bfloat16, leave another configuration in the
    thread that calls them, and the next matrix product of llama.cpp in that thread would be an illegal instruction.
    Worker threads are no problem: each library has its own, or, if both share an OpenMP, each calling thread has its
    own.
    """

    def __init__(self, make: Callable[[], VisionEncoder]) -> None:
        self._thread = ThreadPoolExecutor(1, "encoder")
        try:
            self._vision = self._thread.submit(make).result()
        except BaseException:
            self._thread.shutdown()
            raise
        self.dtype = self._vision.dtype
        self._is_closed = False

    def encode(self, tiles: Sequence[bytes], upcoming: Iterable[bytes] = ()) -> list[Embeddings]:
        return self._thread.submit(self._vision.encode, tiles, upcoming).result()

    def clear_cache(self) -> None:
        self._thread.submit(self._vision.clear_cache).result()

    def close(self) -> None:
        """Free the model and end the thread; may be called again."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._thread.submit(self._vision.close).result()
        finally:
            self._thread.shutdown()
