"""The command line of `smolcli doctor`, and its screen; commands/doctor/checks.py finds the facts and problems."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import typer

from smolcli import registry
from smolcli.cli.dataclass_options import dataclass_command
from smolcli.errors import Exit
from smolcli.options import choice, opt
from smolcli.terminal.console import printable
from smolcli.terminal.stdout import write_stdout
from smolcli.terminal.words import enumerate_words

if TYPE_CHECKING:
    from smolcli.commands.doctor.checks import Problem, Report

FORMATS = ("text", "json")
WIDTH = 100  # characters of a line of several libraries

Line = tuple[str, str]  # its heading, empty where that is the same as above, and its text


@dataclass(frozen=True)
class Doctor:
    """How the report is written."""

    panel = "Output"

    format: str = opt(
        "text", f"How to write the report: {enumerate_words(FORMATS)}.", "-f", "--format", **choice("format", FORMATS)
    )


def run_doctor(options: Doctor) -> None:
    """Check the machine and write the report to standard output; exit code 3 where nothing can be answered."""
    report: Report = registry.load(registry.ON_DEMAND, "doctor")()
    if options.format == "json":
        values = {**report.facts, "problems": [asdict(problem) for problem in report.problems]}
        write_stdout(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    else:
        write_stdout("".join(f"{heading:<10} {printable(text)}\n" for heading, text in _lines(report)))
    raise typer.Exit(Exit.UNAVAILABLE if any(problem.blocks for problem in report.problems) else Exit.OK)


doctor = dataclass_command(run_doctor, Doctor)
doctor.__doc__ = """Check what this machine lacks, and how to fix it.

It shows CPU, memory, GPUs, backends, libraries, video decoders, models, disks and settings. Every installed backend
answers for a small picture, in a process of its own. Exit code 3 where no backend can answer.
"""
doctor.examples = ("smolcli doctor", "smolcli doctor -f json")  # type: ignore[attr-defined]


def _lines(report: Report) -> Iterator[Line]:
    """Yield the lines of the screen."""
    facts = report.facts
    yield from _machine_lines(facts)
    yield from _backend_lines(facts)
    yield from _storage_lines(facts)
    config = facts["config"]
    yield "network", "forbidden by the environment" if facts["offline"] else "allowed where a command needs it"
    yield "settings", config["path"] + ("" if config["exists"] else ": not there")
    yield from _section("", (f"{name}={value}" for name, value in facts["environment"].items()))
    yield from _section("problems", map(_problem, report.problems), "none")


def _machine_lines(facts: dict[str, Any]) -> Iterator[Line]:
    machine = facts["machine"]
    yield "program", f"smolcli {machine['smolcli']}, Python {machine['python']}, {machine['system']}"
    yield "CPU", f"{machine['cpu']}: {machine['cores']} cores usable"
    yield "", " ".join(machine["features"]) or "features not known"
    yield "", f"AMX: {facts['amx']}"
    yield "memory", f"{_gigabytes(machine['memory'])}, {_gigabytes(facts['memory_free'])} free"
    yield from _section("GPUs", map(_gpu, facts["gpus"]), "none that PyTorch could use")


def _backend_lines(facts: dict[str, Any]) -> Iterator[Line]:
    auto = facts["auto"]
    yield from _section("backends", (_backend(backend, auto) for backend in facts["backends"]))
    yield "model", f"{auto['model']} on {auto['backend']}, where none is named" if auto["backend"] else "none"
    yield from _section("pictures", _encoders(facts["vision"]))
    yield from _section("videos", map(_library, facts["decoders"]))
    installed = ", ".join(_library(library) for library in facts["libraries"] if library["installed"])
    missing = [_library(library) for library in facts["libraries"] if not library["installed"]]
    yield from _section("libraries", [*textwrap.wrap(installed, WIDTH, break_on_hyphens=False), *missing])


def _storage_lines(facts: dict[str, Any]) -> Iterator[Line]:
    cache = facts["cache"]
    models = [
        f"{model['name']} ({', '.join(model['here'])}), {_gigabytes(model['bytes'])}" for model in cache["models"]
    ]
    yield from _section("models", [f"{cache['path']}, {_gigabytes(cache['bytes'])}", *models])
    yield from _section("disk", (f"{folder['path']}: {_gigabytes(folder['free'])} free" for folder in facts["folders"]))


def _section(heading: str, texts: Iterable[str], if_empty: str = "") -> Iterator[Line]:
    for number, text in enumerate(list(texts) or filter(None, [if_empty])):
        yield "" if number else heading, text


def _problem(problem: Problem) -> str:
    return f"{problem.what}; {problem.advice}" + ("; until then nothing is answered" if problem.blocks else "")


def _encoders(vision: dict[str, Any]) -> Iterator[str]:
    for size in ("large", "small"):
        name = vision[size]
        precision = vision["precision"][name] or "a precision not known"
        yield f"of a {size} model encoded by {name} in {precision}, beside llamacpp"
    for encoder in vision["engines"]:
        if not encoder["installed"]:
            yield _library(encoder)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"


def _gpu(gpu: dict[str, Any]) -> str:
    return f"{gpu['device']}: {gpu['name']}, {_gigabytes(gpu['memory'])}"


def _backend(backend: dict[str, Any], auto: dict[str, Any]) -> str:
    name = backend["name"] + (", which auto takes" if backend["name"] == auto["backend"] else "")
    if not backend["installed"]:
        return f"{backend['name']}: not installed; {backend['install']}"
    if backend["seconds"] is None:
        return f"{name}: does not answer"
    return f"{name}: answers, {backend['seconds']:.1f} s with its start ({backend['computes']})"


def _library(library: dict[str, Any]) -> str:
    if not library["installed"]:
        return f"{library['name']}: not installed; {library['install']}"
    return f"{library['name']} {library['version']}".rstrip()
