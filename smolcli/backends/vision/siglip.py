"""The vision half of a GGUF pair as its file has it: what openvino.py and pytorch.py make their towers of.

    tower = Siglip(mmproj, 576)
    with tower.told():
        tower.layers, tower.exact("v.post_ln.bias", tower.hidden)

The tower is SigLIP's, then come Idefics3's pixel shuffle and the projector: what llama.cpp's clip.cpp makes of an
idefics3 mmproj, and transformers' modeling_idefics3.py of its checkpoint.
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

from smolcli.errors import EngineError, ModelError
from smolcli.system.memory import is_out_of_memory

PLAIN = (Type.F32, Type.F16, Type.BF16)  # types that a library computes with; all others are made one of these
COLOURS = 3


class Matrix(NamedTuple):
    """The name of a matrix in the file, without `.weight`, and its shape."""

    name: str
    outputs: int
    inputs: int


class Siglip:
    """An mmproj whose head mtmd.layout_of has found sound.

    Its tensors stay in the file, mapped into memory for as long as it lives. A tile has `patches` patches, `along`
    along a side; `scale` x `scale` of them become one token. Raises ModelError for what is no such tower, and for one
    that makes other embeddings than of `embedding` floats.
    """

    def __init__(self, mmproj: Path, embedding: int) -> None:
        self.mmproj = mmproj
        with self.told():
            reader = GGUFReader(mmproj, "c")  # copy on write: OpenVINO takes no memory that it may not write to
            self._fields = reader.fields
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}
            self.side, self.patch, self.hidden = map(self._size, ("image_size", "patch_size", "embedding_length"))
            self.along = self.side // self.patch
            self.patches = self.along * self.along
            self.heads, self.layers = map(self._size, ("attention.head_count", "block_count"))
            if self.hidden % self.heads:
                raise ValueError(f"{self.heads} heads of {self.hidden}")
            self.epsilon = float(self._key("clip.vision.attention.layer_norm_epsilon"))
            self.mean, self.deviation = (self._colours(f"clip.vision.image_{what}") for what in ("mean", "std"))
            if not self._key("clip.use_gelu"):
                raise ValueError("its activation is not GELU")
            self.scale = self._size("projector.scale_factor")
            width = self._shaped("mm.model.fc").outputs
            self.projector = Matrix("mm.model.fc", width, self.hidden * self.scale**2)
        if width != embedding:
            raise ModelError(f"{mmproj} does not fit this language model", "give the mmproj made with it")

    @property
    def is_quantized(self) -> bool:
        """Whether some matrices must be made another type, which takes longer than all the rest."""
        return any(tensor.tensor_type not in PLAIN for tensor in self._tensors.values())

    def attention(self, block: str) -> list[Matrix]:
        """Queries, keys, values and what mixes them."""
        return [Matrix(f"{block}.attn_{part}", self.hidden, self.hidden) for part in ("q", "k", "v", "out")]

    def feed_forward(self, block: str) -> tuple[Matrix, Matrix]:
        """Up and down."""
        up, down = self._shaped(f"{block}.ffn_up"), f"{block}.ffn_down"
        if up.inputs == self.hidden:
            return up, Matrix(down, self.hidden, up.outputs)
        return Matrix(down, up.inputs, self.hidden), up  # in files of old the two have each other's names

    def kind(self, matrix: Matrix) -> Type:
        """The type in which the file has it."""
        return Type(self._tensors[f"{matrix.name}.weight"].tensor_type)

    def weight(self, matrix: Matrix) -> NDArray[Any]:
        """(outputs, inputs) as the file has it, where its kind is one of PLAIN, bfloat16 as bytes; else float32."""
        tensor = self._tensor(f"{matrix.name}.weight", matrix.outputs, matrix.inputs)
        if tensor.tensor_type in PLAIN:
            data: NDArray[Any] = tensor.data
            return data
        return dequantize(tensor.data, tensor.tensor_type)

    def exact(self, name: str, *shape: int) -> NDArray[np.float32]:
        """What is small, or is no matrix, in memory of its own."""
        tensor = self._tensor(name, *shape)
        return np.array(dequantize(tensor.data, tensor.tensor_type), np.float32).reshape(shape)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turns what a damaged file makes of the code into an error that names it."""
        advice = "fetch or convert it again, or use --vision-engine mtmd"
        try:
            yield
        except KeyError as error:
            raise ModelError(f"{self.mmproj} lacks {error}", advice) from error
        except (ValueError, TypeError, ArithmeticError, RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise failed("this machine", f"hold {self.mmproj} in memory", error) from error
            raise ModelError(f"{self.mmproj} is damaged, or no SigLIP tower: {_last_line(error)}", advice) from error

    def _shaped(self, name: str) -> Matrix:
        inputs, outputs = map(int, self._tensors[f"{name}.weight"].shape)
        return Matrix(name, outputs, inputs)

    def _tensor(self, name: str, *shape: int) -> Any:
        tensor = self._tensors[name]
        if tuple(map(int, reversed(tensor.shape))) != shape:
            raise ValueError(f"the shape of {name}")
        return tensor

    def _colours(self, key: str) -> NDArray[np.float32]:
        values = np.array(self._key(key), np.float32)
        if values.shape != (COLOURS,):
            raise ValueError(f"{key} is {values}")
        return values

    def _size(self, key: str) -> int:
        size = int(self._key(f"clip.vision.{key}"))
        if size < 1:
            raise ValueError(f"{key} is {size}")
        return size

    def _key(self, name: str) -> Any:
        return self._fields[name].contents()


def failed(library: str, what: str, error: Exception) -> EngineError:
    """The error of an encoder whose library could not do something."""
    kind = "memory" if is_out_of_memory(error) else None
    return EngineError(f"{library} could not {what}: {_last_line(error)}", "try --vision-engine mtmd", kind=kind)


def _last_line(error: Exception) -> str:
    """What an error says in the end; OpenVINO's begin with places in its source."""
    return str(error).strip().rpartition("\n")[2]
