"""llamacpp/token_embeddings.py: the rows of the table are those of the checkpoint and of the package gguf."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smolcli.backends.llamacpp.token_embeddings import TokenEmbeddings
from smolcli.converters import convert
from smolcli.errors import ModelError
from smolcli.models.files import ModelFiles
from smolcli.models.gguf_header import read_header
from tests.tiny import make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("embeddings") / "Tiny", "v1", 7)


@pytest.fixture(scope="module")
def files(checkpoint: Path) -> ModelFiles:
    return ModelFiles("Tiny", checkpoint, *convert(checkpoint, checkpoint, "f32", "f32"))


def test_rows_are_those_of_the_checkpoint(checkpoint: Path, files: ModelFiles) -> None:
    from safetensors.numpy import load_file

    [weights] = [
        value
        for name, value in load_file(checkpoint / "model.safetensors").items()
        if name.endswith("embed_tokens.weight")
    ]
    assert files.gguf is not None
    table = TokenEmbeddings(files.gguf, read_header(files.gguf))
    assert np.array_equal(table.lookup([3, 0, 3, 383]), weights[[3, 0, 3, 383]].astype(np.float32))
    assert table.lookup([]).shape == (0, weights.shape[1])


@pytest.mark.parametrize("quant", ["bf16", "q8_0", "q4_0"])
def test_rows_are_dequantized_as_the_package_gguf_does(checkpoint: Path, tmp_path: Path, quant: str) -> None:
    from gguf import GGMLQuantizationType, GGUFReader
    from gguf.quants import dequantize

    path, _ = convert(checkpoint, tmp_path, quant, "f32")
    [tensor] = [tensor for tensor in GGUFReader(path).tensors if tensor.name == "token_embd.weight"]
    expected = dequantize(tensor.data, tensor.tensor_type)
    assert tensor.tensor_type in (GGMLQuantizationType.BF16, GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0)
    rows = TokenEmbeddings(path, read_header(path)).lookup(range(len(expected)))
    assert rows.dtype == np.float32 and np.array_equal(rows, expected)


def test_a_file_without_a_table_is_an_error(files: ModelFiles) -> None:
    assert files.mmproj is not None
    with pytest.raises(ModelError, match=r"has no token_embd.weight"):
        TokenEmbeddings(files.mmproj, read_header(files.mmproj))
