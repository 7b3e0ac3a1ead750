"""bench/quality/datasets.py: the good and bad rows of every format, in order, each with its name."""

from __future__ import annotations

import base64
import io
import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smolcli import registry
from smolcli.bench.quality import datasets
from smolcli.bench.quality.datasets import read
from smolcli.bench.quality.rows import BadRow, Row
from smolcli.errors import InputError, UnavailableError
from smolcli.types import Source


def png(colour: str = "red", side: int = 8) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(data, "PNG")
    return data.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


RED, BLUE = png("red"), png("blue")
NAMES = ("red.png", "blue.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two pictures."""
    for name, data in zip(NAMES, (RED, BLUE), strict=True):
        (tmp_path / name).write_bytes(data)
    return tmp_path


def read_rows(path: Path) -> list[Row | BadRow]:
    rows = list(read(path))
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert all("\n" not in row.message for row in rows if isinstance(row, BadRow))
    return rows


def only(path: Path) -> Row:
    [row] = read_rows(path)
    assert isinstance(row, Row), row
    return row


def said(path: Path) -> list[str]:
    """The name of every row, and of a bad one why."""
    return [f"{row.name}: {row.message}" if isinstance(row, BadRow) else row.name for row in read_rows(path)]


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        list(read(path))
    return caught.value


def json_lines(folder: Path, *rows: object) -> Path:
    path = folder / "set.jsonl"
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def why(folder: Path, **row: object) -> str:
    """Why a row of JSON is left out."""
    [bad] = read_rows(json_lines(folder, {"image": "red.png", "question": "What?", "answer": "a", **row}))
    assert isinstance(bad, BadRow), bad
    return bad.message


def of(folder: Path, **row: object) -> Row:
    return only(json_lines(folder, {"image": "red.png", "question": "What?", "answer": "a", **row}))


def table(folder: Path, *lines: str, name: str = "set.tsv", end: str = "\n") -> Path:
    path = folder / name
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


# What every kind has in common, shown with JSON Lines.


def test_json_row_has_all_fields(folder: Path) -> None:
    row = of(folder, image=list(NAMES), choices=["a cat", "a dog"], answer="B", category=" two  words ", hint="Look.")
    sources = tuple(Source(str(folder / name)) for name in NAMES)
    assert row == Row("set.jsonl:1", sources, "What?", ("B",), (("A", "a cat"), ("B", "a dog")), "two words", "Look.")


@pytest.mark.parametrize("key", ["image", "images", "image_1", "image_path", "file_name", " Image "])
def test_a_picture_may_be_called_by_these_names(folder: Path, key: str) -> None:
    row = only(json_lines(folder, {key: "red.png", "Prompt": "What?", "Label": "a"}))
    assert (row.sources, row.question, row.answers) == ((Source(str(folder / "red.png")),), "What?", ("a",))


def test_a_picture_is_a_path_a_data_address_base64_or_a_url(folder: Path) -> None:
    pictures = [str(folder / "blue.png"), f"data:image/png;base64,{text(RED)}", text(BLUE), "https://localhost/a.png"]
    assert of(folder, image=pictures).sources == (
        Source(str(folder / "blue.png")),
        Source("set.jsonl:1 picture 2", RED),
        Source("set.jsonl:1 picture 3", BLUE),
        Source("https://localhost/a.png"),
    )
    assert of(folder, image=text(RED)).sources == (Source("set.jsonl:1", RED),)


def test_numbered_pictures_are_taken_by_their_numbers(folder: Path) -> None:
    row = of(folder, image=None, image_10="red.png", image_2="blue.png", image_3=None, image_path="set.jsonl")
    assert [Path(source.word).name for source in row.sources] == ["blue.png", "red.png"]


def test_paths_are_relative_to_the_folder_of_the_data_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    json_lines(folder, {"image": "red.png", "text": "RED"})
    monkeypatch.chdir(folder)
    assert only(Path("set.jsonl")).sources == (Source("red.png"),)
    monkeypatch.chdir(folder.parent)
    assert only(Path(folder.name) / "set.jsonl").sources == (Source(f"{folder.name}/red.png"),)


@pytest.mark.parametrize(
    ("answer", "answers"),
    [
        ("5", ("5",)), ('"5.0"', ("5.0",)), ("5.0", ("5.0",)), ("1.50", ("1.50",)), ("1e3", ("1e3",)),
        ('["a", "b", 3]', ("a", "b", "3")), ('[{"answer": "a"}, {"answer": 2.50}]', ("a", "2.50")),
        ('["", "a"]', ("", "a")), (r'''"['a', \"it's\"]"''', ("a", "it's")), ('"[1, 2]"', ("[1, 2]",)),
        ('"[a]"', ("[a]",)), ('"{1}"', ("{1}",)), ("9" * 5000, ("9" * 5000,)),
    ],
)  # fmt: skip
def test_answers_are_text_and_numbers_as_they_are_written(folder: Path, answer: str, answers: tuple[str]) -> None:
    assert only(json_lines(folder, f'{{"image": "red.png", "answer": {answer}}}\n')).answers == answers


def test_answers_come_before_answer_unless_they_are_empty(folder: Path) -> None:
    assert of(folder, answers=["x", "y"]).answers == ("x", "y")
    assert of(folder, answers=[]).answers == ("a",)
    assert of(folder, answers="[1, 2]").answers == ("1", "2")


@pytest.mark.parametrize("answer", [{"text": "a"}, [None], ["a", {"b": 1}], [["a"]]])
def test_answer_that_is_not_text_is_bad(folder: Path, answer: object) -> None:
    assert why(folder, answer=answer) == "its answer is not text; write it in quotes"


@pytest.mark.parametrize("answer", [None, "", " ", [], [""]])
def test_a_row_without_answer_is_bad(folder: Path, answer: object) -> None:
    assert why(folder, answer=answer) == "has no answer; write what is right, or leave the row out"
    assert why(folder, answer=float("nan")) == "has no answer; write what is right, or leave the row out"


@pytest.mark.parametrize(("value", "word"), [(True, "yes"), (False, "no")])
def test_a_truth_value_is_yes_or_no(folder: Path, value: bool, word: str) -> None:
    assert of(folder, answer=value).answers == (word,)
    assert of(folder, answers=[value]).answers == (word,)
    assert of(folder, choices=["No", "Yes"], answer=value).answers == ("B" if value else "A",)


def test_lists_as_numpy_writes_them_are_not_answers(folder: Path) -> None:
    assert "a list in it cannot be read" in why(folder, answer="['a' 'b']")  # Python would read ['ab']
    assert "a list in it cannot be read" in why(folder, choices=r"['\x', 'b']")


def test_text_is_the_answer_without_an_answer_column(folder: Path) -> None:
    row = only(json_lines(folder, {"image": "red.png", "text": "STOP"}))
    assert (row.question, row.answers) == ("", ("STOP",))
    assert of(folder, text="of the page").answers == ("a",)
    assert why(folder, text="of the page", answer="").startswith("has no answer")
    [bad] = read_rows(json_lines(folder, {"image": "red.png", "text": "What?", "answer": "a"}))
    assert isinstance(bad, BadRow) and bad.message.startswith("has text beside answers")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "has no picture"), ([], "has no picture"), (" ", "has no picture"),
        ("green.png", "there is no file green.png; give its path from "), ("a\0b", "there is no file"),
        ("", "has no picture"), (5, "its picture is neither a path nor data"), ([None], "its picture is neither"),
        ([" "], "its picture is neither"),
        ("data:image/png,abc", "its picture is a data: address without base64"),
        ("data:image/png;base64,ab#dd", "its picture is not base64"), ("data:image/png;base64,", "its picture is not"),
        (text(RED)[:-3], "its picture is not base64, or not all of it"), ({"bytes": None}, "its picture is neither"),
    ],
)  # fmt: skip
def test_a_row_without_its_picture_is_bad(folder: Path, image: object, message: str) -> None:
    assert why(folder, image=image).startswith(message)


