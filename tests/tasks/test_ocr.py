"""tasks/ocr.py: every page of a file is read, in order, and none is held longer than it is needed."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.formats.tiff import STRIP_OFFSETS, Directories
from smolcli.inputs.page import Line, Page, PageRequest, Region, Word
from smolcli.records import notices
from smolcli.tasks.ask import Ask
from smolcli.tasks.base import Requests, Steps
from smolcli.tasks.caption import Caption
from smolcli.tasks.ocr import Ocr
from smolcli.tasks.page_reading import QUESTION
from smolcli.types import Answer, Box, Fault, Finish, FrameRef, Item, Media, ModelLimits, Prompt, Reply, Tokens
from tests.helpers import records, smolcli

NOTICE = "picture 1 of 3 in the file was looked at; smolcli ocr reads all"


def document(path: Path, *sizes: tuple[int, int]) -> Path:
    """Write a TIFF with a page of each size."""
    pages = [Image.new("L", size, 200) for size in sizes]
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate")
    return path


def reply(text: str, fault: Fault | None = None) -> Reply:
    return Reply(text, Finish("error" if fault else "stop", fault=fault))


def damage(path: Path, *pages: int) -> Path:
    """Damage the pixels of some pages, counted from 0."""
    data = bytearray(path.read_bytes())
    for page in pages:
        at = Directories(bytes(data)).main[page].value(STRIP_OFFSETS)
        data[at : at + 8] = b"\xff" * 8
    path.write_bytes(data)
    return path


def test_files_of_one_page_of_several_and_with_damaged_ones(tmp_path: Path) -> None:
    sizes = (10, 20), (30, 40), (50, 60)
    paths = [
        document(tmp_path / "one.tif", (10, 20)),
        document(tmp_path / "three.tif", *sizes),
        damage(document(tmp_path / "damaged.tif", *sizes), 1),
        damage(document(tmp_path / "lost.tif", *sizes), 0, 1, 2),
    ]
    found, _ = records(Ocr(), [Item.of(str(path)) for path in paths])
    one, three, damaged, lost = found
    texts = [f"[{width}x{height}] {QUESTION}" for width, height in sizes]
    assert (one["text"], one["data"]) == (texts[0], None)
    assert three["text"] == "\n\f".join(texts)
    assert three["data"] == {"pages": [{"page": n, "text": text} for n, text in enumerate(texts, 1)]}
    assert (three["finish_reason"], three["error"], three["notices"]) == ("stop", None, [])
    assert three["tokens"]["image"] == 3
    # A damaged page costs no other one.
    first, second, third = damaged["data"]["pages"]
    assert [first["text"], second["text"], third["text"]] == [texts[0], "", texts[2]]
    assert second["error"]["kind"] == "truncated"
    assert (damaged["finish_reason"], damaged["error"]) == ("stop", None)
    assert damaged["notices"] == [f"page 2 has no answer: {second['error']['message']}"]
    assert lost["error"]["kind"] == "truncated" and lost["data"] is None


@pytest.mark.parametrize("task", [Caption(), Ask("Why?", together=True)])
def test_other_tasks_say_which_picture_they_looked_at(tmp_path: Path, task: Caption | Ask) -> None:
    path = document(tmp_path / "a.tif", (10, 20), (30, 40), (50, 60))
    [record], _ = records(task, [Item.of(str(path))])
    assert "[10x20]" in record["text"] and "[30x40]" not in record["text"]
    assert record["notices"] == [NOTICE]


def test_objects_of_a_schema_are_the_data_of_their_pages() -> None:
    media = Media(tuple(FrameRef(index, 0, 0) for index in range(3)))
    steps = Ocr().steps(media)
    assert [prompt.page for prompt in next(steps)] == [1, 2, 3]
    total = Reply('{"total": 3}', Finish("stop"), {"total": 3})
    with pytest.raises(StopIteration) as end:
        steps.send([total, reply("b"), reply("half of it", Fault(ErrorKind.TRUNCATED, "is cut"))])
    assert end.value.value == Answer(
        '{"total": 3}\n\fb\n\f',
        {
            "pages": [
                {"page": 1, "text": '{"total": 3}', "data": {"total": 3}},
                {"page": 2, "text": "b"},
                {"page": 3, "text": "", "error": {"kind": "truncated", "message": "is cut"}},
            ]
        },
        finish=Finish("stop"),
    )


def words(text: str) -> Line:
    return Line(Box(0, 0, 60, 20), (Word(Box(0, 0, 60, 20)),), 10.0, 15, text)


def page(number: int, lines: int = 0, **more: Any) -> Reply:
    regions = (Region("text", Box(0, 0, 60, 20), (words(""),) * lines),) if lines else ()
    return Reply("", Finish("stop"), Page(number, 100, 100, regions, **more))


def read(text: str, confidence: float = 0.9) -> Reply:
    count = len(text.split("\n"))
    return Reply(text, Finish("stop", Tokens(new=count), confidence=confidence, line_confidences=(confidence,) * count))


def media(count: int) -> Media:
    limits = ModelLimits(8192, 128, 64, x_height=10.0)
    return Media(tuple(FrameRef(index, 0, 0) for index in range(count)), limits=limits, path="a.pdf")


def numbers(requests: Requests) -> list[tuple[str, int | None]]:
    return [(type(request).__name__, request.page) for request in requests]


def end_of(steps: Steps, replies: Sequence[Reply]) -> Answer:
    with pytest.raises(StopIteration) as end:
        steps.send(replies)
    answer: Answer = end.value.value
    return answer


def test_the_next_layouts_are_found_while_a_page_is_read() -> None:
    steps = Ocr().steps(media(5))
    assert numbers(next(steps)) == [("PageRequest", 1)]
    assert numbers(steps.send([page(1, 2)])) == [("Prompt", 1), ("PageRequest", 2)]
    assert numbers(steps.send([read("a\nb", 0.9), page(2, kind="blank")])) == [("PageRequest", 3)]
    assert numbers(steps.send([page(3, 1)])) == [("Prompt", 3), ("PageRequest", 4)]
    requests = steps.send([read("c", 0.86), page(4, kind="picture")])
    assert numbers(requests) == [("Prompt", 4), ("PageRequest", 5)]
    text_layer = Page(5, 9, 9, (Region("text", Box(0, 0, 9, 9), (words("known"),)),), has_text_layer=True)
    answer = end_of(steps, [read("a cat", 0.8), Reply("", Finish("stop"), text_layer)])
    assert answer.text == "a\nb\n\f\n\fc\n\fa cat\n\fknown"
    assert [found["page"] for found in answer.data["pages"]] == [1, 2, 3, 4, 5]
    assert answer.data["pages"][3] == {"page": 4, "text": "a cat"}
    assert answer.data["pages"][4]["source"] == "text layer"
    assert answer.confidence == pytest.approx((0.9**2 * 0.86 * 0.8**5) ** (1 / 8))  # by letters


def test_a_page_that_cannot_be_opened_costs_no_other_one() -> None:
    fault = Fault(ErrorKind.TRUNCATED, "is cut; get a whole copy")
    steps = Ocr().steps(media(2))
    next(steps)
    steps.send([reply("", fault)])
    steps.send([page(2, 1)])
    answer = end_of(steps, [read("b")])
    assert answer.text == "\n\fb"
    assert answer.data["pages"][0]["error"] == {"kind": "truncated", "message": "is cut; get a whole copy"}
    steps = Ocr().steps(media(1))
    next(steps)
    with pytest.raises(InputError, match="is cut") as error:
        steps.send([reply("", fault)])
    assert (error.value.kind, error.value.advice) == (ErrorKind.TRUNCATED, "get a whole copy")


@pytest.mark.parametrize(("pieces", "x_height", "is_cut"), [
    ("auto", 10.0, True), ("auto", 0.0, False), ("page", 10.0, False), ("blocks", 0.0, True), ("lines", 10.0, True),
])  # fmt: skip
def test_which_pages_are_cut_into_pieces(pieces: str, x_height: float, is_cut: bool) -> None:
    pages = replace(media(1), limits=ModelLimits(8192, 128, 64, x_height=x_height))
    steps = Ocr(pieces=pieces).steps(pages)
    [request] = next(steps)
    assert isinstance(request, PageRequest) and request.layout == is_cut
    prompts = steps.send([page(1, 3)])
    crops = [frame.crop for prompt in prompts if isinstance(prompt, Prompt) for frame in prompt.frames]  # type: ignore[union-attr]
    assert len(crops) == (3 if pieces == "lines" else 1)
    assert all((crop is not None) == is_cut for crop in crops)


@pytest.mark.parametrize(("other", "text"), [(0.9, "upright"), (0.3, "wrong")])
def test_a_page_that_was_read_without_confidence_is_read_the_other_way_up(other: float, text: str) -> None:
    steps = Ocr().steps(media(1))
    next(steps)
    steps.send([page(1, 1)])
    [request] = steps.send([read("wrong", 0.6)])
    assert isinstance(request, PageRequest) and request.half_turn
    [prompt] = steps.send([page(1, 1, turn=180)])
    [frame] = prompt.frames if isinstance(prompt, Prompt) else []
    assert isinstance(frame, FrameRef) and frame.crop is not None and frame.crop.half_turn
    answer = end_of(steps, [read("upright", other)])
    assert (answer.text, answer.data["pages"][0]["turn"]) == (text, 180 if text == "upright" else 0)


def cut(found: Reply) -> Reply:
    return replace(found, finish=replace(found.finish, reason="length"))


def test_only_replies_in_use_say_how_the_answer_ended() -> None:
    for last, reason in ((read("b"), "stop"), (cut(read("b")), "length")):
        steps = Ocr().steps(media(1))
        next(steps)
        steps.send([page(1, 2)])
        assert len(steps.send([cut(read("a b"))])) == 2  # it has one line, the piece two, which are asked for alone
        answer = end_of(steps, [read("a"), last])
        assert answer.finish is not None and (answer.text, answer.finish.reason) == ("a\nb", reason)
    steps = Ocr(pieces="page").steps(media(1))
    next(steps)
    steps.send([page(1, kind="picture")])
    whole = end_of(steps, [cut(read("all of it"))])
    assert whole.finish is not None and whole.finish.reason == "length"


@pytest.mark.parametrize(("writes_doctags", "words"), [(True, "Convert this page to docling."), (False, QUESTION)])
def test_the_prompt_about_a_whole_page_is_the_one_of_its_training(writes_doctags: bool, words: str) -> None:
    steps = Ocr().steps(replace(media(1), limits=ModelLimits(8192, 512, 64, writes_doctags=writes_doctags)))
    [request] = next(steps)
    assert isinstance(request, PageRequest) and not request.layout
    assert steps.send([page(1, kind="picture")]) == [Prompt.user(FrameRef(0, 0, 0), words)]


def test_tags_are_no_part_of_the_lines_of_pieces() -> None:
    steps = Ocr().steps(media(1))
    next(steps)
    steps.send([page(1, 2)])
    place = "<loc_0><loc_%d><loc_500><loc_%d>"
    answer = end_of(steps, [read(f"<doctag><text>{place % (0, 9)}One</text><text>{place % (9, 50)}Two</text>")])
    assert answer.text == "One\nTwo"


def test_what_follows_a_page_break_in_doctags_is_on_the_page() -> None:
    steps = Ocr(pieces="page").steps(media(1))
    next(steps)
    steps.send([page(1, kind="picture")])
    place = "<loc_0><loc_%d><loc_500><loc_%d>"
    tags = f"<doctag><text>{place % (0, 50)}One</text><page_break><text>{place % (60, 90)}Two</text></doctag>"
    answer = end_of(steps, [read(tags)])
    assert answer.text == "One\n\nTwo"


@pytest.mark.parametrize(("searchable", "has_pages"), [(None, False), (Path("out.pdf"), True)])
def test_a_searchable_pdf_needs_the_places_of_a_page_that_was_read_whole(
    searchable: Path | None, has_pages: bool
) -> None:
    steps = Ocr(pieces="page", searchable=searchable).steps(media(1))
    next(steps)
    steps.send([page(1, kind="picture")])
    answer = end_of(steps, [read("<doctag><text><loc_0><loc_0><loc_500><loc_50>One</text></doctag>")])
    assert answer.text == "One"
    pages = answer.data["pages"] if answer.data else []
    assert [region["lines"][0]["text"] for entry in pages for region in entry["regions"]] == ["One"] * has_pages


def test_forms_of_the_answer() -> None:
    steps = Ocr(layout="markdown").steps(media(1))
    next(steps)
    heading = Page(1, 100, 100, (Region("heading", Box(0, 0, 60, 20), (words(""),), level=1),))
    steps.send([Reply("", Finish("stop"), heading)])
    assert end_of(steps, [read("Title")]).text == "# Title"


def test_a_drawn_page_is_read_by_the_built_in_model(tmp_path: Path) -> None:
    """The whole way, and the print is not in the model's lessons: the font that Pillow has in it."""
    lines = ["The quick brown fox jumps over", "the lazy dog, and nobody saw", "it happen on that morning."]
    image = Image.new("L", (700, 260), 255)
    ImageDraw.Draw(image).multiline_text((40, 40), "\n".join(lines), 0, ImageFont.load_default(34), spacing=20)
    path = tmp_path / "a.png"
    image.transpose(Image.Transpose.ROTATE_180).save(path)
    done = subprocess.run(
        [sys.executable, "-m", "smolcli", "ocr", "-q", "-b", "numpy", "-m", "nano", path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert SequenceMatcher(None, done.stdout.strip(), "\n".join(lines)).ratio() > 0.95  # of the letters


def test_letters_that_the_model_does_not_know_are_said_to_be_unsure(tmp_path: Path) -> None:
    """Marks like those of a script that it was never taught, drawn by strokes: no font is needed."""
    image = Image.new("L", (640, 200), 255)
    pen = ImageDraw.Draw(image)
    for row in range(3):
        for place in range(24):
            left, top = 30 + 24 * place + 12 * (place // 6), 30 + 50 * row
            kind = (place * 7 + row * 3) % 4
            pen.line((left, top, left + 16, top + 20), 0, 3)
            pen.line((left + 16 * (kind % 2), top + 20, left + 16, top), 0, 3)
            if kind > 1:
                pen.arc((left, top + 4, left + 14, top + 20), 0, 300, 0, 3)
    path = tmp_path / "a.png"
    image.save(path)
    command = [sys.executable, "-m", "smolcli", "ocr", "-b", "numpy", "-m", "nano", str(path), "-f", "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True)
    record = json.loads(done.stdout)
    assert record["confidence"] < 0.82
    assert notices.UNSURE in record["notices"] and notices.UNSURE in done.stderr


@pytest.mark.slow
def test_pages_are_decoded_as_they_are_needed(tmp_path: Path) -> None:
    """A page of 6000 x 4000 pixels takes 72 MB; all of these would take 860 MB."""
    path = document(tmp_path / "a.tif", *[(6000, 4000)] * 12)
    [record], _ = records(Ocr(), [Item.of(str(path))])
    assert len(record["data"]["pages"]) == 12
    assert record["memory"]["engine"] < 400e6


def test_a_page_of_text_without_a_table_is_not_blank(tmp_path: Path) -> None:
    picture = Image.new("L", (500, 160), 255)
    ImageDraw.Draw(picture).text((20, 50), "Minutes of May", fill=0, font_size=40)
    picture.save(tmp_path / "page.png")
    done = smolcli("ocr", tmp_path / "page.png", "-m", "nano", "-b", "numpy", "--layout", "tables", "-f", "jsonl")
    record = json.loads(done.stdout)
    assert (record["text"], record["blank"], record["notices"]) == ("", False, ["no table was found"])
