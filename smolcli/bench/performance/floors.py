"""The least time that this machine could need for each stage of an answer, from the sizes of the model.

    floor = Floors(measure_machine(), read_sizes(files, backend))
    floor.encode(tiles=13), floor.prefill([900]), floor.decode(steps=63)      # seconds

Encoding and prefill are matrix products: their floor is the number of floating-point operations divided by the speed of
a large float32 product in NumPy. A decoding step reads every weight once, however many sequences are in it: its floor
is the bytes of the weights, as their file holds them, divided by the bandwidth of a large copy. A stage is under its
floor if it computes in a shorter format than float32, or if the weights stay in the processor's cache.

Operations are counted as in Kaplan et al., Scaling Laws for Neural Language Models (2020), section 2.1: a matrix of
n numbers takes 2n for each token, a multiplication and an addition. In attention, each query is multiplied with the
keys that it sees, and their weights with the values: 2 x 2 x width for each pair of query and key. Norms, activations
and softmax are left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from smolcli.backends.numpy_weights import open_source
from smolcli.errors import ModelError
from smolcli.models.files import ModelFiles, weight_files
from smolcli.models.gguf_header import Header, read_header
from smolcli.models.safetensors_reader import Tensors
from smolcli.models.tensor_mapping import COLORS, Text, Vision
from smolcli.models.tensor_names import EMBEDDINGS, LM_HEAD
from smolcli.system.blas_threads import set_blas_threads
from smolcli.system.cpu import usable_cores

PRODUCT_SIDE = 2048  # of the square matrices that are multiplied
COPY_BYTES = 2**28  # more than the caches of a CPU hold
REPEAT = 5  # times that each is done; the best counts, since others take time from it
HALVES = ("F16", "BF16")  # types of safetensors with two bytes a number


@dataclass(frozen=True)
class Machine:
    """What this machine does at most: float32 operations a second, and bytes that are read or written a second."""

    operations: float
    bandwidth: float


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of a model, and the bytes of the weights that a decoding step reads."""

    text: Text
    vision: Vision
    step_bytes: int


@dataclass(frozen=True)
class Floors:
    """The least seconds for each stage of a model on a machine."""

    machine: Machine
    sizes: ModelSizes

    def encode(self, tiles: int) -> float:
        """The seconds for encoding so many tiles."""
        return tiles * encode_operations(self.sizes.vision, self.sizes.text) / self.machine.operations

    def prefill(self, lengths: Iterable[int]) -> float:
        """The seconds for evaluating prompts of so many tokens."""
        return sum(prefill_operations(self.sizes.text, length) for length in lengths) / self.machine.operations

    def decode(self, steps: int) -> float:
        """The seconds for so many decoding steps."""
        return steps * self.sizes.step_bytes / self.machine.bandwidth