def test_choices_are_a_list_an_object_or_columns_with_letters(folder: Path) -> None:
    cat_and_dog = (("A", "a cat"), ("B", "a dog"))
    for choices in (["a cat", "a dog"], {"A": "a cat", "b": "a dog"}, "['a cat', 'a dog']", '["a cat", "a dog"]'):
        assert of(folder, options=choices, answer="A").choices == cat_and_dog
    assert of(folder, A="a cat", B="a dog", answer="A").choices == cat_and_dog
    assert of(folder, A="a cat", B="", C="a dog", D=None, answer="C").choices == (("A", "a cat"), ("C", "a dog"))
    assert of(folder, choices=[1, None, 2.50], answer="A").choices == (("A", "1"), ("C", "2.5"))
    assert of(folder, A="only this", answer="x").choices == ()  # a column called A alone is something else
    assert of(folder, choices="[]", A="", B="").choices == ()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ("a or b", "its choices are no list"), (["a", ["b"]], "its choice is not text"),
        (["a"] * 27, "has 27 choices; there are 26 letters"), ({"AB": "a"}, "its choices have other names"),
        ({"A": "x", "a": "y"}, "two of its choices have one letter"), (["a <image>"], "its choice cannot be asked"),
    ],
)  # fmt: skip
def test_choices_that_cannot_be_asked_are_bad(folder: Path, choices: object, message: str) -> None:
    assert why(folder, choices=choices).startswith(message)


