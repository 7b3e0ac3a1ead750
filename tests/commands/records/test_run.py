"""`smolcli records`: what it writes of a results file, and what it says of what it leaves out."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smolcli.commands.records.command import RecordOutput, Selection
from smolcli.commands.records.run import write_records
from smolcli.commands.records.survey import data_columns
from smolcli.errors import Exit, InputError, SmolError, UnavailableError, UsageError
from smolcli.generation.json_schema import field_keys, parse
from smolcli.records.layout import Layout
from smolcli.tasks.ask import Ask
from smolcli.tasks.base import Task
from smolcli.tasks.caption import Caption
from smolcli.tasks.ocr import Ocr
from smolcli.tasks.video_summarize import VideoSummarize
from smolcli.types import Record
from smolcli.writers.columns import COLUMNS
from smolcli.writers.json_lines import as_json
from tests.helpers import BAD, RECORD, smolcli

ROOT = Path(__file__).parents[3]
DOG = replace(RECORD, path="dog.png", text="a dog", tokens=replace(RECORD.tokens, new=200))
RECEIPT = replace(RECORD, path="r.png", task="ocr", text="{}", data={"total": 7.5, "to": {"city": "Ulm"}})
FILM = replace(
    RECORD, path="f.mp4", task="video-summarize", text="s",
    data={"summary": "s", "duration": 2.0, "frames": 1, "segments": [{"start": 0.0, "end": 2.0, "text": "s"}]},
)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str, Exit]]:
    """Run the command on r.jsonl: what it writes to standard output and standard error, and its exit code."""

    def run_command(**options: Any) -> tuple[str, str, Exit]:
        groups: list[Any] = [Selection(files=("r.jsonl",)), RecordOutput(), Layout()]
        for number, group in enumerate(groups):
            own = {name: value for name, value in options.items() if hasattr(group, name)}
            groups[number] = replace(group, **own)
        stdout = io.StringIO()
        code = write_records(stdout, *groups)
        return stdout.getvalue(), capsys.readouterr().err, code

    return run_command


Run = Callable[..., tuple[str, str, Exit]]


def write(*records: Record, name: str = "r.jsonl", end: str = "") -> None:
    Path(name).write_text("".join(as_json(record) + "\n" for record in records) + end)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


# ---- formats ---------------------------------------------------------------------------------------


def test_text_has_the_answers_and_says_how_many_failed(run: Run) -> None:
    write(RECORD, BAD, DOG)
    assert run() == (
        "a.png: a cat\ndog.png: a dog\n", "smolcli: 1 failed record left out; --failed lists them\n", Exit.OK,
    )  # fmt: skip
    assert run(template="{path}")[1] == "smolcli: 1 failed record left out; --failed lists them\n"
    assert run(template="{path}: {error.kind}") == ("a.png: \nb.png: missing\ndog.png: \n", "", Exit.OK)
    write(RECEIPT)
    assert run()[0] == "==> r.png <==\n{}\n"  # as ocr writes it
    write(replace(RECORD, data=[{"question": "a?", "answer": "1"}], text="1\n2"))
    assert run()[0] == "==> a.png <==\n1\n2\n"


def test_jsonl_is_what_was_read_with_the_keys_of_others(run: Run) -> None:
    lines = [as_json(RECORD).replace('"error"', '"rating": 5, "error"'), as_json(BAD)]
    Path("r.jsonl").write_text("\r\n".join(lines))
    assert run(format="jsonl")[0].splitlines() == lines
    assert json.loads(run(format="json")[0]) == [json.loads(line) for line in lines]
    assert run(format="jsonl", fields="rating,text")[0].splitlines()[0] == '{"rating": 5, "text": "a cat"}'


def test_failed_ones_are_lines_of_path_and_message_or_in_any_format(run: Run) -> None:
    write(RECORD, BAD)
    assert run(failed=True) == ("b.png: no such file; check the path\n", "", Exit.OK)
    assert [row["error.kind"] for row in rows(run(failed=True, format="csv")[0])] == ["missing"]
    write(RECORD)
    assert run(failed=True) == ("", "smolcli: none of 1 record is chosen\n", Exit.OK)


def test_where_and_failed_go_together_and_no_match_is_a_whole_file(run: Run) -> None:
    write(*[replace(DOG, path=f"{number}.png") for number in range(2500)], BAD)
    assert len(run(where="path like '%9.png'")[0].splitlines()) == 250
    assert run(where="error.kind = 'missing'", failed=True)[0].startswith("b.png: ")
    assert run(where="tokens.new < 0", format="json") == ("[]\n", "smolcli: none of 2,501 records is chosen\n", Exit.OK)


def test_several_files_and_an_output_file(run: Run) -> None:
    write(RECORD)
    write(DOG, name="s.jsonl")
    assert run(files=("r.jsonl", "s.jsonl"), output=Path("out.csv"), bom=True)[0] == ""
    text = Path("out.csv").read_text("utf-8-sig")
    assert [row["path"] for row in rows(text)] == ["a.png", "dog.png"]
    assert Path("out.csv").read_bytes().startswith(b"\xef\xbb\xbfpath,")


# ---- columns ---------------------------------------------------------------------------------------


def test_a_table_has_a_column_for_each_field_of_the_data(run: Run) -> None:
    later = replace(RECEIPT, data={"total": 8, "to": None, "note": "=1"})
    write(RECORD, RECEIPT, later)
    first, second, third = rows(run(format="csv", safe_csv=True)[0])
    assert list(first) == ["total", "to.city", "note", *COLUMNS]
    assert (first["total"], second["total"], second["to.city"], third["to.city"]) == ("", "7.5", "Ulm", "")
    assert third["note"] == "'=1"


@pytest.mark.parametrize(
    ("task", "schema", "data"),
    [
        (Ocr(), "vendor, to, items str[]", {"vendor": "v", "to": "x", "items": []}),
        (Ask("a?"), '{"properties": {"to": {"properties": {"city": {}}}}}', {"to": {"city": "Ulm"}}),
        (Ask("a?", also=("b, c?",)), None, [{"question": "a?", "answer": "1"}, {"question": "b, c?", "answer": "2"}]),
        (Ask("a?", also=("b?",)), "x, y", [{"question": name, "answer": {"x": 1, "y": 2}} for name in ("a?", "b?")]),
        (VideoSummarize(), "who", {**FILM.data, "summary": {"who": "a cat"}}),
        (VideoSummarize(), None, FILM.data),
        (Caption(), None, None),
    ],
)
def test_the_columns_are_those_of_a_run_with_csv(task: Task, schema: str | None, data: Any) -> None:
    name = "video-summarize" if isinstance(task, VideoSummarize) else "ask"
    fields = [] if schema is None else field_keys(parse(schema))
    assert data_columns([{"task": name, "data": data}]) == task.data_columns(fields)


# ---- what is no record -----------------------------------------------------------------------------


def test_other_lines_are_left_out_and_said(run: Run) -> None:
    write(RECORD, end='{"a": 1}\n[]\n' + as_json(DOG)[:50])
    text, said, code = run()
    assert (text, code) == ("a.png: a cat\n", Exit.SOME_FAILED)
    assert said.splitlines() == [
        "smolcli: r.jsonl: the last record is torn, of 50 bytes, and left out",
        "smolcli: r.jsonl: 2 lines are no records, the first is line 2",
    ]


def test_a_torn_end_alone_is_no_failure(run: Run) -> None:
    write(RECORD, end=as_json(DOG)[:50])
    assert run()[2] == Exit.OK


def test_a_file_without_records(run: Run) -> None:
    Path("r.jsonl").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    _, said, code = run()
    assert code == Exit.NO_INPUT
    assert said == "smolcli: r.jsonl: no record was found; name a file that a run wrote with -o FILE.jsonl\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"files": ()}, "no file was given"),
        ({"files": ("-", "-")}, "standard input can be read once"),
        ({"files": ("none.jsonl",)}, "none.jsonl: no such file"),
        ({"output": Path("r.jsonl")}, "r.jsonl: the input is also the output"),
        ({"output": Path("link.jsonl")}, "r.jsonl: the input is also the output"),
        ({"output": Path("a.png")}, "a.png: is a picture or a video, by its name"),
        ({"output": Path("r.xlsx")}, "xlsx is not a format of smolcli; spreadsheets open -f csv --bom"),
        ({"format": "srt"}, "srt holds one video"),
        ({"format": "csv", "template": "{text}"}, "--template is a format of its own"),
        ({"format": "text", "failed": True}, "text holds answers, and failed records have none"),
        ({"sidecar": (".txt",), "failed": True}, "sidecars hold answers"),
        ({"sidecar": (".png",)}, "sidecar .png would have the name of a picture or video"),
        ({"sidecar": (".csv",)}, "sidecar .csv is not known"),
        ({"out_dir": Path("out")}, "--out-dir is for sidecars"),
        ({"format": "md", "fields": "path"}, "--fields is for"),
        ({"format": "csv", "fields": "path,ratng"}, "no record has ratng; did you mean rating?"),
        ({"format": "csv", "fields": "data.totl"}, "no record has data.totl; did you mean data.total?"),
        ({"format": "csv", "fields": "total"}, "no record has total; did you mean data.total?"),
        ({"where": "ratng = 5"}, "no record has ratng; did you mean rating?"),
        ({"where": "data.total > 1 and data.other = 2"}, "no record has data.other; the fields beside"),
        ({"template": "{text}", "fields": "path"}, "{text} in the template is not in --fields"),
        ({"template": "{txt}"}, "{txt} in the template is not a field"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(run: Run, options: dict[str, Any], message: str) -> None:
    write(RECEIPT, end=as_json(RECORD)[:-1] + ', "rating": 5}\n')
    Path("link.jsonl").symlink_to("r.jsonl")
    Path("a.png").touch()
    before = Path("r.jsonl").read_bytes()
    with pytest.raises((UsageError, InputError)) as refusal:
        run(**options)
    assert message in str(refusal.value)
    assert isinstance(refusal.value, SmolError) and refusal.value.advice
    assert Path("r.jsonl").read_bytes() == before and not Path("r.xlsx").exists()


def test_a_null_is_there(run: Run) -> None:
    write(replace(RECEIPT, data={"note": None}))
    assert run(where="data.note is null", format="jsonl", fields="data.note")[0] == '{"data": {"note": null}}\n'


# ---- sidecars --------------------------------------------------------------------------------------


def test_sidecars_are_written_beside_the_inputs_that_are_here(run: Run) -> None:
    Path("a.png").touch()
    write(RECORD, BAD)
    assert run(sidecar=(".txt", ".json")) == ("", "", Exit.OK)
    assert Path("a.txt").read_text() == "a cat\n"
    assert json.loads(Path("a.json").read_text()) == json.loads(as_json(RECORD))
    assert not Path("b.txt").exists()


def test_sidecars_of_inputs_that_are_elsewhere_are_said_once(run: Run) -> None:
    write(replace(RECORD, path="in/a.png"), replace(RECORD, path="in/b.png"), BAD)
    text, said, code = run(sidecar=(".txt",), format="tsv", fields="path")
    assert (text, code) == ("path\nin/a.png\nin/b.png\nb.png\n", Exit.ALL_FAILED)
    assert said.startswith(
        "smolcli: no sidecars of 2 records, the first is in/a.png: no such file; change to the folder"
    )
    assert not Path("in").exists()
    assert run(sidecar=(".txt",), out_dir=Path("out"))[2] == Exit.OK
    assert sorted(str(path) for path in Path("out").rglob("*.txt")) == ["out/in/a.txt", "out/in/b.txt"]


def test_answers_of_the_built_in_model_do_not_go_into_a_picture_collection(run: Run) -> None:
    """A record does not say whether the user chose nano, so that smolcli caption's refusal cannot be gone around."""
    Path("a.png").touch()
    write(RECORD)
    assert RECORD.model == "nano"
    with pytest.raises(UnavailableError, match=r"--sidecar \.xmp writes into your picture collection") as refusal:
        run(sidecar=(".xmp",))
    assert refusal.value.code == 3 and not Path("a.png.xmp").exists()
    assert run(sidecar=(".xmp",), out_dir=Path("out"))[2] == Exit.OK
    write(replace(RECORD, model="500m"))
    assert run(sidecar=(".xmp",))[2] == Exit.OK and Path("a.png.xmp").exists()


