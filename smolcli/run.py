"""Takes one request from options to exit code: who answers, from what, and where the records go.

The only module that sees every stage.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Protocol, TextIO

from smolcli import child, models, registry, schema
from smolcli.console import Console
from smolcli.delivery import Delivery
from smolcli.errors import EngineError, Exit, InputError, UnavailableError, UsageError
from smolcli.events import Work
from smolcli.identity import Identity, id_options
from smolcli.inputs.walk import MEDIA
from smolcli.inputs.words import IsDone, Words, base_of, takes
from smolcli.models import ModelFiles
from smolcli.options import MOST_JOBS, Batch, Generate, Input, Model, Output
from smolcli.tasks.base import Task
from smolcli.types import Fault, Item, is_url
from smolcli.writers.base import Silent, Writer
from smolcli.writers.destination import STDOUT, destination, format_of
from smolcli.writers.template import Template

if TYPE_CHECKING:
    from smolcli.results import Results
    from smolcli.writers.sidecar import Sidecars


PLAN_FORMATS = ("text", "jsonl")


class Answering(Protocol):
    """What makes records of items: answers.py here, cluster.py on many machines."""

    stopping: bool

    @property
    def is_idle(self) -> bool: ...

    def over(self, source: Iterable[Item]) -> None: ...

    def stop(self) -> None: ...


def run(
    name: str, stdout: TextIO, task: Task, input: Input, model: Model, generate: Generate, output: Output, batch: Batch
) -> Exit:
    """The command `name`: everything between its options and its exit code.

    Raises UsageError, UnavailableError, EngineError, OutputError, and BrokenPipeError where nobody reads the answers.
    """
    console = Console(output.quiet)
    if generate.schema is not None:
        generate = replace(generate, schema=schema.canonical(generate.schema))
    _check(name, task, input, output, batch)
    if task.sampling is not None:
        _check_decoder(task.sampling.decoder)
    words = Words(input, output, reads=task.reads)
    files, backend = models.choose(model, candidates(model))
    model = settled(model, backend, files)
    if files.notice:
        console.notice(files.notice)
    many = words.is_many and not task.together
    if not many and model.jobs is None and task.at_once:
        model = replace(model, jobs=min(task.at_once, MOST_JOBS))  # room for more would be memory lost
    options = {**task.id_options, **id_options(_deciding(generate), model)}
    identity = Identity(name, files.name, backend, models.fingerprint(files, backend), options)
    work = Work(
        registry.BACKENDS[backend].place,
        files,
        model,
        replace(input, inputs=()),  # a shell may have named a hundred thousand
        generate,
        sampling=task.sampling,
    )
    if task.is_plan:
        return _planned(stdout, task, words, work, input, output, console)
    with contextlib.ExitStack() as stack:
        results = _results(batch, output, identity, console)
        if results is not None and results.is_large and not task.together:
            words.look_ahead()
        stream = stack.enter_context(destination(_file(output), stdout, batch.resume))
        if results is not None:
            results.read()
        writer = stack.enter_context(_writer(output, stream, many, task.blocks))
        sidecars = _sidecars(input, output)
        to_terminal = stream is stdout and stdout.isatty()
        progress = None
        if (many or task.sampling is not None) and not (output.quiet or output.no_progress):
            answers_shown = to_terminal and _format(output) is not None and task.sampling is None
            show = registry.load(registry.LIBRARIES, "progress")
            progress = stack.enter_context(closing(show(console, words.survey(), answers_shown)))
        delivery = Delivery(
            writer, console, sidecars=sidecars, results=results, progress=progress, fail_fast=batch.fail_fast,
            verbose=output.verbose,
        )  # fmt: skip
        answering: Answering = registry.load(registry.ENGINES, batch.engine)(
            task, identity, replace(work, streams=to_terminal and not many), delivery, results, batch, output.verbose
        )
        skips = sidecars if _format(output) is None and output.if_exists == "skip" else None
        is_done = _done_before(results, skips, batch.retry_failed, delivery.skip)
        source = _together(words.items()) if task.together else _arriving(words, input, is_done, stack)
        if sidecars is not None:
            source = _checked(source, sidecars)
        shown: Item | None = None
        if task.sheet is not None:
            listed = list(source)
            shown = next(iter(listed), Item.of(input.inputs[0]))  # which has its record already
            source = iter(listed)
        with interruptible(answering, console) as interrupted:
            try:
                answering.over(source)
            except EngineError:
                if not interrupted():
                    raise
    if interrupted():
        return Exit.INTERRUPTED
    if results is not None:
        results.tidy()
    if delivery.exit_code == Exit.OK:
        _write_sheet(shown, task, work, output)
    return _concluded(delivery, console, input, task.noun)


def _planned(
    stdout: TextIO, task: Task, words: Words, work: Work, input: Input, output: Output, console: Console
) -> Exit:
    """--dry-run: what would be looked at."""
    show = registry.load(registry.LIBRARIES, "--dry-run")
    items = list(words.items())
    with destination(_file(output), stdout) as stream:
        delivery = Delivery(Silent(stream), console)
        show(task, items, work, stream, _format(output) == "jsonl", delivery)
    if delivery.exit_code == Exit.OK:
        _write_sheet(next(iter(items), None), task, work, output)
    return _concluded(delivery, console, input, task.noun)


def _write_sheet(item: Item | None, task: Task, work: Work, output: Output) -> None:
    """The picture of what is looked at, if one is wanted; native code may crash, so it is made in a child."""
    if task.sheet is not None and item is not None:
        place = "smolcli.inputs.sheet:write"
        args = (item, task.sampling, work.input, work.model.offline, task.sheet)
        child.call(place, *args, verbose=output.verbose)


def _deciding(generate: Generate) -> Generate:
    """The options that change answers: without chance there is nothing to choose from."""
    return replace(generate, top_p=1.0, seed=0) if generate.temperature == 0 else generate


def _results(batch: Batch, output: Output, identity: Identity, console: Console) -> Results | None:
    path = _file(output)
    if not batch.resume or path is None:
        return None
    results: Results = registry.load(registry.LIBRARIES, "--resume")(path, identity)
    if torn := results.mend():
        console.notice(f"{path}: a record of {torn} bytes was torn and is made again")
    return results


def candidates(options: Model) -> tuple[str, ...]:
    """The backends that may run, best first: that of `--backend`, or those installed, PyTorch first for a GPU."""
    if options.backend != "auto":
        return (registry.require(registry.BACKENDS, options.backend),)
    wants_gpu = may_use_gpu() if options.device == "auto" else options.device != "cpu"
    torch_first = wants_gpu and options.vision_engine == "auto"
    order = ("torch", "llamacpp") if torch_first else ("llamacpp", "torch")
    found = tuple(name for name in order if registry.installed(registry.BACKENDS[name]))
    return found or (registry.require(registry.BACKENDS, "llamacpp"),)


def check_options(options: Model, backend: str) -> None:
    """Raises UsageError for options that are another backend's, UnavailableError for what is not installed."""
    if backend == "torch":
        for option, is_given in (
            ("--vision-engine", options.vision_engine != "auto"),
            ("-j", options.jobs is not None),
        ):
            if is_given:
                what = f"{option} is for llama.cpp, and PyTorch would run this"
                raise UsageError(what, "leave it out, or add --backend llamacpp")
    if backend != "llamacpp":
        return
    if options.device not in ("auto", "cpu"):
        raise UsageError("--device is for PyTorch, and llama.cpp would run this", "add --backend torch")
    engine = registry.vision_engine(options.vision_engine, options.dtype)
    if engine != "mtmd" or options.dtype == "auto":
        return
    if options.vision_engine == "mtmd":
        raise UsageError("mtmd computes as its file's types say, and takes no --dtype", "leave out one of them")
    raise UnavailableError("--dtype needs OpenVINO or PyTorch beside llama.cpp", "pip install 'smolcli[openvino]'")


