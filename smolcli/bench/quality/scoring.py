"""Asks models the questions of a data set, as `ask` does, and scores their answers."""

from __future__ import annotations

import heapq
import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from smolcli.bench.configurations import Configuration
from smolcli.bench.options import Quality
from smolcli.bench.performance.machine_noise import NoiseWatch
from smolcli.bench.quality import page_errors, suites
from smolcli.bench.quality.datasets import read
from smolcli.bench.quality.metrics import METRICS, Labels, Metric, Score, confidence_interval, total
from smolcli.bench.quality.rows import BadRow, Row
from smolcli.bench.report.results import Figure, Result, Worst
from smolcli.engine.protocol import Work
from smolcli.errors import EngineError, ErrorKind, InputError
from smolcli.executors.base import RunSpec
from smolcli.executors.local import LocalExecutor
from smolcli.options import Batch, Generate, Input
from smolcli.process import child
from smolcli.records.notices import FEWER_TILES
from smolcli.records.record_id import Identity
from smolcli.records.resume import InputState, ResultsFile
from smolcli.records.sink import RecordSink
from smolcli.system.file_digest import sha256_and_size
from smolcli.tasks.base import Task
from smolcli.tasks.ocr import BLANK_REPLIES, Ocr
from smolcli.tasks.page_reading import QUESTION
from smolcli.terminal.console import Console
from smolcli.terminal.progress import Progress
from smolcli.types import Item, Media, Prompt, Question, Record, Turn, pluralize
from smolcli.writers.base import Writer

NAME = "bench quality"


@dataclass(frozen=True)
class ItemQuestion(Task):
    """Asks about each item the question that it carries."""

    def prompts(self, media: Media) -> Sequence[Prompt]:
        """The item's question with its pictures in their places, and the beginning of the reply if it has one."""
        assert media.question is not None
        parts = tuple(media.frames[part] if isinstance(part, int) else part for part in media.question.parts)
        prompt = Prompt.user(*parts)
        if not media.question.begins:
            return [prompt]
        return [replace(prompt, turns=(*prompt.turns, Turn("assistant", (media.question.begins,))))]

    def blank_replies(self, media: Media) -> Collection[str]:
        """Those of `ocr` where its question is asked."""
        return BLANK_REPLIES if media.question is not None and media.question.parts[-1] == QUESTION else ()


@dataclass
class Rows:
    """The rows of a data set, at most `options.limit` of `options.split`; each unusable row is shown once as an error.

    `bad` are the names of unusable rows, `used` counts the others, `unfit` counts those of them whose default metric is
    another, `splits` those of each split. Raises InputError if there is no usable row.
    """

    path: Path
    options: Quality
    console: Console
    bad: set[str] = field(default_factory=set)
    used: int = 0
    unfit: int = 0
    splits: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        first = next((row for row in self._read() if isinstance(row, Row)), None)
        if first is None:
            raise self._no_row()
        self.reads_pages = suites.reads_pages(self.options.suite)
        suite = suites.SUITES[self.options.suite] if self.options.suite else None
        self._ask = suite.ask if suite else suites.ask
        self.sha256 = ""
        if self.path.is_file():
            with self.path.open("rb") as file:
                self.sha256 = sha256_and_size(file)[0]
        default_metric = suite.metric if suite else suites.default_metric(first)
        self.metric: Metric = METRICS[self.options.metric or default_metric]
        if self.metric is METRICS["vqa"] and len(first.answers) < suites.MANY_ANSWERS:
            self.console.notice(
                f"{first.name} has {pluralize(len(first.answers), 'answer')}: VQA accuracy asks for the agreement of "
                "ten people, and gives little or nothing for fewer; see --metric exact"
            )

    def _read(self) -> Iterator[Row | BadRow]:
        """Yield the rows of the split that was asked for, of all splits without one, and those that cannot be used."""
        split = self.options.split
        return (row for row in read(self.path) if split is None or isinstance(row, BadRow) or row.split == split)

    def _no_row(self) -> InputError:
        """The error that there is no row to ask; it shows why each cannot be used, unless they are of other splits."""
        if others := dict.fromkeys(row.split for row in read(self.path) if isinstance(row, Row)):
            message = f"{self.path}: has no row of the split {self.options.split}"
            names = ", ".join(filter(None, others))
            advice = f"its splits are: {names}" if names else "it has no column split: leave --split out"
            return InputError(message, advice, kind=ErrorKind.NO_INPUT)
        bad = [row for row in read(self.path) if isinstance(row, BadRow)]
        for row in bad:
            self.console.error(f"{row.name}: {row.message}")
        message = f"none of its {pluralize(len(bad), 'row')} can be used" if bad else "holds no row"
        return InputError(f"{self.path}: {message}", "see docs/bench.md for what a row is", kind=ErrorKind.NO_INPUT)

    def has_picture(self, file: Path) -> bool:
        """Whether `file` is the picture of a row."""
        rows = (row for row in read(self.path) if isinstance(row, Row))
        words = (source.word for row in rows for source in row.sources if source.data is None)
        return any(os.path.exists(word) and os.path.samefile(word, file) for word in words)

    def items(self) -> Iterator[tuple[Row, Item]]:
        """Yield each usable row and its item for the engine."""
        used = unfit = 0
        splits: Counter[str] = Counter()
        for row in self._read():
            if used == self.options.limit:
                return
            if isinstance(row, Row) and self.metric is METRICS["choice"] and not row.choices:
                row = BadRow(row.name, "has no choices, which the metric needs; write them, or give another --metric")
            if isinstance(row, BadRow):
                if row.name not in self.bad:
                    self.console.error(f"{row.name}: {row.message}")
                self.bad.add(row.name)
                continue
            used += 1
            unfit += METRICS[suites.default_metric(row)] is not self.metric
            splits[row.split] += 1
            self.used, self.unfit, self.splits = max(used, self.used), max(unfit, self.unfit), self.splits | splits
            yield row, Item(row.name, row.sources, question=None if self.reads_pages else self._question(row))

    def _question(self, row: Row) -> Question:
        prompt = self._ask(row)
        return Question(prompt.parts, prompt.prefill)