def test_a_template_writes_the_failed_records_that_are_asked_for(run: Run) -> None:
    write(RECORD, BAD)
    assert run(failed=True, template="{path}\\0") == ("b.png\0", "", Exit.OK)
    assert run(template="{path}")[0] == "a.png\n"


@pytest.mark.parametrize("if_exists", ["skip", "overwrite", "error"])
def test_of_several_records_of_an_input_the_sidecar_is_that_of_the_last(run: Run, if_exists: str) -> None:
    Path("a.png").touch()
    write(replace(RECORD, text="as it was"), DOG, replace(RECORD, text="as it is"))
    _, said, code = run(sidecar=(".txt",), out_dir=Path("out"), if_exists=if_exists)
    assert (said, code) == ("", Exit.OK)
    assert Path("out/a.txt").read_text() == "as it is\n"


def test_subtitles_are_for_videos(run: Run) -> None:
    write(FILM, RECORD)
    _, said, code = run(sidecar=(".srt",), out_dir=Path("out"))
    assert os.listdir("out") == ["f.srt"] and code == Exit.SOME_FAILED
    assert "no sidecars of 1 record, the first is a.png: has no segments for .srt" in said


# ---- the program -----------------------------------------------------------------------------------


def test_standard_input_is_read_once_or_kept() -> None:
    lines = (as_json(RECEIPT) + "\n").encode()
    assert smolcli("records", "-", stdin=lines).stdout == b"==> r.png <==\n{}\n"
    table = smolcli("records", "-", "-f", "csv", "--where", "data.total > 1", stdin=lines)
    assert table.stdout.startswith(b"total,to.city,path,") and table.returncode == 0
    empty = smolcli("records", "-", stdin=b"")
    assert empty.returncode == Exit.NO_INPUT and empty.stderr.startswith(b"smolcli: standard input: no record")


@pytest.mark.parametrize(("name", "shown"), [("r.jsonl", "r.jsonl"), ("-", "standard input")])
def test_a_shell_cannot_append_the_output_to_the_input(name: str, shown: str) -> None:
    """The command would read what it writes, without end."""
    write(RECORD)
    with open("r.jsonl", "a") as end, open("r.jsonl") as start:
        done = subprocess.run(
            [sys.executable, "-m", "smolcli", "records", name, "-f", "jsonl"],
            stdin=start, stdout=end, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=10,
        )  # fmt: skip
    assert (done.returncode, done.stderr.decode().split(";")[0]) == (
        Exit.USAGE, f"smolcli: {shown}: the input is also the output",
    )  # fmt: skip
    assert Path("r.jsonl").read_text() == as_json(RECORD) + "\n"