def settled(options: Model, backend: str, files: ModelFiles) -> Model:
    """`options` with what encodes pictures named, where `backend` leaves that open: it decides answers.

    Raises as check_options.
    """
    check_options(options, backend)
    if backend != "llamacpp":
        return options
    size = files.mmproj.stat().st_size if files.mmproj is not None else 0
    engine = registry.vision_engine(options.vision_engine, options.dtype, size)
    return replace(options, vision_engine=engine)


def gpu_may_be_here() -> bool:
    """Whether there is likely to be a GPU that may be used, told without the seconds that importing PyTorch takes."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):  # of NVIDIA's and, by PyTorch, of AMD's
        return False
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return apple or any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def may_use_gpu() -> bool:
    """Whether PyTorch is likely to compute on one: it may be here, and PyTorch is not built for the CPU alone."""
    if not gpu_may_be_here():
        return False
    from importlib.metadata import PackageNotFoundError, version  # takes a tenth of the start

    try:
        return not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return True


def _together(source: Iterable[Item]) -> Iterator[Item]:
    """All items as one, for a task that looks at them together; none of none."""
    parts = list(source)
    if parts:
        yield Item(" ".join(part.path for part in parts), tuple(one for part in parts for one in part.sources))


def _done_before(
    results: Results | None, sidecars: Sidecars | None, retry_failed: bool, skip: Callable[[str, bool], None]
) -> IsDone:
    """Whether a path needs no answer, as far as can be told unread; `sidecars` where they are all that is wanted."""

    def is_done(path: str, mark: str | None = None) -> bool:
        state = results.state(path, mark) if results is not None else "new"
        done = state == "done" or (state == "failed" and not retry_failed) or (sidecars and sidecars.exists(path))
        if done:
            skip(path, state == "failed")
        return bool(done)

    return is_done


def _checked(source: Iterable[Item], sidecars: Sidecars) -> Iterator[Item]:
    """The items; one that can have no sidecar is not asked about."""
    for item in source:
        try:
            sidecars.check(item.path)
        except InputError as error:
            item = replace(item, fault=Fault(error.kind, str(error)))
        yield item


def _check(name: str, task: Task, input: Input, output: Output, batch: Batch) -> None:
    """Options that contradict each other."""
    words = (*input.inputs, *input.watch)
    asked = [each.name for each in fields(task) if each.metadata.get("argument")]
    if words.count("-") > 1:
        raise UsageError("standard input can be read once, and is named twice", "name it once")
    if not words and input.files_from is None:
        example = " ".join(("smolcli", name, *(f'"{each.upper()}"' for each in asked), task.example))
        raise UsageError("no input was given", f"{example}, a directory, or - for standard input")
    if "question" in asked and os.path.isfile(question := getattr(task, "question", "")):
        raise UsageError(
            f"{question} is a file, where the question should be", f'smolcli {name} "What is this?" {question}'
        )
    if output.output is not None and takes(input, output.output):
        raise UsageError(f"{output.output}: the input is also the output", "choose another file with -o")
    if output.output is not None and output.output.suffix.lower() in MEDIA and output.output.is_file():
        raise UsageError(f"{output.output}: is a picture or a video, by its name", "choose another file with -o")
    for kind in (_format(output), *output.sidecar):
        if kind in registry.NEEDS_SEGMENTS and task.reads != "video":
            raise UsageError(f"{kind} is for video-summarize", "choose text, json or jsonl")
    if _format(output) in registry.NEEDS_SEGMENTS and Words(input).is_many:
        raise UsageError(f"{_format(output)} holds one video", "give one, or write one beside each: --sidecar .srt")
    if task.is_plan and (input.watch or batch.resume or output.sidecar or _format(output) not in PLAN_FORMATS):
        what = "--dry-run shows plans as text or jsonl, and writes no records"
        raise UsageError(what, "leave out --watch, --resume, --sidecar, --template and other formats")
    if task.sheet is not None:
        _check_sheet(task.sheet, input, output, batch)
    if task.together and input.watch:
        raise UsageError("--together waits for all inputs, and --watch for ever", "leave out one of them")
    if output.template is not None and output.format is not None:
        raise UsageError("--template is a format of its own", "leave out --format")
    if batch.resume and (_file(output) is None or _format(output) != "jsonl"):
        raise UsageError("--resume goes on with a file of records", "name it: -o results.jsonl")
    if batch.resume and output.output and output.output.exists() and not output.output.is_file():
        raise UsageError(f"{output.output}: is no file that could be resumed", "name another: -o results.jsonl")
    if batch.retry_failed and not batch.resume:
        raise UsageError("--retry-failed is for --resume", "add --resume -o results.jsonl")
    if output.out_dir is not None and not output.sidecar:
        raise UsageError("--out-dir is for sidecars", "add --sidecar .txt, or use -o FILE")
    if output.sidecar and ("-" in words or task.together):
        raise UsageError("--sidecar needs inputs with names of their own", "use -o FILE")
    if output.sidecar and output.out_dir is None and any(map(is_url, words)):
        raise UsageError("there is no place beside a URL for its sidecar", "add --out-dir DIR")
    if batch.address is not None and batch.engine != "ray":
        raise UsageError("--address is that of a Ray cluster", "add --engine ray")


def _check_decoder(name: str) -> None:
    try:
        registry.require(registry.DECODERS, name)
    except UnavailableError as error:
        advice = f"{error.advice}, or try --decoder ffmpeg"
        raise UnavailableError(f"videos cannot be read: {error.what}", advice) from None


def _check_sheet(file: Path, input: Input, output: Output, batch: Batch) -> None:
    if takes(input, file) or (output.output is not None and file.resolve() == output.output.resolve()):
        raise UsageError(f"{file}: is an input or the output", "choose another file with --contact-sheet")
    if Words(input).is_many:
        raise UsageError("--contact-sheet is one picture, of one video", "give one video")
    if batch.engine != "local":
        raise UsageError(f"--contact-sheet is not made with --engine {batch.engine}", "leave out one of them")
    if file.suffix.lower() not in registry.SHEETS:
        raise UsageError(f"{file}: is no name of a picture", "name it .jpg, .png or .webp")
    if not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
        raise UsageError(f"{file}: cannot be written", "is its folder there?")


def _file(output: Output) -> Path | None:
    """The file that records go to; None is standard output."""
    return None if output.output is None or str(output.output) in STDOUT else output.output


def _format(output: Output) -> str | None:
    """The format of the records; None where sidecars are all that is wanted."""
    if output.template is not None:
        return "template"
    if output.format is not None:
        return output.format
    if output.output is not None:
        return format_of(output.output, registry.WRITERS)
    return None if output.sidecar else "text"


def _writer(output: Output, stream: TextIO, many: bool, blocks: bool) -> Writer:
    format = _format(output)
    if format is None:
        return Silent(stream)
    if output.template is not None:
        return Template(stream, many, blocks, template=output.template)
    writer: Writer = registry.load(registry.WRITERS, format)(stream, many, blocks)
    return writer


def _sidecars(input: Input, output: Output) -> Sidecars | None:
    if not output.sidecar:
        return None
    base = "." if input.files_from is not None else base_of((*input.inputs, *input.watch))
    make = registry.load(registry.LIBRARIES, "--sidecar")
    sidecars: Sidecars = make(output.sidecar, base, output.out_dir, output.if_exists, suffixes=MEDIA)
    return sidecars


def _arriving(words: Words, input: Input, is_done: IsDone, stack: contextlib.ExitStack) -> Iterator[Item]:
    """All that is named, what lies in the folders watched, and then for ever what arrives in them."""
    if not input.watch:
        return words.items(is_done)
    end = Event()
    stack.callback(end.set)
    arrivals = registry.load(registry.LIBRARIES, "--watch")  # the watch begins now: nothing is missed meanwhile
    arrived = arrivals(input.watch, words.accepts, end, input.recursive, existing=words.watched())
    return chain(words.items(is_done), (Item.of(path) for path in arrived if not is_done(path, None)))


@contextlib.contextmanager
def interruptible(answering: Answering, console: Console) -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C lets what is under way finish; the second, or one while nothing is, stops at once.

    Gives a function that says whether there was one.
    """
    hit = False

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal hit
        if hit or answering.is_idle:
            raise KeyboardInterrupt
        hit = True
        answering.stop()
        console.notice("finishing what is under way; Ctrl-C again stops at once")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: hit
    finally:
        signal.signal(signal.SIGINT, before)


def _concluded(delivery: Delivery, console: Console, input: Input, noun: str) -> Exit:
    """What is said at the end, and the exit code."""
    if delivery.skipped:
        told = f"{delivery.done} done now, {delivery.failed} of them failed; {delivery.skipped} were done before"
        if delivery.failed_before:
            told += f", {delivery.failed_before} of them failed: --retry-failed tries again"
        console.notice(told)
    elif not delivery.done and input.shard is not None:
        console.notice(f"none of the inputs is of shard {input.shard}")
        return Exit.OK
    elif not delivery.done:
        named = ", ".join((*input.inputs, *filter(None, (input.files_from,))))
        console.error(f"{named}: no {noun} was found; name {noun} files or a directory that has some")
    return delivery.exit_code
