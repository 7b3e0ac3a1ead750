"""The report of a benchmark: its results, its JSON, and the titles and units of its figures.

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

FAILED = "failed: "  # the prefix of the notice that says why there are no figures
UNSURE = "figures are unsure: "  # the prefix of a notice that says what disturbed the measurement

Kind = Literal["speed", "memory", "quality"]


@dataclass(frozen=True)
class Measure:
    """A kind of figure: its title in tables, its unit, and whether a higher value is better; None if neither is."""

    title: str
    unit: str
    higher_is_better: bool | None
    about: str

    @property
    def is_timed(self) -> bool:
        """Whether it is a time or a rate, which depends on what else the machine does."""
        return self.unit not in ("", "bytes")


# In the order in which reports show them; a quality report has its metric's title instead of "score".
MEASURES = {
    "score": Measure("score", "", True, "the metric over all rows that were scored"),
    "cer_mean": Measure("mean CER", "", False, "characters wrong in a page, the mean of all pages"),
    "cer_median": Measure("median CER", "", False, "characters wrong in a page, the median of all pages"),
    "wer_mean": Measure("mean WER", "", False, "words wrong in a page"),
    "wer_median": Measure("median WER", "", False, "words wrong in a page"),
    "plain_cer_mean": Measure("plain mean CER", "", False, "mean CER in NFC, ASCII quotes and hyphens, single spaces"),
    "plain_cer_median": Measure("plain median CER", "", False, "the same"),
    "plain_wer_mean": Measure("plain mean WER", "", False, "the same"),
    "plain_wer_median": Measure("plain median WER", "", False, "the same"),
    "start": Measure(
        "start", "s", False, "what a whole command takes outside the other stages: Python, libraries, processes"
    ),
    "load": Measure("load", "s", False, "loading the model"),
    "media": Measure("open+cut", "s", False, "opening, decoding and cutting one picture"),
    "tile": Measure("encode/tile", "s", False, "encoding one tile of a picture"),
    "prefill": Measure("prefill", "tokens/s", True, "evaluating the prompt, pictures' tokens included"),
    "first": Measure("first token", "s", False, "from the file to the first token, with the model loaded"),
    "decode": Measure("decode", "tokens/s", True, "generating tokens one after the other"),
    "rows": Measure("step", "rows", None, "sequences that one decoding step evaluates together"),
    "encode_floor": Measure("encode floor", "%", None, "the least time that encoding could take, of what it took"),
    "prefill_floor": Measure("prefill floor", "%", None, "the least time that prefill could take, of what it took"),
    "decode_floor": Measure("decode floor", "%", None, "the least time that decoding could take, of what it took"),
    "images": Measure("images/s", "1/s", True, "whole pictures a second, from file to answer"),
    "parent": Measure("smolcli", "bytes", False, "peak resident memory of the process that was started"),
    "engine": Measure("engine", "bytes", False, "peak resident memory of the process that runs the model"),
    "gpu": Measure("GPU", "bytes", False, "peak memory taken on the GPU by PyTorch"),
}


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval: the median of times and rates, the total of scores.

    `count` is the number of repetitions or rows.
    """

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Worst:
    """An answer with a low score; `picture` is a data: URI of a small JPEG, or "" if there is none."""

    name: str
    question: str
    wanted: tuple[str, ...]
    said: str
    score: float
    picture: str = ""


@dataclass(frozen=True)
class Result:
    """The figures of one combination of settings.

    `settings` are what was varied or is needed to repeat the measurement (model, backend, quant, threads, detail,
    batch, image, new_tokens ...). `facts` are counts that follow from them (tiles, tokens). `files` is the size of the
    model's files in bytes, `fingerprint` that of models/fingerprint.py. `categories` and `splits` (the scores of parts
    of the rows), `failed` (rows without a score) and `worst` (answers) are only used by quality reports.
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
    splits: dict[str, Figure] = field(default_factory=dict)

    @property
    def groups(self) -> dict[str, dict[str, Figure]]:
        """The scores of parts of the rows, by what the parts are called."""
        return {"split": self.splits, "category": self.categories}

    @property
    def is_broken(self) -> bool:
        """Whether nothing could be measured; the first notice says why."""
        return any(notice.startswith(FAILED) for notice in self.notices)

    @property
    def unsure(self) -> tuple[str, ...]:
        """The notices that say what disturbed the measurement."""
        return tuple(notice for notice in self.notices if notice.startswith(UNSURE))

    @property
    def name(self) -> str:
        """The values of the settings, with spaces between them."""
        return " ".join(str(value) for value in self.settings.values())


@dataclass(frozen=True)
class Report:
    """The results of a benchmark and what is needed to repeat it: `command`, `options` and `machine`.

    `metric` (the title of the score) and `data` (the data set and its counts of rows) are only used by quality reports.
    `created` is UTC in ISO 8601.
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
        """The measure of the figure `name`; of a score it depends on the metric whether a higher value is better."""
        measure = MEASURES[name]
        if name == "images" and self.kind == "quality":
            return Measure(
                "rows/s", "1/s", True, "whole rows a second, from file to answer; measured once, with a warm engine"
            )
        if name != "score":
            return measure
        return Measure(self.metric, "", not self.data.get("lower_is_better", False), measure.about)

    @property
    def shown(self) -> list[str]:
        """The names of the figures that at least one result has, in the order of MEASURES."""
        return [name for name in MEASURES if any(name in result.figures for result in self.results)]

    @property
    def varied(self) -> list[str]:
        """The names of the settings that differ between results, and always "model"."""
        names = list(dict.fromkeys(name for result in self.results for name in result.settings))
        varied = [name for name in names if len(self._values_of(name)) > 1]
        return [name for name in names if name in varied or name == "model"]

    def _values_of(self, name: str) -> set[str | int | None]:
        """The values of a setting; None for results without it, but not for other programs, which have a name alone."""
        return {result.settings.get(name) for result in self.results if len(result.settings) > 1 or name == "model"}

    def json(self) -> str:
        """The report as indented JSON."""
        return escape_controls(json.dumps(asdict(self), ensure_ascii=False, indent=2))

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a file that `--json` or `-o FILE.json` wrote. Raises UsageError for anything else."""
        try:
            return cls.of(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror})", "check the path") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            advice = "make one: smolcli bench speed -o FILE.json"
            raise UsageError(f"{path}: is no report of smolcli bench", advice) from error

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Report:
        """Make a report of its JSON fields. Raises KeyError, TypeError or ValueError for other JSON."""
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
    for name in ("figures", "categories", "splits"):
        fields[name] = {key: _figure(value) for key, value in fields.get(name, {}).items()}
    fields["worst"] = tuple(
        Worst(**{**answer, "wanted": tuple(answer["wanted"])}) for answer in fields.get("worst", ())
    )
    fields["notices"] = tuple(fields.get("notices", ()))
    return Result(**fields)


def _figure(fields: Mapping[str, Any]) -> Figure:
    figure = Figure(**fields)
    if not all(math.isfinite(number) for number in asdict(figure).values()):
        raise ValueError(fields)
    return figure


def escape_controls(json_text: str) -> str:
    """JSON of the same meaning in which every unprintable character is escaped, so that terminals do not obey it.

    json.dumps escapes those below U+0020 only; U+009B begins an escape sequence too.
    """
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in json_text)


def heading(measure: Measure) -> str:
    """The heading of a column: the title and the unit."""
    unit = {"bytes": "MB", "1/s": "", "": ""}.get(measure.unit, measure.unit)
    return f"{measure.title}, {unit}" if unit else measure.title
