"""`smolcli convert-to-gguf`: a checkpoint directory to the pair of GGUF files that llama.cpp runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smolcli import registry
from smolcli.errors import ModelError
from smolcli.options import choice

QUANTS = ("f32", "f16", "bf16", "q8_0")


def convert_to_gguf(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A checkpoint directory: config.json, tokenizer.json, safetensors.")
    ],
    quant: Annotated[
        str, typer.Option(help="Of the language half.", parser=choice("quant", QUANTS), metavar="|".join(QUANTS))
    ] = "q8_0",
    mmproj_quant: Annotated[
        str, typer.Option(help="Of the vision half.", parser=choice("quant", QUANTS), metavar="|".join(QUANTS))
    ] = "f16",
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where the two files go.")] = Path("."),
    name: Annotated[
        str | None, typer.Option(help="The model's name in the file names; default: the directory's.")
    ] = None,
) -> None:
    """Make a language GGUF and an mmproj GGUF of a SmolVLM or Idefics3 checkpoint; their paths are printed."""
    if not model.is_dir():
        raise ModelError(
            f"{model} is not a directory",
            "name a checkpoint directory; smolcli models pull NAME --for torch prints one",
        )
    convert = registry.load(registry.LIBRARIES, "convert")
    for path in convert(model, output, quant, mmproj_quant, name):
        print(path)
