"""bench quality as users run it: with echo, which repeats the prompt, and with the built-in model."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from smolcli.bench.quality.metrics import METRICS
from smolcli.bench.report.results import Report
from smolcli.errors import Exit
from smolcli.types import Item, Question
from tests.helpers import SAMPLES, smolcli

Row = dict[str, object]


def png(width: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, 5)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def rows() -> list[Row]:
    """Echo answers `[7x5] Say 0`, so that four of six are right."""
    right = [{"image": f"{n}.png", "question": f"Say {n}", "answer": f"[{n + 7}x5] Say {n}"} for n in range(6)]
    return [{**row, "category": "odd" if n % 2 else "even"} for n, row in enumerate(right)]


@pytest.fixture
def data(tmp_path: Path, rows: list[Row]) -> Path:
    for n in range(6):
        (tmp_path / f"{n}.png").write_bytes(png(n + 7))
    rows[1]["answer"] = rows[2]["answer"] = "something else"
    return written(tmp_path, rows)


def written(folder: Path, rows: list[Row]) -> Path:
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def quality(data: Path, *words: object, code: int = 0) -> tuple[Report, str]:
    done = smolcli("bench", "quality", data, "-b", "echo", "--json", "--no-progress", *words)
    assert done.returncode == code, done.stderr
    return Report.of(json.loads(done.stdout)), done.stderr.decode()


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_score_is_that_of_the_rows_and_of_each_category(data: Path) -> None:
    report, stderr = quality(data, "-m", "nano")
    [result] = report.results
    score = result.figures["score"]
    assert (score.value, score.count) == (4 / 6, 6)
    assert 0 < score.low < 4 / 6 < score.high <= 1
    assert {name: (score.value, score.count) for name, score in result.categories.items()} == {
        "even": (2 / 3, 3), "odd": (2 / 3, 3),
    }  # fmt: skip
    assert [worst.name.rsplit(":", 1)[1] for worst in result.worst] == ["2", "3"]
    assert result.worst[0].said == "[8x5] Say 1" and result.worst[0].wanted == ("something else",)
    assert Image.open(io.BytesIO(base64.b64decode(result.worst[0].picture.split(",")[1]))).size == (8, 5)
    assert (report.metric, report.data["rows"], report.data["left_out"]) == ("Exact match", 6, 0)
    assert stderr == ""


def test_bad_rows_are_reported_and_the_others_scored(data: Path, rows: list[Row]) -> None:
    with data.open("a") as file:
        file.write('no json\n{"image": "none.png", "question": "x", "answer": "y"}\n')
        file.write('{"image": "0.png", "question": "x", "answer": null}\n')
    (data.parent / "4.png").write_bytes(b"no picture")
    report, stderr = quality(data, "-m", "nano", "-m", "nano", "--threads", 1, "--threads", 2, code=Exit.SOME_FAILED)
    assert [result.failed for result in report.results] == [1, 1]
    assert [result.figures["score"].count for result in report.results] == [5, 5]
    assert report.data["left_out"] == 3
    for number in (7, 8, 9):
        assert stderr.count(f"set.jsonl:{number}: ") == 1  # once, and not for each model
    assert stderr.count("set.jsonl:5: ") == 2
    assert "3 rows of 9" in stderr


def test_resume_continues_and_asks_changed_rows_again(data: Path, rows: list[Row], tmp_path: Path) -> None:
    kept = tmp_path / "answers.jsonl"
    quality(data, "-m", "nano", "--limit", 4, "--records", kept)
    assert [Path(str(line["path"])).name for line in lines(kept)] == [f"set.jsonl:{n}" for n in (1, 2, 3, 4)]
    before = kept.read_text()
    rows[0]["question"] = "Say something else"  # of the same picture, whose file is as it was
    data = written(tmp_path, rows)
    with kept.open("a") as file:
        file.write('{"path": "to')
    report, stderr = quality(data, "-m", "nano", "--records", kept, "--resume")
    assert kept.read_text().startswith(before)
    assert [Path(str(line["path"])).name for line in lines(kept)[4:]] == [f"set.jsonl:{n}" for n in (1, 5, 6)]
    assert (report.results[0].figures["score"].value, report.results[0].figures["score"].count) == (3 / 6, 6)
    assert "bytes was torn and is made again" in stderr
    again, _ = quality(data, "-m", "nano", "--records", kept, "--resume")
    assert len(lines(kept)) == 7
    assert again.results[0].figures["score"] == report.results[0].figures["score"]


@pytest.mark.slow
def test_retry_failed_leaves_one_record(data: Path, tmp_path: Path) -> None:
    kept, picture = tmp_path / "kept.jsonl", data.parent / "4.png"
    picture.write_bytes(b"no picture")
    words = ("-m", "nano", "--threads", 1, "--threads", 2, "--records", kept, "--resume")
    quality(data, *words, code=Exit.SOME_FAILED)
    before, stderr = quality(data, *words, code=Exit.SOME_FAILED)
    assert [result.failed for result in before.results] == [1, 1] and "--retry-failed" in stderr
    assert "set.jsonl:5: " not in stderr
    _, stderr = quality(data, *words, "--retry-failed", code=Exit.SOME_FAILED)
    assert stderr.count("set.jsonl:5: ") == 2  # it was tried again, with 1 thread and with 2
    assert len(lines(kept)) == 12
    picture.write_bytes(png(11))
    after, _ = quality(data, *words)  # what has changed is another row
    assert [(result.failed, result.figures["score"].count) for result in after.results] == [(0, 6), (0, 6)]
    assert len(lines(kept)) == 12 and not any(line["error"] for line in lines(kept))


def test_model_that_cannot_run_does_not_change_row_counts(data: Path, tmp_path: Path) -> None:
    with data.open("a") as file:
        file.write("no json\n")
    broken = tmp_path / "broken"
    broken.mkdir()
    for half in (SAMPLES.parent.parent / "smolcli" / "nano" / "weights").glob("*.gguf"):
        (broken / half.name).write_bytes(half.read_bytes()[:4000])
    for models in (("nano", broken), (broken, "nano")):
        words = [word for model in models for word in ("-m", model)]
        done = smolcli("bench", "quality", data, "-b", "llamacpp", "--json", "--no-progress", "-n", 4, *words)
        assert done.returncode == Exit.SOME_FAILED
        report = Report.of(json.loads(done.stdout))
        assert (report.data["rows"], report.data["left_out"]) == (6, 1)
        assert done.stderr.decode().count("set.jsonl:7: ") == 1
        assert sum(bool(result.figures) for result in report.results) == 1


def test_model_that_cannot_load_keeps_earlier_records(data: Path, tmp_path: Path) -> None:
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text('raise ImportError("no plugin")')
    engines = ("--vision-engine", "mtmd", "--vision-engine", "openvino")
    done = smolcli(
        "bench", "quality", data, "-m", "nano", "-b", "llamacpp", *engines, "-n", 4, "--json", "--no-progress",
        PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    )  # fmt: skip
    assert done.returncode == Exit.SOME_FAILED, done.stderr
    [mtmd, openvino] = Report.of(json.loads(done.stdout)).results
    assert mtmd.figures["score"].count == 6 and openvino.is_broken
    assert "openvino is installed and cannot be loaded" in done.stderr.decode()


def test_rows_per_second_fit_the_time_of_the_model(data: Path, tmp_path: Path) -> None:
    """With several replies at once, whose records leave together."""
    kept = tmp_path / "kept.jsonl"
    words = ("-b", "llamacpp", "-n", 4, "--json", "--no-progress", "--records", kept)
    done = smolcli("bench", "quality", data, "-m", "nano", *words)
    [result] = Report.of(json.loads(done.stdout)).results
    spent = [line["seconds"] for line in lines(kept)]
    least = sum(seconds["encode"] + seconds["prefill"] + seconds["decode"] for seconds in spent)  # type: ignore[index]
    assert 0 < result.figures["images"].value <= 6 / least


def test_notice_for_a_metric_that_fits_only_the_first_row(data: Path, rows: list[Row], tmp_path: Path) -> None:
    rows[0]["answers"] = ["a", "b", "c", "d"]
    _, stderr = quality(written(tmp_path, rows), "-m", "nano")
    assert "5 rows would be scored by another metric than vqa" in stderr


def test_limit_counts_usable_rows(data: Path) -> None:
    data.write_text("no json\n" + data.read_text())
    report, _ = quality(data, "-m", "nano", "--limit", 2, code=Exit.SOME_FAILED)
    assert (report.results[0].figures["score"].count, report.data["left_out"]) == (2, 1)


def test_one_split_is_taken_or_all_are_scored_apart(data: Path, rows: list[Row], tmp_path: Path) -> None:
    data = written(tmp_path, [{**row, "split": "dev" if n < 2 else "validation"} for n, row in enumerate(rows)])
    report, stderr = quality(data, "-m", "nano")
    [result] = report.results
    assert {name: (score.value, score.count) for name, score in result.splits.items()} == {
        "dev": (1 / 2, 2), "validation": (3 / 4, 4)
    }  # fmt: skip
    assert "the score is of all splits (dev 2, validation 4); --split NAME takes one" in stderr
    report, stderr = quality(data, "-m", "nano", "--split", "validation", "--limit", 3)
    assert (report.results[0].figures["score"].value, report.data["rows"]) == (2 / 3, 3)
    assert stderr == ""


@pytest.mark.slow
def test_pictures_that_do_not_fit_the_context_have_fewer_tiles_and_the_report_says_so(tmp_path: Path) -> None:
    """Nano's context holds 8,192 tokens, and a square picture of 4 x 4 tiles and the whole one has 17 times 64."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    data = written(tmp_path, [{"image": ["red.png"] * 8, "question": "What is it?", "answer": "a red square"}])
    kept = tmp_path / "kept.jsonl"
    words = ("-m", "nano", "-b", "llamacpp", "--detail", "high", "-n", 1, "--json", "--no-progress", "--records", kept)
    for resume in ((), ("--resume",)):
        done = smolcli("bench", "quality", data, *words, *resume)
        assert done.returncode == 0, done.stderr
        report = Report.of(json.loads(done.stdout))
        assert "the pictures of 1 of 1 row were cut into fewer tiles, to fit the context" in report.results[0].notices
    [record] = lines(kept)
    assert record["tokens"]["image"] == 8 * 10 * 64  # type: ignore[index]  # 3 x 3 tiles and the whole picture
    assert "at most 3 along an edge" in str(record["notices"])


