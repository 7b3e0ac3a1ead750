"""Results of bench that the tests of its reports share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from smolcli.bench.report.results import Figure, Report, Result, Worst

LONG = "w" * 300


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\x1b[31mred\x1b[0m \x9b2J\x07",
    LONG,
    "\u05e9\u05dc\u05d5\u05dd \u202eabc",
    "\U0001f600 \u6f22\u5b57 $x_{$ a|b\r\nc",
    "half \ud83d, nul \0, ]]> &lt; --> ${x} {{y}}",
)


MACHINE = {
    "cpu": "Xeon",
    "cores": 2,
    "memory": 25_200_000_000,
    "gpus": [],
    "libraries": {"torch": "2.13.0", "numpy": "2.2"},
}


def around(value: float, off: float = 0.01, count: int = 5) -> Figure:
    """A figure with as much spread to both sides."""
    return Figure(value, value * (1 - off), value * (1 + off), count)


def speed() -> Report:
    """Four results: two quantizations of one model, a long name, and one that failed."""
    results = []
    for at, (model, quant) in enumerate((("256m", "q8_0"), ("256m", "f16"), ("org/a-rather-long-name", "q8_0")), 1):
        figures = {"load": around(1.2), "tile": around(0.0123), "decode": around(47.1 * at), "images": around(0.5 * at)}
        settings: dict[str, str | int] = {"model": model, "backend": "llamacpp", "quant": quant, "threads": 2}
        results.append(Result(settings, figures, {"tiles": at, "prompt_tokens": 81}, 500_000_000, f"abc{at}"))
    failed: dict[str, str | int] = {"model": "nano", "backend": "llamacpp", "quant": "f16", "threads": 2}
    results.append(Result(failed, {}, notices=("failed: out of memory",)))
    when = "2026-01-02T03:04:05+00:00"
    return Report(
        "speed", when, "smolcli bench speed -m 256m", MACHINE, {"repeat": 5}, tuple(results), ("It was busy.",)
    )


def memory() -> Report:
    """One model on one GPU, three batches."""
    results = []
    for batch in (1, 2, 4):
        figures = {"parent": Figure(120e6, 120e6, 120e6, 1), "engine": around(9e8 + 9e7 * batch), "gpu": around(8e8)}
        results.append(Result({"model": "256m", "backend": "torch", "batch": batch}, figures))
    return replace(speed(), kind="memory", command="smolcli bench memory", results=tuple(results), notices=())


def quality(names: tuple[str, ...] = ("nano", "256m", "500m"), strange: tuple[str, ...] = ()) -> Report:
    """A result for each name, with categories and a worst answer for each strange text."""
    results = []
    for at, name in enumerate(names):
        score = 0.3 + 0.1 * at
        figures = {"score": Figure(score, score - 0.05, score + 0.04, 200)}
        figures |= {"images": around(2 / (1 + at)), "engine": Figure(3e8 * (1 + at), 3e8 * (1 + at), 3e8 * (1 + at), 1)}
        groups = {group: Figure(score, score - 0.1, score + 0.1, 50) for group in ("chart", *strange)}
        worst = tuple(Worst(text, text, (text, "or"), text, 0.0, text) for text in strange)
        settings: dict[str, str | int] = {"model": name, "backend": "llamacpp", "quant": "q8_0"}
        results.append(Result(settings, figures, {}, 500, "ab", groups, at, worst, strange))
    data = {"path": "docvqa.jsonl", "rows": 203, "left_out": 4, "sha256": "0f" * 32, "lower_is_better": False}
    return replace(speed(), kind="quality", results=tuple(results), notices=strange, metric="ANLS", data=data)


def hostile() -> Report:
    """Strange texts wherever a text comes from outside."""
    machine: dict[str, Any] = {text: text for text in HOSTILE} | {"libraries": {text: text for text in HOSTILE}}
    report = quality(HOSTILE, HOSTILE)
    return replace(report, command="\n".join(HOSTILE), machine=machine, options=machine, metric=HOSTILE[0])
