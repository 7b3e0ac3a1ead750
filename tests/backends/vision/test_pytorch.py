"""backends/vision/pytorch.py: how it is computed; backends/vision/test_vision.py has what every encoder does."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

from smolcli import registry
from smolcli.backends.vision import pytorch
from smolcli.backends.vision.mtmd import layout_of
from smolcli.errors import EngineError, UnavailableError
from smolcli.models import files as model_files
from smolcli.models import resolve
from smolcli.options import Model
from tests.backends.vision.encoders import MTMD, apart, by_mtmd, cosines, encoded, encoder, exact, noise

EXACT = exact("torch")
NANO = model_files.BUILT_IN / "mmproj-nano-F16.gguf"


@pytest.mark.parametrize(
    ("features", "dtype"),
    [
        ({"avx512f", "avx512_bf16"}, torch.bfloat16),
        ({"amx_tile", "amx_bf16"}, torch.bfloat16),
        ({"avx512f", "amx_tile", "bf16"}, torch.float32),
        ((), torch.float32),
    ],
)
def test_bfloat16_is_taken_where_the_cpu_has_it(
    monkeypatch: pytest.MonkeyPatch, features: set[str], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(pytorch, "cpu_features", lambda: frozenset(features))
    assert pytorch._dtype("auto") == dtype
    for asked in (torch.float32, torch.float16, torch.bfloat16):
        assert pytorch._dtype(str(asked).removeprefix("torch.")) == asked


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_matrices_multiply_in_what_was_asked_for(dtype: str) -> None:
    side = layout_of(NANO).tile
    seen = set()
    linear = torch.nn.functional.linear

    def spied(value: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        seen.add((value.dtype, weight.dtype))
        return linear(value, weight, bias)

    with closing(apart(NANO, Model(threads=1, dtype=dtype, vision_engine="torch"), 192)) as vision:
        pytorch.F.linear, before = spied, pytorch.F.linear
        try:
            [embeddings] = vision.encode([noise(1, side)])
        finally:
            pytorch.F.linear = before
    asked = getattr(torch, dtype)
    assert seen == {(asked, asked)}
    files = resolve.resolve(MTMD, "llamacpp")
    assert cosines(embeddings[None], by_mtmd(files, [noise(1, side)]))[0] > 0.9995


def test_threads_are_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(pytorch, "usable_cores", lambda: 3)
    try:
        for threads, found in ((1, 1), (2, 2), (None, 3)):
            encoder(NANO, Model(threads=threads, vision_engine="torch"), 192).close()
            assert torch.get_num_threads() == found
    finally:
        torch.set_num_threads(before)


def test_a_failure_of_pytorch_is_an_error_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1]\nDefaultCPUAllocator: can't allocate memory: you tried")

    with closing(encoder(NANO, EXACT, 192)) as vision:
        monkeypatch.setattr(pytorch.F, "scaled_dot_product_attention", fails)
        with pytest.raises(EngineError, match="could not encode a tile: .*allocate memory.*try --vision-eng") as caught:
            vision.encode([noise(1, layout_of(NANO).tile)])
        assert caught.value.kind == "memory"
    monkeypatch.setattr(pytorch.Tower, "_norm", fails)
    with pytest.raises(EngineError, match=f"could not hold {NANO} in memory: .*allocate memory") as caught:
        encoder(NANO, EXACT, 192)
    assert caught.value.kind == "memory"


def test_transformers_is_not_needed() -> None:
    code = "import sys; from smolcli import registry; registry.load(registry.VISION_ENCODERS, 'torch')\n"
    code += "print('torch' in sys.modules, [name for name in ('transformers', 'openvino') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True []\n", "")


def test_pytorch_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(UnavailableError, match=r"library gguf, which is not installed; pip install 'smolcli\[torch\]'"):
        encoded(Path("none.gguf"), [], EXACT)
