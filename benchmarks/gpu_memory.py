"""Computes the memory that a model takes on a GPU, and how many answers at once fit on a card: docs/gpu.md.

    python benchmarks/gpu_memory.py

Nothing is measured. Counted are the weights, the KV cache with the columns that Slots gives it, the activations of a
batch of tiles and of the prompts, all of them begun at once, and half a gigabyte of the GPU's own library.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

CONTEXT = 2048  # tokens of a sequence, prompt and reply
COLUMN_STEP, TILES = 256, 16  # pytorch_slots.COLUMN_STEP and pytorch.BATCH_SIZE
BLOCK = 64  # pytorch_quantization.BLOCK
LIBRARY = 0.5e9  # CUDA's context and kernels, roughly
ROWS = (1, 16, 64)
CARDS = (4, 6, 8, 12, 16, 24, 48, 80)  # gigabytes
FORMATS = ("float32", "bfloat16", "int8", "int4", "nf4")
MOST = 64  # options.MAX_JOBS


@dataclass(frozen=True)
class Shape:
    """The sizes of a model, from its config.json; `vision_parameters` are those of the vision tower and connector."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vision_parameters: float
    vision_hidden: int
    vision_inner: int
    patches: int
    head_dim: int = 64
    vocabulary: int = 49280

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """Outputs and inputs of each matrix of a layer of the language half."""
        joined = (self.heads + 2 * self.kv_heads) * self.head_dim
        attended = self.heads * self.head_dim
        return [
            (joined, self.hidden), (self.hidden, attended), (2 * self.inner, self.hidden), (self.hidden, self.inner),
        ]  # fmt: skip


MODELS = {
    "256m": Shape(576, 1536, 30, 9, 3, 93.5e6, 768, 3072, 1024),
    "500m": Shape(960, 2560, 32, 15, 5, 98.4e6, 768, 3072, 1024),
    "2.2b": Shape(2048, 8192, 24, 32, 32, 434e6, 1152, 4304, 729),
}


def parameters(shape: Shape) -> float:
    """Return the number of all parameters, norms left out."""
    layers = shape.layers * sum(outputs * inputs for outputs, inputs in shape.matrices)
    return layers + 2 * shape.vocabulary * shape.hidden + shape.vision_parameters


def weight_bytes(shape: Shape, number_format: str) -> float:
    """Return the bytes of the weights: those of quantized layers, and the others in bfloat16 beside them."""
    size = 4 if number_format == "float32" else 2
    others = (2 * shape.vocabulary * shape.hidden + shape.vision_parameters) * size
    return others + shape.layers * sum(_matrix_bytes(*matrix, number_format) for matrix in shape.matrices)


def _matrix_bytes(outputs: int, inputs: int, number_format: str) -> float:
    match number_format:
        case "float32":
            return outputs * inputs * 4
        case "bfloat16":
            return outputs * inputs * 2
        case "int8":
            return outputs * (inputs + 2)  # and a scale a row
        case "int4":  # torchao pads rows to 1,024; scale and zero point of a block are bfloat16
            return outputs * math.ceil(inputs / 1024) * 1024 * (0.5 + 4 / BLOCK)
        case _:
            return outputs * inputs * (0.5 + 4 / BLOCK)  # a float32 scale for a block


def total_bytes(shape: Shape, number_format: str, rows: int) -> float:
    """Return the bytes of everything, for so many answers at once."""
    size = 4 if number_format == "float32" else 2
    columns = math.ceil((CONTEXT + 1) / COLUMN_STEP) * COLUMN_STEP
    cache = rows * columns * 2 * shape.layers * shape.kv_heads * shape.head_dim * size
    # The residual sum is float32; beside it a layer holds its input, and what is before and after its activation.
    encoder = TILES * shape.patches * (shape.vision_hidden * (8 + size) + 2 * shape.vision_inner * size)
    prompts = rows * CONTEXT * (3 * shape.hidden + 4 * shape.inner) * size
    return weight_bytes(shape, number_format) + cache + max(encoder, prompts) + LIBRARY


def most_answers(shape: Shape, number_format: str, card: float) -> int:
    """Return how many answers at once fit on a card of so many gigabytes, of which a tenth stays free."""
    fitting = (rows for rows in range(MOST, 0, -1) if total_bytes(shape, number_format, rows) <= 0.9 * card * 1e9)
    return next(fitting, 0)


def tables() -> Iterator[str]:
    """Yield the lines of both tables."""
    yield f"| GB | weights | {' | '.join(f'{rows} at once' for rows in ROWS)} |"
    yield "|---" * (len(ROWS) + 2) + "|"
    for name, shape in MODELS.items():
        for number_format in FORMATS:
            sizes = [weight_bytes(shape, number_format), *(total_bytes(shape, number_format, rows) for rows in ROWS)]
            yield f"| {name}, {number_format} | " + " | ".join(f"{size / 1e9:.1f}" for size in sizes) + " |"
    yield ""
    yield f"| answers at once on a card of | {' | '.join(f'{card} GB' for card in CARDS)} |"
    yield "|---" * (len(CARDS) + 1) + "|"
    for name, shape in MODELS.items():
        for number_format in ("bfloat16", "nf4"):
            counts = [most_answers(shape, number_format, card) for card in CARDS]
            yield f"| {name}, {number_format} | " + " | ".join(str(count or "-") for count in counts) + " |"


if __name__ == "__main__":
    print("\n".join(tables()))
