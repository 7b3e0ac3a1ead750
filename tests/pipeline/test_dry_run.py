"""pipeline/dry_run.py: what a run would do is what it does, and nothing is written."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smolcli.errors import Exit
from smolcli.options import Batch, Generate, Input, Model, Output
from smolcli.pipeline import dry_run
from smolcli.pipeline.run import run
from smolcli.process.worker_main import resolve
from smolcli.records.layout import Layout
from smolcli.tasks.ask import Ask
from smolcli.tasks.base import Task
from smolcli.tasks.caption import Caption
from smolcli.tasks.ocr import Ocr
from smolcli.tasks.video_summarize import VideoSummarize
from tests.helpers import SAMPLES, png, smolcli


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Inputs are opened here: a child process takes a second to start."""

    def stream(target: str, *args: Any) -> Iterator[Any]:
        return iter(list(resolve(target)(*args)))

    monkeypatch.setattr(dry_run, "stream", stream)
    monkeypatch.setattr(dry_run, "call", lambda target, *args: resolve(target)(*args))
    monkeypatch.chdir(tmp_path)


def planned(*inputs: str, task: Task | None = None, **options: Any) -> tuple[Exit, str]:
    """The exit code and the standard output of a dry run with these options, whichever dataclass has them."""
    groups: list[Any] = [
        Input(inputs),
        Model("nano", backend="echo"),
        Generate(),
        Output(),
        Layout(),
        Batch(dry_run=True),
    ]
    own = [{name: value for name, value in options.items() if hasattr(group, name)} for group in groups]
    input, model, generate, output, layout, batch = map(lambda group, values: replace(group, **values), groups, own)
    stdout = io.StringIO()
    code = run("caption", stdout, task or Caption(), input, model, generate, output, layout, batch)
    return code, stdout.getvalue()


def answered(*words: object) -> None:
    assert smolcli("caption", "-m", "nano", "-b", "echo", "-q", *words).returncode == 0


def test_pictures_of_a_folder_with_their_tiles_and_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    """Tiles of 512 pixels, at most four along an edge: 3 x 2 and the whole picture; the same content is asked once."""
    for name, size in (("a.png", (1500, 1000)), ("b.png", (300, 200)), ("c.png", (300, 200))):
        Path(name).write_bytes(png(size))
    Path("d.png").write_text("words")
    code, out = planned(".")
    first, second, third, summary = out.splitlines()
    assert first.startswith("./a.png: 1500 x 1000 pixels in 7 tiles; 1 prompt of at most ")
    assert second.startswith("./b.png: 300 x 200 pixels in 1 tile; 1 prompt of at most ")
    assert third == "./c.png: has the content of another input, and takes its answer"
    assert summary.startswith("2 of 4 pictures to answer, 1 with the content of another, 1 that cannot be read; ")
    assert summary.endswith(", 512 of pictures; answers: at most 512 each; no earlier records to time it by")
    assert code == Exit.SOME_FAILED
    assert capsys.readouterr().err == (
        "smolcli: ./d.png: is not a picture that can be read; convert it to PNG or JPEG\n"
    )


def test_pages_that_are_cut_into_pieces_have_their_sizes() -> None:
    Path("scan.png").write_bytes(png((64, 48)))
    code, out = planned("scan.png", task=Ocr())
    plan, summary = out.splitlines()
    assert plan == "scan.png: 64 x 48 pixels"
    assert summary.startswith("1 of 1 picture to answer; prompts: pages are cut into pieces when they are read")
    assert code == Exit.OK


def test_what_is_done_is_not_planned_and_the_results_are_left_as_they_are() -> None:
    for number in range(1, 5):
        Path(f"{number}.png").write_bytes(png((number, 1)))
    answered("1.png", "2.png", "-o", "r.jsonl")
    with open("r.jsonl", "a") as file:
        file.write('{"path": "torn')
    before = Path("r.jsonl").read_bytes()
    Path("5.png").write_bytes(png((1, 1)))
    names = [f"{number}.png" for number in range(1, 6)]
    code, out = planned(*names, output=Path("r.jsonl"), resume=True, format="jsonl")
    plans = [json.loads(line) for line in out.splitlines()]
    assert [plan["state"] for plan in plans] == ["done", "done", "new", "new", "same"]
    assert [plan["path"] for plan in plans] == names
    assert code == Exit.OK
    assert Path("r.jsonl").read_bytes() == before
    _, out = planned(*names, output=Path("r.jsonl"))  # without --resume all are answered
    assert out.splitlines()[-1].startswith("4 of 5 pictures to answer, 1 with the content of another")
    assert Path("r.jsonl").read_bytes() == before


