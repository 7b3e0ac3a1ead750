"""`bench memory`: the peak memory of the real command and of its engine, for a given number of pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from smolcli.bench.configurations import Configuration
from smolcli.bench.options import Memory
from smolcli.bench.performance import cli_runner
from smolcli.bench.performance.speed import QUESTION, Tick, median_figure
from smolcli.bench.pictures import PictureSource
from smolcli.bench.report.results import Result


def measure_memory(configuration: Configuration, options: Memory, tick: Tick) -> Iterator[Result]:
    """Yield the peaks of one configuration, a result for each combination. Raises EngineError and ModelError."""
    with tempfile.TemporaryDirectory(prefix="smolcli-bench-") as folder:
        pictures = PictureSource(Path(folder))
        for image, batch, new_tokens in options.cases:
            files = [item.path for item in pictures.items(image, batch)]
            peaks: dict[str, list[float]] = {"parent": [], "engine": [], "gpu": []}
            tokens = 0
            for _ in range(options.repeat):
                command = cli_runner.run_ask(configuration, QUESTION, files, new_tokens)
                for process, values in peaks.items():
                    values.append(max(record["memory"][process] for record in command.records))
                tokens = max(record["tokens"]["prompt"] for record in command.records)
                tick()
            settings = {**configuration.settings, "image": image, "batch": batch, "new_tokens": new_tokens}
            figures = {process: median_figure(values) for process, values in peaks.items() if any(values)}
            repeated = batch - len(set(files))
            notice = f"{repeated} of {batch} pictures were repeated, and are answered once: give more of them"
            yield Result(
                settings, figures, {"tokens": tokens}, configuration.file_bytes, configuration.fingerprint,
                notices=(notice,) if repeated else (),
            )  # fmt: skip
