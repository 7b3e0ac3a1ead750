"""The command line of `smolcli doctor`, and its screen; commands/doctor/checks.py finds out."""

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
from smolcli.terminal.stdout import write_stderr

if TYPE_CHECKING:
    from smolcli.commands.doctor.checks import Problem, Report

FORMATS = ("text", "json")
WIDTH = 100  # characters of a line of many things


@dataclass(frozen=True)
class Doctor:
    """What is shown."""

    format: str = opt("text", "How it is written.", "-f", "--format", **choice("format", FORMATS))


def _run(options: Doctor) -> None:
    report: Report = registry.load(registry.LIBRARIES, "doctor")()
    if options.format == "json":
        made = {**report.facts, "problems": [asdict(problem) for problem in report.problems]}
        write_stderr(json.dumps(made, indent=2, ensure_ascii=False) + "\n")
    else:
        write_stderr("".join(f"{name:<10} {printable(line)}\n" for name, line in _lines(report)))
    raise typer.Exit(Exit.UNAVAILABLE if any(problem.blocks for problem in report.problems) else Exit.OK)


doctor = dataclass_command(_run, Doctor)
doctor.__doc__ = """Say what this machine lacks, and what to do about it.

It shows what is here: CPU, memory, GPUs, backends, libraries, video decoders, models, disks, settings.
Every backend that is installed answers for a small picture, in a process of its own. Exit code 3 where nothing could
be answered here.
"""


def _lines(report: Report) -> Iterator[tuple[str, str]]:
    """What is shown, line by line: what it is about, empty where that is the same as above."""
    facts = report.facts
    machine, auto, cache, config = facts["machine"], facts["auto"], facts["cache"], facts["config"]
    yield "program", f"smolcli {machine['smolcli']}, Python {machine['python']}, {machine['system']}"
    yield "CPU", f"{machine['cpu']}: {machine['cores']} cores usable"
    yield "", " ".join(machine["features"]) or "features not told"
    yield "", f"AMX: {facts['amx']}"
    yield "memory", f"{_gigabytes(machine['memory'])}, {_gigabytes(facts['memory_free'])} free"
    yield from _each("GPUs", map(_gpu, facts["gpus"]), "none that PyTorch could use")
    yield from _each("backends", (_backend(one, auto) for one in facts["backends"]))
    yield "model", f"{auto['model']} on {auto['backend']}, where none is named" if auto["backend"] else "none"
    yield from _each("pictures", _encoders(facts["vision"]))
    yield from _each("videos", map(_library, facts["decoders"]))
    here = ", ".join(_library(one) for one in facts["libraries"] if one["installed"])
    missing = [_library(one) for one in facts["libraries"] if not one["installed"]]
    yield from _each("libraries", [*textwrap.wrap(here, WIDTH, break_on_hyphens=False), *missing])
    models = [f"{one['name']} ({', '.join(one['here'])}), {_gigabytes(one['bytes'])}" for one in cache["models"]]
    yield from _each("models", [f"{cache['path']}, {_gigabytes(cache['bytes'])}", *models])
    yield from _each("disk", (f"{one['path']}: {_gigabytes(one['free'])} free" for one in facts["folders"]))
    yield "network", "forbidden by the environment" if facts["offline"] else "allowed to what asks for it"
    yield "settings", config["path"] + ("" if config["exists"] else ": not there")
    yield from _each("", (f"{name}={value}" for name, value in facts["environment"].items()))
    yield from _each("problems", map(_problem, report.problems), "none")


def _each(name: str, lines: Iterable[str], none: str = "") -> Iterator[tuple[str, str]]:
    for number, line in enumerate(list(lines) or filter(None, [none])):
        yield "" if number else name, line


def _problem(one: Problem) -> str:
    return f"{one.what}; {one.advice}" + ("; until then nothing is answered" if one.blocks else "")


def _encoders(vision: dict[str, Any]) -> Iterator[str]:
    for size in ("large", "small"):
        name = vision[size]
        precision = vision["precision"][name] or "a precision not known"
        yield f"of a {size} model encoded by {name} in {precision}, beside llamacpp"
    for one in vision["engines"]:
        if not one["installed"]:
            yield _library(one)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"


def _gpu(one: dict[str, Any]) -> str:
    return f"{one['device']}: {one['name']}, {_gigabytes(one['memory'])}"


def _backend(one: dict[str, Any], auto: dict[str, Any]) -> str:
    taken = ", which auto takes" if one["name"] == auto["backend"] else ""
    if not one["installed"]:
        return f"{one['name']}: not installed; {one['install']}"
    if one["seconds"] is None:
        return f"{one['name']}{taken}: does not answer"
    return f"{one['name']}{taken}: answers, {one['seconds']:.1f} s with its start ({one['computes']})"


def _library(one: dict[str, Any]) -> str:
    return (
        f"{one['name']} {one['version']}".rstrip()
        if one["installed"]
        else f"{one['name']}: not installed; {one['install']}"
    )
