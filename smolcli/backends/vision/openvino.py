"""The OpenVINO vision encoder: the numbers of mtmd on the CPU, several times as fast."""

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
from smolcli.backends.vision.openvino_cache import compile_or_load
from smolcli.backends.vision.openvino_import import Constant, op, ov
from smolcli.backends.vision.siglip import Matrix, SiglipFile
from smolcli.errors import UnavailableError
from smolcli.options import Model
from smolcli.system import memory
from smolcli.system.cpu import usable_cores

BATCH_SIZE = 4  # tiles; more are hardly faster, and each takes 30 MB or more while it is encoded
# By --dtype: OpenVINO's name of the type, and the capability of CPUs that compute in it natively.
PRECISIONS = {"float32": ("f32", "FP32"), "bfloat16": ("bf16", "BF16"), "float16": ("f16", "FP16")}
OPENVINO_TYPES = {Type.F32: ov.Type.f32, Type.F16: ov.Type.f16, Type.BF16: ov.Type.bf16}
# The attribute of a Convert that keeps a matrix in its type. Without it OpenVINO converts the matrix to float32 before
# it repacks it, and keeps both.
DECOMPRESSION = "decompression_0"

Node = Any  # openvino has no types


class OpenVinoEncoder:
    """A VisionEncoder that encodes several tiles at once."""

    def __init__(self, mmproj: Path, layout: Layout, language: LanguageModel, options: Model) -> None:
        self._layout = layout
        core = ov.Core()
        self.dtype = _resolve_dtype(core, options.dtype)
        precision = PRECISIONS[self.dtype][0]
        config = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": options.threads or usable_cores(),
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # pinning would put several processes on the same cores
        }
        self._graph: Graph | None = Graph(SiglipFile(mmproj, language.embedding_size), bfloat16=precision == "bf16")
        try:
            self._compiled, self._cache_file = _compile(core, config, self._graph, mmproj)
            self._request: Any = self._compiled.create_infer_request()
        except RuntimeError as error:
            raise siglip.engine_error("OpenVINO", f"compile {mmproj}", error) from error
        self._mapped = [mmproj]  # files in the page cache, until the first tile is encoded
        if self._cache_file is not None:
            self._mapped.append(Path(self._cache_file.filename))
        self._embedding_cache = EmbeddingCache(lambda tiles: self._encode(tiles), BATCH_SIZE)

    def encode(self, tiles: Sequence[bytes], upcoming: Iterable[bytes] = ()) -> list[Embeddings]:
        return self._embedding_cache.get(tiles, upcoming)

    def clear_cache(self) -> None:
        self._embedding_cache.clear()

    def close(self) -> None:
        self._request = self._compiled = self._cache_file = self._graph = None

    def _encode(self, tiles: Sequence[bytes]) -> Sequence[Embeddings]:
        side = self._layout.tile
        pixels = np.frombuffer(b"".join(tiles), np.uint8).reshape(len(tiles), side, side, 3)
        try:
            self._request.infer([pixels])
            while self._mapped:
                memory.drop_from_page_cache(self._mapped.pop())  # OpenVINO has repacked the matrices
        except RuntimeError as error:
            raise siglip.engine_error("OpenVINO", "encode a tile", error) from error
        embeddings: Sequence[Embeddings] = self._request.get_output_tensor(0).data.copy()
        return embeddings


