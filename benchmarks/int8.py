"""Would int8 encode pictures sooner on this CPU, and how far from float32? OpenVINO's ways of it, one after the other.

    python benchmarks/int8.py MMPROJ.gguf [--tiles 4] [--rounds 5]

Weights become int8 with a scale for each output. `dynamic` gives activations a scale for each of their tokens, or of
`group` numbers in it, as they come; `static` a range for each matrix product, from tiles seen before. The cosine is the
least of a tile to float32, of made pictures: what it is with the published weights on photographs is to be looked at
there, since towers trained long have activations a hundred times as large as the others, which share their scale.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from cpu import rough

from smolcli.backends.vision.openvino import Graph
from smolcli.backends.vision.openvino_import import Constant, op, ov
from smolcli.backends.vision.siglip import Matrix, Siglip
from smolcli.models.gguf_header import read_header
from smolcli.system.cpu import usable_cores

MOST = 127  # of a symmetric int8
CALIBRATION = 2  # tiles


class Dynamic(Graph):
    """Matrices as int8 with a scale; OpenVINO finds that of the activations."""

    def _matrix(self, matrix: Matrix) -> Any:
        weight = np.asarray(self.tower.weight(matrix), np.float32)
        scale = np.abs(weight).max(1, keepdims=True) / MOST
        data = np.round(weight / scale).astype(np.int8)
        self._made.append(data)
        constant = Constant(ov.Tensor(data, ov.Shape(data.shape), ov.Type.i8), shared_memory=True)
        return op.multiply(op.convert(constant, "f32"), scale)


class Observed(Graph):
    """Its outputs beside the first are the inputs of its products, in the order of `names`."""

    def model(self) -> Any:
        self.inputs: list[Any] = []
        self.names: dict[str, int] = {}  # of a product -> which of them
        made = super().model()
        made.add_outputs([value.output(0) for value in self.inputs])
        return made

    def _linear(self, value: Any, matrix: Matrix) -> Any:
        if not any(value is one for one in self.inputs):
            self.inputs.append(value)
        self.names[matrix.name] = next(n for n, one in enumerate(self.inputs) if one is value)
        return super()._linear(value, matrix)


class Static(Graph):
    """Weights and activations as int8 in given ranges; the projector stays as it is."""

    ranges: dict[str, tuple[np.float32, np.float32]]

    def _linear(self, value: Any, matrix: Matrix) -> Any:
        low, high = self.ranges[matrix.name]
        return super()._linear(op.fake_quantize(value, low, high, low, high, 256), matrix)

    def _matrix(self, matrix: Matrix) -> Any:
        if matrix.name not in self.ranges:
            return super()._matrix(matrix)
        weight = np.asarray(self.tower.weight(matrix), np.float32)
        most = np.abs(weight).max(1, keepdims=True)
        return op.fake_quantize(op.constant(weight), -most, most, -most, most, 2 * MOST + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mmproj", type=Path)
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    tower = Siglip(args.mmproj, read_header(args.mmproj).shapes["mm.model.fc.weight"][1])
    core = ov.Core()

    def request(graph: Graph, precision: str, **more: object) -> tuple[Any, Graph]:
        config = {
            "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": usable_cores(), "ENABLE_CPU_PINNING": False,
        }  # fmt: skip
        return core.compile_model(graph.model(), "CPU", {**config, **more}).create_infer_request(), graph

    observed = Observed(tower, bfloat16=False)
    seen = request(observed, "f32")[0]
    seen.infer([tiles(tower.side, CALIBRATION, seed=1000)])
    found = [seen.get_output_tensor(1 + n).data for n in range(len(observed.inputs))]
    Static.ranges = {name: (found[n].min(), found[n].max()) for name, n in observed.names.items()}
    precisions = ["f32"]
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        precisions.append("bf16")
    made: dict[str, tuple[Any, Graph]] = {}
    for precision in precisions:
        made[precision] = request(Graph(tower, precision == "bf16"), precision)
        for each, group in (("32 numbers", 32), ("token", 2**40)):
            dynamic = request(Dynamic(tower, False), precision, DYNAMIC_QUANTIZATION_GROUP_SIZE=group)
            made[f"{precision}, int8 dynamic, a scale for each {each}"] = dynamic
        made[f"{precision}, int8 static"] = request(Static(tower, False), precision)
    given = tiles(tower.side, args.tiles, seed=0)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    outputs = {}
    for number in range(args.rounds + 1):  # the first lays the matrices out
        for name, (one, _) in made.items():
            begun = perf_counter()
            one.infer([given])
            if number:
                seconds[name].append((perf_counter() - begun) / args.tiles)
            outputs[name] = one.get_output_tensor(0).data.reshape(args.tiles, -1).astype(np.float64)
    exact = outputs["f32"]
    for name, found in outputs.items():
        lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(found, axis=1)
        cosine = ((exact * found).sum(1) / lengths).min()
        ratio = np.median(np.array(seconds[name]) / np.array(seconds["f32"]))
        print(f"{name}: {1e3 * np.median(seconds[name]):.1f} ms a tile, {ratio:.2f} of float32, cosine {cosine:.6f}")


def tiles(side: int, count: int, seed: int) -> np.ndarray:
    """uint8 (count, side, side, 3)."""
    return np.stack([np.asarray(rough(seed + number, side, side)) for number in range(count)])


if __name__ == "__main__":
    main()
