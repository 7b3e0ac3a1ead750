"""The command line of `smolcli convert-to-gguf`; commands/convert_to_gguf/run.py runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from smolcli import registry
from smolcli.cli.dataclass_options import dataclass_command
from smolcli.errors import UsageError
from smolcli.options import Model, Output, complete_model_names
from smolcli.terminal.option_fields import choice, opt, same_as
from smolcli.terminal.words import enumerate_words

MIXES = ("q6_k", "q5_k_m", "q4_k_m", "q3_k_m")
VISION = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
LANGUAGE = (*VISION, *MIXES)
IF_EXISTS = ("error", "skip", "overwrite")


@dataclass(frozen=True)
class Conversion:
    """What is converted, and to what."""

    panel = "Output"

    model: str | None = opt(
        None,
        "A checkpoint directory, a PEFT adapter directory, a name from `smolcli models list` or a Hugging Face id.",
        argument=True,
        panel="Inputs",
        metavar="MODEL",
        show_default=False,
        autocompletion=complete_model_names,
    )
    quant: tuple[str, ...] = opt(
        ("q8_0",),
        f"Quantization of the language model: {enumerate_words(LANGUAGE)}. Repeatable.",
        panel="Quantization",
        **choice("--quant", LANGUAGE, metavar="QUANT"),
    )
    mmproj_quant: tuple[str, ...] = opt(
        ("f16",),
        f"Quantization of the mmproj (vision) file: {enumerate_words(VISION)}. Repeatable.",
        panel="Quantization",
        **choice("--mmproj-quant", VISION, metavar="QUANT"),
    )
    output: Path = opt(
        Path("."), "Directory for the files.", "-o", "--output", metavar="DIR", show_default="the current directory"
    )
    name: str | None = opt(
        None,
        "The model's name in the files.",
        metavar="TEXT",
        show_default="that of the directory or Hugging Face id",
    )
    lora: Path | None = opt(None, "A PEFT LoRA adapter to merge into the weights.", panel="Inputs", metavar="DIR")
    if_exists: str = opt(
        "error",
        "Where a file exists: error, skip it or overwrite it.",
        **choice("--if-exists", IF_EXISTS, metavar="ACTION"),
    )
    dry_run: bool = opt(False, "Only show what would be written, in bytes, and the memory to run it.", "--dry-run")
    verify: bool = opt(
        False,
        "Compare each file with the checkpoint on PyTorch; exit code 1 where they differ.",
        "--verify",
        panel="Verification",
    )
    verify_only: Path | None = opt(
        None, "Compare this pair with --against; write nothing.", panel="Verification", metavar="GGUF"
    )
    against: str | None = opt(
        None, "The checkpoint that --verify-only compares with.", panel="Verification", metavar="MODEL"
    )
    mmproj: Path | None = opt(
        None,
        "The mmproj (vision) file for --verify-only.",
        panel="Verification",
        metavar="FILE",
        show_default="the one beside GGUF",
    )
    threads: int | None = same_as(Model, "threads", help="CPU threads of a comparison.", panel="Verification")
    as_json: bool = opt(False, "Write one JSON object to standard output.", "--json")
    offline: bool = same_as(Model, "offline", help="Use no network.", panel="Inputs")
    no_progress: bool = same_as(Output, "no_progress")
    quiet: bool = same_as(Output, "quiet")
    verbose: bool = same_as(Output, "verbose", help="Show what the engines print, and tracebacks.")

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
    registry.load(registry.ON_DEMAND, "convert")(options)


convert_to_gguf = dataclass_command(_run, Conversion)
convert_to_gguf.__doc__ = """Convert a checkpoint to a pair of GGUF files.

The checkpoint is a SmolVLM, an Idefics3 or a docling model; the pair is a language model and an mmproj (vision) file,
for llama.cpp. The paths of the files go to standard output. The result of --verify goes to standard error, that of
--verify-only to standard output.
"""
convert_to_gguf.examples = (  # type: ignore[attr-defined]
    "smolcli convert-to-gguf HuggingFaceTB/SmolVLM-256M-Instruct",
    "smolcli convert-to-gguf model/ --quant q8_0 --quant q4_k_m -o gguf/ --verify",
    "smolcli convert-to-gguf my-model/ --dry-run",
)
