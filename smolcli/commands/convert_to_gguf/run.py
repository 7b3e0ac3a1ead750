"""Runs `smolcli convert-to-gguf`. Needs the extra `convert`: safetensors."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from smolcli.commands.convert_to_gguf.command import Conversion
from smolcli.commands.convert_to_gguf.report import Pair, write_report
from smolcli.converters import Adapter, Agreement, Plan, check_libraries, plan, verify, write
from smolcli.errors import ModelError, SmolError, UsageError
from smolcli.models import catalog, hub_cache, resolve
from smolcli.models.files import ADAPTER_CONFIG
from smolcli.models.pull import pull
from smolcli.terminal.console import Console
from smolcli.terminal.stdout import write_stdout
from smolcli.terminal.step_line import StepLine


def convert(options: Conversion) -> None:
    """Convert, only plan, or only verify; what was asked for goes to standard output.

    Raises UsageError, ModelError and OutputError, and SmolError where a pair differs from its checkpoint.
    """
    console = Console(options.quiet)
    if options.verify_only is not None and options.against is not None:
        _verify_only(options, console, options.verify_only, options.against)
        return
    checkpoint, lora = _find_source(options.model or "", options)
    if options.verify:
        check_libraries(lora)
    name = options.name or (catalog.NANO if options.model == catalog.NANO else None)
    # A dry run writes nothing: it only says which files are there.
    if_exists = "skip" if options.dry_run and options.if_exists == "error" else options.if_exists
    settings = (options.quant, options.mmproj_quant, name, lora, if_exists)
    planned = plan(checkpoint, options.output, *settings, verbose=options.verbose)
    for line in planned.notices:
        console.notice(line)
    if options.dry_run:
        write_report(planned, {}, sys.stdout, options.as_json)
        return
    with _progress_bar(planned, options) as advance:
        write(planned, advance, options.verbose)
    for path in sorted(planned.kept):
        console.notice(f"{path}: is there and stays")
    if not options.as_json:
        write_stdout("".join(f"{output.path}\n" for output in planned.outputs))
    agreements: dict[Pair, Agreement] = {}
    try:
        if options.verify:
            agreements = _verify(options, console, checkpoint, lora, _written_pairs(planned))
    finally:  # the files are written, whatever happens in the comparison
        if options.as_json:
            write_report(planned, agreements, sys.stdout, as_json=True)
    if not (options.as_json or options.quiet):
        write_report(None, agreements, sys.stderr, as_json=False)
    _fail_on_difference(agreements)


def _verify_only(options: Conversion, console: Console, gguf: Path, against: str) -> None:
    """Compare the pair of `gguf` with the checkpoint `against`, and report to standard output."""
    if not os.path.isfile(gguf):
        raise ModelError(f"{gguf}: no such file", "give the language model of a pair, a .gguf file")
    try:
        files = resolve.find_files(str(gguf), mmproj=options.mmproj)
    except OSError as error:
        raise ModelError(f"{gguf}: {error.strerror}", "check the path and its permissions") from error
    if files.gguf is None or files.mmproj is None:
        raise ModelError(f"{gguf}: no GGUF pair", "give the language model, a .gguf file")
    checkpoint, lora = _find_source(against, options)
    agreements = _verify(options, console, checkpoint, lora, [(files.gguf, files.mmproj)])
    write_report(None, agreements, sys.stdout, options.as_json)
    _fail_on_difference(agreements)


def _find_source(word: str, options: Conversion) -> tuple[Path, Path | None]:
    """Return the checkpoint that `word` means, downloaded if it is not here, and the adapter to merge into it."""
    path = Path(os.path.expanduser(word))  # os.path's tests are False, not an error, where one may not look
    if word in (catalog.NANO, *catalog.CATALOG):
        return _find_checkpoint(word, options), options.lora
    if os.path.isfile(path):
        raise UsageError(f"{word}: a file", "give the directory of a checkpoint, a name or a Hugging Face id")
    if os.path.isfile(path / ADAPTER_CONFIG):
        return _find_source(_base_model(word, path, options), dataclasses.replace(options, lora=path))
    if os.path.isdir(path):
        return path, options.lora
    if not hub_cache.HUB_ID.fullmatch(word):
        raise ModelError(f"{word}: not a directory, known name or Hugging Face id", resolve.advise_name(word))
    return _find_checkpoint(word, options), options.lora


def _base_model(word: str, path: Path, options: Conversion) -> str:
    """Return the directory or Hugging Face id of the model that the adapter in the directory `path` belongs to."""
    if list(path.glob("model*.safetensors")):
        raise UsageError(f"{word}: holds a checkpoint and an adapter", "put them apart: MODEL --lora DIR")
    if options.lora is not None:
        raise UsageError(f"{word}: an adapter, and --lora names another", "give the model that both belong to")
    base = Adapter(path).base
    advice = f"name it: MODEL --lora {shlex.quote(word)}"
    if not base:
        raise ModelError(f"{path}: does not name its base model", advice)
    if os.path.isdir(base) and os.path.isfile(os.path.join(base, ADAPTER_CONFIG)):
        raise ModelError(f"{path}: its base model {base} is an adapter", advice)
    if not os.path.isdir(base) and not hub_cache.HUB_ID.fullmatch(base):
        raise ModelError(f"{path}: its base model {base} is not here", advice)
    return str(base)


def _find_checkpoint(word: str, options: Conversion) -> Path:
    """Return the checkpoint of a name or Hugging Face id, downloaded if it is not here."""
    files = resolve.find_files(word)
    if files.checkpoint is None:
        files = pull(word, "checkpoint", offline=options.offline, quiet=options.quiet or options.no_progress)
    if files.checkpoint is None:
        raise ModelError(f"{word}: its checkpoint is not here", f"smolcli models pull {word} --for torch")
    return Path(files.checkpoint)


def _written_pairs(planned: Plan) -> list[Pair]:
    """Pairs in which each file occurs: every language model with the first mmproj file, the others with the first."""
    language, vision = ([output.path for output in half] for half in (planned.language, planned.vision))
    return [(path, vision[0]) for path in language] + [(language[0], path) for path in vision[1:]]


@contextmanager
def _progress_bar(planned: Plan, options: Conversion) -> Iterator[Callable[[int], object]]:
    """Show a bar of the bytes written, on a terminal; yields what to call with more bytes."""
    total = sum(output.size for output in planned.files_to_write)
    is_hidden = options.quiet or options.no_progress or not sys.stderr.isatty()
    with tqdm(total=total, unit="B", unit_scale=True, disable=is_hidden, leave=False, file=sys.stderr) as bar:
        yield bar.update


def _verify(
    options: Conversion, console: Console, checkpoint: Path, lora: Path | None, pairs: list[Pair]
) -> dict[Pair, Agreement]:
    """Compare each pair with the checkpoint on PyTorch, and show on a terminal what runs and for how long."""
    if lora is not None:
        Adapter(lora)  # raises ModelError for one that cannot be read, before PEFT does so in words of its own
    with contextlib.closing(StepLine(console, not (options.no_progress or options.quiet))) as line:

        def show_step(step: str) -> None:
            line.begin(step.replace(f"{checkpoint}: ", f"{options.model or options.against}: "))

        agreements = verify(checkpoint, pairs, lora, options.threads, options.verbose, show_step)
    return dict(zip(pairs, agreements, strict=True))


def _fail_on_difference(agreements: dict[Pair, Agreement]) -> None:
    """Raise SmolError, which ends the program with exit code 1, for the first pair that differs from its checkpoint."""
    for (language, vision), agreement in agreements.items():
        if agreement.failures:
            message = f"{language} with {vision.name}: not what its checkpoint says: {', '.join(agreement.failures)}"
            raise SmolError(message, "convert it again, or take a finer quantization")
