"""The command line of `smolcli convert-to-gguf`; commands/convert_to_gguf/run.py does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from smolcli import registry
from smolcli.cli.dataclass_options import dataclass_command
from smolcli.errors import UsageError
from smolcli.options import MOST_THREADS, choice, model_names, opt

MIXES = ("q6_k", "q5_k_m", "q4_k_m", "q3_k_m")
VISION_ENCODERS = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
LANGUAGE = (*VISION_ENCODERS, *MIXES)
IF_EXISTS = ("error", "skip", "overwrite")


@dataclass(frozen=True)
class Conversion:
    """What is converted, and to what."""

    model: str | None = opt(
        None,
        "A checkpoint directory, a PEFT adapter directory, a registry name or a hub id.",
        argument=True,
        metavar="MODEL",
        show_default=False,
        autocompletion=model_names,
    )
    quant: tuple[str, ...] = opt(
        ("q8_0",),
        f"Of the language half, repeatable: {', '.join(LANGUAGE)}.",
        **choice("--quant", LANGUAGE, metavar="QUANT"),
    )
    mmproj_quant: tuple[str, ...] = opt(
        ("f16",),
        f"Of the vision half, repeatable: {', '.join(VISION_ENCODERS)}.",
        **choice("--mmproj-quant", VISION_ENCODERS, metavar="QUANT"),
    )
    output: Path = opt(Path("."), "Where the files go.", "-o", "--output", metavar="DIR")
    name: str | None = opt(None, "The model's name in the files; default: that of the directory or hub id.")
    lora: Path | None = opt(None, "A PEFT LoRA adapter to merge into the weights.", metavar="DIR")
    if_exists: str = opt("error", "Of a file that is there.", **choice("--if-exists", IF_EXISTS))
    dry_run: bool = opt(False, "Only say what would be written, its sizes, and the memory to run it.", "--dry-run")
    verify: bool = opt(
        False,
        "Compare with the checkpoint on PyTorch, each half beside the first other; exit 1 if not the same.",
        "--verify",
    )
    verify_only: Path | None = opt(None, "Compare this pair with --against; nothing is written.", metavar="GGUF")
    against: str | None = opt(None, "The checkpoint that --verify-only compares with.", metavar="MODEL")
    mmproj: Path | None = opt(None, "The vision half for --verify-only, where it is not beside the other.")
    threads: int | None = opt(
        None, "CPU threads of a comparison; default: the cores this process may use.", min=1, max=MOST_THREADS
    )
    as_json: bool = opt(False, "One JSON object on standard output.", "--json")
    offline: bool = opt(False, "Never touch the network.", "--offline")
    no_progress: bool = opt(False, "No progress bar.", "--no-progress")
    quiet: bool = opt(False, "Say nothing but errors.", "-q", "--quiet")
    verbose: bool = opt(False, "Show what the engines print, and tracebacks.", "-v", "--verbose")

    def __post_init__(self) -> None:
        usage = "see smolcli convert-to-gguf --help"
        if "" in (self.model, self.name, self.against):
            raise UsageError("an empty word is no model and no name", usage)
        if (self.verify_only is None) == (self.model is None):
            raise UsageError("give a MODEL to convert, or --verify-only GGUF --against MODEL", usage)
        if (self.verify_only is None) != (self.against is None):
            raise UsageError("--verify-only and --against go together", usage)
        if self.mmproj is not None and self.verify_only is None:
            raise UsageError("--mmproj is for --verify-only", usage)
        if self.verify and self.dry_run:
            raise UsageError("--dry-run writes nothing that --verify could compare", "leave out one of them")


def _run(options: Conversion) -> None:
    registry.load(registry.LIBRARIES, "convert")(options)


convert_to_gguf = dataclass_command(_run, Conversion)
convert_to_gguf.__doc__ = """Make a language GGUF and an mmproj GGUF of a SmolVLM, Idefics3 or docling checkpoint.

The paths of the files go to standard output. What --verify finds goes to standard error, with --verify-only to
standard output.
"""