def test_suite_decides_prompt_and_metric(tmp_path: Path) -> None:
    picture = base64.b64encode(png(7)).decode()
    with (tmp_path / "AI2D.tsv").open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(["index", "image", "question", "A", "B", "answer"])
        table.writerow([0, picture, "Which?", "a cat", "a dog", "B"])
    kept = tmp_path / "kept.jsonl"
    report, _ = quality(tmp_path / "AI2D.tsv", "-m", "nano", "--suite", "ai2d", "--records", kept)
    assert report.metric == METRICS["choice"].title
    # echo says the last turn, which is how the answer begins: the model's own turn, as VLMEvalKit writes it
    assert lines(kept)[0]["text"] == "Answer:"


@pytest.mark.slow
def test_pairs_of_pictures_and_texts_are_read_by_the_built_in_model(tmp_path: Path) -> None:
    (tmp_path / "sign.png").write_bytes((SAMPLES / "sign.png").read_bytes())
    (tmp_path / "sign.txt").write_text("EXIT 28\n")
    done = smolcli(
        "bench", "quality", tmp_path, "-m", "nano", "-b", "llamacpp", "-b", "torch", "--json", "--no-progress"
    )
    assert done.returncode == 0, done.stderr
    report = Report.of(json.loads(done.stdout))
    assert report.data["lower_is_better"] is True
    for result in report.results:
        assert result.figures["score"].value == pytest.approx(1 / 7)  # EXIT 27, as it is: one of seven letters
        assert result.figures["engine"].value > 1e7


