"""tasks/page_reading.py: replies about pieces become the texts of the lines that the pieces are of."""

import pytest

from smolcli.errors import ErrorKind
from smolcli.inputs.page import Line, Page, PageRequest, Region, Word
from smolcli.tasks.page_reading import PageReading, PieceSize
from smolcli.types import Box, Fault, Finish, FrameRef, Reply, Tokens

SIZE = PieceSize(128, 10.0)


def line(top: int, *widths: int) -> Line:
    words, left = [], 0
    for width in widths:
        words.append(Word(Box(left, top, left + width, top + 20)))
        left += width + 6
    return Line(Box(0, top, left - 6, top + 20), tuple(words), 10.0, top + 15)


def page(*lines: Line) -> Page:
    return Page(
        3, 400, 400, (Region("heading", Box(0, 0, 400, 40), lines[:1]), Region("text", Box(0, 40, 400, 400), lines[1:]))
    )


def reading(*lines: Line, size: PieceSize = SIZE) -> PageReading:
    return PageReading(PageRequest(FrameRef(2, 400, 400), 3), page(*lines), size)


def reply(text: str, *confidences: float) -> Reply:
    return Reply(text, Finish("stop", Tokens(new=1), confidence=0.5, line_confidences=confidences))


def test_lines_of_a_reply_are_the_texts_of_the_rows() -> None:
    read = reading(line(0, 60), line(50, 60, 60), line(80, 30))
    [prompt] = read.prompts()  # four rows: the second line is cut in two
    [frame] = prompt.frames
    assert isinstance(frame, FrameRef) and frame.crop is not None
    assert (frame.index, frame.width, len(frame.crop.rows), prompt.page, prompt.split) == (2, 128, 4, 3, False)
    read.take([reply("Title\none\n\ntwo \nend", 0.9, 0.8, 1.0, 0.5, 0.7)])
    assert read.prompts() == []
    first, second, third = read.result().lines
    assert (first.text, second.text, third.text) == ("Title", "one two", "end")
    assert first.confidence == pytest.approx(0.9) and third.confidence == pytest.approx(0.7)
    assert second.confidence == pytest.approx((0.8 * 0.5) ** 0.5)  # both rows have three letters
    assert [word.text for word in second.words] == ["one", "two"]
    assert [region.kind for region in read.result().regions] == ["heading", "text"]


def test_rows_are_asked_one_by_one_where_the_reply_has_another_number_of_lines() -> None:
    read = reading(line(0, 60), line(50, 60), line(80, 30))
    read.take([reply("Title\none")])
    prompts = read.prompts()
    rows = [
        frame.crop.rows for prompt in prompts for frame in prompt.frames if isinstance(frame, FrameRef) and frame.crop
    ]
    assert [[box.top for box, _ in crop] for crop in rows] == [[0], [50], [80]]
    read.take([reply("Title", 0.9), reply("two lines\nof one", 0.9, 0.4), reply("", 0.9)])
    assert read.prompts() == []
    assert [one.text for one in read.result().lines] == ["Title", "two lines of one", ""]


def test_parts_of_a_word_are_joined_without_a_space() -> None:
    read = reading(line(0, 600))
    count = sum(
        len(frame.crop.rows)
        for prompt in read.prompts()
        for frame in prompt.frames
        if isinstance(frame, FrameRef) and frame.crop
    )
    texts = ["Donau", "dampf", "schiff", "fahrt", "gesell", "schaft"][:count]
    replies = []
    for prompt in read.prompts():
        [frame] = prompt.frames
        assert isinstance(frame, FrameRef) and frame.crop is not None
        replies.append(reply("\n".join(texts[: len(frame.crop.rows)])))
        texts = texts[len(frame.crop.rows) :]
    read.take(replies)
    [read_line] = read.result().lines
    assert read_line.text == "Donaudampfschifffahrtgesellschaft"[: len(read_line.text)] and " " not in read_line.text


def test_one_row_a_picture() -> None:
    read = reading(line(0, 60), line(50, 60), line(80, 30), size=PieceSize(128, 10.0, max_rows=1))
    assert len(read.prompts()) == 3


def test_a_piece_without_a_reply_is_a_fault_and_costs_no_other_line() -> None:
    read = reading(*[line(30 * number, 60) for number in range(6)])
    assert len(read.prompts()) == 2
    fault = Fault(ErrorKind.ENGINE, "failed on it")
    read.take([Reply("", Finish("error", fault=fault)), reply("five\nsix", 0.9, 0.9)])
    assert read.fault == fault and read.prompts() == []
    assert [one.text for one in read.result().lines] == ["", "", "", "", "five", "six"]
    assert read.result().lines[0].confidence is None