def test_expected_times_follow_from_earlier_records() -> None:
    """One tile of 64 tokens took 3 s before the answer and 1 s to write it."""
    Path("a.png").write_bytes(png((300, 200)))
    Path("b.png").write_bytes(png((1500, 1000)))
    answered("a.png", "-o", "r.jsonl")
    record = json.loads(Path("r.jsonl").read_text())
    record["tokens"]["image"], record["seconds"] = 64, {"load": 9, "media": 1, "encode": 1, "prefill": 1, "decode": 1}
    Path("r.jsonl").write_text(json.dumps(record) + "\n")
    _, out = planned("a.png", "b.png", output=Path("r.jsonl"), resume=True)
    assert out.splitlines()[0] == "a.png: done before"
    assert out.splitlines()[1].endswith(" tokens, about 22.0 s")  # 7 tiles
    assert out.splitlines()[2].endswith("about 0:00:22 by 1 earlier record")


def test_several_questions_and_several_pictures_together() -> None:
    for name in ("a.png", "b.png"):
        Path(name).write_bytes(png((300, 200)))
    _, out = planned("a.png", task=Ask("What?", also=("Why?",)), format="jsonl")
    assert json.loads(out)["prompts"] == 2 and json.loads(out)["tokens"]["image"] == 128
    _, out = planned("a.png", "b.png", task=Ask("What?", together=True), format="jsonl")
    plan = json.loads(out)
    assert (plan["path"], plan["prompts"], len(plan["pictures"]), plan["tokens"]["image"]) == ("a.png b.png", 1, 2, 128)


def test_pictures_that_do_not_fit_the_context_are_planned_in_fewer_tiles() -> None:
    """As in the run: 4 * 37 tiles of nano's 64 tokens are more than its 8,192, and 4 * 26 are not."""
    for number in range(4):
        Path(f"{number}.png").write_bytes(png((768, 768), number))
    names = [f"{number}.png" for number in range(4)]
    task = Ask("What?", together=True)
    _, out = planned(*names, task=task, backend="numpy", format="jsonl")
    plan = json.loads(out)
    assert [picture["tiles"] for picture in plan["pictures"]] == [26] * 4
    assert plan["tokens"]["image"] == 4 * 26 * 64 and plan["tokens"]["prompt"] < plan["context"]
    _, out = planned(*names[:3], task=task, backend="numpy", format="jsonl")
    assert json.loads(out)["tokens"]["image"] == 3 * 37 * 64


def test_an_input_whose_sidecar_exists_is_left_alone_and_none_is_written() -> None:
    for name in ("a.png", "b.png"):
        Path(name).write_bytes(png())
    Path("a.txt").write_text("a cat")
    _, out = planned("a.png", "b.png", sidecar=(".txt",))
    assert out.splitlines()[0] == (
        "a.png: left alone, since what would be written is there; --if-exists overwrite"
    )  # fmt: skip
    assert "1 of 2 pictures to answer, 1 left alone (--if-exists overwrite)" in out
    assert planned("a.png", sidecar=(".txt",)) == (
        Exit.OK,
        f"{out.splitlines()[0]}\n0 of 1 picture to answer, 1 left alone (--if-exists overwrite)\n",
    )
    assert not Path("b.txt").exists()


def test_nothing_to_do_is_said_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert planned("empty")[0] == planned("*.gif")[0] == Exit.NO_INPUT
    Path("list").touch()
    assert planned(files_from="list") == (Exit.NO_INPUT, "")
    assert "no picture was found" in capsys.readouterr().err


def test_a_video_has_its_state_and_a_summary_too() -> None:
    code, out = planned(str(SAMPLES / "film.mp4"), task=VideoSummarize(frames=2), format="jsonl", output=Path("o.srt"))
    plan = json.loads(out)
    assert (code, plan["state"], plan["frames"]) == (Exit.OK, "new", 2)
    assert not Path("o.srt").exists()


@pytest.mark.slow
def test_the_tokens_of_a_plan_are_those_of_the_run(tmp_path: Path) -> None:
    """Those of pictures exactly, those of the whole prompt at most."""
    names = [SAMPLES / name for name in ("scene.png", "sign.png", "clip.gif")]
    for detail in ("auto", "high", "2"):
        words = ["caption", *names, "-m", "nano", "-f", "jsonl", "-q", "-n", 1, "--detail", detail]
        records = [json.loads(line)["tokens"] for line in smolcli(*words).stdout.splitlines()]
        plans = [json.loads(line)["tokens"] for line in smolcli(*words, "--dry-run").stdout.splitlines()]
        assert [plan["image"] for plan in plans] == [record["image"] for record in records]
        assert all(record["prompt"] <= plan["prompt"] for plan, record in zip(plans, records, strict=True))


def test_pages_whose_pieces_are_not_known_yet_are_shown_with_their_sizes() -> None:
    """How many prompts there are is found when the layout is; the plan says how large the page is."""
    Path("page.png").write_bytes(png((300, 200)))
    code, out = planned("page.png", task=Ocr())
    assert (code, out.splitlines()[0]) == (Exit.OK, "page.png: 300 x 200 pixels")
