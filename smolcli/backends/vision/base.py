"""A vision encoder: the part of the llama.cpp backend that makes embeddings of tiles.

    vision = MtmdEncoder(mmproj, layout, Language(lambda: model, 576), options)
    [embeddings] = vision.encode([tile])

`registry.VISION_ENCODERS` has those there are. mtmd is the reference; any other gives its numbers, only sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]


class LanguageModel(NamedTuple):
    """The language half beside it: what gives the llama_model, which may be waited for, and the floats of one of its
    embeddings.
    """

    model: Callable[[], Any]
    embedding: int


class VisionEncoder(Protocol):
    """Its constructor takes `(mmproj: Path, layout: Layout, language: Language, options: Model)`, where `layout` is
    that of the file, from mtmd.layout_of. It raises ModelError where the halves do not fit each other.
    """

    dtype: str  # what it computes in, as --dtype names it

    def encode(self, tiles: Sequence[bytes], next_ones: Iterable[bytes] = ()) -> list[Embeddings]:
        """Each tile * tile * 3 bytes of RGB -> float32 (tokens, embedding); one seen before costs nothing.

        `next_ones`, to be asked for soon, fill what room there is beside them. Raises EngineError.
        """
        ...

    def forget(self) -> None:
        """Forgets the tiles seen."""
        ...

    def close(self) -> None:
        """Frees what is native; the encoder is of no use afterwards."""
        ...


class ThreadedEncoder:
    """The encoder that `make` makes, which lives in a thread of its own, where `make` and all it does are called.

    llama.cpp configures AMX's tiles once for each of its threads (ggml_tile_config_init in its amx/mmq.cpp) and takes
    them for granted from then on. OpenVINO and PyTorch, in bfloat16, leave another configuration in the thread that
    calls them: in one of those llama.cpp's next product would be an illegal instruction. Helping threads are no matter:
    each library has its own, or, of an OpenMP that both share, each thread that calls it.
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

    def encode(self, tiles: Sequence[bytes], next_ones: Iterable[bytes] = ()) -> list[Embeddings]:
        return self._thread.submit(self._vision.encode, tiles, next_ones).result()

    def forget(self) -> None:
        self._thread.submit(self._vision.forget).result()

    def close(self) -> None:
        """Ends the thread too."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._thread.submit(self._vision.close).result()
        finally:
            self._thread.shutdown()
