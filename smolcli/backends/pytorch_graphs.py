"""CUDA graphs of decode steps: the kernels of a step are recorded once, and then started together.

A small model's step is hundreds of kernels of a few microseconds, which a CPU cannot start as fast as a GPU runs them.
A graph reads and writes the tensors that it was recorded with, so it belongs to one KV cache and one shape of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from smolcli.backends.pytorch_decoder import Cache

Outputs = tuple[Tensor, Tensor]
Compute = Callable[[], Outputs]
Capture = Callable[[Compute], Compute]  # records what a function computes; returns what computes it again


class Graphs:
    """Runs steps, from the second of a shape on by a graph, if `new_capture` makes what records the graphs of a cache.

    Without it, and after a capture that failed, steps are computed as they are. Graphs are dropped with their cache, to
    which they do not refer. The outputs are overwritten by the next step.
    """

    def __init__(self, new_capture: Callable[[], Capture] | None) -> None:
        self._new_capture = new_capture
        self._of_cache = WeakKeyDictionary[Cache, tuple[Capture, dict[Hashable, Compute | None]]]()

    def run(self, cache: Cache, shape: Hashable, compute: Compute) -> Outputs:
        """Return the outputs of `compute`, which depends on the content of tensors of `cache` and on `shape` alone."""
        if self._new_capture is None:
            return compute()
        capture, graphs = self._of_cache.get(cache) or self._of_cache.setdefault(cache, (self._new_capture(), {}))
        if shape not in graphs:  # it may be used once only
            graphs[shape] = None
            return compute()
        try:
            graph = graphs[shape] = graphs[shape] or capture(compute)
        except RuntimeError:  # a driver without graphs, or no memory for them
            self._new_capture = None
            self._of_cache.clear()
            return compute()
        return graph()


class CudaCapture:
    """Captures the graphs of one cache. They share memory, since they are replayed one at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, compute: Compute) -> Compute:
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):  # which is left even if the capture fails
            compute()  # libraries allocate what they need on this stream before the capture
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                outputs = compute()

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay
