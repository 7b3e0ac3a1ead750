"""Refuses options that contradict each other, one function for each concern, before anything is opened.

Every check raises UsageError with what is wrong and what to do, or UnavailableError for a library that is missing.
`check_model` is called when the model is known, the others before. Those of plain values are for other commands that
write records too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from shlex import join, quote

from smolcli import registry
from smolcli.errors import ModelError, UnavailableError, UsageError
from smolcli.inputs.collect import InputCollector
from smolcli.inputs.walk import MEDIA_SUFFIXES
from smolcli.models import catalog
from smolcli.models.files import ModelFiles
from smolcli.models.vocabulary import has_learned_to_write
from smolcli.pipeline.request import Request
from smolcli.records.layout import refuse_foreign
from smolcli.terminal.words import enumerate_words
from smolcli.types import is_url
from smolcli.writers.fields import check_template

SIDECAR_SUFFIX = re.compile(r"(\.[^\W_][\w+-]*)+")
# Suffixes of files that hold no text, or text in a form that sidecars do not have.
OTHER_FORMATS = (".jsonl", ".csv", ".tsv", ".html", ".xml", ".pdf", ".doc", ".docx", ".xls", ".xlsx")


def validate(request: Request, inputs: InputCollector) -> None:
    """Runs every check. Raises UsageError and UnavailableError."""
    check_question(request)
    check_inputs(request)
    check_output_file(request, inputs)
    check_format(request, inputs)
    check_layout(request)
    check_dry_run(request)
    check_contact_sheet(request, inputs)
    check_searchable(request, inputs)
    check_together(request)
    check_resume(request)
    check_sidecars(request)
    check_write_metadata(request)
    check_split_pages(request)
    check_executor(request)
    check_decoder(request)


def check_inputs(request: Request) -> None:
    """There is an input, and standard input is read at most once."""
    words = _input_words(request)
    check_standard_input(words)
    if not words and request.input.files_from is None:
        arguments = (f'"{name.upper()}"' for name in _argument_names(request))
        example = " ".join(("smolcli", request.name, *arguments, request.task.example))
        raise UsageError("no input was given", f"{example}, a directory, or - for standard input")


def check_standard_input(words: Sequence[str]) -> None:
    """Standard input is named once at most."""
    if words.count("-") > 1:
        raise UsageError("standard input can be read once, and is named twice", "name it once")


def check_question(request: Request) -> None:
    """The question is not a file: whoever forgets the question has the first input taken for it."""
    question = getattr(request.task, "question", "")
    if "question" in _argument_names(request) and os.path.isfile(question):
        advice = f'smolcli {request.name} "What is this?" {question}'
        raise UsageError(f"{question} is a file, where the question should be", advice)


def check_output_file(request: Request, inputs: InputCollector) -> None:
    """The run does not write over one of its inputs, nor over another picture or video."""
    file = request.output.output
    if file is None:
        return
    if inputs.reads_path(file):
        raise UsageError(f"{file}: the input is also the output", "choose another file with -o")
    check_is_no_medium(file)


def check_is_no_medium(file: Path) -> None:
    """A picture or video is not written over, for instance one that was named after a forgotten -o FILE."""
    if file.suffix.lower() in MEDIA_SUFFIXES and file.is_file():
        raise UsageError(f"{file}: is a picture or a video, by its name", "choose another file with -o")


def check_format(request: Request, inputs: InputCollector) -> None:
    """Formats of segments are for videos, and one file of them holds one video; a template is a format."""
    record_format, output = request.record_format, request.output
    refuse_foreign(record_format)
    for name in (record_format, *output.sidecar):
        if name in registry.NEEDS_SEGMENTS and request.task.reads != "video":
            known = registry.SIDECARS if name in output.sidecar else registry.WRITERS
            usable = enumerate_words([word for word in known if word not in registry.NEEDS_SEGMENTS])
            raise UsageError(f"{name} is for video-summarize", f"choose {usable}")
    if record_format in registry.NEEDS_SEGMENTS and inputs.has_many:
        raise UsageError(f"{record_format} holds one video", "give one, or write one beside each: --sidecar .srt")
    is_one_document = request.task.makes_documents and record_format == "text" and request.record_file is not None
    if is_one_document and request.asks_many(inputs):
        suffix = request.task.text_suffix
        advice = f"write one beside each input: --sidecar {suffix}"
        if suffix in registry.SIDECARS or request.task.page_options.split_pages:
            advice = "write records: -f jsonl"  # a sidecar of this suffix is a record, or there is none of a page
        raise UsageError(f"{output.output}: holds one document", advice)
    check_template_alone(record_format, output.format)


def check_template_alone(record_format: str | None, format: str | None) -> None:
    """A template of records is not given beside --format."""
    if record_format == "template" and format is not None:
        raise UsageError("--template is a format of its own", "leave out --format")


def check_layout(request: Request) -> None:
    """The format has what --fields, --bom and --safe-csv ask for, and the fields exist."""
    layout, batch = request.layout, request.batch
    layout.check_format(request.record_format)
    columns = request.columns
    if request.output.template is not None and columns is not None:
        check_template(request.output.template, columns)
    if batch.resume and layout.fields is not None:
        later = f"smolcli records {request.record_file or 'results.jsonl'} --fields {layout.fields}"
        raise UsageError(
            "--resume needs whole records, which --fields makes smaller", f"leave it out, and then: {later}"
        )


def check_dry_run(request: Request) -> None:
    """--dry-run needs all inputs, of which a watched folder has no last one."""
    if request.batch.dry_run and request.input.watch:
        raise UsageError("--dry-run shows what there is, and --watch waits for more", "leave out one of them")


def check_contact_sheet(request: Request, inputs: InputCollector) -> None:
    """--contact-sheet is a new picture of one video, made on this machine."""
    sheet, output_file = request.task.sheet, request.output.output
    if sheet is None:
        return
    if inputs.reads_path(sheet) or (output_file is not None and sheet.resolve() == output_file.resolve()):
        raise UsageError(f"{sheet}: is an input or the output", "choose another file with --contact-sheet")
    if inputs.has_many:
        raise UsageError("--contact-sheet is one picture, of one video", "give one video")
    if request.batch.executor != "local":
        raise UsageError(f"--contact-sheet is not made with --engine {request.batch.executor}", "leave out one of them")
    if sheet.suffix.lower() not in registry.CONTACT_SHEET_FORMATS:
        raise UsageError(f"{sheet}: is not a name of a picture", "name it .jpg, .png or .webp")
    check_can_be_made(sheet)


def check_searchable(request: Request, inputs: InputCollector) -> None:
    """--searchable is a PDF of its own, which can be written, of the print on inputs that can be read once more."""
    file, output_file = request.task.searchable, request.output.output
    if file is None:
        return
    if request.generate.schema is not None:
        raise UsageError("--searchable has the text of the pages, and --schema an object", "leave out one of them")
    if "-" in _input_words(request):
        raise UsageError("--searchable looks at each input again, and standard input is read once", "give a file")
    if any(map(is_url, _input_words(request))):
        raise UsageError("--searchable looks at each input again, and a URL is fetched once", "save it to a file first")
    is_in_input = file.exists() and any(
        Path(word).resolve() in file.resolve().parents for word in _input_words(request)
    )
    is_output = output_file is not None and file.resolve() == output_file.resolve()
    if is_in_input or is_output or inputs.reads_path(file):
        raise UsageError(f"{file}: is an input or the output", "choose another file with --searchable")
    if file.suffix.lower() != ".pdf":
        raise UsageError(f"{file}: is not a name of a PDF", "name it .pdf")
    check_can_be_made(file)


def check_can_be_made(file: Path) -> None:
    """A file can be made in its folder."""
    if file.is_dir() or not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
        raise UsageError(f"{file}: cannot be written", "is its folder there?")


def check_together(request: Request) -> None:
    """--together needs the last input, which a watched folder never gives."""
    if request.task.together and request.input.watch:
        raise UsageError("--together waits for all inputs, and --watch never ends", "leave out one of them")


def check_resume(request: Request) -> None:
    """--resume continues a file of JSON Lines."""
    batch, file = request.batch, request.output.output
    if batch.resume and (request.record_file is None or request.record_format != "jsonl"):
        raise _not_resumable(request)
    if batch.resume and file is not None and file.exists() and not file.is_file():
        raise UsageError(f"{file}: is not a file that can be resumed", "name another: -o results.jsonl")
    if batch.retry_failed and not batch.resume:
        raise UsageError("--retry-failed is for --resume", "add --resume -o results.jsonl")


def _not_resumable(request: Request) -> UsageError:
    """Names the two commands for a run that resumes and an output in another format."""
    file, output = request.record_file, request.output
    if request.record_format is None or (file is None and output.format is None and output.template is None):
        return UsageError("--resume continues a file of records", "name it: -o results.jsonl")
    results = "results.jsonl" if file is None else str(file.with_suffix(".jsonl"))
    words = ["smolcli", "records", results]
    words += ["-f", output.format] if output.format and output.format != "jsonl" else []
    words += ["--template", output.template] if output.template else []
    words += ["-o", str(file)] if file is not None and str(file) != results else []
    message = f"--resume continues JSON Lines, and not {request.record_format}"
    return UsageError(message, f"give -o {quote(results)} --resume, and then: {join(words)}")


def check_sidecars(request: Request) -> None:
    """Every input has a name and a place for its sidecar, which takes no picture's name."""
    output, words = request.output, _input_words(request)
    check_sidecar_suffixes(output.sidecar, request.task.text_suffix)
    check_out_dir(output.out_dir, output.sidecar)
    if output.sidecar and ("-" in words or request.task.together):
        raise UsageError("--sidecar needs inputs with names of their own", "use -o FILE")
    if output.sidecar and output.out_dir is None and any(map(is_url, words)):
        raise UsageError("a sidecar cannot be written beside a URL", "add --out-dir DIR")


