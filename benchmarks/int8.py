"""Measures the speed and accuracy of OpenVINO's int8 modes for the vision encoder, against float32 on the same CPU.

    python benchmarks/int8.py MMPROJ.gguf [--tiles 4] [--rounds 5]

Weights are quantized to int8 with a scale for each output. `dynamic` computes a scale of the activations at run time,
for each token or for each group of numbers in a token; `static` uses a range for each matrix product, calibrated on
other tiles. The cosine is the lowest similarity of a tile's embeddings to those in float32, on generated pictures.
Measure it again with published weights on photographs: in towers trained for long a few activations are a hundred
times as large as the others that share their scale.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from rivals import rough

from smolcli.backends.vision.openvino import Graph
from smolcli.backends.vision.openvino_import import Constant, op, ov
from smolcli.backends.vision.siglip import Matrix, SiglipFile
from smolcli.models.gguf_header import read_header
from smolcli.system.cpu import usable_cores

INT8_MAX = 127  # of a symmetric int8
CALIBRATION = 2  # tiles


class Dynamic(Graph):
    """Weights as int8 with a scale; OpenVINO computes that of the activations at run time."""

    def _matrix(self, matrix: Matrix) -> Any:
        weight = np.asarray(self.file.weight(matrix), np.float32)
        scale = np.abs(weight).max(1, keepdims=True) / INT8_MAX
        data = np.round(weight / scale).astype(np.int8)
        self._converted.append(data)
        constant = Constant(ov.Tensor(data, ov.Shape(data.shape), ov.Type.i8), shared_memory=True)
        return op.multiply(op.convert(constant, "f32"), scale)


class Observed(Graph):
    """Also outputs the inputs of its matrix products, after the first output; `names` has their order."""

    def model(self) -> Any:
        self.inputs: list[Any] = []
        self.names: dict[str, int] = {}  # a product's matrix -> index of its input
        model = super().model()
        model.add_outputs([value.output(0) for value in self.inputs])
        return model

    def _linear(self, value: Any, matrix: Matrix) -> Any:
        if not any(value is known for known in self.inputs):
            self.inputs.append(value)
        self.names[matrix.name] = next(n for n, known in enumerate(self.inputs) if known is value)
        return super()._linear(value, matrix)


class Static(Graph):
    """Weights and activations as int8 with calibrated ranges; the projector is not quantized."""

    ranges: dict[str, tuple[np.float32, np.float32]]

    def _linear(self, value: Any, matrix: Matrix) -> Any:
        low, high = self.ranges[matrix.name]
        return super()._linear(op.fake_quantize(value, low, high, low, high, 256), matrix)

    def _matrix(self, matrix: Matrix) -> Any:
        if matrix.name not in self.ranges:
            return super()._matrix(matrix)
        weight = np.asarray(self.file.weight(matrix), np.float32)
        limit = np.abs(weight).max(1, keepdims=True)
        return op.fake_quantize(op.constant(weight), -limit, limit, -limit, limit, 2 * INT8_MAX + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mmproj", type=Path)
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    file = SiglipFile(args.mmproj, read_header(args.mmproj).shapes["mm.model.fc.weight"][1])
    core = ov.Core()

    def request(graph: Graph, precision: str, **more: object) -> tuple[Any, Graph]:
        config = {
            "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": usable_cores(), "ENABLE_CPU_PINNING": False,
        }  # fmt: skip
        return core.compile_model(graph.model(), "CPU", {**config, **more}).create_infer_request(), graph

    observed = Observed(file, bfloat16=False)
    calibration = request(observed, "f32")[0]
    calibration.infer([tiles(file.side, CALIBRATION, seed=1000)])
    inputs = [calibration.get_output_tensor(1 + n).data for n in range(len(observed.inputs))]
    Static.ranges = {name: (inputs[n].min(), inputs[n].max()) for name, n in observed.names.items()}
    precisions = ["f32"]
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        precisions.append("bf16")
    requests: dict[str, tuple[Any, Graph]] = {}
    for precision in precisions:
        requests[precision] = request(Graph(file, precision == "bf16"), precision)
        for unit, group in (("32 numbers", 32), ("token", 2**40)):
            dynamic = request(Dynamic(file, False), precision, DYNAMIC_QUANTIZATION_GROUP_SIZE=group)
            requests[f"{precision}, int8 dynamic, a scale for each {unit}"] = dynamic
        requests[f"{precision}, int8 static"] = request(Static(file, False), precision)
    pixels = tiles(file.side, args.tiles, seed=0)
    seconds: dict[str, list[float]] = {name: [] for name in requests}
    outputs = {}
    for number in range(args.rounds + 1):  # the first round also lays out the matrices
        for name, (infer_request, _) in requests.items():
            started = perf_counter()
            infer_request.infer([pixels])
            if number:
                seconds[name].append((perf_counter() - started) / args.tiles)
            outputs[name] = infer_request.get_output_tensor(0).data.reshape(args.tiles, -1).astype(np.float64)
    exact = outputs["f32"]
    for name, embeddings in outputs.items():
        lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(embeddings, axis=1)
        cosine = ((exact * embeddings).sum(1) / lengths).min()
        ratio = np.median(np.array(seconds[name]) / np.array(seconds["f32"]))
        print(f"{name}: {1e3 * np.median(seconds[name]):.1f} ms a tile, {ratio:.2f} of float32, cosine {cosine:.6f}")


def tiles(side: int, count: int, seed: int) -> np.ndarray:
    """uint8 (count, side, side, 3)."""
    return np.stack([np.asarray(rough(seed + number, side, side)) for number in range(count)])


if __name__ == "__main__":
    main()