def encode_operations(vision: Vision, text: Text) -> int:
    """The floating-point operations of the vision tower and the connector for one tile.

    >>> nano = Vision(192, 768, layers=6, heads=3, image=128, patch=8, scale=2, epsilon=1e-6)
    >>> text = Text(192, 512, 4, 6, 3, 32, 320, 8192, 10000.0, 1e-5, tied=False)
    >>> patches, layer = 16 * 16, 4 * 192 * 192 + 2 * 192 * 768            # numbers in the matrices of a layer
    >>> attention = 2 * 2 * 192 * patches * patches
    >>> connector = 2 * 64 * (4 * 192) * 192                               # four patches become one of 64 tokens
    >>> 2 * patches * 3 * 8 * 8 * 192 + 6 * (2 * patches * layer + attention) + connector
    1698693120
    >>> encode_operations(nano, text)
    1698693120
    """
    patches = (vision.image // vision.patch) ** 2
    embedding = patches * COLORS * vision.patch**2 * vision.hidden
    layer = patches * (4 * vision.hidden**2 + 2 * vision.hidden * vision.feed_forward) + 2 * vision.hidden * patches**2
    tokens, width = patches // vision.scale**2, vision.hidden * vision.scale**2
    return 2 * (embedding + vision.layers * layer + tokens * width * text.hidden)


def prefill_operations(text: Text, length: int) -> int:
    """The floating-point operations of the language model for a prompt of `length` tokens, and the logits of the last.

    Token i attends to itself and the i before it, so that there are length (length + 1) / 2 pairs.

    >>> nano = Text(192, 512, layers=4, heads=6, kv_heads=3, head_dim=32, vocabulary=320, positions=8192,
    ...             rope_theta=10000.0, rms_epsilon=1e-5, tied=False)
    >>> layer = 2 * 192 * 192 + 2 * 192 * 96 + 3 * 192 * 512               # query, output; key, value; MLP
    >>> 4 * (2 * 100 * layer + 2 * 2 * 192 * (100 * 101 // 2)) + 2 * 192 * 320
    340039680
    >>> prefill_operations(nano, 100)
    340039680
    """
    queries, keys = text.heads * text.head_dim, text.kv_heads * text.head_dim
    matrices = text.hidden * (2 * queries + 2 * keys + 3 * text.feed_forward)
    attention = queries * length * (length + 1)
    return 2 * (text.layers * (length * matrices + attention) + text.hidden * text.vocabulary)


def read_sizes(files: ModelFiles, backend: str) -> ModelSizes:
    """Read the sizes from the files that `backend` reads, without the weights. Raises ModelError."""
    if files.format_read_by(backend) == "gguf" and files.gguf is not None:
        source = open_source(ModelFiles(files.name, gguf=files.gguf, mmproj=files.mmproj))
        return ModelSizes(source.text, source.vision, _gguf_step_bytes(read_header(files.gguf)))
    source = open_source(files)
    step_bytes = 0 if files.checkpoint is None else _checkpoint_step_bytes(Tensors(weight_files(files.checkpoint)))
    return ModelSizes(source.text, source.vision, step_bytes)


def _gguf_step_bytes(header: Header) -> int:
    """The bytes of all tensors but the embeddings, of which a step reads one row, unless they are the output matrix.

    Raises ModelError for a type that ggml does not have.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType  # takes a tenth of a second

    total = 0
    for name, shape in header.shapes.items():
        if name != "token_embd.weight" or "output.weight" not in header.shapes:
            ggml_type = header.places[name][0]
            try:
                block_weights, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(ggml_type)]
            except ValueError as error:
                raise ModelError(f"the tensor {name} has the type {ggml_type}", "fetch or convert it again") from error
            total += math.prod(shape) // block_weights * block_bytes
    return total


def _checkpoint_step_bytes(tensors: Tensors) -> int:
    """The same of a checkpoint, without its vision tower and connector."""
    total = 0
    for name in tensors.names():
        is_embeddings = name.endswith(EMBEDDINGS.removeprefix("model.")) and LM_HEAD in tensors
        if "vision_model" not in name and "connector" not in name and not is_embeddings:
            total += math.prod(tensors.shape(name)) * (2 if tensors.dtype(name) in HALVES else 4)
    return total


def measure_machine() -> Machine:
    """Measure the product of two square float32 matrices and the copy of a large array, on all cores; takes a second.

    A copy reads and writes: both count for the bandwidth, as in the benchmark STREAM.
    """
    set_blas_threads(usable_cores(), PRODUCT_SIDE)  # OpenBLAS would take all cores of the machine
    left, right = np.ones((2, PRODUCT_SIDE, PRODUCT_SIDE), np.float32)
    product = np.empty_like(left)
    source = np.ones(COPY_BYTES, np.uint8)
    copy = np.zeros_like(source)
    parts = list(zip(np.array_split(copy, usable_cores()), np.array_split(source, usable_cores()), strict=True))
    with ThreadPoolExecutor(len(parts)) as pool:
        product_seconds = _least_seconds(lambda: np.matmul(left, right, out=product))
        copy_seconds = _least_seconds(lambda: list(pool.map(lambda part: np.copyto(*part), parts)))
    return Machine(2 * PRODUCT_SIDE**3 / product_seconds, 2 * COPY_BYTES / copy_seconds)


def _least_seconds(work: Callable[[], object]) -> float:
    """The least time of several repetitions."""
    seconds = []
    for _ in range(REPEAT):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