@pytest.mark.parametrize(
    ("choices", "answer", "letter"),
    [
        (["a cat", "a dog"], "B", "B"), (["a cat", "a dog"], "b", "B"), (["a cat", "a dog"], " A  DOG ", "B"),
        (["a cat", "a dog"], 1, "B"), (["a cat", "a dog"], "0", "A"), (["B", "A"], "B", "B"), (["x", "a"], "a", "B"),
        (["0", "1"], 1, "B"), (["5", "7"], "7", "B"), (["2", "1"], "1", "B"),
    ],
)  # fmt: skip
def test_the_answer_of_a_choice_becomes_its_letter(folder: Path, choices: list[str], answer: Any, letter: str) -> None:
    assert of(folder, choices=choices, answer=answer).answers == (letter,)


def test_answer_that_matches_no_choice_or_two_is_bad(folder: Path) -> None:
    assert why(folder, choices=["a", "b"], answer="C") == "its answer is none of its choices; write the letter of one"
    assert why(folder, choices=["a", "b"], answer=2).startswith("its answer is none of its choices")
    assert why(folder, choices=["1", "2"], answer="1").startswith("its answer 1 may be a choice or the number of one")


def test_the_options_of_mmstar_stand_in_the_question(folder: Path) -> None:
    """Two rows as Lin-Chen/MMStar has them: the columns of its parquet, of which none has options."""
    question = (
        "Which option describe the object relationship in the image correctly?\nOptions: A: The suitcase is on the "
        "book., B: The suitcase is beneath the cat., C: The suitcase is beneath the bed., D: nan"
    )
    from_mathvista = (
        "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
        "Question: What fraction of the shape is blue?\nChoices:\n(A) 3/11\n(B) 8/11\n(C) 6, 11\n(D) 3/5"
    )
    path = parquet(
        folder / "mmstar.parquet",
        index=[0, 1], question=[question, from_mathvista], image=[RED, RED], answer=["A", "B"],
        category=["coarse perception", "math"], l2_category=["image emotion", "geometry"],
        meta_info=[{"id": "1", "source": "MMBench"}, {"id": "2", "source": "MathVista"}],
    )  # fmt: skip
    first, second = read_rows(path)
    assert isinstance(first, Row) and isinstance(second, Row)
    assert (first.question, first.answers, first.category) == (question, ("A",), "coarse perception")
    assert first.choices == (
        ("A", "The suitcase is on the book."), ("B", "The suitcase is beneath the cat."),
        ("C", "The suitcase is beneath the bed."),
    )  # fmt: skip
    assert second.choices == (("A", "3/11"), ("B", "8/11"), ("C", "6, 11"), ("D", "3/5"))


@pytest.mark.parametrize(
    ("question", "letters"),
    [
        ("Which?\nOptions: A: 1,000, B: 2, C: 3", "ABC"), ("Which? Options: A: B: one, B: C: two", "AB"),
        ("Which?\n(A) one\n(B) two", "AB"), ("Which?\nChoices: A: one\nB: two", "AB"), ("Which?\nOptions: A: one", ""),
        ("Which option, A: this, B: that?", ""), ("Which?\nOptions: red, A: one, B: two", ""),
        ("Which?\nOptions: A: one, C: two", ""), ("What is at (A)?", ""),
    ],
)  # fmt: skip
def test_options_in_a_question_have_letters_in_order_from_the_beginning(
    folder: Path, question: str, letters: str
) -> None:
    assert "".join(letter for letter, _ in of(folder, question=question, answer="A").choices) == letters
    assert of(folder, question=question, answer="one").choices == ()  # the answer is no letter


def test_a_row_may_have_a_split(folder: Path) -> None:
    assert of(folder, split=" validation ", category="Law") == replace(of(folder, category="Law"), split="validation")
    assert of(folder, split=None).split == of(folder, split=" ").split == ""
    assert of(folder, type="human_test").category == "human_test"  # of lmms-lab/ChartQA


def test_who_wrote_the_questions_of_chartqa_is_a_split(folder: Path) -> None:
    """In the columns of HuggingFaceM4/ChartQA, whose card names the numbers of the class label: 0 human, 1 machine."""
    path = parquet(
        folder / "chartqa.parquet",
        image=[held(RED), held(BLUE)], query=["How many?", "Which?"], label=[["3"], ["red"]], human_or_machine=[0, 1],
    )  # fmt: skip
    assert [(row.question, row.split) for row in read(path) if isinstance(row, Row)] == [
        ("How many?", "human"), ("Which?", "machine"),
    ]  # fmt: skip
    for value in (1, "1", "machine"):
        assert of(folder, human_or_machine=value).split == "machine"
    assert of(folder, human_or_machine=0, split="test").split == "test"
    assert of(folder, human_or_machine=None).split == ""


def test_special_tokens_in_a_question_are_bad(folder: Path) -> None:
    assert why(folder, question="<global-img>What?").startswith(
        "its question cannot be asked: the text has the model's"
    )
    assert why(folder, question="half \ud83d").startswith("its question cannot be asked: the text is not UTF-8")
    assert why(folder, hint="<end_of_utterance>").startswith("its hint cannot be asked")
    assert why(folder, question=["What?"]) == "its question is not text; write it in quotes"
    assert of(folder, question="See <image 1>.").question == "See <image 1>."
    assert of(folder, question=None).question == ""


