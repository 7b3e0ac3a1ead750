"""metrics.py: every metric gives what its reference implementation gave, and intervals are as wide as they say.

tests/data/metrics.json holds replies with what is right and the value that the implementation named there computed;
under "others" what another one computed where it differs.
"""

from __future__ import annotations

import json
import math
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from smolcli.bench.quality.metrics import METRICS, Labels, Score, confidence_interval, total

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "metrics.json").read_text("utf-8"))
OPTIONS = (("A", "a cat"), ("B", "a dog"), ("C", "the sofa"))
ODD = [
    "",
    " ",
    "\0",
    "\n\r\n",
    "%",
    "%%",
    "5%%",
    "-",
    ".",
    "=",
    "'",
    "nan",
    "-inf",
    "1e999",
    "1e-999%",
    "1_0",
    "\u0663",
    "½",
]
ODDER = [
    "\ud800",
    "\udfff5",
    "A\ud800",
    "\u202e(B)",
    "ß" * 9,
    "İ",
    "👍🏽",
    "{}",
    "{0}",
    "\\",
    "(?i)[",
    "1,1,1,",
    "is " * 9,
]
HUGE = ["9" * 20_000 + ",", "1,111" * 10_000, "-1e" * 20_000, "1." * 20_000, "A B " * 10_000, "so 1\n" * 10_000]


def labels(case: dict[str, Any]) -> Labels:
    choices = tuple((letter, text) for letter, text in case.get("choices", ()))
    return Labels(tuple(case["answers"]), choices, case.get("category", ""))


def value(metric: str, reply: str, *answers: str, choices: tuple[tuple[str, str], ...] = ()) -> float:
    return METRICS[metric].score(reply, Labels(answers, choices)).value


def shares(right: int, wrong: int) -> list[Score]:
    return [Score(1.0)] * right + [Score(0.0)] * wrong


@pytest.mark.parametrize("metric", METRICS)
def test_metric_equals_its_reference(metric: str) -> None:
    cases = REFERENCE[metric]["cases"]
    scores = [METRICS[metric].score(case["said"], labels(case)) for case in cases]
    differ = [
        (case, score)
        for case, score in zip(cases, scores, strict=True)
        if not math.isclose(score.value, case["value"], abs_tol=1e-12) or score.weight != case.get("weight", 1.0)
    ]
    assert differ == []
    assert len(cases) >= 40 and 0.1 < sum(case["value"] > 0 for case in cases) / len(cases) < 0.95


@pytest.mark.parametrize("metric", ["cer", "wer"])
def test_total_error_rate_is_that_of_all_texts_joined(metric: str) -> None:
    cases = [case for case in REFERENCE[metric]["cases"] if len(case["answers"]) == 1]
    assert any(case["answers"] == [""] and case["said"] for case in cases), "insertions into nothing count too"
    scores = [METRICS[metric].score(case["said"], labels(case)) for case in cases]
    assert total(scores) == pytest.approx(REFERENCE[metric]["corpus"], abs=1e-12)


