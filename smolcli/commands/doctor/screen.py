"""What `smolcli doctor` shows: a verdict, the problems and ten lines; with -v all facts; with --report Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from smolcli import registry
from smolcli.commands.doctor.checks import AREAS
from smolcli.terminal.console import printable
from smolcli.types import pluralize

if TYPE_CHECKING:
    from smolcli.commands.doctor.checks import Problem, Report

WIDTH = 80  # columns
MAX_LINES = 25  # without -v
HEADING = 10  # columns of a heading
MARKS = {"ok": "ok", "warning": "! ", "error": "x "}
UNICODE_MARKS = {"ok": "✓", "warning": "!", "error": "✗"}
COLORS = {"ok": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
PLAIN = "\x1b[0m"
COMMAND = re.compile(r"(\w+='[^']*' )?(pip|pipx|uv|smolcli) ")  # the beginning of an advice that is a command
SECRETS = re.compile(r"(?<=://)[^/@\s]+@")  # user and password of a URL

_NO_ENCODER = "the backend's own; others are for llamacpp, which is not installed"

_NO_GPU = "none that PyTorch or llama.cpp could use"

Fact = tuple[str, str]  # a heading, empty where that is the same as above, and a text


class Screen:
    """Makes the lines of a report; `has_unicode` and `has_color` say what the output can show."""

    def __init__(self, report: Report, has_unicode: bool = True, has_color: bool = False) -> None:
        self._report = report
        self._marks = UNICODE_MARKS if has_unicode else MARKS
        self._has_color = has_color

    def short(self) -> list[str]:
        """The verdict, the problems with what to do about each, and a line for each area; at most 25 lines."""
        areas = list(self._area_lines())
        problems = [self._problem_lines(problem) for problem in self._report.problems]
        lines_left = MAX_LINES - len(areas) - 4  # the verdict, two empty lines, and one that names -v
        shown: list[str] = []
        while problems and len(shown) + len(problems[0]) <= lines_left:
            shown += problems.pop(0)
        if problems:
            shown.append(f"{pluralize(len(problems), 'more problem')}: smolcli doctor -v")
        return [verdict(self._report), "", *shown, *([""] if shown else []), *areas]

    def long(self) -> list[str]:
        """The verdict, all problems and all facts."""
        problems = [line for problem in self._report.problems for line in self._problem_lines(problem)]
        lines = [verdict(self._report), "", *problems, *([""] if problems else [])]
        return lines + [line for heading, text in fact_lines(self._report.facts) for line in _wrapped(heading, text)]

    def _problem_lines(self, problem: Problem) -> list[str]:
        mark = self._mark("error" if problem.blocks else "warning")
        width = WIDTH - len(self._marks["ok"]) - 1
        first, *rest = textwrap.wrap(printable(problem.what), width, break_on_hyphens=False)
        indent = " " * (len(self._marks["ok"]) + 1)
        advice = _advice_lines(printable(problem.advice), width - 4)
        return [f"{mark} {first}", *(f"{indent}{line}" for line in rest), *(f"{indent}    {line}" for line in advice)]

    def _area_lines(self) -> Iterator[str]:
        summaries = area_summaries(self._report.facts)
        for area in AREAS:
            problems = [problem for problem in self._report.problems if problem.area == area]
            state = "error" if any(problem.blocks for problem in problems) else "warning" if problems else "ok"
            width = WIDTH - len(self._marks["ok"]) - HEADING - 1
            yield f"{self._mark(state)} {area:<{HEADING}}{_cut(printable(summaries[area]), width)}"

    def _mark(self, state: str) -> str:
        mark = self._marks[state]
        return f"{COLORS[state]}{mark}{PLAIN}" if self._has_color else mark


def verdict(report: Report) -> str:
    """Whether smolcli can answer on this machine, in one line."""
    count = len(report.problems)
    if any(problem.blocks for problem in report.problems):
        return "smolcli cannot answer yet: do first what the first lines say"
    if count:
        return f"smolcli works here; {pluralize(count, 'thing')} could be better"
    return "smolcli works here, and lacks nothing"


def markdown(report: Report) -> str:
    """The report for an issue: without colours and secrets, and with `~` for the home folder."""
    lines = Screen(report, has_unicode=False).long()
    text = "\n".join(["### `smolcli doctor --report`", "", "```text", *lines, "```", ""])
    text = SECRETS.sub("", text)
    home = str(Path.home())
    return text if home == "/" else re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)


def area_summaries(facts: dict[str, Any]) -> dict[str, str]:
    """One line for each of AREAS."""
    machine, auto, cache = facts["machine"], facts["auto"], facts["cache"]
    features = [name for name in ("avx2", "avx512f", "amx_tile", "asimd") if name in machine["features"]]
    models = f"; here: {', '.join(model['name'] for model in cache['models'])}" if cache["models"] else ""
    default = f"{auto['model']} on {auto['backend']} where none is named" if auto["backend"] else "none can run"
    in_force = [f"{setting['key']} {setting['value']} ({setting['source']})" for setting in facts["config"]["settings"]]
    config = "config.toml" if facts["config"]["exists"] else "no config.toml"
    network = "network forbidden" if facts["offline"] else "network allowed"
    decoders = [_library(decoder) for decoder in facts["decoders"] if decoder["installed"]]
    return {
        "program": f"smolcli {machine['smolcli']}, Python {machine['python']}, {machine['system']}",
        "CPU": ", ".join([f"{machine['cores']} cores usable", *features, machine["cpu"]]),
        "memory": f"{_gigabytes(machine['memory'])}, {_gigabytes(facts['memory_free'])} free",
        "GPU": "; ".join(map(_gpu, facts["gpus"])) or _NO_GPU,
        "backends": "; ".join(_short_backend(backend) for backend in facts["backends"]),
        "encoder": _encoder(facts),
        "videos": ", ".join(decoders) or "no decoder",
        "models": f"{default}{models}",
        "disk": _free_space(facts["folders"]),
        "settings": ", ".join([config, *in_force, network, *facts["environment"]]),
    }


def fact_lines(facts: dict[str, Any]) -> Iterator[Fact]:
    """Yield all facts, under headings."""
    yield from _machine_facts(facts)
    yield from _backend_facts(facts)
    yield from _storage_facts(facts)
    config = facts["config"]
    yield "network", "forbidden by the environment" if facts["offline"] else "allowed where a command needs it"
    yield "settings", config["path"] + ("" if config["exists"] else ": not there")
    settings = (f"{setting['key']} = {setting['value']} from {setting['source']}" for setting in config["settings"])
    yield from _section("", settings)
    yield from _section("", (f"{name}={value}" for name, value in facts["environment"].items()))


def _machine_facts(facts: dict[str, Any]) -> Iterator[Fact]:
    machine = facts["machine"]
    yield "program", f"smolcli {machine['smolcli']}, Python {machine['python']}, {machine['system']}"
    yield "CPU", f"{machine['cpu']}: {machine['cores']} cores usable"
    yield "", " ".join(machine["features"]) or "features not known"
    yield "", f"AMX: {facts['amx']}"
    yield "memory", f"{_gigabytes(machine['memory'])}, {_gigabytes(facts['memory_free'])} free"
    yield from _section("GPUs", map(_gpu, facts["gpus"]), _NO_GPU)
    yield from _section("llama.cpp", _build(facts["llama_cpp"]))


def _backend_facts(facts: dict[str, Any]) -> Iterator[Fact]:
    auto = facts["auto"]
    yield from _section("backends", (_backend(backend, auto) for backend in facts["backends"]))
    yield "model", f"{auto['model']} on {auto['backend']}, where none is named" if auto["backend"] else "none"
    yield from _section("pictures", _encoders(facts))
    yield from _section("videos", map(_library, facts["decoders"]))
    yield "libraries", ", ".join(_library(library) for library in facts["libraries"] if library["installed"])
    yield from _section("", (_library(library) for library in facts["libraries"] if not library["installed"]))


def _storage_facts(facts: dict[str, Any]) -> Iterator[Fact]:
    cache = facts["cache"]
    yield from _section("models", [f"{cache['path']}, {_gigabytes(cache['bytes'])}", *map(_model, cache["models"])])
    yield from _section("disk", (f"{folder['path']}: {_gigabytes(folder['free'])} free" for folder in facts["folders"]))


def _section(heading: str, texts: Iterable[str], if_empty: str = "") -> Iterator[Fact]:
    for number, text in enumerate(list(texts) or filter(None, [if_empty])):
        yield "" if number else heading, text


def _wrapped(heading: str, text: str) -> list[str]:
    """A fact in lines of at most 80 columns, but for words that are longer than that."""
    lines = textwrap.wrap(printable(text), WIDTH - HEADING, break_long_words=False, break_on_hyphens=False)
    return [f"{'' if number else heading:<{HEADING}}{line}" for number, line in enumerate(lines)]


def _advice_lines(advice: str, width: int) -> list[str]:
    """What to do; a command that is too long goes on after a backslash, so that it can be copied."""
    if not COMMAND.match(advice):
        return textwrap.wrap(advice, width, break_long_words=False, break_on_hyphens=False)
    lines = textwrap.wrap(advice, width - 2, break_long_words=False, break_on_hyphens=False)
    return [*(f"{line} \\" for line in lines[:-1]), *lines[-1:]]


def _cut(text: str, width: int) -> str:
    """A text of at most `width` columns."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 3).rstrip()}..."