# Files of JSON.


def test_json_lines_continue_after_bad_lines(folder: Path) -> None:
    good = json.dumps({"image": "red.png", "answer": "a"}).encode()
    lines = [good, b"{torn", b"\xff" + good, b"", b"[1]", b"\0", b"[" * 100_000, good + b"\r", b"{}", good]
    path = folder / "set.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))  # the last line is not ended
    rows = read_rows(path)
    assert [row.name for row in rows] == [f"set.jsonl:{number}" for number in (1, 2, 3, 5, 6, 7, 8, 9, 10)]
    assert [row.name for row in rows if isinstance(row, Row)] == ["set.jsonl:1", "set.jsonl:8", "set.jsonl:10"]
    messages = [row.message for row in rows if isinstance(row, BadRow)]
    assert messages[0].startswith("is not JSON (Expecting property name")
    assert messages[1] == "its line is not UTF-8; save the file as UTF-8"
    assert messages[2] == "is not a JSON object; write its columns as keys"
    assert messages[3] == "its line has a NUL byte; write the file again"
    assert messages[4] == "is not JSON (too deeply nested); write one object a line"
    assert messages[5] == "has no column of pictures; call it image; its columns are"


def test_format_follows_from_content(folder: Path) -> None:
    row = {"image": "red.png", "answer": "a"}
    (folder / "set.txt").write_text(json.dumps(row))
    assert said(folder / "set.txt") == ["set.txt:1"]
    (folder / "set.csv").write_text(f"\n {json.dumps([row, row], indent=2)}\n")
    assert said(folder / "set.csv") == ["set.csv row 1", "set.csv row 2"]
    assert said(table(folder, "image\tanswer", "red.png\ta", name="set.txt")) == ["set.txt:2"]
    assert said(table(folder, "image,answer", "red.png,a", name="set.tsv")) == ["set.tsv:2"]
    (folder / "set.jsonl").write_text("torn\n" + json.dumps(row))
    assert [row.name for row in read_rows(folder / "set.jsonl")] == ["set.jsonl:1", "set.jsonl:2"]


def test_a_json_array_is_read_element_by_element(folder: Path) -> None:
    picture = f"data:image/png;base64,{text(png('green', 400))}"
    rows = [{"image": picture, "answer": f"{number} é"} for number in range(300)]
    path = folder / "set.json"
    rows[200]["image"] = "broken"
    data = json.dumps([*rows[:150], 7, *rows[150:]], ensure_ascii=False).encode("utf-8-sig")
    path.write_bytes(data.replace(b"broken", b"\xff"))
    assert path.stat().st_size > 2**17 * 2  # more than is read at once
    read_back = read_rows(path)
    assert [row.name for row in read_back] == [f"set.json row {number}" for number in range(1, 302)]
    assert [row.answers[0] for row in read_back if isinstance(row, Row)] == [
        row["answer"] for row in rows if row["image"] == picture
    ]
    assert read_back[150] == BadRow("set.json row 151", "is not a JSON object; write its columns as keys")
    assert read_back[201] == BadRow("set.json row 202", "is not UTF-8; save the file as UTF-8")


def test_array_element_has_a_maximum_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MAX_LINE", 2**17)
    rows = [{"image": "red.png", "answer": "x" * size} for size in (2**10, 2**19, 2**10)]
    (folder / "set.json").write_text(json.dumps(rows))
    good, bad = read_rows(folder / "set.json")
    assert isinstance(good, Row) and isinstance(bad, BadRow)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (b",", "the array is not JSON from here"), (b', {"a": b}]', "the array is not JSON from here"),
        (b"," + b"[" * 100_000, "is too deeply nested"),
    ],
)  # fmt: skip
def test_truncated_array_ends_with_a_bad_row(folder: Path, end: bytes, message: str) -> None:
    (folder / "set.json").write_bytes(b'[{"image": "red.png", "answer": "a"}' + end)
    good, bad = read_rows(folder / "set.json")
    assert isinstance(good, Row) and isinstance(bad, BadRow)
    assert (bad.name, bad.message) == ("set.json row 2", f"{message}; nothing after it is read")


# Tables.