class Graph:
    """Builds the OpenVINO model of a vision half. `bfloat16` says that the model will be computed in that type.

    Its input `tiles` is uint8 (tiles, side, side, 3), its output float32 (tiles, tokens, hidden).

    Matrices that the file has in a type of OpenVINO's are read from the mapped file; OpenVINO repacks them for the CPU
    when the first tile is encoded. Other matrices are converted to such a type. The graph owns the memory of all of
    them, so it must outlive what is compiled from `model`.
    """

    def __init__(self, file: SiglipFile, bfloat16: bool) -> None:
        self.file, self._bfloat16 = file, bfloat16
        self._converted: list[NDArray[Any]] = []

    def model(self) -> ov.Model:
        """Build the model. Raises ModelError if a tensor is missing or has another shape than the keys say."""
        file = self.file
        with file.name_file_in_errors():
            tiles = op.parameter(ov.PartialShape([-1, file.side, file.side, siglip.CHANNELS]), np.uint8, "tiles")
            value = self._embed_patches(tiles)
            for layer in range(file.layers):
                block = f"v.blk.{layer}"
                value = op.add(value, self._attention(self._norm(value, f"{block}.ln1"), block))
                value = op.add(value, self._feed_forward(self._norm(value, f"{block}.ln2"), block))
            return ov.Model([self._project(self._norm(value, "v.post_ln"))], [tiles], "vision")

    def _embed_patches(self, tiles: Node) -> Node:
        """Turn pixels into the embeddings of patches: (tiles, patches, hidden)."""
        file = self.file
        value = op.multiply(op.convert(tiles, "f32"), np.float32(1 / 255))
        value = op.transpose(op.divide(op.subtract(value, file.mean), file.deviation), [0, 3, 1, 2])
        filters = file.exact("v.patch_embd.weight", file.hidden, siglip.CHANNELS, file.patch, file.patch)
        value = op.convolution(value, filters, [file.patch, file.patch], [0, 0], [0, 0], [1, 1])
        value = op.transpose(op.reshape(value, [0, file.hidden, file.patches], True), [0, 2, 1])
        value = op.add(value, file.exact("v.patch_embd.bias", file.hidden))
        return op.add(value, file.exact("v.position_embd.weight", file.patches, file.hidden))

    def _attention(self, value: Node, block: str) -> Node:
        file = self.file
        *projections, out = file.attention(block)
        by_head = [0, file.patches, file.heads, file.hidden // file.heads]
        heads = [
            op.transpose(op.reshape(self._linear(value, projection), by_head, True), [0, 2, 1, 3])
            for projection in projections
        ]
        mixed = op.transpose(op.scaled_dot_product_attention(*heads), [0, 2, 1, 3])
        return self._linear(op.reshape(mixed, [0, file.patches, file.hidden], True), out)

    def _feed_forward(self, value: Node, block: str) -> Node:
        up, down = self.file.feed_forward(block)
        return self._linear(op.gelu(self._linear(value, up), "tanh"), down)

    def _project(self, value: Node) -> Node:
        """Merge scale x scale patches into one token (the pixel shuffle), and project tokens to the language half."""
        scale, hidden = self.file.scale, self.file.hidden
        along = self.file.patches_along // scale
        value = op.reshape(value, [0, along, scale, along, scale * hidden], True)
        merged = [0, along * along, hidden * scale * scale]
        value = op.reshape(op.transpose(value, [0, 1, 3, 2, 4]), merged, True)
        return op.matmul(value, self._matrix(self.file.projector), False, True)

    def _linear(self, value: Node, matrix: Matrix) -> Node:
        product = op.matmul(value, self._matrix(matrix), False, True)
        return op.add(product, self.file.exact(f"{matrix.name}.bias", matrix.outputs))

    def _norm(self, value: Node, name: str) -> Node:
        weight, bias = (self.file.exact(f"{name}.{part}", self.file.hidden) for part in ("weight", "bias"))
        return op.add(op.multiply(op.mvn(value, [-1], True, self.file.epsilon, "inside_sqrt"), weight), bias)

    def _matrix(self, matrix: Matrix) -> Node:
        ggml_type = self.file.ggml_type(matrix)
        data = self.file.weight(matrix)
        if ggml_type not in OPENVINO_TYPES:
            ggml_type = Type.BF16 if self._bfloat16 else Type.F32
            data = quantize(data, ggml_type)
            self._converted.append(data)
        shape = ov.Shape([matrix.outputs, matrix.inputs])
        constant = Constant(ov.Tensor(data, shape, OPENVINO_TYPES[ggml_type]), shared_memory=True)
        if ggml_type == Type.F32:
            return constant
        converted = op.convert(constant, "f32")
        converted.get_rt_info()[DECOMPRESSION] = True
        return converted


def _compile(core: Any, config: dict[str, Any], graph: Graph, mmproj: Path) -> tuple[Any, Any]:
    """Compile the model of `graph`, or load it from the cache.

    Returns the compiled model, and the mapped file of the cache or None. Both `graph` and the file must outlive the
    model.
    """
    precision = config["INFERENCE_PRECISION_HINT"]
    is_small = mmproj.stat().st_size < select.MIN_BYTES_FOR_LOADED_ENCODER

    # Without quantized matrices only repacking takes time, and a cached model is repacked again.
    if not graph.file.is_quantized or precision == "f32" or is_small:
        return core.compile_model(graph.model(), "CPU", config), None
    sources = [Path(file).read_bytes() for file in (__file__, siglip.__file__)]
    return compile_or_load(core, config, graph.model, mmproj, precision, sources)


def auto_dtype(capabilities: Sequence[str] = ()) -> str:
    """Return what --dtype auto is on a CPU with these OpenVINO capabilities; by default on this one."""
    capabilities = capabilities or ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bfloat16" if "BF16" in capabilities else "float32"


def _resolve_dtype(core: Any, dtype: str) -> str:
    """Return the type to compute in. `auto` is bfloat16 on CPUs that compute in it: it is several times as fast.

    Raises UnavailableError if OpenVINO does not compute in `dtype` on this CPU.
    """
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if dtype == "auto":
        dtype = auto_dtype(capabilities)
    if PRECISIONS[dtype][1] not in capabilities:
        advice = "leave out --dtype, or add --vision-engine torch"
        raise UnavailableError(f"on this CPU OpenVINO does not compute in {dtype}", advice)
    return dtype
