"""benchmarks/verify_limits.py: shares by a table of the normal distribution, and a run that goes on where it ended."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.verify_limits import MEASURES, agreement_of, all_pairs, read, refused_share, row

TOP1, KL, COSINE = MEASURES


def test_the_share_of_refused_pairs_is_that_of_a_normal_distribution() -> None:
    """At 1.96 deviations beyond the mean lie 2.5 %, at the mean a half; KL divergences are normal in the logarithm."""
    assert refused_share(TOP1, 0.95 - 1.96 * 0.01, 0.95, 0.01) == pytest.approx(0.025, abs=1e-4)
    assert refused_share(KL, 0.01 * math.e**1.96, math.log(0.01), 1.0) == pytest.approx(0.025, abs=1e-4)
    assert refused_share(COSINE, 0.01, math.log(0.01), 0.1) == pytest.approx(0.5)
    assert [refused_share(TOP1, limit, 1.0, 0.0) for limit in (0.98, 1.0, 1.01)] == [0, 0, 1]


def test_a_row_has_the_spread_of_two_seeds() -> None:
    """The two seeds of docs/gguf.md: 0.962 in the mean, a deviation of 0.015 times the root of 2."""
    assert row(TOP1, 0.9, [0.947, 0.977]) == "top-1 | 2 | 0.962 | 0.0212 | 0.947 | 0.900 | 0.0017 | 0.877"
    assert row(KL, 0.02, [0.001, 0.004]).startswith("mean KL | 2 | 0.002 | x 2.67 | 0.004 | 0.02 | ")


def test_a_torn_line_is_removed_and_the_others_are_read(tmp_path: Path) -> None:
    results, whole = tmp_path / "limits.jsonl", json.dumps({"seed": 0}) + "\n"
    assert list(read(results)) == []
    results.write_text(whole + '{"seed": 1, "lang')
    assert list(read(results)) == [{"seed": 0}]
    assert results.read_text() == whole


def test_each_half_is_compared_beside_one_other() -> None:
    pairs = all_pairs()
    assert len(set(pairs)) == len(pairs) == 19
    assert all("f16" in pair for pair in pairs)
    assert ("q3_k_m", "f16") in pairs and ("f16", "q3_k_m") not in pairs  # no vision half is a mix


def test_pairs_are_judged_by_the_limits_of_today() -> None:
    line = {"model": "m", "seed": 0, "language": "q8_0", "vision": "f16", "tokens": 9, "top1": 0.95, "kl": 0.01,
            "kl_99": 0.1, "cosine": 1.0, "cosine_least": 1.0, "probes": 9, "same": 9}  # fmt: skip
    assert agreement_of(line).failures == []
    assert agreement_of(line | {"top1": 0.5, "failures": []}).failures == ["top-1 agreement 0.500 is below 0.9"]
