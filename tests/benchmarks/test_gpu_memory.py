"""benchmarks/gpu_memory.py: against sizes that are known of the published models, and docs/gpu.md has its tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu_memory import MODELS, most_answers, parameters, tables, total_bytes, weight_bytes
from smolcli.options import MAX_JOBS

GPU_PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"


@pytest.mark.parametrize(
    ("name", "millions", "megabytes", "token"),
    [("256m", 256.48, 513, 23_040), ("500m", 507.48, 1_015, 40_960), ("2.2b", 2246.8, 4_494, 196_608)],
)
def test_parameters_file_and_cache_are_those_of_the_published_models(
    name: str, millions: float, megabytes: float, token: int
) -> None:
    """The files are bfloat16; `token` is the bytes of its keys and values in 16 bits."""
    shape = MODELS[name]
    assert parameters(shape) / 1e6 == pytest.approx(millions, rel=1e-3)
    assert weight_bytes(shape, "bfloat16") / 1e6 == pytest.approx(megabytes, rel=1e-3)
    assert 2 * shape.layers * shape.kv_heads * shape.head_dim * 2 == token


def test_smaller_formats_take_less_and_more_answers_take_more() -> None:
    for shape in MODELS.values():
        sizes = [weight_bytes(shape, name) for name in ("float32", "bfloat16", "int8", "nf4")]
        assert sizes == sorted(sizes, reverse=True)
        assert total_bytes(shape, "nf4", 1) < total_bytes(shape, "nf4", 16) < total_bytes(shape, "nf4", 64)


def test_the_most_answers_fit_and_one_more_does_not() -> None:
    shape = MODELS["2.2b"]
    assert most_answers(shape, "bfloat16", 4) == 0
    assert most_answers(MODELS["256m"], "bfloat16", 80) == MAX_JOBS
    rows = most_answers(shape, "bfloat16", 24)
    assert total_bytes(shape, "bfloat16", rows) <= 0.9 * 24e9 < total_bytes(shape, "bfloat16", rows + 1)


def test_the_page_has_the_tables() -> None:
    assert "\n".join(tables()) in GPU_PAGE.read_text(encoding="utf-8")
