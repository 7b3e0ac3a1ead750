"""pipeline/validate.py: every contradiction between options is refused with its remedy, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smolcli import registry
from smolcli.errors import ModelError, UnavailableError, UsageError
from smolcli.inputs.collect import InputCollector
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.options import Batch, Generate, Input, Model, Output
from smolcli.pipeline.request import Request
from smolcli.pipeline.validate import check_model, validate
from smolcli.records.layout import Layout
from smolcli.tasks.ask import Ask
from smolcli.tasks.base import Task
from smolcli.tasks.caption import Caption
from smolcli.tasks.ocr import Ocr
from smolcli.tasks.video_summarize import VideoSummarize
from tests.helpers import png


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a.png and b.png."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png())
    return tmp_path


def request(task: Task | None = None, inputs: tuple[str, ...] = ("a.png",), **options: Any) -> Request:
    """A request whose options are given by their names, whichever dataclass has them."""
    groups: list[Any] = [Input(inputs=inputs), Model(), Generate(), Output(), Batch(), Layout()]
    for number, group in enumerate(groups):
        own = {name: value for name, value in options.items() if hasattr(group, name)}
        groups[number] = replace(group, **own)
    task = task or Caption()
    return Request(type(task).__name__.lower(), task, *groups)


def check(request: Request) -> None:
    validate(request, InputCollector(request.input, request.output, reads=request.task.reads))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (request(inputs=()), 'no input was given; smolcli caption picture.png'),
        (request(Ask("What?"), inputs=()), 'smolcli ask "QUESTION" picture.png'),
        (request(inputs=("-", "a.png", "-")), "standard input can be read once"),
        (request(Ask("a.png"), inputs=("b.png",)), "a.png is a file, where the question should be"),
        (request(output=Path("a.png")), "a.png: the input is also the output"),
        (request(output=Path("b.png")), "b.png: is a picture or a video, by its name"),
        (request(format="srt"), "srt is for video-summarize"),
        (request(sidecar=(".vtt",)), ".vtt is for video-summarize"),
        (request(VideoSummarize(), inputs=("a.mp4", "b.mp4"), format="srt"), "srt holds one video"),
        (request(template="{text}", format="json"), "--template is a format of its own"),
        (request(dry_run=True, watch=(".",)), "--dry-run shows what there is"),
        (request(VideoSummarize(contact_sheet=Path("a.mp4.jpg")), inputs=("a", "b")), "one picture, of one video"),
        (request(VideoSummarize(contact_sheet=Path("sheet.gif")), inputs=("a",)), "is not a name of a picture"),
        (request(VideoSummarize(contact_sheet=Path("none/s.jpg")), inputs=("a",)), "none/s.jpg: cannot be written"),
        (request(VideoSummarize(contact_sheet=Path("b.png")), inputs=("b.png",)), "is an input or the output"),
        (request(VideoSummarize(contact_sheet=Path("s.jpg")), inputs=("a",), executor="ray"), "with --engine ray"),
        (request(Ask("What?", together=True), watch=(".",)), "--together waits for all inputs"),
        (request(resume=True), "--resume continues a file of records"),
        (request(resume=True, output=Path("r.csv")), "-o r.jsonl --resume, and then: smolcli records r.jsonl -o r.csv"),
        (request(resume=True, output=Path("r.txt"), template="{text} {path}"),
         "smolcli records r.jsonl --template '{text} {path}' -o r.txt"),
        (request(resume=True, format="tsv"), "and then: smolcli records results.jsonl -f tsv"),
        (request(resume=True, output=Path("r.jsonl"), fields="path"), "smolcli records r.jsonl --fields path"),
        (request(Ocr(searchable=Path("none/o.pdf"))), "none/o.pdf: cannot be written"),
        (request(Ocr(searchable=Path("o.txt"))), "o.txt: is not a name of a PDF"),
        (request(Ocr(layout="hocr"), sidecar=(".html",)), "sidecar .html is not known"),
        (request(Ocr(searchable=Path("a.png"))), "a.png: is an input or the output"),
        (request(Ocr(searchable=Path("o.txt")), output=Path("o.txt")), "o.txt: is an input or the output"),
        (request(Ocr(searchable=Path("o.pdf")), inputs=("-",)), "looks at each input again, and standard input"),
        (request(output=Path("r.xlsx")), "xlsx is not a format of smolcli; spreadsheets open -f csv --bom"),
        (request(format="xlsx"), "xlsx is not a format of smolcli; spreadsheets open -f csv --bom"),
        (request(output=Path("r.parquet")), "parquet is not a format of smolcli"),
        (request(format="md", fields="path"), "--fields is for json, jsonl, csv, tsv or template, not for md"),
        (request(sidecar=(".txt",), fields="path"), "not for sidecars; add -f json"),
        (request(bom=True), "--bom is for csv or tsv, not for text; add -f csv"),
        (request(format="jsonl", safe_csv=True), "--safe-csv is for csv or tsv, not for jsonl"),
        (request(format="csv", fields="path,tokens.nw"), "tokens.nw is no field of a record; did you mean tokens.new?"),
        (request(format="csv", fields=" ,"), "--fields is empty"),
        (request(format="csv", fields="vendor", schema="vendor, total float"), "did you mean data.vendor?"),
        (request(format="csv", fields="data.totl", schema="vendor, total float"), "did you mean data.total?"),
        (request(template="{text}", fields="path"), "{text} in the template is not in --fields"),
        (request(resume=True, output=Path("/dev/null"), format="jsonl"), "/dev/null: is not a file"),
        (request(retry_failed=True, output=Path("r.jsonl")), "--retry-failed is for --resume"),
        (request(out_dir=Path("out")), "--out-dir is for sidecars"),
        (request(sidecar=(".JPG",)), "sidecar .JPG would have the name of a picture"),
        (request(sidecar=(".small.png",)), "sidecar .small.png would have the name of a picture"),
        (request(sidecar=(".json",), template="{text}", format="csv"), "--template is a format of its own"),
        (request(inputs=("-",), sidecar=(".txt",)), "--sidecar needs inputs with names of their own"),
        (request(Ask("What?", together=True), sidecar=(".txt",)), "--sidecar needs inputs with names of their own"),
        (request(inputs=("http://localhost/a.png",), sidecar=(".txt",)), "beside a URL"),
        (request(inputs=("-",), write_metadata=True), "--write-metadata needs pictures in files of their own"),
        (request(inputs=("http://h/a.png",), write_metadata=True), "--write-metadata needs pictures in files"),
        (request(Ask("What?", together=True), write_metadata=True), "--write-metadata needs pictures in files"),
        (request(address="auto"), "--address is that of a Ray cluster"),
    ],
)  # fmt: skip
def test_a_contradiction_is_refused_with_what_to_do(folder: Path, given: Request, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        check(given)
    assert message in str(refusal.value)
    assert refusal.value.advice


@pytest.mark.parametrize(
    "given",
    [
        request(),
        request(inputs=("-",)),
        request(Ask("What?", together=True), inputs=("a.png", "b.png")),
        request(resume=True, retry_failed=True, output=Path("r.jsonl")),
        request(sidecar=(".txt",), out_dir=Path("out")),
        request(inputs=("http://localhost/a.png",), sidecar=(".txt",), out_dir=Path("out")),
        request(template="{text}"),
        request(template="{text}", sidecar=(".caption",), format="csv"),
        request(template="{text}", sidecar=(".txt",), output=Path("r.jsonl"), resume=True),
        request(VideoSummarize(), inputs=("a.mp4", "b.mp4"), sidecar=(".srt",)),
        request(VideoSummarize(), inputs=("a.mp4",), format="srt"),
        request(dry_run=True, resume=True, output=Path("r.jsonl"), sidecar=(".txt",)),
        request(VideoSummarize(), inputs=("a.mp4",), format="srt", dry_run=True),
        request(VideoSummarize(contact_sheet=Path("sheet.jpg")), inputs=("a.mp4",)),
        request(Ocr(layout="html", searchable=Path("o.pdf")), sidecar=(".html",)),
        request(executor="ray", address="auto"),
        request(output=Path("r.csv"), bom=True, safe_csv=True, fields="path,name,tokens,data.total,data.items.0"),
        request(output=Path("r.log"), template="{path} {tokens.new}", fields="path,tokens"),
        request(format="jsonl", fields="data.a.b", schema='{"properties": {"a": {"additionalProperties": true}}}'),
        request(Ask("a?", also=("b?",)), format="tsv", fields="data.b?,data.0.answer"),
        request(VideoSummarize(), format="csv", schema="total", fields="data.summary.total,data.duration"),
        request(output=Path("r.xlsx"), format="csv"),
    ],
)
def test_options_that_go_together_are_accepted(folder: Path, given: Request) -> None:
    check(given)


@pytest.mark.parametrize(
    ("given", "record_format", "sidecar_template"),
    [
        (request(template="T"), "template", None),
        (request(template="T", sidecar=(".json",)), "template", None),
        (request(template="T", sidecar=(".json", ".caption")), None, "T"),
        (request(template="T", sidecar=(".txt",), output=Path("r.jsonl")), "jsonl", "T"),
    ],
)
def test_a_template_is_that_of_the_text_sidecars_if_there_are_any(
    given: Request, record_format: str | None, sidecar_template: str | None
) -> None:
    assert (given.record_format, given.sidecar_template) == (record_format, sidecar_template)


@pytest.mark.parametrize("suffix", [".", "..", ".a/b", ".a/../b", ".a.", ".csv", ".JSONL", ".-x", ".a b", ".pdf"])
def test_what_is_no_suffix_of_text_is_refused(folder: Path, suffix: str) -> None:
    with pytest.raises(UsageError, match=r"is not known; choose one of \.txt, \.json"):
        check(request(sidecar=(suffix,)))


def test_without_exiftool_no_metadata_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnavailableError, match="needs exiftool, which is not installed") as refusal:
        check(request(write_metadata=True))
    assert refusal.value.code == 3


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        ("av", "reading videos needs PyAV; pip install 'smolcli[video]', or --decoder ffmpeg"),
        ("decord", "reading videos needs Decord; pip install 'smolcli[decord]', or --decoder ffmpeg"),
        ("ffmpeg", "reading videos needs ffmpeg; install ffmpeg, or leave out --decoder"),
    ],
)
def test_without_its_decoder_no_video_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, decoder: str, message: str
) -> None:
    """A library and a program that are missing have the exit code of what is not available."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError) as refusal:
        check(request(VideoSummarize(decoder=decoder), inputs=("a.mp4",)))
    assert str(refusal.value) == message and refusal.value.code == 3


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (request(sidecar=(".txt", ".json")), ()),
        (request(sidecar=(".txt", ".xmp")), ("--sidecar .xmp",)),
        (request(sidecar=(".xmp",), out_dir=Path("out")), ()),
        (request(sidecar=(".xmp",), write_metadata=True), ("--sidecar .xmp", "--write-metadata")),
    ],
)
def test_what_writes_into_the_users_collection_is_known(given: Request, options: tuple[str, ...]) -> None:
    assert given.writes_into_collection == options
    if given.output.write_metadata:
        assert request(write_metadata=True).record_format is None


