"""What `smolcli models info` shows people: a line of each fact, then the files and the warnings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smolcli.terminal.console import printable

NAME_WIDTH = 12


def page(told: dict[str, Any]) -> str:
    """Return the text about a model of which `told` is what models.model_info.describe returns."""
    about = f": {told['about']}" if "about" in told else ""
    rows = [f"  {name:<{NAME_WIDTH}}{text}" for name, text in _rows(told)]
    return "".join(f"{printable(line)}\n" for line in [f"{told['name']}{about}", *rows])


def _rows(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each line."""
    if "family" in told:
        yield "family", f"{told['family']}: {told['runs_as']}"
    if "good_for" in told:
        yield "good for", told["good_for"]
    if "pair_bytes" in told:
        pair, checkpoint = (f"{told[key] / 1e6:,.0f} MB" for key in ("pair_bytes", "checkpoint_bytes"))
        yield "GGUF pair", f"{told['gguf_repo']}{_at(told['gguf_revision'])}, {pair} in {told['quant']} (recommended)"
        yield "checkpoint", f"{told['repo']}{_at(told['revision'])}, {checkpoint} in {told['checkpoint_dtype']}"
    if "licence" in told:
        yield "licence", told["licence"]
    if "parameters" in told:
        yield "parameters", f"{told['parameters'] / 1e6:,.0f} million"
    if "context" in told:
        yield "context", f"{told['context']:,} tokens"
    if "tile" in told:
        yield "pictures", _pictures(told)
    if told.get("x_height"):
        yield "print", f"read best where small letters are {told['x_height']:g} pixels of a tile high"
    absence = "no backend that is installed runs these files" if told["files"] else "its files are not on this machine"
    yield "runs here", ", ".join(told["backends"]) or absence
    for file in told["files"]:
        published = {True: f"{file['compared']} as published", False: "not as published", None: ""}[file["published"]]
        words = [f"{file['bytes']:,} bytes", file["quant"], published]
        yield "file", f"{Path(file['path'])} ({', '.join(filter(None, words))})"
    for warning in told["warnings"]:
        yield "beware", warning


def _pictures(told: dict[str, Any]) -> str:
    text = f"tiles of {told['tile']} x {told['tile']} pixels"
    if "tile_tokens" in told:
        text += f", {told['tile_tokens']} tokens each"
    if "picture_tokens" in told:
        text += f", at most {told['picture_tokens']:,} tokens a picture"
    return text


def _at(revision: str | None) -> str:
    return f"@{revision[:8]}" if revision else ""
