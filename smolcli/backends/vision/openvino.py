"""The vision half of a GGUF pair through OpenVINO on the CPU: what mtmd gives, several times sooner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import quantize
from numpy.typing import NDArray

from smolcli.backends.embedding_cache import EmbeddingCache
from smolcli.backends.image_processor import Layout
from smolcli.backends.vision import select, siglip
from smolcli.backends.vision.base import Embeddings, LanguageModel
from smolcli.backends.vision.openvino_cache import compiled
from smolcli.backends.vision.openvino_import import Constant, op, ov
from smolcli.backends.vision.siglip import Matrix, Siglip
from smolcli.errors import UnavailableError
from smolcli.options import Model
from smolcli.system import memory
from smolcli.system.cpu import usable_cores

TILES_AT_ONCE = 4  # more are hardly faster, and each takes 30 MB or more at work
# By --dtype: OpenVINO's name of the type, and the capability of a CPU that computes in it by itself.
PRECISIONS = {"float32": ("f32", "FP32"), "bfloat16": ("bf16", "BF16"), "float16": ("f16", "FP16")}
NATIVE = {Type.F32: ov.Type.f32, Type.F16: ov.Type.f16, Type.BF16: ov.Type.bf16}
# The attribute of a Convert that says a matrix is to stay as it is. Without it OpenVINO makes float32 of the matrix
# before it lays it out, and keeps both.
DECOMPRESSION = "decompression_0"

Node = Any  # openvino has no types


class OpenVinoEncoder:
    """Encodes tiles several at a time, as backends/vision/base.py says."""

    def __init__(self, mmproj: Path, layout: Layout, language: LanguageModel, options: Model) -> None:
        self._layout = layout
        core = ov.Core()
        self.dtype = _dtype(core, options.dtype)
        precision = PRECISIONS[self.dtype][0]
        config = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": options.threads or usable_cores(),
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # other processes would be pinned to the same cores
        }
        self._graph: Graph | None = Graph(Siglip(mmproj, language.embedding), bfloat16=precision == "bf16")
        try:
            self._compiled, self._held = _compiled(core, config, self._graph, mmproj)
            self._request: Any = self._compiled.create_infer_request()
        except RuntimeError as error:
            raise siglip.failed("OpenVINO", f"compile {mmproj}", error) from error
        self._mapped = [mmproj]  # until the first tile is encoded
        if self._held is not None:
            self._mapped.append(Path(self._held.filename))
        self._encoded = EmbeddingCache(lambda tiles: self._encode(tiles), TILES_AT_ONCE)

    def encode(self, tiles: Sequence[bytes], next_ones: Iterable[bytes] = ()) -> list[Embeddings]:
        return self._encoded.of(tiles, next_ones)

    def forget(self) -> None:
        self._encoded.clear()

    def close(self) -> None:
        self._request = self._compiled = self._held = self._graph = None

    def _encode(self, tiles: Sequence[bytes]) -> Sequence[Embeddings]:
        side = self._layout.tile
        pixels = np.frombuffer(b"".join(tiles), np.uint8).reshape(len(tiles), side, side, 3)
        try:
            self._request.infer([pixels])
            while self._mapped:
                memory.drop_from_page_cache(self._mapped.pop())  # the matrices have been laid out anew
        except RuntimeError as error:
            raise siglip.failed("OpenVINO", "encode a tile", error) from error
        embeddings: Sequence[Embeddings] = self._request.get_output_tensor(0).data.copy()
        return embeddings


class Graph:
    """A tower as an OpenVINO model. One input, `tiles`: uint8 (tiles, side, side, 3); one output: float32 (tiles,
    tokens, embedding). With `bfloat16`, it will be computed in that.

    Matrices that the file has in a type of OpenVINO's stay in the file; they are laid out anew for the CPU when the
    first tile is encoded. Others are made such a type. It has the memory of all of them: it is to live as long as what
    is compiled of `model`.
    """

    def __init__(self, tower: Siglip, bfloat16: bool) -> None:
        self.tower, self._bfloat16 = tower, bfloat16
        self._made: list[NDArray[Any]] = []

    def model(self) -> ov.Model:
        """The whole. Raises ModelError where a tensor is missing or has another shape."""
        tower = self.tower
        with tower.told():
            tiles = op.parameter(ov.PartialShape([-1, tower.side, tower.side, siglip.COLOURS]), np.uint8, "tiles")
            value = self._embedded(tiles)
            for layer in range(tower.layers):
                block = f"v.blk.{layer}"
                value = op.add(value, self._attention(self._norm(value, f"{block}.ln1"), block))
                value = op.add(value, self._feed_forward(self._norm(value, f"{block}.ln2"), block))
            return ov.Model([self._projected(self._norm(value, "v.post_ln"))], [tiles], "vision")

    def _embedded(self, tiles: Node) -> Node:
        """Pixels to patches, (tiles, patches, hidden)."""
        tower = self.tower
        value = op.multiply(op.convert(tiles, "f32"), np.float32(1 / 255))
        value = op.transpose(op.divide(op.subtract(value, tower.mean), tower.deviation), [0, 3, 1, 2])
        filters = tower.exact("v.patch_embd.weight", tower.hidden, siglip.COLOURS, tower.patch, tower.patch)
        value = op.convolution(value, filters, [tower.patch, tower.patch], [0, 0], [0, 0], [1, 1])
        value = op.transpose(op.reshape(value, [0, tower.hidden, tower.patches], True), [0, 2, 1])
        value = op.add(value, tower.exact("v.patch_embd.bias", tower.hidden))
        return op.add(value, tower.exact("v.position_embd.weight", tower.patches, tower.hidden))

    def _attention(self, value: Node, block: str) -> Node:
        tower = self.tower
        *parts, out = tower.attention(block)
        apart = [0, tower.patches, tower.heads, tower.hidden // tower.heads]
        heads = [op.transpose(op.reshape(self._linear(value, part), apart, True), [0, 2, 1, 3]) for part in parts]
        mixed = op.transpose(op.scaled_dot_product_attention(*heads), [0, 2, 1, 3])
        return self._linear(op.reshape(mixed, [0, tower.patches, tower.hidden], True), out)

    def _feed_forward(self, value: Node, block: str) -> Node:
        up, down = self.tower.feed_forward(block)
        return self._linear(op.gelu(self._linear(value, up), "tanh"), down)

    def _projected(self, value: Node) -> Node:
        """The pixel shuffle, scale x scale patches to one token, and each token as the language half takes it."""
        scale, squares, hidden = self.tower.scale, self.tower.along // self.tower.scale, self.tower.hidden
        value = op.reshape(value, [0, squares, scale, squares, scale * hidden], True)
        merged = [0, squares * squares, hidden * scale * scale]
        value = op.reshape(op.transpose(value, [0, 1, 3, 2, 4]), merged, True)
        return op.matmul(value, self._matrix(self.tower.projector), False, True)

    def _linear(self, value: Node, matrix: Matrix) -> Node:
        product = op.matmul(value, self._matrix(matrix), False, True)
        return op.add(product, self.tower.exact(f"{matrix.name}.bias", matrix.outputs))

    def _norm(self, value: Node, name: str) -> Node:
        weight, bias = (self.tower.exact(f"{name}.{part}", self.tower.hidden) for part in ("weight", "bias"))
        return op.add(op.multiply(op.mvn(value, [-1], True, self.tower.epsilon, "inside_sqrt"), weight), bias)

    def _matrix(self, matrix: Matrix) -> Node:
        kind = self.tower.kind(matrix)
        data = self.tower.weight(matrix)
        if kind not in NATIVE:
            kind = Type.BF16 if self._bfloat16 else Type.F32
            data = quantize(data, kind)
            self._made.append(data)
        shape = ov.Shape([matrix.outputs, matrix.inputs])
        constant = Constant(ov.Tensor(data, shape, NATIVE[kind]), shared_memory=True)
        if kind == Type.F32:
            return constant
        whole = op.convert(constant, "f32")
        whole.get_rt_info()[DECOMPRESSION] = True
        return whole


def _compiled(core: Any, config: dict[str, Any], graph: Graph, mmproj: Path) -> tuple[Any, Any]:
    """The compiled model, and the mapped file that is to live as long as it does beside `graph`, if there is one."""
    precision = config["INFERENCE_PRECISION_HINT"]

    # Matrices that OpenVINO takes as they are need no disk: laying them out is all that takes time, and is not kept.
    if not graph.tower.is_quantized or precision == "f32" or mmproj.stat().st_size < select.LARGE:
        return core.compile_model(graph.model(), "CPU", config), None
    makers = [Path(file).read_bytes() for file in (__file__, siglip.__file__)]
    return compiled(core, config, graph.model, mmproj, precision, makers)


def auto_dtype(able: Sequence[str] = ()) -> str:
    """What --dtype auto is on this CPU, or on one with these capabilities."""
    able = able or ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bfloat16" if "BF16" in able else "float32"


def _dtype(core: Any, dtype: str) -> str:
    """What is computed in: for auto bfloat16 where the CPU does, for it is several times as fast."""
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if dtype == "auto":
        dtype = auto_dtype(able)
    if PRECISIONS[dtype][1] not in able:
        advice = "leave out --dtype, or add --vision-engine torch"
        raise UnavailableError(f"on this CPU OpenVINO does not compute in {dtype}", advice)
    return dtype