def header(given: Request) -> list[str]:
    """The names of the columns before those of every record."""
    names = [column.name for column in given.columns or ()]
    return names[: names.index("path")]


def test_a_table_has_a_column_for_each_field_of_the_schema_before_the_others() -> None:
    nested = """{"properties": {"vendor": {}, "to": {"$ref": "#/$defs/Address"}, "lines": {"type": "array"}},
                 "$defs": {"Address": {"properties": {"city": {}, "street": {}}}}}"""
    assert header(request(format="csv", schema="vendor, date, total float")) == ["vendor", "date", "total"]
    assert header(request(format="tsv", schema=nested)) == ["vendor", "to.city", "to.street", "lines"]
    assert header(request(VideoSummarize(), format="csv", schema="who, where")) == ["who", "where"]
    assert header(request(format="csv")) == []
    assert request(format="jsonl", schema="vendor").columns is None


def test_a_table_has_a_column_for_each_question() -> None:
    assert header(request(Ask("How many?", also=("Which, then?", "How many?")), format="csv")) == [
        "How many?", "Which, then?",
    ]  # fmt: skip
    assert header(request(Ask("a?", also=("b?",)), format="csv", schema="x, y")) == ["a?.x", "a?.y", "b?.x", "b?.y"]
    assert header(request(Ask("a?"), format="csv")) == []