def check_sidecar_suffixes(suffixes: Sequence[str], text_suffix: str = registry.TEXT_SIDECAR) -> None:
    """A sidecar has the suffix neither of a picture or video nor of a format that it does not have.

    `text_suffix` is that of the answers' text, as .html of ocr --layout html.
    """
    for suffix in suffixes:
        end = suffix[suffix.rfind(".") :].lower()
        if not SIDECAR_SUFFIX.fullmatch(suffix) or (end in OTHER_FORMATS and end != text_suffix):
            advice = f"choose one of {', '.join(registry.SIDECARS)}, or another suffix for text, as .caption"
            raise UsageError(f"sidecar {suffix} is not known", advice)
        if end in MEDIA_SUFFIXES:
            raise UsageError(f"sidecar {suffix} would have the name of a picture or video", "choose .txt or .json")


def check_out_dir(out_dir: Path | None, sidecars: Sequence[str]) -> None:
    """--out-dir comes with --sidecar."""
    if out_dir is not None and not sidecars:
        raise UsageError("--out-dir is for sidecars", "add --sidecar .txt, or use -o FILE")


def check_write_metadata(request: Request) -> None:
    """--write-metadata needs files of one's own, and exiftool. Raises UnavailableError where that is missing."""
    if not request.output.write_metadata:
        return
    words = _input_words(request)
    if "-" in words or request.task.together or any(map(is_url, words)):
        raise UsageError("--write-metadata needs pictures in files of their own", "leave it out, or name files")
    registry.load(registry.ON_DEMAND, "exiftool")()


