"""smolcli/system/blas_threads.py: the number of threads that OpenBLAS uses then, by OpenBLAS itself."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import pytest
from numpy.linalg import _umath_linalg

from smolcli.backends.numpy_reference import NumPy
from smolcli.bench.performance import floors
from smolcli.models.files import BUILT_IN, scan
from smolcli.options import Model
from smolcli.system import blas_threads
from smolcli.system.blas_threads import MIN_WIDTH, set_blas_threads

GETTERS = [name.replace("_set_", "_get_") for name in blas_threads.FUNCTIONS]


@pytest.fixture
def count() -> Iterator[Callable[[], int]]:
    """OpenBLAS's own count of its threads, which is as before afterwards."""
    library = ctypes.CDLL(_umath_linalg.__file__)
    name = next((name for name in GETTERS if hasattr(library, name)), None)
    if name is None:
        pytest.skip("this numpy has another library for matrices")
    before = getattr(library, name)()
    yield getattr(library, name)
    set_blas_threads(before, MIN_WIDTH)


def test_wide_matrices_get_the_threads_and_narrow_ones_a_single_thread(count: Callable[[], int]) -> None:
    set_blas_threads(3, MIN_WIDTH)
    assert count() == 3
    set_blas_threads(3, MIN_WIDTH - 1)
    assert count() == 1


def test_threads_that_cannot_be_set_are_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas_threads, "_function", lambda: lambda count: None)
    assert NumPy(scan(BUILT_IN), Model(threads=3)).device_summary == "cpu, threads: 3, float32"
    monkeypatch.setattr(blas_threads, "_function", lambda: None)  # as with Apple's Accelerate
    assert "3" not in NumPy(scan(BUILT_IN), Model(threads=3)).device_summary.removesuffix("float32")


def test_the_machine_is_measured_on_the_cores_that_the_process_may_use(
    count: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "COPY_BYTES", 2**20)
    for usable in (1, 3):  # whatever this machine has
        monkeypatch.setattr(floors, "usable_cores", lambda usable=usable: usable)
        floors.measure_machine()
        assert count() == usable