@pytest.mark.parametrize("between", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_may_have_commas_semicolons_or_tabs(folder: Path, between: str, end: str) -> None:
    lines = [
        '\ufeff"image"|Question|answers|A|B|', '"red.png"|"which, ""of"";\tthe\ntwo?"|"[""x"", ""y""]"|||', "",
        "blue.png|What?|B|a cat|a dog|",
    ]  # fmt: skip
    first, second = read_rows(table(folder, *(line.replace("|", between) for line in lines), end=end))
    assert isinstance(first, Row) and isinstance(second, Row)
    assert (first.name, first.question) == ("set.tsv:2", 'which, "of";\tthe\ntwo?')
    assert (first.answers, first.choices) == (("x", "y"), ())
    assert (second.name, second.answers, second.choices) == ("set.tsv:5", ("B",), (("A", "a cat"), ("B", "a dog")))


def test_vlmevalkit_table_has_pictures_or_indices_of_rows(folder: Path) -> None:
    lines = [
        "index\timage\tquestion\thint\tA\tB\tanswer\tcategory\tl2-category",
        f"1\t{text(RED)}\tWhich?\tLook.\tx\ty\tB\tcoarse\tstyle",
        "2\t1\tAnd?\t\tx\ty\tA\t\tstyle",
        "3\t5\tLater?\t\t\t\tfree\t\t",
        "4\t3\tTwice?\t\t\t\tfree\t\t",
        f"5\t['{text(RED)}', '{text(BLUE)}']\tBoth?\t\t\t\tfree\t\t",
        "6\t77\tNone?\t\t\t\tfree\t\t",
        "7\t\tNone?\t\t\t\tfree\t\t",
        "8\tblue.png\tFile?\t\t\t\tfree\t\t",
    ]
    rows = read_rows(table(folder, *lines))
    assert rows[0] == Row(
        "set.tsv:2", (Source("set.tsv:2", RED),), "Which?", ("B",), (("A", "x"), ("B", "y")), "coarse", "Look."
    )
    good = {row.name: [source.data for source in row.sources] for row in rows if isinstance(row, Row)}
    both = [RED, BLUE]
    assert good == {"set.tsv:2": [RED], "set.tsv:3": [RED], "set.tsv:4": both, "set.tsv:6": both, "set.tsv:9": [None]}
    assert isinstance(rows[1], Row) and rows[1].category == "style"
    bad = {row.name: row.message for row in rows if isinstance(row, BadRow)}
    assert bad == {
        "set.tsv:5": f"there is no file 5; give its path from {folder}",
        "set.tsv:7": "its picture 77 is neither a file nor the index of a row; check the path",
        "set.tsv:8": "has no picture; name its file in image, or leave the row out",
    }


def test_table_continues_after_bad_rows(folder: Path) -> None:
    head, good = "index\timage\tanswer", f"1\t{text(RED)}\tgood"
    lines = [
        head, good, "2\ta", f"3\t{text(RED)[:-2]}#\ta", f'4\t"{text(RED)}\tnot closed', good, f'5\t"{text(RED)}"x\ta',
        "6\ta\0b\ta", good, f"7\t{text(RED)}\t", f"8\t{text(RED)}\ta\ta",
    ]  # fmt: skip
    path = table(folder, *lines)
    with open(path, "ab") as file:
        file.write(b"9\t\xff\ta\n" + good.encode() + b"\n10\t" + text(RED).encode()[:-9])
    rows = read_rows(path)
    assert [row.name for row in rows] == [f"set.tsv:{number}" for number in range(2, 15)]
    assert [row.name for row in rows if isinstance(row, Row)] == [f"set.tsv:{number}" for number in (2, 6, 9, 13)]
    assert [row.message for row in rows if isinstance(row, BadRow)] == [
        "has 2 columns where the first line has 3; check its quotes",
        "its picture is not base64, or not all of it; write it again",
        *["is no row of a table (' ' expected after '\"'); put quotes around the cell and double those in it"] * 2,
        "its line has a NUL byte; write the file again",
        "has no answer; write what is right, or leave the row out",
        "has 4 columns where the first line has 3; check its quotes",
        "its line is not UTF-8; save the file as UTF-8",
        "has 2 columns where the first line has 3; check its quotes",
    ]


def test_unclosed_quote_affects_one_row(folder: Path) -> None:
    rows = read_rows(table(folder, "image,answer", '"red.png,a', *["red.png,a"] * 1500))
    assert [row.name for row in rows if isinstance(row, BadRow)] == ["set.tsv:2"]
    assert len(rows) == 1501


def test_too_long_line_is_bad_and_not_kept_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MAX_LINE", 2**12)
    path = table(folder, "image,answer", "red.png," + "x" * 2**14, "red.png,a", "red.png," + "x" * 2**13)
    bad, good, last = read_rows(path)
    assert isinstance(bad, BadRow) and isinstance(good, Row) and isinstance(last, BadRow)
    assert [row.name for row in (bad, good, last)] == ["set.tsv:2", "set.tsv:3", "set.tsv:4"]
    assert bad.message == "its line has more than 4,096 bytes; give its pictures as files"
    path = json_lines(folder, {"image": "red.png", "answer": "x" * 2**14}, {"image": "red.png", "answer": "a"})
    assert [type(row) for row in read_rows(path)] == [BadRow, Row]


def test_a_cell_may_be_a_picture_of_many_megabytes(folder: Path) -> None:
    data = text(b"\x89PNG" + bytes(9_000_000))
    row = only(table(folder, "index\timage\tquestion\tanswer", f"1\t{data}\tWhat?\ta"))
    assert row.sources[0].data is not None and len(row.sources[0].data) == 9_000_004


def test_a_table_is_read_a_row_at_a_time(folder: Path) -> None:
    path = table(folder, "image,answer", *["red.png,a"] * 20_000)
    rows = read(path)
    assert next(rows).name == "set.tsv:2"
    with open(path, "r+b") as file:  # what lies far ahead is not read yet
        file.seek(-10, 2)
        file.write(b"gone.png,")
    *_, last = rows
    assert isinstance(last, BadRow)


# Folders of pictures with texts.


def test_a_folder_pairs_pictures_with_texts_in_natural_order(folder: Path) -> None:
    scans = folder / "scans"
    (scans / "sub").mkdir(parents=True)
    for name in ("p10.png", "p2.JPG", "p3.tif", "sub/p1.png", "both.png", "both.jpg", "empty.png", "odd.png"):
        (scans / name).write_bytes(RED)
    (scans / "gone.png").symlink_to("nowhere")
    texts = {
        "p10.txt": b"ten\n", "p2.TXT": b"\xef\xbb\xbftwo\r\nlines\r\n", "sub/p1.gt.txt": b"one", "sub/p1.txt": b"read",
        "both.txt": b"both", "empty.txt": b" \n", "odd.txt": b"\xff", "alone.txt": b"x", "gone.txt": b"x",
        ".hidden.txt": b"x", "notes.md": b"x",
    }  # fmt: skip
    for name, data in texts.items():
        (scans / name).write_bytes(data)
    rows = read_rows(scans)
    assert [(row.name, row.answers) for row in rows if isinstance(row, Row)] == [
        ("scans/both.jpg", ("both",)), ("scans/both.png", ("both",)), ("scans/p2.JPG", ("two\nlines",)),
        ("scans/p10.png", ("ten",)), ("scans/sub/p1.png", ("one",)),
    ]  # fmt: skip
    assert [f"{row.name}: {row.message.partition(';')[0]}" for row in rows if isinstance(row, BadRow)] == [
        "scans/alone.txt: there is no picture of the same name",
        "scans/empty.png: empty.txt is empty or no text of a picture",
        "scans/gone.png: there is no such file",
        "scans/odd.png: odd.txt is not UTF-8",
        "scans/p3.tif: there is no .txt of the same name",
    ]
    good = next(row for row in rows if isinstance(row, Row))
    assert (good.sources, good.question) == ((Source(str(scans / "both.jpg")),), "")


def test_unreadable_folder_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").mkdir()
    (folder / "red.txt").write_text("RED")
    scandir, forbidden = os.scandir, {str(folder / "sub")}

    def guarded(path: str) -> Any:
        if str(path) in forbidden:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert said(folder)[-1] == f"{folder.name}/sub: cannot be listed; check its permissions"
    forbidden.add(str(folder))
    assert refused(folder).what == f"{folder} cannot be read (Permission denied)"


# Parquet.


def parquet(path: Path, **columns: Any) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    path.parent.mkdir(exist_ok=True)
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path, row_group_size=4)
    return path