def test_worked_examples() -> None:
    """Those of the texts that define the metrics, or what can be counted on fingers."""
    people = [value("vqa", "red", *["red"] * same, *["blue"] * (10 - same)) for same in range(6)]
    assert people == pytest.approx([0, 0.3, 0.6, 0.9, 1, 1]), "min(1, same / 3) but for those who said it themselves"
    assert value("anls", "kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert value("cer", "kitten", "sitting") == pytest.approx(3 / 7)
    assert value("wer", "hello duck", "hello world") == 0.5, "the example of jiwer's README"
    assert [value("anls", "ab", "a" + "x" * length) for length in (1, 2)] == [0.5, 0], "half is enough"
    assert [value("relaxed", reply, "100") for reply in ("95", "105", "94.9", "105.1")] == [1, 1, 0, 0], "of the answer"
    assert [value("relaxed", reply, "20%") for reply in ("20%", "0.205", "20", "twenty")] == [1, 1, 0, 0]


def test_right_options_are_named_by_letter_or_text() -> None:
    for metric in ("choice", "mmmu"):
        for right in ("B", " B", "a dog", "A Dog "):
            assert [value(metric, reply, right, choices=OPTIONS) for reply in ("(B)", "(A)")] == [1, 0], (metric, right)
        assert value(metric, "(B)", "1", choices=OPTIONS) == 0, "an index is no letter"
        assert value(metric, "(A)", "C", "A", choices=OPTIONS) == 1, "one of several"
        swapped = (("A", "B"), ("B", "A"))
        assert [value(metric, reply, "A", choices=swapped) for reply in "AB"] == [1, 0], "letters come before texts"
    assert value("choice", "B", "B") == 0, "no options, nothing to name"


def test_mmmu_reply_without_an_option_scores_the_probability_of_a_guess() -> None:
    assert value("mmmu", "", "B", choices=OPTIONS) == pytest.approx(1 / 3)
    assert value("choice", "", "B", choices=OPTIONS) == 0


def test_an_error_rate_takes_the_nearest_answer_and_its_length() -> None:
    of = METRICS["cer"].score
    assert of("abc", Labels(("abcdef", "abx"))) == Score(1 / 3, 3.0)
    assert of("abc", Labels(("ab", "abcd"))) == Score(0.25, 4.0), "as near: the longer"
    assert of("abc", Labels(("",))) == Score(3.0, 0.0)
    assert of("", Labels(("",))) == Score(0.0, 0.0)
    assert total([Score(3.0, 0.0), Score(0.5, 4.0)]) == 5 / 4
    assert total([Score(3.0, 0.0), Score(0.0, 0.0)]) == 3, "as jiwer: errors where there is nothing to divide by"


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_accept_any_text(metric: str) -> None:
    for reply in ODD + ODDER + HUGE:
        for answer in ("", "5", "nan", "\ud800", reply[:2000]):
            for choices in ((), (("A", answer), ("B", ""), ("C", "x"))):
                for category in ("", "Handwritten Mathematical Expression Recognition"):
                    score = METRICS[metric].score(reply, Labels((answer, "A"), choices, category))
                    assert math.isfinite(score.value) and score.value >= 0 and score.weight >= 0
                    assert score.value <= 1 or not METRICS[metric].higher_is_better


def test_the_table_of_metrics() -> None:
    assert list(METRICS) == ["exact", "vqa", "anls", "relaxed", "choice", "contains", "cer", "wer", "mmmu"]
    assert all(metric.name == name and metric.title for name, metric in METRICS.items())
    assert {name for name, metric in METRICS.items() if not metric.higher_is_better} == {"cer", "wer"}


def test_total_is_weighted() -> None:
    assert total(shares(3, 1)) == 0.75
    assert total([Score(0.5, 10.0), Score(2.0, 1.0)]) == 7 / 11
    assert math.isnan(total([])) and all(map(math.isnan, confidence_interval([])))


@pytest.mark.parametrize(("right", "rows"), [(5, 10), (30, 100), (120, 400), (9000, 10_000)])
def test_the_interval_of_a_share_is_that_of_the_binomial_distribution(right: int, rows: int) -> None:
    """Resampling a share draws from Binomial(rows, share): exactly its quantiles, but for the luck of 2,000 draws."""
    share, spread = right / rows, math.sqrt(right * (rows - right) / rows**3)
    low, high = confidence_interval(shares(right, rows - right))
    assert low < share < high

    chances, reached = {}, 0.0
    for hits in range(rows + 1):
        log = math.lgamma(rows + 1) - math.lgamma(hits + 1) - math.lgamma(rows - hits + 1)
        reached += math.exp(log + hits * math.log(share) + (rows - hits) * math.log(1 - share))
        for quantile in (0.025, 0.975):
            if quantile not in chances and reached >= quantile:
                chances[quantile] = hits / rows
    luck = 0.2 * spread + 1 / rows  # three standard errors of these quantiles, and a step of the distribution
    assert abs(low - chances[0.025]) < luck and abs(high - chances[0.975]) < luck
    if rows >= 100:
        assert (high - low) / 2 == pytest.approx(1.96 * spread, rel=0.1), "the normal approximation"


def test_the_interval_of_a_weighted_rate_is_that_of_a_ratio() -> None:
    """Cochran 1977, section 2.11: the variance of a ratio is that of its residuals / the square of all weights."""
    dice = random.Random(1)
    scores = [Score(dice.random(), float(dice.randrange(1, 200))) for _ in range(1000)]
    rate, weights = total(scores), math.fsum(score.weight for score in scores)
    spread = math.sqrt(math.fsum((score.weight * (score.value - rate)) ** 2 for score in scores)) / weights
    low, high = confidence_interval(scores)
    assert (low, high) == pytest.approx((rate - 1.96 * spread, rate + 1.96 * spread), abs=0.25 * spread)


def test_four_times_the_rows_halve_the_interval() -> None:
    widths = [high - low for low, high in (confidence_interval(shares(3 * rows, rows)) for rows in (50, 200, 800))]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.15)
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.15)


def test_the_interval_holds_the_truth_in_95_of_100_samples() -> None:
    dice = random.Random(2)
    held = 0
    for seed in range(200):
        right = sum(dice.random() < 0.4 for _ in range(150))
        low, high = confidence_interval(shares(right, 150 - right), seed)
        held += low <= 0.4 <= high
    assert 180 <= held <= 198


def test_the_same_seed_gives_the_same_interval() -> None:
    scores = [Score(row / 71) for row in range(71)]
    assert confidence_interval(scores) == confidence_interval(scores, 0)
    assert len({confidence_interval(scores, seed) for seed in range(3)}) == 3


def test_interval_of_equal_rows_has_no_width() -> None:
    for score in (Score(0.3), Score(0.0), Score(0.2, 5.0), Score(3.0, 0.0)):
        assert confidence_interval([score]) == (total([score]),) * 2
        assert confidence_interval([score] * 40) == pytest.approx((score.value,) * 2 if score.weight else (120, 120))


def test_the_interval_of_many_rows_takes_little_memory() -> None:
    scores = shares(4000, 6000)
    tracemalloc.start()
    low, high = confidence_interval(scores)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert low < 0.4 < high
    assert peak < 64 * 2**20