@dataclass
class _Scores:
    """The scores, categories and splits of rows by their index in the data set, and the `worst_count` worst answers.

    With `reads_pages` also the error rates of each row as a page.
    """

    metric: Metric
    worst_count: int
    reads_pages: bool = False
    scores: dict[int, Score] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    splits: dict[int, str] = field(default_factory=dict)
    pages: dict[int, page_errors.PageErrors] = field(default_factory=dict)
    worst: list[tuple[float, int, Row, str]] = field(default_factory=list)  # a heap: badness, -index, row, reply

    def add(self, index: int, row: Row, reply: str) -> None:
        """Score the reply to a row."""
        answers = tuple(filter(str.strip, row.answers)) if len(row.answers) < suites.MANY_ANSWERS else row.answers
        if row.question.strip() in ("", QUESTION):
            answers = tuple("" if answer.strip() in BLANK_REPLIES else answer for answer in answers)
        score = self.metric.score(reply, Labels(answers or row.answers, row.choices, row.category))
        self.scores[index] = score
        if self.reads_pages:
            self.pages[index] = page_errors.rates(reply, answers or row.answers)
        if row.category:
            self.categories[index] = row.category
        if row.split:
            self.splits[index] = row.split
        badness = -score.value if self.metric.higher_is_better else score.value
        is_right = badness <= (-1.0 if self.metric.higher_is_better else 0.0)
        if not is_right:
            heapq.heappush(self.worst, (badness, -index, row, reply))
            if len(self.worst) > self.worst_count:
                heapq.heappop(self.worst)

    def figures(self) -> dict[str, Figure]:
        """The score of all rows and the error rates of pages; {} if no row was scored.

        They are computed in the order of the data set, so that the order of answers does not change them.
        """
        if not self.scores:
            return {}
        score = _figure([self.scores[index] for index in sorted(self.scores)])
        return {"score": score, **page_errors.figures([self.pages[index] for index in sorted(self.pages)])}

    def by_category(self) -> dict[str, Figure]:
        """The score of each category, in the order of their names."""
        return self._by_group(self.categories)

    def by_split(self) -> dict[str, Figure]:
        """The score of each split, in the order of their names."""
        return self._by_group(self.splits)

    def _by_group(self, names: dict[int, str]) -> dict[str, Figure]:
        groups: dict[str, list[Score]] = {}
        for index in sorted(names):
            groups.setdefault(names[index], []).append(self.scores[index])
        return {name: _figure(groups[name]) for name in sorted(groups)}


def new_scores(rows: Rows) -> _Scores:
    """Scores of none of the rows yet."""
    return _Scores(rows.metric, rows.options.worst, rows.reads_pages)


def _figure(scores: Sequence[Score]) -> Figure:
    return Figure(total(scores), *confidence_interval(scores), len(scores))