@pytest.fixture
def writer(tmp_path: Path) -> ModelFiles:
    """A checkpoint with the vocabulary of SmolVLM-256M."""
    (tmp_path / "config.json").write_text('{"model_type": "idefics3", "text_config": {"vocab_size": 49280}}')
    return ModelFiles("256m", checkpoint=tmp_path)


def test_a_model_that_nobody_chose_does_not_write_into_a_picture_collection(writer: ModelFiles) -> None:
    nano = resolve.find_files("nano")
    fallback = replace(nano, is_fallback=True)
    with pytest.raises(UnavailableError) as caught:
        check_model(request(sidecar=(".txt", ".xmp")), fallback, "llamacpp")
    assert str(caught.value) == (
        "--sidecar .xmp writes into your picture collection, and nano knows no photographs; "
        "pull a model (smolcli models pull 500m), or say -m nano"
    )
    assert caught.value.code == 3
    check_model(request(sidecar=(".txt", ".json")), fallback, "llamacpp")
    check_model(request(sidecar=(".xmp",), out_dir=Path("out")), fallback, "llamacpp")  # not beside the pictures
    check_model(request(sidecar=(".xmp",)), nano, "llamacpp")  # the user said -m nano
    check_model(request(sidecar=(".xmp",)), writer, "torch")


