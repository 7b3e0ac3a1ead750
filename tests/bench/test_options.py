"""bench/options.py: the combinations that options give, and what they share with the other commands."""

from __future__ import annotations

from dataclasses import fields

from smolcli.bench import options
from smolcli.bench.options import Memory, Quality, Speed, Variants
from smolcli.bench.quality.metrics import METRICS
from smolcli.bench.quality.suites import SUITES
from smolcli.options import Batch, Model


def test_cases_are_every_combination_once() -> None:
    assert Speed(image=("none", "8x8"), batch=(2,), new_tokens=(1, 5, 1)).cases == [
        ("none", 1, 1), ("none", 1, 5), ("8x8", 2, 1), ("8x8", 2, 5),
    ]  # fmt: skip
    assert len(Memory().cases) == 3
    assert Speed(image=("none",), batch=(1, 8)).cases == [("none", 1, 64)]


def test_choices_of_suites_and_metrics_are_the_keys_of_their_tables() -> None:
    assert tuple(METRICS) == options.METRICS
    assert tuple(SUITES) == options.SUITES


def test_shared_options_keep_everything_but_the_named_changes() -> None:
    model = {field.name: field for field in fields(Model)}
    ours = {"quant"}  # which also takes those of GGUF pairs
    shared = {field.name: field for field in fields(Variants) if field.name in model.keys() - ours}
    assert shared.keys() == {"backend", "threads", "detail", "device", "dtype", "vision_encoder"}
    for name, field in shared.items():
        changed = {"help", "show_default", "shared"} if name == "detail" else set()
        assert model[name].metadata.keys() - field.metadata.keys() <= {"show_default"}  # words of another default
        differing = {key for key, value in field.metadata.items() if value != model[name].metadata.get(key)}
        assert differing - {"short"} == changed  # each command chooses what its short help shows
    assert (Variants().backend, Variants().threads, Variants().device) == (("auto",), (), "auto")
    assert Quality().timeout == Batch().timeout