def check_split_pages(request: Request) -> None:
    """--split-pages makes records of pages; what is written beside a document or into it is about all of them."""
    if not request.task.page_options.split_pages:
        return
    output, searchable = request.output, request.task.searchable
    is_given = {"--sidecar": output.sidecar, "--write-metadata": output.write_metadata, "--searchable": searchable}
    option = next((option for option, value in is_given.items() if value), None)
    if option:
        raise UsageError(f"{option} writes whole documents, and --split-pages their pages", "leave out one of them")


def check_executor(request: Request) -> None:
    """--address names a Ray cluster."""
    if request.batch.address is not None and request.batch.executor != "ray":
        raise UsageError("--address is that of a Ray cluster", "add --engine ray")


def check_model(request: Request, files: ModelFiles, backend: str) -> None:
    """The model is good enough for what its answers are used for.

    Raises UnavailableError where a model that nobody chose would write into the user's own picture collection, and
    ModelError for --schema with a model that cannot write.
    """
    if registry.BACKENDS[backend].is_hidden:
        return  # it runs no model
    if files.is_fallback and request.writes_into_collection:
        option = request.writes_into_collection[0]
        message = f"{option} writes into your picture collection, and {files.name} knows no photographs"
        raise UnavailableError(message, f"pull a model ({catalog.PULL_ADVICE}), or say -m {files.name}")
    if request.generate.schema is not None and not has_learned_to_write(files):
        message = f"--schema needs a model that has learned to write, and {files.name} has not"
        raise ModelError(message, f"pull one ({catalog.PULL_ADVICE}), or name another with -m")


def check_decoder(request: Request) -> None:
    """The library or the program that decodes videos is installed. Raises UnavailableError."""
    if request.task.sampling is None:
        return
    try:
        registry.require(registry.DECODERS, request.task.sampling.decoder)
    except UnavailableError as error:
        entry = registry.DECODERS[request.task.sampling.decoder]
        advice = f"{error.advice}, or leave out --decoder" if entry.program else f"{error.advice}, or --decoder ffmpeg"
        raise UnavailableError(f"reading videos needs {entry.title}", advice) from None


def _input_words(request: Request) -> tuple[str, ...]:
    """What the command line names as inputs, watched folders included."""
    return (*request.input.inputs, *request.input.watch)


def _argument_names(request: Request) -> list[str]:
    """The arguments that the task takes before its inputs."""
    return [field.name for field in fields(request.task) if field.metadata.get("argument")]
