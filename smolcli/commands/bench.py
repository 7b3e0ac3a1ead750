"""The command line of `smolcli bench`; the package smolcli.bench does it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer

from smolcli import registry
from smolcli.bench.options import Compare, Memory, Quality, Show, Speed, Variants
from smolcli.cli.dataclass_options import dataclass_command
from smolcli.errors import Exit, UsageError
from smolcli.options import model_names, opt

app = typer.Typer(
    help="Measure speed, memory and quality of models, on this machine and on your data.", no_args_is_help=True
)


@dataclass(frozen=True)
class Models:
    """Which models."""

    models: tuple[str, ...] = opt(
        (),
        "Registry names, hub ids, directories or .gguf files.",
        argument=True,
        metavar="[MODELS]...",
        autocompletion=model_names,
    )


@dataclass(frozen=True)
class Data:
    """What the models are asked, and which."""

    data: Path | None = opt(
        None,
        "JSON Lines, CSV, a VLMEvalKit TSV, Hugging Face parquet, or a directory of pictures with a .txt beside each.",
        argument=True,
        metavar="DATASET",
        show_default=False,
    )
    model: tuple[str, ...] = opt((), "Registry name, hub id, directory or .gguf file; repeatable.", "-m", "--model")


def _run(name: str, *options: Any) -> None:
    try:
        code = registry.load(registry.LIBRARIES, f"bench {name}")(*options)
    except BrokenPipeError:
        code = Exit.OK  # whoever read the report has enough
    raise typer.Exit(code)


def _models(name: str, given: Models, *options: Any) -> None:
    _run(name, given.models, *options)


def _quality(given: Data, *options: Any) -> None:
    if given.data is None:
        raise UsageError("no data set was given", "smolcli bench quality labelled.jsonl")
    _run("quality", given.data, given.model, *options)


app.command("speed", help="How long every stage of an answer takes, for every combination of the options.")(
    dataclass_command(partial(_models, "speed"), Models, Variants, Speed, Show)
)
app.command("memory", help="The most memory that smolcli and its engine take, for every combination of the options.")(
    dataclass_command(partial(_models, "memory"), Models, Variants, Memory, Show)
)
app.command("quality", help="How right the answers of models are on your labelled data, side by side.")(
    dataclass_command(_quality, Data, Variants, Quality, Show)
)
app.command("compare", help="What changed between two reports; exit code 1 where something became worse.")(
    dataclass_command(partial(_run, "compare"), Compare)
)
