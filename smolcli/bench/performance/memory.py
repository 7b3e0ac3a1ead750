"""`bench memory`: what the real command takes, its own process and its engine, when so many pictures are given."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from smolcli.bench.configurations import Configuration
from smolcli.bench.options import Memory
from smolcli.bench.performance import cli_runner
from smolcli.bench.performance.speed import QUESTION, Tick, figure
from smolcli.bench.pictures import Pictures
from smolcli.bench.report.model import Result


def memory(setup: Configuration, wanted: Memory, tick: Tick) -> Iterator[Result]:
    """The peaks of one setup, a result for each combination. Raises EngineError and ModelError."""
    with tempfile.TemporaryDirectory(prefix="smolcli-bench-") as folder:
        pictures = Pictures(Path(folder))
        for image, batch, new in wanted.cases:
            files = [item.path for item in pictures.of(image, batch)]
            peaks: dict[str, list[float]] = {"parent": [], "engine": [], "gpu": []}
            tokens = 0
            again = batch - len(set(files))
            for _ in range(wanted.repeat):
                ran = cli_runner.ask(setup, QUESTION, files, new)
                for name, found in peaks.items():
                    found.append(max(record["memory"][name] for record in ran.records))
                tokens = max(record["tokens"]["prompt"] for record in ran.records)
                tick()
            settings = {**setup.settings, "image": image, "batch": batch, "new_tokens": new}
            figures = {name: figure(found) for name, found in peaks.items() if any(found)}
            told = (f"{again} of {batch} pictures came again: give more of them",) if again else ()
            yield Result(settings, figures, {"tokens": tokens}, setup.bytes, setup.fingerprint, notices=told)
