"""What a benchmark found: a report, its JSON, and what its figures are called.

report = Report.read(Path("speed.json"))
report.results[0].figures["decode"].value      # tokens a second, the median
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from smolcli.errors import UsageError

FAILED = "failed: "  # begins the notice that says why there are no figures

Kind = Literal["speed", "memory", "quality"]


@dataclass(frozen=True)
class Measure:
    """What a figure is: its title in a table, its unit, and whether more of it is better; None where neither is."""

    title: str
    unit: str
    higher_is_better: bool | None
    about: str


# In the order in which they are shown; a quality report has its metric's name beside these.
MEASURES = {
    "score": Measure("score", "", True, "the metric over all rows that were scored"),
    "start": Measure("start", "s", False, "what a whole command takes beside the rest: Python, libraries, processes"),
    "load": Measure("load", "s", False, "loading the model"),
    "media": Measure("open+cut", "s", False, "opening, decoding and cutting one picture"),
    "tile": Measure("encode/tile", "s", False, "encoding one tile of a picture"),
    "prefill": Measure("prefill", "tokens/s", True, "evaluating the prompt, pictures' tokens included"),
    "first": Measure("first token", "s", False, "from the file to the first token, of a loaded model"),
    "decode": Measure("decode", "tokens/s", True, "making tokens, one after the other"),
    "images": Measure("images/s", "1/s", True, "whole pictures a second, from file to answer"),
    "parent": Measure("smolcli", "bytes", False, "peak resident memory of the process that was started"),
    "engine": Measure("engine", "bytes", False, "peak resident memory of the process that runs the model"),
    "gpu": Measure("GPU", "bytes", False, "peak memory taken on the GPU by PyTorch"),
}


@dataclass(frozen=True)
class Figure:
    """A number and its interval: of times and rates the median and where it lies, of scores the total, both at 95 %.

    `count` is how many repetitions or rows it is of.
    """

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Worst:
    """An answer that scored badly; `picture` is a data: URI of a small JPEG, empty where there is none."""

    name: str
    question: str
    wanted: tuple[str, ...]
    said: str
    score: float
    picture: str = ""


@dataclass(frozen=True)
class Result:
    """The figures of one combination of settings.

    `settings` are what was varied or must be known to repeat it (model, backend, quant, threads, detail, batch, image,
    new_tokens, ...), `facts` counts that follow from them (tiles, prompt_tokens), `files` the bytes of the model's
    files, `fingerprint` is models.fingerprint's. Of quality: figures by category, rows that have no score, and the
    worst answers.
    """

    settings: dict[str, str | int]
    figures: dict[str, Figure]
    facts: dict[str, int] = field(default_factory=dict)
    files: int = 0
    fingerprint: str = ""
    categories: dict[str, Figure] = field(default_factory=dict)
    failed: int = 0
    worst: tuple[Worst, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def is_broken(self) -> bool:
        """Whether nothing could be measured, and its notices say why."""
        return any(notice.startswith(FAILED) for notice in self.notices)

    @property
    def name(self) -> str:
        """The settings in words."""
        return " ".join(str(value) for value in self.settings.values())


@dataclass(frozen=True)
class Report:
    """All that a benchmark found, and enough to repeat it: `command`, `options` and `machine`.

    `metric` and `data` are a quality report's: what the score is, and the data set with its counts of rows.
    `created` is UTC, ISO 8601.
    """

    kind: Kind
    created: str
    command: str
    machine: dict[str, Any]
    options: dict[str, Any]
    results: tuple[Result, ...]
    notices: tuple[str, ...] = ()
    metric: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def measure(self, name: str) -> Measure:
        """What the figure `name` is; a score is better where it is higher but of an error rate."""
        measure = MEASURES[name]
        if name == "images" and self.kind == "quality":
            return Measure(
                "rows/s", "1/s", True, "whole rows a second, from file to answer; once, and on a warm engine"
            )
        if name != "score":
            return measure
        return Measure(self.metric, "", not self.data.get("lower_is_better", False), measure.about)

    @property
    def shown(self) -> list[str]:
        """The names of the figures that some result has, in the order of MEASURES."""
        return [name for name in MEASURES if any(name in result.figures for result in self.results)]

    @property
    def varied(self) -> list[str]:
        """The names of the settings that differ between results, and the model."""
        names = list(dict.fromkeys(name for result in self.results for name in result.settings))
        found = [name for name in names if len({result.settings.get(name) for result in self.results}) > 1]
        return [name for name in names if name in found or name == "model"]

    def json(self) -> str:
        """JSON, indented."""
        return shown(json.dumps(asdict(self), ensure_ascii=False, indent=2))

    @classmethod
    def read(cls, path: Path) -> Report:
        """A report from the file that `-f json` or `-o FILE.json` made. Raises UsageError for anything else."""
        try:
            return cls.of(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror})", "check the path") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            advice = "make one: smolcli bench speed -o FILE.json"
            raise UsageError(f"{path}: is no report of smolcli bench", advice) from error

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Report:
        """A report from its JSON. Raises KeyError, TypeError or ValueError for what is none."""
        fields = dict(fields)
        if fields["kind"] not in ("speed", "memory", "quality"):
            raise ValueError(fields["kind"])
        fields["results"] = tuple(map(_result, fields["results"]))
        fields["notices"] = tuple(fields.get("notices", ()))
        return cls(**fields)


def _result(fields: Mapping[str, Any]) -> Result:
    fields = dict(fields)
    if not isinstance(fields["settings"], dict):
        raise TypeError(fields["settings"])
    for name in ("figures", "categories"):
        fields[name] = {key: _figure(value) for key, value in fields.get(name, {}).items()}
    fields["worst"] = tuple(Worst(**{**one, "wanted": tuple(one["wanted"])}) for one in fields.get("worst", ()))
    fields["notices"] = tuple(fields.get("notices", ()))
    return Result(**fields)


def _figure(fields: Mapping[str, Any]) -> Figure:
    figure = Figure(**fields)
    if not all(math.isfinite(number) for number in asdict(figure).values()):
        raise ValueError(fields)
    return figure


def shown(json_text: str) -> str:
    """JSON that means the same, and that a terminal shows as text: the byte 9B begins an escape sequence too."""
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in json_text)


def heading(measure: Measure) -> str:
    """Of a column: the title and the unit."""
    unit = {"bytes": "MB", "1/s": "", "": ""}.get(measure.unit, measure.unit)
    return f"{measure.title}, {unit}" if unit else measure.title
