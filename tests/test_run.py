"""run.py: one request from items to records, with backends that need no model."""

import io
import json
from collections.abc import Iterable, Iterator, Sequence

import pytest

from smolcli.backends.echo import Echo
from smolcli.console import Console
from smolcli.errors import Exit, InputError
from smolcli.models import ModelFiles
from smolcli.options import Generate, Model
from smolcli.run import Identity, Run
from smolcli.tasks.ask import Ask
from smolcli.tasks.base import Task
from smolcli.tasks.caption import Caption
from smolcli.tasks.ocr import Ocr
from smolcli.types import Answer, Finish, Frame, Item, Media, Piece, Prompt, Reply, Steps
from smolcli.writers.json_lines import JsonLines

FRAME = Frame(bytes(6), 2, 1)


def item(index: int, bad: bool = False) -> Item:
    def read() -> Media:
        if bad:
            raise InputError("no such file", "check the path", kind="missing")
        return Media((FRAME,), f"{index:064x}")

    return Item(f"{index}.png", read)


def records(task: Task, items: Iterable[Item], backend: object, **more: bool) -> tuple[list[dict], Run]:
    stream = io.StringIO()
    run = Run(task, Identity("test", "echo", "echo"), JsonLines(stream), Console(quiet=True), **more)
    run.over(items, backend, Generate())
    return [json.loads(line) for line in stream.getvalue().splitlines()], run


@pytest.fixture
def echo() -> Echo:
    return Echo(ModelFiles("echo"), Model())


def test_a_bad_input_is_a_record_and_its_neighbours_are_answered(
    echo: Echo, capsys: pytest.CaptureFixture[str]
) -> None:
    made, run = records(Caption(prompt="Hm?"), [item(0), item(1, bad=True), item(2)], echo)
    assert [(r["path"], r["text"], r["error"] and r["error"]["kind"]) for r in made] == [
        ("0.png", "[2x1] Hm?", None),
        ("1.png", "", "missing"),
        ("2.png", "[2x1] Hm?", None),
    ]
    assert run.exit_code == Exit.SOME_FAILED
    assert capsys.readouterr().err == "smolcli: 1.png: no such file; check the path\n"


def test_exit_codes(echo: Echo) -> None:
    assert records(Caption(), [], echo)[1].exit_code == Exit.NO_INPUT
    assert records(Caption(), [item(0)], echo)[1].exit_code == Exit.OK
    assert records(Caption(), [item(0, bad=True)], echo)[1].exit_code == Exit.ALL_FAILED


def test_fail_fast_stops_at_the_first_failure(echo: Echo) -> None:
    made, run = records(Caption(), [item(0), item(1, bad=True), item(2)], echo, fail_fast=True)
    assert [r["path"] for r in made] == ["0.png", "1.png"]
    assert run.exit_code == Exit.SOME_FAILED


def test_several_questions_are_one_record(echo: Echo) -> None:
    [record], _ = records(Ask("One?", also=("Two?", "Three?")), [item(0)], echo)
    assert record["text"] == "[2x1] One?\n[2x1] Two?\n[2x1] Three?"
    assert record["data"][1] == {"question": "Two?", "answer": "[2x1] Two?"}
    assert record["tokens"] == {"prompt": 6, "image": 3, "new": 6}


def test_an_id_depends_on_content_task_options_and_model_only() -> None:
    base = Identity("caption", "nano", "torch", "f", "o")
    assert base.id_of("a") == Identity("caption", "nano", "torch", "f", "o").id_of("a")
    others = [
        ("ask", "nano", "torch", "f", "o"),
        ("caption", "nano", "llamacpp", "f", "o"),
        ("caption", "nano", "torch", "g", "o"),
        ("caption", "nano", "torch", "f", "p"),
    ]
    assert len({base.id_of("a"), base.id_of("b"), *(Identity(*other).id_of("a") for other in others)}) == 6
    assert base.id_of("a") == Identity("caption", "a copy of nano", "torch", "f", "o").id_of("a")