@pytest.mark.parametrize("kept", ["checkpoint", "gguf"])
def test_a_schema_needs_a_model_that_has_learned_to_write(writer: ModelFiles, kept: str) -> None:
    nano = resolve.find_files("nano")
    nano = replace(nano, checkpoint=None) if kept == "gguf" else replace(nano, gguf=None, mmproj=None)
    with pytest.raises(ModelError) as caught:
        check_model(request(schema="{}"), nano, "llamacpp")
    assert str(caught.value) == (
        "--schema needs a model that has learned to write, and nano has not; "
        "pull one (smolcli models pull 500m), or name another with -m"
    )
    assert caught.value.code == 3
    check_model(request(), nano, "llamacpp")
    check_model(request(schema="{}"), writer, "torch")
    check_model(request(schema="{}"), nano, "echo")  # which runs no model


def test_a_damaged_checkpoint_is_left_to_the_backend(tmp_path: Path) -> None:
    for content in ("{torn", "[]", "{}", '{"text_config": {"vocab_size": null}}'):
        (tmp_path / "config.json").write_text(content)
        check_model(request(schema="{}"), ModelFiles("torn", checkpoint=tmp_path), "torch")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (request(Ocr(searchable=Path("a.pdf")), ("a.pdf",)), "a.pdf: is an input or the output"),
        (request(Ocr(searchable=Path("a.pdf")), (".",)), "a.pdf: is an input or the output"),
        (
            request(Ocr(searchable=Path("b.pdf")), output=Path("b.pdf"), format="text"),
            "b.pdf: is an input or the output",
        ),
        (request(Ocr(searchable=Path("out.pdf")), ("-",)), "standard input is read once"),
        (request(Ocr(searchable=Path("out.txt"))), "out.txt: is not a name of a PDF"),
        (request(Ocr(searchable=Path("out.pdf")), schema="total"), "the text of the pages, and --schema an object"),
        (request(Ocr(searchable=Path("missing/out.pdf"))), "missing/out.pdf: cannot be written"),
    ],
)
def test_what_cannot_be_a_searchable_pdf(folder: Path, given: Request, message: str) -> None:
    Path("a.pdf").write_bytes(b"%PDF-1.7")
    with pytest.raises(UsageError, match=message):
        check(given)


def test_a_searchable_pdf_of_an_earlier_run_is_replaced(folder: Path) -> None:
    Path("out.pdf").write_bytes(b"%PDF-1.7")
    check(request(Ocr(searchable=Path("out.pdf"))))


@pytest.mark.parametrize(("layout", "name"), [("hocr", "o.hocr"), ("alto", "o.xml"), ("html", "o.html")])
def test_a_file_holds_one_document_of_pages(folder: Path, layout: str, name: str) -> None:
    """XML and HTML have one root; a sidecar beside each input has the suffix of the form."""
    output = Path(name)
    with pytest.raises(UsageError, match="holds one document; write one beside each input: --sidecar " + output.suffix):
        check(request(Ocr(layout=layout), ("a.png", "b.png"), output=output))
    check(request(Ocr(layout=layout), output=output))
    check(request(Ocr(layout=layout), ("a.png", "b.png"), sidecar=(output.suffix,)))
    check(request(Ocr(layout="markdown"), ("a.png", "b.png"), output=Path("o.md")))


def test_several_pages_as_json_are_records(folder: Path) -> None:
    given = request(Ocr(layout="json"), ("a.png", "b.png"), output=Path("o.json"))
    with pytest.raises(UsageError, match="o.json: holds one document; write records: -f jsonl"):
        check(given)


def test_html_of_another_form_names_the_layout_that_writes_it(folder: Path) -> None:
    with pytest.raises(UsageError, match="ocr --layout html writes it"):
        check(request(Ocr(layout="text"), output=Path("o.html")))