class _ScoringSink(RecordSink):
    """Scores each record as it is written, and each answer of an earlier run that is skipped."""

    def __init__(
        self, writer: Writer, console: Console, results: ResultsFile | None, progress: Progress | None,
        scores: _Scores, rows: dict[str, tuple[int, Row]],
    ) -> None:  # fmt: skip
        super().__init__(writer, console, results=results, progress=progress)
        self._scores, self._rows = scores, rows
        self.last_answer_at = 0.0  # by time.perf_counter
        self.engine_peak = self.answered = 0
        self.fewer_tiles = 0  # rows whose pictures were cut into fewer tiles than --detail says

    def write_record(self, record: Record) -> bool:
        goes_on = super().write_record(record)
        if record.error is None and record.seconds.prefill:  # not a copy of the answer to an equal input
            self.last_answer_at = time.perf_counter()
            self.answered += 1
        self.engine_peak = max(self.engine_peak, record.memory.engine)
        index, row = self._rows.pop(record.path)
        if record.error is None:
            self._score(index, row, record)
        return goes_on

    def skip(self, path: str, state: InputState = "done", id: str = "") -> None:
        super().skip(path, state)
        index, row = self._rows.pop(path)
        before = self._results.record(path, id) if self._results is not None and state != "failed" else None
        if before is not None:
            self._score(index, row, before)

    def _score(self, index: int, row: Row, answered: Record) -> None:
        self._scores.add(index, row, answered.text)
        self.fewer_tiles += any(notice.startswith(FEWER_TILES) for notice in answered.notices)


def _generate(options: Quality) -> Generate:
    return Generate(max_tokens=options.max_tokens)


def identity_of(configuration: Configuration, options: Quality) -> Identity:
    """What makes two answers of a configuration the same."""
    identity = configuration.identity(NAME, _generate(options))
    return replace(identity, options={**identity.options, **_task(options).id_options})


def _task(options: Quality) -> Task:
    return Ocr() if suites.reads_pages(options.suite) else ItemQuestion()


class QualityRun:
    """Asks one configuration all rows."""

    def __init__(
        self,
        configuration: Configuration,
        rows: Rows,
        writer: Writer,
        console: Console,
        verbose: bool,
        show_progress: bool,
    ) -> None:
        options = rows.options
        self._configuration, self._source, self._options = configuration, rows, options
        generate, identity = _generate(options), identity_of(configuration, options)
        results = None
        if options.records is not None and options.resume:
            results = ResultsFile(options.records, identity)
            results.read()
        self._rows: dict[str, tuple[int, Row]] = {}  # by name, those that are being answered
        self._scores = new_scores(rows)
        survey = iter([(options.limit, 0)] if options.limit else [])
        self._progress = progress = Progress(console, survey, "row") if show_progress else None
        self._sink = _ScoringSink(writer, console, results, progress, self._scores, self._rows)
        model = replace(configuration.options, offline=options.offline)
        task = _task(options)
        work = Work(
            configuration.target,
            configuration.files,
            model,
            Input(),
            generate,
            every_page=task.reads_every_page,
            asks_for_pages=task.asks_for_pages,
            pages=task.page_options,
        )
        batch = Batch(timeout=options.timeout, retry_failed=options.retry_failed)
        self.executor = LocalExecutor(RunSpec(task, identity, work, batch, verbose), self._sink, results)

    def result(self) -> Result:
        """Ask every row and score the answers. Raises EngineError and ModelError."""
        watch = NoiseWatch()
        try:
            self.executor.run(self._items())
        finally:
            if self._progress is not None:
                self._progress.close()
        scores, sink = self._scores, self._sink
        figures = scores.figures()
        if sink.answered:
            rate = sink.answered / (sink.last_answer_at - self.executor.ready_at)
            figures["images"] = Figure(rate, rate, rate, 1)
        if sink.engine_peak:
            figures["engine"] = Figure(sink.engine_peak, sink.engine_peak, sink.engine_peak, 1)
        notices = [*watch.notices()]
        if sink.fewer_tiles:
            rows = f"{sink.fewer_tiles:,} of {pluralize(len(scores.scores), 'row')}"
            notices.append(f"the pictures of {rows} were cut into fewer tiles, to fit the context")
        return Result(
            self._configuration.settings, figures, {}, self._configuration.file_bytes, self._configuration.fingerprint,
            scores.by_category(), sink.failed + sink.failed_before, self._worst(), tuple(notices), scores.by_split(),
        )  # fmt: skip

    def _items(self) -> Iterator[Item]:
        for index, (row, item) in enumerate(self._source.items()):
            self._rows[row.name] = index, row
            yield item

    def _worst(self) -> tuple[Worst, ...]:
        """The worst answers with thumbnails, the worst first."""
        worst = sorted(self._scores.worst, reverse=True)
        if not worst:
            return ()
        try:
            sources = [row.sources[0] for _, _, row, _ in worst]
            pictures = child.call("smolcli.bench.pictures:thumbnails", sources, self._options.offline)
        except EngineError:
            pictures = [""] * len(worst)
        sign = -1 if self._scores.metric.higher_is_better else 1
        return tuple(
            Worst(row.name, row.question, row.answers, reply, sign * badness, picture)
            for (badness, _, row, reply), picture in zip(worst, pictures, strict=True)
        )
