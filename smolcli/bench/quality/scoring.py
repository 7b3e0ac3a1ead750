"""Asks models the rows of a data set, as `ask` asks, and scores what they say."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from smolcli.bench.configurations import Configuration
from smolcli.bench.options import Quality
from smolcli.bench.performance.machine_noise import Watch
from smolcli.bench.quality import suites
from smolcli.bench.quality.datasets import read
from smolcli.bench.quality.metrics import METRICS, Labels, Metric, Score, interval, total
from smolcli.bench.quality.rows import Bad, Row
from smolcli.bench.report.model import Figure, Result, Worst
from smolcli.engine.protocol import Work
from smolcli.errors import EngineError, InputError
from smolcli.executors.local import LocalExecutor
from smolcli.inputs.load import digest
from smolcli.options import Batch, Generate, Input
from smolcli.process import child
from smolcli.records.record_id import Identity
from smolcli.records.resume import ResultsFile
from smolcli.records.sink import RecordSink
from smolcli.tasks.base import Task
from smolcli.terminal.console import Console
from smolcli.terminal.progress import Progress
from smolcli.types import Item, Media, Prompt, Question, Record, Turn, pluralize
from smolcli.writers.base import Writer

NAME = "bench quality"


@dataclass(frozen=True)
class Own(Task):
    """Asks of each item what it brings."""

    def prompts(self, media: Media) -> Sequence[Prompt]:
        assert media.question is not None
        parts = tuple(media.frames[part] if isinstance(part, int) else part for part in media.question.parts)
        prompt = Prompt.user(*parts)
        if not media.question.begins:
            return [prompt]
        return [replace(prompt, turns=(*prompt.turns, Turn("assistant", (media.question.begins,))))]


@dataclass
class Rows:
    """The rows of a data set, as many as are wanted; each that cannot be used is told once.

    `bad` are the names of those, `used` counts the others, `unfit` those of them that another metric would fit.
    Raises InputError where there is none.
    """

    path: Path
    wanted: Quality
    console: Console
    bad: set[str] = field(default_factory=set)
    used: int = 0
    unfit: int = 0

    def __post_init__(self) -> None:
        first = next((row for row in read(self.path) if isinstance(row, Row)), None)
        if first is None:
            bad = [row for row in read(self.path) if isinstance(row, Bad)]
            for row in bad:
                self.console.error(f"{row.name}: {row.message}")
            told = f"none of its {pluralize(len(bad), 'row')} can be used" if bad else "holds no row"
            raise InputError(f"{self.path}: {told}", "see docs/bench.md for what a row is", kind="no-input")
        suite = suites.SUITES[self.wanted.suite] if self.wanted.suite else None
        self._ask = suite.ask if suite else suites.ask
        self.sha256 = ""
        if self.path.is_file():
            with self.path.open("rb") as file:
                self.sha256 = digest(file)
        self.metric: Metric = METRICS[self.wanted.metric or (suite.metric if suite else suites.default_metric(first))]
        if self.metric is METRICS["vqa"] and len(first.answers) < suites.MANY_ANSWERS:
            answers = pluralize(len(first.answers), "answer")
            told = f"{first.name} has {answers}: VQA accuracy asks for the agreement of ten"
            self.console.notice(f"{told} people, and gives little or nothing for fewer; see --metric exact")

    def names(self, file: Path) -> bool:
        """Whether a row has its picture in `file`."""
        rows = (row for row in read(self.path) if isinstance(row, Row))
        words = (source.word for row in rows for source in row.sources if source.data is None)
        return any(os.path.exists(word) and os.path.samefile(word, file) for word in words)

    def items(self) -> Iterator[tuple[Row, Item]]:
        """Each row with what the engine is given of it."""
        used = unfit = 0
        for row in read(self.path):
            if used == self.wanted.limit:
                return
            if isinstance(row, Row) and self.metric is METRICS["choice"] and not row.choices:
                row = Bad(row.name, "has no choices, which the metric needs; write them, or give another --metric")
            if isinstance(row, Bad):
                if row.name not in self.bad:
                    self.console.error(f"{row.name}: {row.message}")
                self.bad.add(row.name)
                continue
            used += 1
            unfit += METRICS[suites.default_metric(row)] is not self.metric
            self.used, self.unfit = max(used, self.used), max(unfit, self.unfit)
            asked = self._ask(row)
            yield row, Item(row.name, row.sources, question=Question(asked.parts, asked.prefill))


@dataclass
class _Scored:
    """What is kept of the rows, by their place in the data set: scores, categories, and the worst of them."""

    metric: Metric
    most: int
    scores: dict[int, Score] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    worst: list[tuple[float, int, Row, str]] = field(default_factory=list)

    def add(self, place: int, row: Row, said: str) -> None:
        answers = tuple(filter(str.strip, row.answers)) if len(row.answers) < suites.MANY_ANSWERS else row.answers
        score = self.metric.of(said, Labels(answers or row.answers, row.choices, row.category))
        self.scores[place] = score
        if row.category:
            self.categories[place] = row.category
        badness = -score.value if self.metric.higher_is_better else score.value
        if badness > (-1.0 if self.metric.higher_is_better else 0.0):  # a right answer is none of the worst
            heapq.heappush(self.worst, (badness, -place, row, said))
            if len(self.worst) > self.most:
                heapq.heappop(self.worst)

    def total(self) -> Figure:
        """Of all rows, whatever the order in which they were answered."""
        return _figure([self.scores[place] for place in sorted(self.scores)])

    def by_category(self) -> dict[str, Figure]:
        """The same of each category, in the order of their names."""
        groups: dict[str, list[Score]] = {}
        for place in sorted(self.categories):
            groups.setdefault(self.categories[place], []).append(self.scores[place])
        return {name: _figure(groups[name]) for name in sorted(groups)}


def _figure(scores: Sequence[Score]) -> Figure:
    return Figure(total(scores), *interval(scores), len(scores))


class _Delivery(RecordSink):
    """Scores each record as it is given out, and each answer there was before."""

    def __init__(
        self, writer: Writer, console: Console, results: ResultsFile | None, progress: Progress | None,
        scored: _Scored, rows: dict[str, tuple[int, Row]],
    ) -> None:  # fmt: skip
        super().__init__(writer, console, results=results, progress=progress)
        self._scored, self._rows = scored, rows
        self.last = 0.0  # when the last answer came, by time.perf_counter
        self.engine = self.answered = 0

    def take(self, record: Record) -> bool:
        goes_on = super().take(record)
        if record.error is None and record.seconds.prefill:  # not a copy of another
            self.last = time.perf_counter()
            self.answered += 1
        self.engine = max(self.engine, record.memory.engine)
        place, row = self._rows.pop(record.path)
        if record.error is None:
            self._scored.add(place, row, record.text)
        return goes_on

    def skip(self, path: str, failed: bool = False, id: str = "") -> None:
        super().skip(path, failed)
        place, row = self._rows.pop(path)
        before = self._results.answer(id) if self._results is not None and not failed else None
        if before is not None:
            self._scored.add(place, row, before.text)


def _generate(wanted: Quality) -> Generate:
    return Generate(max_tokens=wanted.max_tokens)


def identity_of(setup: Configuration, wanted: Quality) -> Identity:
    """What makes two answers of a setup the same."""
    return setup.identity(NAME, _generate(wanted))


class Run:
    """One model over the rows."""

    def __init__(
        self, setup: Configuration, rows: Rows, writer: Writer, console: Console, verbose: bool, show_progress: bool
    ) -> None:
        self._setup, self._source, self._wanted = setup, rows, rows.wanted
        generate, identity = _generate(rows.wanted), identity_of(setup, rows.wanted)
        results = None
        if rows.wanted.records is not None and rows.wanted.resume:
            results = ResultsFile(rows.wanted.records, identity)
            results.read()
        self._rows: dict[str, tuple[int, Row]] = {}  # of those under way
        self._scored = _Scored(rows.metric, rows.wanted.worst)
        survey = iter([(rows.wanted.limit, 0)] if rows.wanted.limit else [])
        self._progress = progress = Progress(console, survey) if show_progress else None
        self._sink = _Delivery(writer, console, results, progress, self._scored, self._rows)
        options = replace(setup.options, offline=rows.wanted.offline)
        work = Work(setup.place, setup.files, options, Input(), generate)
        batch = Batch(timeout=rows.wanted.timeout, retry_failed=rows.wanted.retry_failed)
        self.answers = LocalExecutor(Own(), identity, work, self._sink, results, batch, verbose)

    def result(self) -> Result:
        """Asks every row. Raises EngineError and ModelError."""
        watch = Watch()
        try:
            self.answers.over(self._items())
        finally:
            if self._progress is not None:
                self._progress.close()
        scored, sink = self._scored, self._sink
        figures = {}
        if scored.scores:
            figures["score"] = scored.total()
        if sink.answered:
            rate = sink.answered / (sink.last - self.answers.ready_at)
            figures["images"] = Figure(rate, rate, rate, 1)
        if sink.engine:
            figures["engine"] = Figure(sink.engine, sink.engine, sink.engine, 1)
        return Result(
            self._setup.settings, figures, {}, self._setup.bytes, self._setup.fingerprint, scored.by_category(),
            sink.failed + sink.failed_before, self._worst(), tuple(watch.notices()),
        )  # fmt: skip

    def _items(self) -> Iterator[Item]:
        for place, (row, item) in enumerate(self._source.items()):
            self._rows[row.name] = place, row
            yield item

    def _worst(self) -> tuple[Worst, ...]:
        found = sorted(self._scored.worst, reverse=True)
        if not found:
            return ()
        try:
            sources = [row.sources[0] for _, _, row, _ in found]
            pictures = child.call("smolcli.bench.pictures:thumbnails", sources, self._wanted.offline)
        except EngineError:
            pictures = [""] * len(found)
        sign = -1 if self._scored.metric.higher_is_better else 1
        return tuple(
            Worst(row.name, row.question, row.answers, said, sign * badness, picture)
            for (badness, _, row, said), picture in zip(found, pictures, strict=True)
        )