def _encoder(facts: dict[str, Any]) -> str:
    """The vision encoder of a large model, in one line."""
    if not _has_user_of_encoders(facts):
        return _NO_ENCODER
    name = facts["vision"]["large"]
    return f"{name} in {facts['vision']['precision'][name] or 'a precision not known'}, for pictures beside llamacpp"


def _has_user_of_encoders(facts: dict[str, Any]) -> bool:
    users = registry.backends_taking("vision_encoder")
    return any(backend["installed"] for backend in facts["backends"] if backend["name"] in users)


def _encoders(facts: dict[str, Any]) -> Iterator[str]:
    vision = facts["vision"]
    if not _has_user_of_encoders(facts):
        yield _NO_ENCODER
        return
    for size in ("large", "small"):
        name = vision[size]
        precision = vision["precision"][name] or "a precision not known"
        yield f"of a {size} model encoded by {name} in {precision}, beside llamacpp"
    for encoder in vision["engines"]:
        if not encoder["installed"]:
            yield _library(encoder)


def _model(model: dict[str, Any]) -> str:
    backends = ", ".join(model["here"]) or "no installed backend runs it"
    return f"{model['name']} ({backends}), {_gigabytes(model['bytes'])}"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"


def _free_space(folders: list[dict[str, Any]]) -> str:
    """The free space of each folder, or once where all have the same, as on one disk."""
    sizes = [_gigabytes(folder["free"]) for folder in folders]
    if len(set(sizes)) == 1:
        return f"{sizes[0]} free"
    names = {"cache": "models", "kept": "what is kept", "temporary": "temporary files"}
    parts = [f"{size} for {names[folder['name']]}" for size, folder in zip(sizes, folders, strict=True)]
    return f"free: {', '.join(parts)}"


def _gpu(gpu: dict[str, Any]) -> str:
    memory = f"{_gigabytes(gpu['memory'])}, {_gigabytes(gpu['free'])} free"
    dtype = f", --dtype auto is {gpu['dtype']}" if "dtype" in gpu else ""
    return f"{gpu['backend']} on {gpu['device']}: {gpu['name']}, {memory}{dtype}"


def _build(llama_cpp: dict[str, Any] | None) -> Iterator[str]:
    """What llama.cpp was built for, and how to build it for this machine's GPU."""
    if llama_cpp is None:
        return
    if llama_cpp["gpu_kinds"]:
        yield f"built for {' and '.join(llama_cpp['gpu_kinds'])}, and the CPU"
        return
    yield "built for the CPU alone; the command that builds it for a GPU:"
    yield llama_cpp["build"]


def _short_backend(backend: dict[str, Any]) -> str:
    if not backend["installed"]:
        return f"{backend['name']} not installed"
    if backend["seconds"] is None:
        return f"{backend['name']} does not answer"
    return f"{backend['name']} answers in {backend['seconds']:.1f} s"


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
