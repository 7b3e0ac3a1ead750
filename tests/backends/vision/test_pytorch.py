"""vision/pytorch.py: settings and types; test_vision.py tests all encoders."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

from smolcli import registry
from smolcli.backends.gguf_layout import read_layout
from smolcli.backends.vision import pytorch
from smolcli.errors import EngineError, UnavailableError
from smolcli.models import files as model_files
from smolcli.models import resolve
from smolcli.options import Model
from tests.backends.vision.encoders import (
    MTMD,
    cosines,
    encode,
    encode_with_mtmd,
    exact,
    make_encoder,
    make_threaded_encoder,
    noise,
)

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
def test_auto_is_bfloat16_on_a_cpu_that_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, features: set[str], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(pytorch, "cpu_features", lambda: frozenset(features))
    assert pytorch._resolve_dtype("auto") == dtype
    for asked in (torch.float32, torch.float16, torch.bfloat16):
        assert pytorch._resolve_dtype(str(asked).removeprefix("torch.")) == asked


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_matrix_products_are_computed_in_dtype(dtype: str) -> None:
    side = read_layout(NANO).tile
    seen = set()
    linear = torch.nn.functional.linear

    def spied(value: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        seen.add((value.dtype, weight.dtype))
        return linear(value, weight, bias)

    options = Model(threads=1, dtype=dtype, vision_encoder="torch")
    with closing(make_threaded_encoder(NANO, options, 192)) as vision, pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", spied)
        [embeddings] = vision.encode([noise(1, side)])
    asked = getattr(torch, dtype)
    assert seen == {(asked, asked)}
    files = resolve.resolve(MTMD, "llamacpp")
    assert cosines(embeddings[None], encode_with_mtmd(files, [noise(1, side)]))[0] > 0.9995


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(pytorch, "usable_cores", lambda: 3)
    try:
        for threads, expected in ((1, 1), (2, 2), (None, 3)):
            make_encoder(NANO, Model(threads=threads, vision_encoder="torch"), 192).close()
            assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def test_an_exception_of_pytorch_is_an_engine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1]\nDefaultCPUAllocator: can't allocate memory: you tried")

    with closing(make_encoder(NANO, EXACT, 192)) as vision:
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fail)
        with pytest.raises(EngineError, match="could not encode a tile: .*allocate memory.*try --vision-eng") as caught:
            vision.encode([noise(1, read_layout(NANO).tile)])
        assert caught.value.kind == "memory"
    monkeypatch.setattr(pytorch._Reader, "_norm", fail)
    with pytest.raises(EngineError, match=f"could not hold {NANO} in memory: .*allocate memory") as caught:
        make_encoder(NANO, EXACT, 192)
    assert caught.value.kind == "memory"


def test_transformers_is_not_needed() -> None:
    code = "import sys; from smolcli import registry; registry.load(registry.VISION_ENCODERS, 'torch')\n"
    code += "print('torch' in sys.modules, [name for name in ('transformers', 'openvino') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True []\n", "")


def test_the_error_without_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(
        UnavailableError, match=r"library torch, which is not installed; pip install 'smolcli\[torch\]'"
    ):
        encode(Path("none.gguf"), [], EXACT)