def test_page_and_table_are_written(data: Path, tmp_path: Path) -> None:
    done = smolcli(
        "bench", "quality", data, "-m", "nano", "-b", "echo", "--no-progress", "--report", tmp_path / "a.html"
    )
    assert done.returncode == 0
    assert "0.667" in done.stdout.decode()
    page = (tmp_path / "a.html").read_text()
    assert "0.667" in page and "something else" in page and "data:image/jpeg;base64," in page


@pytest.mark.parametrize(
    ("content", "words", "code", "message"),
    [
        ("", (), Exit.NO_INPUT, "no row"),
        ("no json\n", (), Exit.NO_INPUT, "none of its 1 row"),
        ('{"image": "0.png", "question": "x", "answer": "y"}', ("--metric", "nonsense"), Exit.USAGE, "choose one of"),
        ('{"image": "0.png", "question": "x", "answer": "y"}', ("--suite", "nonsense"), Exit.USAGE, "choose one of"),
        ('{"image": "0.png", "question": "x", "answer": "y"}', ("--resume",), Exit.USAGE, "--records"),
        ('{"image": "0.png", "question": "x", "answer": "y"}', ("-m", "nowhere"), Exit.UNAVAILABLE, "models list"),
        ('{"image": "0.png", "question": "x", "answer": "y"}', ("--metric", "choice"), Exit.NO_INPUT, "no choices"),
        ('{"image": "0.png", "question": "x", "answer": "y"}', ("--records", "-"), Exit.USAGE, "no file for records"),
        ('{"image": "0.png", "question": "x", "answer": "y"}', ("-o", "set.jsonl"), Exit.USAGE, "written twice"),
        ('{"image": "0.png", "question": "x", "answer": "y"}', ("--records", "set.jsonl"), Exit.USAGE, "written twice"),
        ('{"image": "0.png", "question": "x", "answer": "y"}', ("--retry-failed",), Exit.USAGE, "--resume"),
        (
            '{"image": "http://127.0.0.1:9/a.png", "question": "x", "answer": "y"}',
            ("--offline",),
            Exit.ALL_FAILED,
            "--offline",
        ),
        ('{"image": "0.png", "question": "x", "answer": "y"}', ("--metric", "vqa"), Exit.OK, "1 answer"),
    ],
)
def test_impossible_requests_are_reported(
    tmp_path: Path, content: str, words: tuple[str, ...], code: Exit, message: str
) -> None:
    (tmp_path / "0.png").write_bytes(png(7))
    (tmp_path / "set.jsonl").write_text(content)
    words = tuple(str(tmp_path / word) if word == "set.jsonl" else word for word in words)
    done = smolcli("bench", "quality", tmp_path / "set.jsonl", "-b", "echo", *words)
    assert done.returncode == code, done.stderr
    assert message in done.stderr.decode()
    assert (tmp_path / "set.jsonl").read_text() == content