def held(data: bytes | None, path: str | None = None) -> dict[str, object]:
    """A picture as the hub's data sets have it."""
    return {"bytes": data, "path": path}


def test_parquet_of_the_hub_embeds_pictures(folder: Path) -> None:
    path = parquet(
        folder / "set.parquet",
        image=[held(RED), held(None, "blue.png"), held(None), None],
        question=["What?", None, "What?", "What?"],
        answers=[["a", "b"], ["c"], ["a"], ["a"]],
        other=[object.__name__] * 4,
    )
    first, second, third, fourth = read_rows(path)
    assert first == Row("set.parquet row 1", (Source("set.parquet row 1", RED),), "What?", ("a", "b"))
    assert second == Row("set.parquet row 2", (Source(str(folder / "blue.png")),), "", ("c",))
    assert isinstance(third, BadRow) and third.message.startswith("its picture is neither a path nor data")
    assert isinstance(fourth, BadRow) and fourth.message.startswith("has no picture")


def test_parquet_may_have_lists_binary_paths_and_numbered_pictures(folder: Path) -> None:
    both = [held(RED), held(BLUE)]
    path = parquet(folder / "a.parquet", images=[both], answer=[[{"answer": "x", "id": 1}]])
    assert [source.data for source in only(path).sources] == [RED, BLUE]
    assert only(path).answers == ("x",)
    assert only(parquet(folder / "a.parquet", image=[RED], answer=[2.0])).sources[0].data == RED
    assert only(parquet(folder / "a.parquet", image=["red.png"], answer=["a"])).sources[0].data is None
    row = only(
        parquet(
            folder / "a.parquet",
            image_1=[held(RED)], image_2=[held(BLUE)], image_3=[None], answer=["B"], options=["['$6', \"it's 7\"]"],
            question_type=["multiple-choice"], subfield=["Law"],
        )
    )  # fmt: skip
    assert [source.data for source in row.sources] == [RED, BLUE]
    assert (row.answers, row.choices, row.category) == (("B",), (("A", "$6"), ("B", "it's 7")), "Law")
    path = parquet(folder / "a.parquet", image=[RED], answer=["['1/6', '0.17']"], options=["[]"])
    assert (only(path).answers, only(path).choices) == (("1/6", "0.17"), ())


