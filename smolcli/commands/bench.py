"""The command line of `smolcli bench`; the package smolcli.bench measures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer

from smolcli import registry
from smolcli.bench.options import Compare, Memory, Quality, Show, Speed, Variants
from smolcli.cli.dataclass_options import dataclass_command
from smolcli.cli.help import HelpCommand, HelpGroup
from smolcli.errors import Exit, UsageError
from smolcli.options import Model
from smolcli.terminal.option_fields import opt, same_as

app = typer.Typer(cls=HelpGroup, help="Measure the speed, memory and quality of models.")


@dataclass(frozen=True)
class Models:
    """Which models are measured."""

    panel = "Models"

    model: tuple[str, ...] = same_as(
        Model,
        "model",
        default=(),
        help="A name from `smolcli models list`, a Hugging Face id, a directory or a .gguf file. Repeatable.",
    )
    unnamed: tuple[str, ...] = opt((), "Refused: models are named with -m.", argument=True, hidden=True)

    def __post_init__(self) -> None:
        if self.unnamed:
            words = " ".join(f"-m {word}" for word in self.unnamed)
            raise UsageError(f"{self.unnamed[0]}: models are named with -m, as in every command", f"write {words}")


@dataclass(frozen=True)
class Data:
    """What the models are asked."""

    panel = "Inputs"

    data: Path | None = opt(
        None,
        "JSON Lines, CSV, a VLMEvalKit TSV, Hugging Face parquet, or a directory of pictures with a .txt beside each "
        "or a metadata.jsonl.",
        argument=True,
        metavar="DATASET",
        show_default=False,
    )


def _run(name: str, *options: Any) -> None:
    try:
        code = registry.load(registry.ON_DEMAND, f"bench {name}")(*options)
    except BrokenPipeError:
        code = Exit.OK  # whoever read the report has enough
    raise typer.Exit(code)


def _run_models(name: str, models: Models, *options: Any) -> None:
    _run(name, models.model, *options)


def _run_quality(data: Data, models: Models, *options: Any) -> None:
    if data.data is None:
        raise UsageError("no data set was given", "smolcli bench quality labelled.jsonl")
    _run("quality", data.data, models.model, *options)


def _add(name: str, help: str, examples: tuple[str, ...], command: Any) -> None:
    app.command(name, cls=HelpCommand, help=help, short_help=help, epilog="\n".join(examples))(command)


_add(
    "speed",
    "Measure the time of every stage of an answer, for every combination of the options.",
    (
        "smolcli bench speed -m nano",
        "smolcli bench speed -m 256m --threads 2 --threads 4 --image 640x480",
        "smolcli bench speed -m 256m --quant q8_0 --quant f16 --report speed.html",
    ),
    dataclass_command(partial(_run_models, "speed"), Models, Variants, Speed, Show),
)
_add(
    "memory",
    "Measure the most memory that smolcli and its engine take, for every combination of the options.",
    ("smolcli bench memory -m nano", "smolcli bench memory -m 256m -m 500m --batch 1 --batch 64 -f md"),
    dataclass_command(partial(_run_models, "memory"), Models, Variants, Memory, Show),
)
_add(
    "quality",
    "Score the answers of models on your labelled data, side by side.",
    (
        "smolcli bench quality labelled.jsonl -m 256m -m 500m --report quality.html",
        "smolcli bench quality DocVQA_VAL.tsv --suite docvqa --limit 200",
        "smolcli bench quality scans/ --suite ocr-pages",
    ),
    dataclass_command(_run_quality, Data, Models, Variants, Quality, Show),
)
_add(
    "compare",
    "Compare two reports; exit code 1 where something became worse.",
    ("smolcli bench compare before.json after.json", "smolcli bench compare before.json after.json --tolerance 0.1"),
    dataclass_command(partial(_run, "compare"), Compare),
)