def test_the_words_of_the_prompt_are_a_part_of_the_id() -> None:
    assert Caption(style="short").asks == Caption(prompt="Describe this image in one sentence.").asks
    asked = {task.asks for task in (Caption(), Caption(style="tags"), Ask("a"), Ask("b"), Ask("a", also=("b",)), Ocr())}
    assert len(asked) == 6


class Two(Task):
    """Asks for a note, then about the note."""

    def steps(self, media: Media) -> Steps:
        [note] = yield [Prompt.user(media.frames[0], "note", draft=True)]
        replies: Sequence[Reply] = yield [Prompt.user(f"about {note.text}")]
        return Answer(replies[0].text)


class Slots:
    """A backend of two slots, each giving a word at a time, so that replies interleave; `most` is how many it held."""

    name = "slots"

    def __init__(self) -> None:
        self.most = 0

    def generate(self, prompts: Iterable[Prompt | None], options: Generate) -> Iterator[Piece]:
        source, held, taken = iter(prompts), {}, 0
        while True:
            while len(held) < 2 and (prompt := next(source, None)) is not None:
                held[taken] = iter(Echo.words(prompt))
                taken += 1
            if not held:
                return
            self.most = max(self.most, len(held))
            for index in list(held):
                if (word := next(held[index], None)) is None:
                    del held[index]
                    yield Piece(index, "", Finish("stop"))
                else:
                    yield Piece(index, word + " ")

    def close(self) -> None: ...


def test_steps_of_several_items_share_the_backends_slots() -> None:
    backend = Slots()
    made, run = records(Two(), [item(0), item(1), item(2)], backend)
    assert sorted(r["path"] for r in made) == ["0.png", "1.png", "2.png"]
    assert {r["text"] for r in made} == {"about [2x1] note"}
    assert backend.most == 2
    assert run.exit_code == Exit.OK


def test_items_are_taken_one_by_one_and_not_held(echo: Echo) -> None:
    alive = 0

    def source() -> Iterator[Item]:
        nonlocal alive
        for index in range(300):
            alive = index
            yield item(index)

    class Watching(JsonLines):
        def write(self, record: object) -> None:
            assert alive - int(record.path.split(".")[0]) <= 1

    run = Run(Caption(), Identity("t", "m", "b"), Watching(io.StringIO()), Console())
    run.over(source(), echo, Generate())
    assert run.done == 300


def test_pictures_go_where_the_question_places_them() -> None:
    task = Ask("Is {2} larger than {1}?", together=True)
    other = Frame(bytes(3), 1, 1)
    [prompt] = task.prompts(Media((FRAME, other), ""))
    assert prompt.turns[0].parts == ("Is ", other, " larger than ", FRAME, "?")


def test_a_picture_without_a_place_in_the_question_stands_before_it() -> None:
    other = Frame(bytes(3), 1, 1)
    [first, second] = Ask("Is {2} red?", ("And {1}, {2}?",), together=True).prompts(Media((FRAME, other), ""))
    assert first.turns[0].parts == (FRAME, "Is ", other, " red?")
    assert second.turns[0].parts == ("And ", FRAME, ", ", other, "?")


def test_an_item_that_asks_nothing_still_has_its_record(echo: Echo) -> None:
    empty = Item("empty", lambda: Media((), "0"))

    class Quiet(Caption):
        def answer(self, replies: Sequence[Reply]) -> Answer:
            return Answer(f"{len(replies)} replies")

    [record], run = records(Quiet(), [empty], echo)
    assert (record["path"], record["text"], run.exit_code) == ("empty", "0 replies", Exit.OK)


def test_control_characters_of_a_name_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Console().error("caf\u00e9\x1b[31m.png: no\nsuch\udcff file")
    assert capsys.readouterr().err == "smolcli: caf\u00e9\\x1b[31m.png: no such\\udcff file\n"