def test_missing_value_of_pandas_is_no_answer(folder: Path) -> None:
    [bad] = read_rows(parquet(folder / "a.parquet", image=[RED], answer=[float("nan")]))
    assert isinstance(bad, BadRow) and bad.message.startswith("has no answer")
    [bad] = read_rows(parquet(folder / "a.parquet", image=[RED], answer=[[float("nan")]]))
    assert isinstance(bad, BadRow) and bad.message.startswith("its answer is not text")


def test_parquet_keeps_few_pictures_in_memory(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    columns = pyarrow.table({"image": [random.randbytes(2**18) for _ in range(200)], "answer": ["a"] * 200})
    pytest.importorskip("pyarrow.parquet").write_table(columns, folder / "a.parquet", write_batch_size=4)
    before = pyarrow.total_allocated_bytes()
    rows = read(folder / "a.parquet")
    assert isinstance(next(rows), Row)
    assert pyarrow.total_allocated_bytes() - before < 2**24  # all of them are three times as much


def test_whole_numbers_in_parquet_are_indices_of_choices(folder: Path) -> None:
    choices = [["1", "2"], ["x", "y"]]
    for answers in ([1, 0], ["1", "0"]):
        rows = read_rows(parquet(folder / "a.parquet", image=[RED, RED], answer=answers, choices=choices))
        assert [row.answers for row in rows if isinstance(row, Row)] == [("B",), ("A",)]
    rows = read_rows(parquet(folder / "a.parquet", image=[RED, RED], answer=["1", "x"], choices=choices))
    assert isinstance(rows[0], BadRow) and "may be a choice or the number of one" in rows[0].message


def test_shards_are_read_in_order_and_a_broken_one_is_left_out(folder: Path) -> None:
    data = folder / "data"
    for number in (10, 2):
        parquet(data / f"test-{number}.parquet", image=[RED] * 10, answer=[f"{number}.{row}" for row in range(10)])
    (data / "test-3.parquet").write_bytes(b"PAR1 and no more")
    parquet(data / "test-4.parquet", image=[RED], other=["a"])
    rows = read_rows(data)
    assert [row.name for row in rows if isinstance(row, Row)] == [
        f"data/test-{number}.parquet row {row}" for number in (2, 10) for row in range(1, 11)
    ]
    assert [row.name for row in rows if isinstance(row, BadRow)] == ["data/test-3.parquet", "data/test-4.parquet"]
    messages = [row.message for row in rows if isinstance(row, BadRow)]
    assert "has no column of answers; call it answer; its columns are image, other" in messages[1]
    assert refused(data / "test-3.parquet").what.startswith("test-3.parquet cannot be read (")
    assert refused(data / "test-4.parquet").what == "test-4.parquet has no column of answers"


def test_parquet_continues_after_a_broken_row_group(folder: Path) -> None:
    noise = [png("red") + bytes(str(number) * 3000, "ascii") for number in range(12)]
    path = parquet(folder / "set.parquet", image=noise, answer=["a"] * 12)  # groups of four rows
    module = pytest.importorskip("pyarrow.parquet")
    group = module.ParquetFile(path).metadata.row_group(1)
    data = bytearray(path.read_bytes())
    begin = group.column(0).dictionary_page_offset or group.column(0).data_page_offset
    data[begin : begin + 60] = b"\xff" * 60
    path.write_bytes(data)
    rows = read_rows(path)
    assert [row.name for row in rows] == [f"set.parquet row {number}" for number in (1, 2, 3, 4, 5, 9, 10, 11, 12)]
    assert isinstance(rows[4], BadRow) and rows[4].message.startswith("cannot be read, to row 8 (")


def test_parquet_needs_a_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "set.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"pip install 'smolcli\[bench\]'"):
        list(read(path))


# What makes a whole data set useless.


def test_a_data_set_that_cannot_be_read_is_refused(folder: Path) -> None:
    assert refused(folder / "none.csv").kind == "missing"
    (folder / "empty").mkdir()
    assert refused(folder / "empty").what.endswith("has neither pictures nor parquet files")
    (folder / "wide.csv").write_text("image,answer\nred.png,a\n", encoding="utf-16")
    assert refused(folder / "wide.csv").what.endswith("is UTF-16")
    (folder / "object.json").write_text(json.dumps({"data": [{"image": "red.png", "answer": "a"}]}, indent=1))
    assert refused(folder / "object.json").what.endswith("is one JSON object")
    for data in (b"\x1f\x8b\x08\0\xff\0", b"Dear all,\nhello\n", RED, b'"not closed\n'):
        (folder / "letter").write_bytes(data)
        assert refused(folder / "letter").what.endswith("is of no known kind")
        assert "JSON Lines, CSV, TSV, parquet, or a folder" in refused(folder / "letter").advice
    assert str(refused(table(folder, "picture,answer"))).endswith(
        "has no column of pictures; call it image; its columns are picture, answer"
    )
    assert refused(table(folder, "image,question")).what.endswith("has no column of answers")
    assert refused(table(folder, "image,answer,Answer")).what.endswith("has two columns answer")
    assert refused(Path("/dev/null")).kind == "unsupported"


def test_a_data_set_without_rows_is_empty(folder: Path) -> None:
    for data in ("", "\n\n", "[]", "image,answer\n", "\ufeff"):
        (folder / "set.csv").write_text(data, encoding="utf-8")
        assert read_rows(folder / "set.csv") == []


def turns(*texts: str, names: tuple[str, str] = ("human", "gpt")) -> list[dict[str, str]]:
    return [{"from": names[number % 2], "value": text} for number, text in enumerate(texts)]


def test_a_conversation_of_one_turn_is_a_question_and_its_answer(folder: Path) -> None:
    """The forms of LLaVA's blip_laion_cc_sbu_558k.json and of messages as TRL and OpenAI have them."""
    llava = {"id": "004539375", "image": "red.png", "conversations": turns("Which colour?\n<image>", "Red.")}
    content = [{"type": "image"}, {"type": "text", "text": "Which colour?"}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "Red."}]
    [first, second] = read_rows(json_lines(folder, llava, {"images": ["red.png"], "messages": messages}))
    assert isinstance(first, Row) and isinstance(second, Row)
    assert (first.question, first.answers) == ("Which colour?<image>", ("Red.",))
    assert (second.question, second.answers) == ("Which colour?", ("Red.",))


