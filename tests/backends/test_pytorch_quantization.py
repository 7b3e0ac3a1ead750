"""backends/pytorch_quantization.py: through stand-ins for torchao and bitsandbytes, and where installed, them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from smolcli.backends import pytorch_quantization
from smolcli.backends.pytorch import PyTorch
from smolcli.backends.pytorch_quantization import METHODS, quantizer
from smolcli.backends.select import check_options
from smolcli.errors import UnavailableError, UsageError
from smolcli.models.files import ModelFiles
from smolcli.options import QUANTS, Model
from smolcli.records.record_id import id_options
from smolcli.types import Frame, Prompt
from tests.tiny import make_checkpoint

CPU = torch.device("cpu")
PROMPT = Prompt.user(Frame(bytes(range(48)) * 64, 32, 32), "What is it?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantized") / "Tiny"
    make_checkpoint(folder, "v2", 1, tied=False, tile=64)
    return folder


def load(folder: Path, quant: str) -> PyTorch:
    return PyTorch(ModelFiles("Tiny", folder), Model(threads=1, device="cpu", quant=quant))


def test_every_choice_but_none_has_a_method() -> None:
    assert ("none", *METHODS) == QUANTS


def test_without_quant_a_matrix_stays_the_same_object() -> None:
    weight = torch.ones(2, 3)
    assert quantizer("none", CPU, torch.float32)(weight) is weight


@pytest.mark.parametrize("quant", ["int8", "nf4"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    quant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, METHODS[quant].package, None)
    with pytest.raises(UnavailableError, match=f"--quant {quant} needs {METHODS[quant].package}") as caught:
        quantizer(quant, CPU, torch.float32)
    assert "smolcli[quant]" in str(caught.value.advice)


def test_another_device_is_refused_with_what_it_takes() -> None:
    with pytest.raises(UnavailableError, match="--quant int4 does not run on cpu") as caught:
        quantizer("int4", CPU, torch.bfloat16)
    assert caught.value.advice == "use int8 or nf4"
    with pytest.raises(UnavailableError, match="--quant nf4 does not run on mps"):
        quantizer("nf4", torch.device("mps"), torch.float16)


def test_another_dtype_is_refused() -> None:
    with pytest.raises(UsageError, match="--quant int4 computes in bfloat16 alone"):
        quantizer("int4", torch.device("cuda"), torch.float16)


def test_a_backend_that_takes_no_quant_says_which_one_does() -> None:
    with pytest.raises(UsageError, match="--quant is for PyTorch, and llama.cpp would run this"):
        check_options(Model(quant="int8"), "llamacpp")


def test_the_id_of_a_record_tells_quantizations_apart() -> None:
    assert id_options(Model(quant="nf4")) == {"quant": "nf4"}
    assert id_options(Model()) == {}


def test_every_matrix_of_the_language_half_is_quantized_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Doubling every matrix doubles what each gives: the stand-in is a method that can be computed by hand."""
    seen: list[tuple[int, ...]] = []

    def double(weight: Tensor) -> Tensor:
        seen.append(tuple(weight.shape))
        return 2 * weight

    monkeypatch.setattr(pytorch_quantization, "METHODS", {"int8": METHODS["int8"]._replace(quantize=double)})
    monkeypatch.setitem(sys.modules, "torchao", ModuleType("torchao"))
    plain, doubled = load(folder, "none"), load(folder, "int8")
    assert doubled.device_summary == "cpu, float32, int8"
    assert plain.device_summary == "cpu, float32"
    before, after = plain._require_decoder(), doubled._require_decoder()
    assert len(seen) == 4 * len(before.layers)
    for old, new in zip(before.layers, after.layers, strict=True):
        for name in ("queries_keys_values", "out", "gate_and_up", "down"):
            assert torch.equal(getattr(new, name), 2 * getattr(old, name))
        assert torch.equal(new.attention_norm, old.attention_norm)
        assert torch.equal(new.mlp_norm, old.mlp_norm)
    assert torch.equal(plain.embeddings(PROMPT), doubled.embeddings(PROMPT))
    assert not torch.equal(plain.logits(PROMPT), doubled.logits(PROMPT))


def test_an_nf4_matrix_is_multiplied_by_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in packs a matrix as it is, flat in a column, and its state is the matrix's shape."""
    package, functional = ModuleType("bitsandbytes"), ModuleType("bitsandbytes.functional")

    def quantize_4bit(weight: Tensor, blocksize: int, quant_type: str) -> tuple[Tensor, tuple[int, int]]:
        assert (blocksize, quant_type) == (64, "nf4")
        return weight.flatten()[:, None], (weight.shape[0], weight.shape[1])

    def matmul_4bit(hidden: Tensor, packed: Tensor, quant_state: tuple[int, int]) -> Tensor:
        assert type(packed) is Tensor and packed.shape[0] == 1
        return hidden @ packed.reshape(quant_state).T

    made: Any = functional
    made.quantize_4bit = quantize_4bit
    made = package
    made.matmul_4bit = matmul_4bit
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", functional)
    weight, hidden = torch.arange(12.0).view(3, 4), torch.ones(2, 4)
    matrix = quantizer("nf4", CPU, torch.float32)(weight)
    assert F.linear(hidden, matrix).tolist() == [[6.0, 22.0, 38.0]] * 2  # sums of rows
    assert type(F.linear(hidden, matrix)) is Tensor


@pytest.mark.parametrize(("quant", "most"), [("int8", 0.02), ("nf4", 0.2)])
def test_the_packages_quantize_within_their_error(quant: str, most: float) -> None:
    """The relative error of a random product: 8 bits lose half of 1/127 of a row's largest, 4 bits a tenth."""
    if find_spec(METHODS[quant].package) is None:
        pytest.skip(f"{METHODS[quant].package} is not installed")
    generator = torch.Generator().manual_seed(0)
    weight, hidden = (torch.randn(rows, 576, generator=generator) for rows in (960, 3))
    with torch.inference_mode():
        product = F.linear(hidden, quantizer(quant, CPU, torch.float32)(weight))
    exact = hidden @ weight.T
    error = float((product - exact).norm() / exact.norm())
    assert 0 < error < most
