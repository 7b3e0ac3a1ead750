"""What `smolcli convert-to-gguf` tells of files and comparisons: tables, or one JSON object."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import sys
from pathlib import Path
from typing import IO, Any

from rich.console import Console as Terminal
from rich.markup import escape
from rich.table import Table

from smolcli.converters import Agreement, Output, Plan, estimate_run_memory
from smolcli.converters.verify import Difference
from smolcli.terminal.stdout import write_stdout

WIDE = 500  # columns of a table that is no terminal's

Pair = tuple[Path, Path]  # a language model and an mmproj file


def write_report(planned: Plan | None, agreements: dict[Pair, Agreement], stream: IO[str], as_json: bool) -> None:
    """Write the files of a plan and the results of comparisons; JSON always goes to standard output."""
    if as_json:
        report = _json_report(planned, agreements)
        write_stdout(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
        return
    is_terminal = stream.isatty()
    buffer = io.StringIO()
    terminal = Terminal(file=buffer, highlight=False, width=None if is_terminal else WIDE, force_terminal=is_terminal)
    if planned:
        _print_files(terminal, planned)
    if agreements:
        _print_agreements(terminal, agreements)
    if stream is sys.stdout:
        write_stdout(buffer.getvalue())
    else:
        print(buffer.getvalue(), end="", file=stream)


def _json_report(planned: Plan | None, agreements: dict[Pair, Agreement]) -> dict[str, Any]:
    """The report with --json; sizes in bytes."""
    verified = [_agreement_values(pair, agreement) for pair, agreement in agreements.items()]
    if planned is None:
        return {"files": [], "temporary_bytes": 0, "memory": [], "verify": verified}
    return {
        "files": [_file_values(planned, output) for output in planned.outputs],
        "temporary_bytes": sum(output.size for output in planned.files_to_write if output not in planned.new_outputs),
        "memory": _run_memory(planned),
        "verify": verified,
    }


def _file_values(planned: Plan, output: Output) -> dict[str, Any]:
    return {
        "path": str(output.path),
        "half": "language" if output in planned.language else "vision",
        "quantization": output.quantization.name,
        "bytes": output.size,
        "kept": output.path in planned.kept,
        "fallbacks": list(output.fallbacks),
    }


def _agreement_values(pair: Pair, agreement: Agreement) -> dict[str, Any]:
    """The numbers of a comparison; those that are not finite are null, as JSON has none."""
    paths = {"language": str(pair[0]), "vision": str(pair[1])}
    values = dataclasses.asdict(agreement).items()
    numbers = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values}
    types = {"quant": numbers.pop("language"), "mmproj_quant": numbers.pop("vision")}
    return {**paths, **types, **numbers, "failures": agreement.failures}


def _run_memory(planned: Plan) -> list[dict[str, Any]]:
    """The memory in bytes that each language model takes with the first mmproj file."""
    vision = planned.vision[0]
    text = planned.checkpoint.text
    return [
        {
            "language": str(output.path),
            "vision": str(vision.path),
            "bytes": estimate_run_memory(text, output.size + vision.size),
        }
        for output in planned.language
    ]


def _print_files(terminal: Terminal, planned: Plan) -> None:
    table = _table("file", "MB", "MB to run")
    memory = {values["language"]: f"{values['bytes'] / 1e6:.0f}" for values in _run_memory(planned)}
    for output in planned.outputs:
        note = " (is there)" if output.path in planned.kept else ""
        table.add_row(escape(f"{output.path}{note}"), f"{output.size / 1e6:.1f}", memory.get(str(output.path), ""))
    for output in planned.files_to_write:
        if output not in planned.new_outputs:
            table.add_row("(for llama.cpp's quantizer, meanwhile)", f"{output.size / 1e6:.1f}", "")
    terminal.print(table)


def _print_agreements(terminal: Terminal, agreements: dict[Pair, Agreement]) -> None:
    table = _table(
        "quant + mmproj", "top-1", "mean KL", "99% KL", "cosine", "least", "same answers", "within the limits"
    )
    for agreement in agreements.values():
        tokens = (f"{agreement.top1:.4f}", f"{agreement.kl:.2g}", f"{agreement.kl_99:.2g}")
        embeddings = (f"{agreement.cosine:.6f}", f"{agreement.cosine_least:.6f}")
        verdict = "no" if agreement.failures else "yes"
        table.add_row(_types(agreement), *tokens, *embeddings, f"{agreement.same} of {agreement.probes}", verdict)
    terminal.print(table)
    for agreement in agreements.values():
        if agreement.difference is not None:
            terminal.print(f"first difference of {_types(agreement)}: {_describe(agreement.difference)}")


def _table(*titles: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", overflow="fold")
    return table


def _types(agreement: Agreement) -> str:
    return f"{agreement.language} + {agreement.vision}"


def _describe(difference: Difference) -> str:
    """Where two answers differ first, as rich markup."""
    text = f"{difference.probe}, token {difference.token}: {difference.said!r} for {difference.wanted!r}"
    return escape(text + (f" after {difference.after[-20:]!r}" if difference.after else ""))