def test_a_conversation_in_a_cell_of_a_table_is_read(folder: Path) -> None:
    path = folder / "set.csv"
    cell = json.dumps(turns("<image>\nWhich colour?", "Red.")).replace('"', '""')
    path.write_text(f'image,conversations\nred.png,"{cell}"\n')
    row = only(path)
    assert (row.question, row.answers) == ("Which colour?", ("Red.",))


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        (turns("a", "b", "c", "d"), "its conversation has the roles human, gpt, human, gpt; give one question"),
        (turns("a", "b", names=("system", "human")), "its conversation has the roles system, human"),
        (turns("a"), "its conversation has the roles human"),
        ("a b", "its conversation is no list"), ([1, 2], "its conversation is no list"),
        ([{"from": "human", "value": 1}, {"from": "gpt"}], "a message of its conversation is not text"),
        ([{"role": "user", "content": [{"type": "audio"}]}, {"role": "assistant", "content": "b"}],
         "a message of its conversation has a part that is neither text nor image"),
        (turns("<image> and <image>", "b"), "its question has 2 times <image> for 1 picture"),
        (turns("<|im_start|>", "b"), "its question cannot be asked"),
    ],
)  # fmt: skip
def test_conversations_that_cannot_be_asked_are_bad(folder: Path, conversation: object, message: str) -> None:
    [bad] = read_rows(json_lines(folder, {"image": "red.png", "conversations": conversation}))
    assert isinstance(bad, BadRow) and bad.message.startswith(message), bad


def test_a_folder_with_metadata_is_labelled_by_it(folder: Path) -> None:
    """The worked example of the Hugging Face hub's page on ImageFolder: file_name beside the labels."""
    (folder / "metadata.jsonl").write_text('{"file_name": "red.png", "text": "STOP"}\n')
    [row, bad] = read_rows(folder)
    assert isinstance(row, Row) and row.answers == ("STOP",) and row.sources == (Source(str(folder / "red.png")),)
    assert row.name == "metadata.jsonl:1"
    assert bad == BadRow(f"{folder.name}/blue.png", "no row of metadata.jsonl names it; add one")


def test_each_metadata_file_labels_the_pictures_beside_it(tmp_path: Path) -> None:
    for split in ("test", "train"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "0.png").write_bytes(RED)
        (tmp_path / split / "metadata.csv").write_text(f"file_name,text\n0.png,{split}\n")
    rows = read_rows(tmp_path)
    assert [row.answers for row in rows if isinstance(row, Row)] == [("test",), ("train",)]
    assert [row.name for row in rows] == [f"{tmp_path.name}/{split}/metadata.csv:2" for split in ("test", "train")]