@pytest.mark.parametrize("word", ["set.jsonl", "."])
def test_plot_does_not_overwrite_a_picture_of_the_data(data: Path, word: str) -> None:
    pytest.importorskip("matplotlib")
    (data.parent / "0.txt").write_text("something")
    before = (data.parent / "0.png").read_bytes()
    done = smolcli("bench", "quality", data.parent / word, "-m", "nano", "-b", "echo", "--plot", data.parent / "0.png")
    assert done.returncode == Exit.USAGE and "0.png: is a picture" in done.stderr.decode()
    assert (data.parent / "0.png").read_bytes() == before


def test_missing_data_set_is_reported() -> None:
    assert smolcli("bench", "quality").returncode == Exit.USAGE
    done = smolcli("bench", "quality", "/proc/nonexistent.tsv")
    assert done.returncode == Exit.NO_INPUT
    assert done.stderr.decode().count("\n") == 1


def test_question_is_part_of_an_items_digest() -> None:
    from smolcli.inputs.load import load

    plain = load(Item.of(str(SAMPLES / "sign.png")))[1]
    with_question = [
        load(Item(str(SAMPLES / "sign.png"), Item.of(str(SAMPLES / "sign.png")).sources, question=question))[1]
        for question in (Question((0, "a")), Question((0, "b")), Question((0, "a"), "c"))
    ]
    assert len({plain.sha256, *(media.sha256 for media in with_question)}) == 4
    assert plain.stamp
    assert not any(media.stamp for media in with_question)  # the file may be as it was, and the question not
