"""Reads the vision half of a GGUF pair; openvino.py and pytorch.py build the vision tower from it.

    file = SiglipFile(mmproj, 576)
    with file.name_file_in_errors():
        file.layers, file.exact("v.post_ln.bias", file.hidden)

The tower is SigLIP's, followed by Idefics3's pixel shuffle and the projector, as llama.cpp's clip.cpp builds it from an
idefics3 mmproj and transformers' modeling_idefics3.py from a checkpoint.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader
from gguf.quants import dequantize
from numpy.typing import NDArray

from smolcli.errors import EngineError, ErrorKind, ModelError
from smolcli.system.memory import is_out_of_memory

FLOAT_TYPES = (Type.F32, Type.F16, Type.BF16)  # what the libraries compute with; others are converted to one of these
CHANNELS = 3


class Matrix(NamedTuple):
    """The name of a matrix in the file, without `.weight`, and its shape (outputs, inputs)."""

    name: str
    outputs: int
    inputs: int


class SiglipFile:
    """An mmproj file whose header gguf_layout.read_layout has checked.

    Its tensors are mapped into memory for as long as this object lives. A tile has `patches` patches, `patches_along`
    along a side; `scale` x `scale` of them become one token. Raises ModelError if the file is not such a tower, or if
    its embeddings have not `embedding_size` floats.
    """

    def __init__(self, mmproj: Path, embedding_size: int) -> None:
        self.mmproj = mmproj
        with self.name_file_in_errors():
            reader = GGUFReader(mmproj, "c")  # copy on write: OpenVINO only accepts writable memory
            self._fields = reader.fields
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}
            self.side, self.patch, self.hidden = map(self._size, ("image_size", "patch_size", "embedding_length"))
            self.patches_along = self.side // self.patch
            self.patches = self.patches_along * self.patches_along
            self.heads, self.layers = map(self._size, ("attention.head_count", "block_count"))
            if self.hidden % self.heads:
                raise ValueError(f"{self.heads} heads of {self.hidden}")
            self.epsilon = float(self._key("clip.vision.attention.layer_norm_epsilon"))
            self.mean, self.deviation = map(self._per_channel, ("clip.vision.image_mean", "clip.vision.image_std"))
            if not self._key("clip.use_gelu"):
                raise ValueError("its activation is not GELU")
            self.scale = self._size("projector.scale_factor")
            width = self._matrix("mm.model.fc").outputs
            self.projector = Matrix("mm.model.fc", width, self.hidden * self.scale**2)
        if width != embedding_size:
            raise ModelError(f"{mmproj} does not fit this language model", "give the mmproj made with it")

    @property
    def is_quantized(self) -> bool:
        """Whether some matrices must be converted, which takes longer than everything else."""
        return any(tensor.tensor_type not in FLOAT_TYPES for tensor in self._tensors.values())

    def attention(self, block: str) -> list[Matrix]:
        """Return the projections to queries, keys and values, and the output projection."""
        return [Matrix(f"{block}.attn_{name}", self.hidden, self.hidden) for name in ("q", "k", "v", "out")]

    def feed_forward(self, block: str) -> tuple[Matrix, Matrix]:
        """Return the up and the down projection."""
        up, down = self._matrix(f"{block}.ffn_up"), f"{block}.ffn_down"
        if up.inputs == self.hidden:
            return up, Matrix(down, self.hidden, up.outputs)
        return Matrix(down, up.inputs, self.hidden), up  # in old files their names are swapped

    def ggml_type(self, matrix: Matrix) -> Type:
        """Return the type of a matrix in the file."""
        return Type(self._tensors[f"{matrix.name}.weight"].tensor_type)

    def weight(self, matrix: Matrix) -> NDArray[Any]:
        """Return a matrix, (outputs, inputs).

        It has the type of the file if that is one of FLOAT_TYPES (bfloat16 as bytes), otherwise float32.
        """
        tensor = self._tensor(f"{matrix.name}.weight", matrix.outputs, matrix.inputs)
        if tensor.tensor_type in FLOAT_TYPES:
            data: NDArray[Any] = tensor.data
            return data
        return dequantize(tensor.data, tensor.tensor_type)

    def exact(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Return a copy of a tensor in float32, for biases, norms and other small tensors."""
        tensor = self._tensor(name, *shape)
        return np.array(dequantize(tensor.data, tensor.tensor_type), np.float32).reshape(shape)

    @contextlib.contextmanager
    def name_file_in_errors(self) -> Iterator[None]:
        """Turn the exceptions of reading a damaged file into a ModelError that names it."""
        advice = "fetch or convert it again, or use --vision-engine mtmd"
        try:
            yield
        except KeyError as error:
            raise ModelError(f"{self.mmproj} lacks {error}", advice) from error
        except (ValueError, TypeError, ArithmeticError, RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise engine_error("this machine", f"hold {self.mmproj} in memory", error) from error
            raise ModelError(f"{self.mmproj} is damaged, or no SigLIP tower: {_last_line(error)}", advice) from error

    def _matrix(self, name: str) -> Matrix:
        inputs, outputs = map(int, self._tensors[f"{name}.weight"].shape)
        return Matrix(name, outputs, inputs)

    def _tensor(self, name: str, *shape: int) -> Any:
        tensor = self._tensors[name]
        if tuple(map(int, reversed(tensor.shape))) != shape:
            raise ValueError(f"the shape of {name}")
        return tensor

    def _per_channel(self, key: str) -> NDArray[np.float32]:
        values = np.array(self._key(key), np.float32)
        if values.shape != (CHANNELS,):
            raise ValueError(f"{key} is {values}")
        return values

    def _size(self, key: str) -> int:
        size = int(self._key(f"clip.vision.{key}"))
        if size < 1:
            raise ValueError(f"{key} is {size}")
        return size

    def _key(self, name: str) -> Any:
        return self._fields[name].contents()


def engine_error(library: str, action: str, error: Exception) -> EngineError:
    """Return the EngineError "LIBRARY could not ACTION" for an exception of that library."""
    kind = ErrorKind.MEMORY if is_out_of_memory(error) else None
    return EngineError(f"{library} could not {action}: {_last_line(error)}", "try --vision-engine mtmd", kind=kind)


def _last_line(error: Exception) -> str:
    """The last line of a message; those of OpenVINO begin with places in its source."""
    return str(error).strip().rpartition("\n")[2]
