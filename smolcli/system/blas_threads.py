"""The number of threads with which NumPy multiplies matrices."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

from numpy.linalg import _umath_linalg

# OpenBLAS's function, as NumPy's own wheels name it (from 2.0 on, and before), and as distributions do.
FUNCTIONS = (
    "scipy_openblas_set_num_threads64_",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads",
)
# With narrower matrices, OpenBLAS's threads wait for each other longer than they compute; where other programs use the
# same cores, up to ten times as long.
MIN_WIDTH = 512


def set_blas_threads(count: int, width: int) -> None:
    """Have NumPy multiply matrices of `width` columns with `count` threads, or with one if they are small.

    This works for OpenBLAS. Apple's Accelerate and others choose for themselves. An environment variable would have to
    be set before NumPy is loaded, and the engine loads it before it knows its options.
    """
    function = _function()
    if function is not None:
        function(count if width >= MIN_WIDTH else 1)


def describe_blas_threads(count: int) -> str:
    """Return, for Backend.device_summary, how many threads multiply matrices after `set_blas_threads(count, …)`."""
    return f"threads: {count}" if _function() is not None else "threads: as NumPy's library for matrices chooses"


@cache
def _function() -> Callable[[int], Any] | None:
    library = ctypes.CDLL(_umath_linalg.__file__)  # a symbol is looked for in what it was linked with, too
    return next((getattr(library, name) for name in FUNCTIONS if hasattr(library, name)), None)
