"""Does what `smolcli convert-to-gguf` is asked for. [the converters, which need gguf and safetensors]"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rich.console import Console as Terminal
from rich.markup import escape
from rich.table import Table
from tqdm import tqdm

from smolcli import registry
from smolcli.commands.convert_to_gguf.command import Conversion
from smolcli.converters import Adapter, Agreement, Output, Plan, check_libraries, plan, run_memory, verify, write
from smolcli.converters.lora import CONFIG as ADAPTER_CONFIG
from smolcli.converters.verify import Difference
from smolcli.errors import ModelError, SmolError, UsageError
from smolcli.models import catalog, hub_cache, resolve
from smolcli.terminal.console import Console
from smolcli.terminal.stdout import write_stderr

Pair = tuple[Path, Path]


def convert(options: Conversion) -> None:
    """Write, or plan, or only verify; what is asked for goes to standard output."""
    console = Console(options.quiet)
    if options.verify_only is not None and options.against is not None:
        _only_verify(options, console, options.verify_only, options.against)
        return
    checkpoint, lora = _source(options.model or "", options)
    if options.verify:
        check_libraries(lora)
    name = options.name or (catalog.NANO if options.model == catalog.NANO else None)
    wanted = (options.quant, options.mmproj_quant, name, lora, options.if_exists)
    planned = plan(checkpoint, options.output, *wanted, verbose=options.verbose)
    for line in planned.notices:
        console.notice(line)
    if options.dry_run:
        _say(options, planned, {}, sys.stdout)
        return
    with _bar(planned, options) as progress:
        write(planned, progress, options.verbose)
    for path in sorted(planned.kept):
        console.notice(f"{path}: is there and stays")
    if not options.as_json:
        write_stderr("".join(f"{output.path}\n" for output in planned.outputs))
    agreements: dict[Pair, Agreement] = {}
    try:
        if options.verify:
            texts, visions = ([output.path for output in half] for half in (planned.language, planned.vision))
            pairs = [(text, visions[0]) for text in texts] + [(texts[0], vision) for vision in visions[1:]]
            agreements = _verified(options, console, checkpoint, lora, pairs)
    finally:  # the files are there, whatever the comparison meets
        if options.as_json:
            _say(options, planned, agreements, sys.stdout)
    if not (options.as_json or options.quiet):
        _say(options, None, agreements, sys.stderr)
    _judge(agreements)


def _only_verify(options: Conversion, console: Console, gguf: Path, against: str) -> None:
    if not os.path.isfile(gguf):
        raise ModelError(f"{gguf}: no such file", "give the language half of a pair, a .gguf file")
    try:
        found = resolve.find(str(gguf), mmproj=options.mmproj)
    except OSError as error:
        raise ModelError(f"{gguf}: {error.strerror}", "check the path and its rights") from error
    if found.gguf is None or found.mmproj is None:
        raise ModelError(f"{gguf}: no GGUF pair", "give the language half, a .gguf file")
    checkpoint, lora = _source(against, options)
    agreements = _verified(options, console, checkpoint, lora, [(found.gguf, found.mmproj)])
    _say(options, None, agreements, sys.stdout)
    _judge(agreements)


def _source(word: str, options: Conversion) -> tuple[Path, Path | None]:
    """The checkpoint that `word` means, fetched where it is not here, and the adapter to merge into it."""
    lora = options.lora
    path = Path(os.path.expanduser(word))  # os.path's tests are False, not an error, where one may not look
    if word in (catalog.NANO, *catalog.CATALOG):
        return _pulled(word, options), lora
    if os.path.isfile(path):
        raise UsageError(f"{word}: a file", "give the directory of a checkpoint, a registry name or a hub id")
    if os.path.isfile(path / ADAPTER_CONFIG):
        if list(path.glob("model*.safetensors")):
            raise UsageError(f"{word}: holds a checkpoint and an adapter", "put them apart: MODEL --lora DIR")
        if lora is not None:
            raise UsageError(f"{word}: an adapter, and --lora names another", "give the model that both belong to")
        base = Adapter(path).base
        advice = f"name it: MODEL --lora {shlex.quote(word)}"
        if not base:
            raise ModelError(f"{path}: does not name its base model", advice)
        if os.path.isdir(base) and os.path.isfile(os.path.join(base, ADAPTER_CONFIG)):
            raise ModelError(f"{path}: its base model {base} is an adapter", advice)
        if not os.path.isdir(base) and not hub_cache.HUB_ID.fullmatch(base):
            raise ModelError(f"{path}: its base model {base} is not here", advice)
        return _source(base, dataclasses.replace(options, lora=path))
    if os.path.isdir(path):
        return path, lora
    if not hub_cache.HUB_ID.fullmatch(word):
        raise ModelError(f"{word}: not a directory, known name or hub id", resolve.advise_name(word))
    return _pulled(word, options), lora


def _pulled(word: str, options: Conversion) -> Path:
    found = resolve.find(word)
    if found.checkpoint is None:
        found = registry.load(registry.LIBRARIES, "hub")(word, "torch", offline=options.offline)
    if found.checkpoint is None:
        raise ModelError(f"{word}: its checkpoint is not here", f"smolcli models pull {word} --for torch")
    return Path(found.checkpoint)


@contextmanager
def _bar(planned: Plan, options: Conversion) -> Iterator[Callable[[int], object]]:
    """A bar of the bytes written, on a terminal."""
    total = sum(output.size for output in planned.work)
    hidden = options.quiet or options.no_progress or not sys.stderr.isatty()
    with tqdm(total=total, unit="B", unit_scale=True, disable=hidden, leave=False, file=sys.stderr) as bar:
        yield bar.update


def _verified(
    options: Conversion, console: Console, checkpoint: Path, lora: Path | None, pairs: list[Pair]
) -> dict[Pair, Agreement]:
    def progress(line: str) -> None:
        if sys.stderr.isatty() and not options.no_progress:
            console.notice(line)

    if lora is not None:
        Adapter(lora)  # told here, in words of our own
    found = verify(checkpoint, pairs, lora, options.threads, options.verbose, progress)
    return dict(zip(pairs, found, strict=True))


def _judge(agreements: dict[Pair, Agreement]) -> None:
    """Ends the program with exit code 1 where a pair is not its checkpoint; the first one is named."""
    for (language, vision), agreement in agreements.items():
        if agreement.failures:
            what = f"{language} with {vision.name}: not what its checkpoint says: {', '.join(agreement.failures)}"
            raise SmolError(what, "convert it again, or take a finer quantization")


def _say(options: Conversion, planned: Plan | None, agreements: dict[Pair, Agreement], stream: IO[str]) -> None:
    if options.as_json:
        files = [_file(planned, output) for output in planned.outputs] if planned else []
        verified = [_found(pair, agreement) for pair, agreement in agreements.items()]
        memory = _memory(planned) if planned else []
        temporary = sum(output.size for output in planned.work if output not in planned.made) if planned else 0
        report = {"files": files, "temporary_bytes": temporary, "memory": memory, "verify": verified}
        write_stderr(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
        return
    shown = stream.isatty()
    page = Terminal(file=io.StringIO(), highlight=False, width=None if shown else 500, force_terminal=shown)
    _tables(page, planned, agreements)
    text = page.file.getvalue()  # type: ignore[attr-defined]
    if stream is sys.stdout:
        write_stderr(text)
    else:
        print(text, end="", file=stream)


def _tables(terminal: Terminal, planned: Plan | None, agreements: dict[Pair, Agreement]) -> None:
    if planned:
        table = _table("file", "MB", "MB to run")
        needed = {row["language"]: f"{row['bytes'] / 1e6:.0f}" for row in _memory(planned)}
        for output in planned.outputs:
            there = " (is there)" if output.path in planned.kept else ""
            memory = needed.get(str(output.path), "")
            table.add_row(escape(f"{output.path}{there}"), f"{output.size / 1e6:.1f}", memory)
        for output in planned.work:
            if output not in planned.made:
                table.add_row("(for llama.cpp's quantizer, meanwhile)", f"{output.size / 1e6:.1f}", "")
        terminal.print(table)
    if agreements:
        table = _table("quant + mmproj", "top-1", "mean KL", "99% KL", "cosine", "least", "same answers")
        for one in agreements.values():
            numbers = (f"{one.top1:.4f}", f"{one.kl:.2g}", f"{one.kl_99:.2g}")
            near = (f"{one.cosine:.6f}", f"{one.cosine_least:.6f}", f"{one.same} of {one.probes}")
            table.add_row(_types(one), *numbers, *near)
        terminal.print(table)
        for one in agreements.values():
            if one.difference is not None:
                terminal.print(f"first difference of {_types(one)}: {_difference(one.difference)}")


def _table(*titles: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", overflow="fold")
    return table


def _types(agreement: Agreement) -> str:
    return f"{agreement.language} + {agreement.vision}"


def _difference(one: Difference) -> str:
    where = f"{one.probe}, token {one.token}"
    return escape(f"{where}: {one.said!r} for {one.wanted!r}" + (f" after {one.after[-20:]!r}" if one.after else ""))


def _memory(planned: Plan) -> list[dict[str, Any]]:
    """What each language half takes with the first vision half."""
    vision = planned.vision[0]
    text = planned.checkpoint.text
    return [
        {"language": str(one.path), "vision": str(vision.path), "bytes": run_memory(text, one.size + vision.size)}
        for one in planned.language
    ]


def _file(planned: Plan, output: Output) -> dict[str, Any]:
    return {
        "path": str(output.path),
        "half": "language" if output in planned.language else "vision",
        "quantization": output.quantization.name,
        "bytes": output.size,
        "kept": output.path in planned.kept,
        "fallbacks": list(output.fallbacks),
    }


def _found(pair: Pair, agreement: Agreement) -> dict[str, Any]:
    paths = {"language": str(pair[0]), "vision": str(pair[1])}
    values = dataclasses.asdict(agreement).items()
    numbers = {key: None if isinstance(one, float) and not math.isfinite(one) else one for key, one in values}
    types = {"quant": numbers.pop("language"), "mmproj_quant": numbers.pop("vision")}
    return {**paths, **types, **numbers, "failures": agreement.failures}
