"""executors/local.py: records of items, made by an engine whose backends need no model."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from smolcli.backends.base import PreparedPrompt
from smolcli.engine.protocol import Work
from smolcli.errors import EngineError, Exit, UsageError
from smolcli.executors.base import RunSpec
from smolcli.executors.local import AHEAD, LocalExecutor
from smolcli.executors.producer import Producer
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Input, Model
from smolcli.records.sink import RecordSink
from smolcli.tasks.ask import Ask
from smolcli.tasks.base import Steps, Task
from smolcli.tasks.caption import Caption
from smolcli.tasks.ocr import Ocr
from smolcli.terminal.console import Console
from smolcli.types import Answer, FrameRef, Item, Media, Prompt, Reply
from smolcli.writers.json_lines import JsonLines
from tests.executors.replying import NOTHING, VOCABULARY, Replying
from tests.helpers import ECHO, IDENTITY, png, records, results

FRAME = FrameRef(0, 2, 1)


def item(index: int, bad: bool = False) -> Item:
    """A picture of 2 x 1 pixels in a color of its own: the same content is answered once."""
    return Item.of("nowhere/1.png") if bad else Item.of(f"{index}.png", png(color=index))


def test_what_is_wrong_with_standard_input_and_with_a_url_of_another_scheme(capsys: pytest.CaptureFixture[str]) -> None:
    records(Caption(), [Item.of("-", b""), Item.of("file:///a.png"), Item.of("ftp://host/a.png")])
    empty, *urls = capsys.readouterr().err.splitlines()
    assert empty == "smolcli: standard input is empty; give a picture"
    assert [line.partition(": ")[2] for line in urls] == [
        f"{url}: only http and https URLs are read; give the path of the file"
        for url in ("file:///a.png", "ftp://host/a.png")
    ]


def test_a_bad_input_is_a_record_and_its_neighbours_are_answered(capsys: pytest.CaptureFixture[str]) -> None:
    written, run = records(Caption(prompt="Hm?"), [item(0), item(1, bad=True), item(2)])
    assert [(r["path"], r["text"], r["error"] and r["error"]["kind"]) for r in written] == [
        ("0.png", "[2x1] Hm?", None),
        ("nowhere/1.png", "", "missing"),
        ("2.png", "[2x1] Hm?", None),
    ]
    assert run.exit_code == Exit.SOME_FAILED
    assert capsys.readouterr().err == "smolcli: nowhere/1.png: no such file; check the path\n"


def test_exit_codes() -> None:
    assert records(Caption(), [])[1].exit_code == Exit.NO_INPUT
    assert records(Caption(), [item(0)])[1].exit_code == Exit.OK
    assert records(Caption(), [item(0, bad=True)])[1].exit_code == Exit.ALL_FAILED


def test_fail_fast_stops_at_the_first_failure() -> None:
    written, run = records(Caption(), [item(0), item(1, bad=True), item(2)], fail_fast=True)
    assert [r["path"] for r in written] == ["0.png", "nowhere/1.png"]
    assert run.exit_code == Exit.SOME_FAILED


def test_several_questions_are_one_record() -> None:
    [record], _ = records(Ask("One?", also=("Two?", "Three?")), [item(0)])
    assert record["text"] == "[2x1] One?\n[2x1] Two?\n[2x1] Three?"
    assert record["data"][1] == {"question": "Two?", "answer": "[2x1] Two?"}
    assert record["tokens"] == {"prompt": 6, "image": 3, "new": 6}


class Two(Task):
    """Asks for a note, then about the note."""

    def steps(self, media: Media) -> Steps:
        [note] = yield [Prompt.user(media.frames[0], "note", draft=True)]
        replies: Sequence[Reply] = yield [Prompt.user(f"about {note.text}")]
        return Answer(replies[0].text)


class Slots(Replying):
    """Repeats the prompt, two at once, so that replies interleave; it ends with the most that it had at once."""

    slots = 2
    most = 0

    def reply(self, words: list[str]) -> Iterator[str]:
        for word in words:
            self.most = max(self.most, len(self.replies))
            yield f"{word} "
        yield f"/{self.most}"


def test_steps_of_several_items_share_the_backends_slots() -> None:
    written, sink = records(Two(), [item(index) for index in range(20)], f"{__name__}:Slots")
    assert sorted(record["path"] for record in written) == sorted(f"{index}.png" for index in range(20))
    assert all(record["text"].startswith("about [2x1] note") for record in written)
    assert any(record["text"].endswith("/2") for record in written)
    assert sink.exit_code == Exit.OK


class Straggling(Replying):
    """Answers every prompt at once but the first, which it answers when it has taken LATE prompts."""

    LATE = AHEAD + 9
    slots = 2
    taken = 0

    def reply(self, words: list[str]) -> Iterator[str]:
        number, self.taken = self.taken, self.taken + 1
        while number == 0 and self.taken < self.LATE:
            yield NOTHING
        yield str(number)


def test_records_leave_in_order_and_a_late_one_does_not_hold_up_the_others() -> None:
    """The first is answered after more items than are let in ahead at once: otherwise its answer would never come."""
    written, _ = records(
        Caption(), [item(n) for n in range(2 * AHEAD)], f"{__name__}:Straggling", generate=Generate(max_tokens=10**9)
    )
    assert [record["path"] for record in written] == [f"{n}.png" for n in range(2 * AHEAD)]
    assert [record["text"] for record in written] == [str(n) for n in range(2 * AHEAD)]


def test_a_producer_may_be_given_no_permit() -> None:
    """As when a child that is started in place of a lost one tells the devices again."""
    inbox: SimpleQueue[Any] = SimpleQueue()
    producer = Producer(inbox)
    producer.add_permits(0)
    producer.add_permits(1)
    producer.start([item(0)])
    assert isinstance(inbox.get(timeout=20), Item)


class Wide(Replying):
    """Has more slots than AHEAD, and replies when all are taken, or after some seconds: with the most that were."""

    slots = AHEAD + 8
    most = 0

    def reply(self, words: list[str]) -> Iterator[str]:
        late = time.monotonic() + 20
        while self.most < self.slots and time.monotonic() < late:
            self.most = max(self.most, len(self.replies))
            yield NOTHING
        yield str(self.most)


def test_every_slot_is_filled_where_the_engine_has_more_than_are_let_in_at_first() -> None:
    endless = Generate(max_tokens=10**9)
    written, _ = records(Caption(), [item(n) for n in range(2 * Wide.slots)], f"{__name__}:Wide", generate=endless)
    assert {record["text"] for record in written} == {str(Wide.slots)}


@pytest.mark.parametrize(("jobs", "at_least", "at_most"), [(None, 2, AHEAD + 2), (24, 48, 48 + 2)])
def test_items_are_taken_a_bounded_number_ahead_of_the_model(jobs: int | None, at_least: int, at_most: int) -> None:
    """Twice as many as are answered at once, so that every slot has a next one."""
    taken, most = 0, 0

    def source() -> Iterator[Item]:
        nonlocal taken
        for index in range(300):
            taken += 1
            yield item(index)

    class Watching(JsonLines):
        done = 0

        def write(self, record: object) -> None:
            nonlocal most
            most = max(most, taken - self.done)
            self.done += 1

    sink = RecordSink(Watching(io.StringIO()), Console())
    work = Work(ECHO, ModelFiles("echo"), Model(jobs=jobs), Input(), Generate())
    LocalExecutor(RunSpec(Caption(), IDENTITY, work), sink).run(source())
    assert sink.done == 300
    assert at_least <= most <= at_most


def test_a_reply_that_is_not_of_the_schema_is_an_error() -> None:
    [record], _ = records(Caption(prompt="Hm?"), [item(0)], generate=Generate(schema='{"type":"object"}'))
    assert record["error"]["kind"] == "schema"


@pytest.mark.parametrize("pages", [3, "12", ["an error", "a text"], [{"error": "of the invoice"}]])
def test_an_object_of_a_schema_may_have_a_key_that_documents_have_too(pages: object) -> None:
    """As the answer to `ask "How many pages are there?" --schema 'pages int'` has it."""

    class Counting(Caption):
        def answer(self, replies: Sequence[Reply]) -> Answer:
            return Answer(replies[0].text, {"pages": pages})

    [record], sink = records(Counting(), [item(0)])
    assert (record["data"], record["error"], record["notices"]) == ({"pages": pages}, None, [])
    assert sink.exit_code == Exit.OK


def test_a_record_names_its_content(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png())
    [record], _ = records(Caption(), [Item.of(str(file))])
    status = file.stat()
    assert record["sha256"] == hashlib.sha256(png()).hexdigest()
    assert record["stamp"] == f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
    assert record["id"] == IDENTITY.id_of(record["sha256"])
    assert record["seconds"]["media"] > 0


def test_an_error_of_the_source_is_raised_where_the_records_are_made() -> None:
    def source() -> Iterator[Item]:
        yield item(0)
        raise UsageError("list.txt: cannot be read")

    with pytest.raises(UsageError, match="list.txt"):
        records(Caption(), source())


class Crashing(Replying):
    """Ends its process at a picture of 3 x 3 pixels."""

    def reply(self, words: list[str]) -> Iterator[str]:
        if "[3x3]" in words:
            os.kill(os.getpid(), 11)
        yield "fine"


def test_a_crash_is_one_record_in_its_place_and_the_others_are_answered() -> None:
    items = [Item.of(f"{n}.png", png((3, 3) if n in (2, 5) else (2, 1), n)) for n in range(8)]
    written, _ = records(Caption(), items, f"{__name__}:Crashing")
    assert [(r["path"], r["text"] or r["error"]["kind"]) for r in written] == [
        (f"{n}.png", "crash" if n in (2, 5) else "fine") for n in range(8)
    ]
    assert "SIGSEGV" in written[2]["error"]["message"]


def run_into(path: Path, items: Iterable[Item], **more: Any) -> tuple[list[dict[str, Any]], RecordSink]:
    """Run over the items with the results in `path`. Returns all records of the file, and the sink with its counts."""
    held = results(path)
    with path.open("a") as stream:
        sink = RecordSink(JsonLines(stream), Console(quiet=True), results=held)
        work = Work(more.get("backend", ECHO), ModelFiles("echo"), Model(), Input(), Generate())
        LocalExecutor(RunSpec(Caption(), more.get("identity", IDENTITY), work), sink, held).run(items)
    return [json.loads(line) for line in path.read_text().splitlines()], sink


def test_the_same_content_under_another_path_gets_a_copy_of_the_answer(tmp_path: Path) -> None:
    """Of two copies at the same time only one is asked about."""
    written, _ = run_into(
        tmp_path / "r.jsonl", [item(0), Item.of("1.png", png()), Item.of("x", png((5, 5)))], backend=f"{__name__}:Slots"
    )
    assert [(r["path"], r["text"][:5]) for r in written] == [("0.png", "[2x1]"), ("1.png", "[2x1]"), ("x", "[5x5]")]
    assert written[0]["id"] == written[1]["id"]
    assert written[1]["seconds"]["decode"] == written[1]["seconds"]["prefill"] == 0
    later, sink = run_into(
        tmp_path / "r.jsonl", [Item.of("7.png", png()), Item.of("y", png((5, 5)))], backend=f"{__name__}:Crashing"
    )
    assert [(r["path"], r["text"][:5]) for r in later[3:]] == [("7.png", "[2x1]"), ("y", "[5x5]")]
    assert (sink.done, sink.failed) == (2, 0)


class Counting(Replying):
    """Replies with how many prompts it has had; it fails on a picture that is 5 pixels wide."""

    had = 0

    def reply(self, words: list[str]) -> Iterator[str]:
        if words[0].startswith("[5x"):
            raise EngineError("no", "")
        number, self.had = self.had, self.had + 1
        yield f"prompt {number}"


def test_the_same_content_is_answered_once_in_a_run_without_a_results_file() -> None:
    """While the first is under way, and long after it; under the same path too, as nothing is left out here."""
    many = [Item.of(f"{n}.png", png(color=n % 40)) for n in range(120)]
    written, sink = records(Caption(), [*many, Item.of("0.png", png())], f"{__name__}:Counting")
    assert [(r["path"], r["text"]) for r in written] == [
        *((f"{n}.png", f"prompt {n % 40}") for n in range(120)), ("0.png", "prompt 0"),
    ]  # fmt: skip
    assert [r["seconds"]["prefill"] > 0 for r in written] == [True] * 40 + [False] * 81
    assert {(r["tokens"]["prompt"], r["finish_reason"], r["error"]) for r in written} == {(7, "stop", None)}
    assert len({r["id"] for r in written}) == 40
    assert (sink.done, sink.skipped) == (121, 0)


def test_a_failure_is_not_copied_to_the_same_content() -> None:
    items = [Item.of(f"{n}.png", png((5, 1))) for n in range(2)] + [item(3)]
    written, _ = records(Caption(), items, f"{__name__}:Counting")
    assert [r["error"] and r["error"]["message"] for r in written] == ["no", "no", None]


def test_an_input_whose_duplicate_failed_is_asked_about_itself(tmp_path: Path) -> None:
    written, _ = run_into(
        tmp_path / "r.jsonl", [Item.of(f"{n}.png", png((3, 3))) for n in range(2)], backend=f"{__name__}:Crashing"
    )
    assert [(r["path"], r["error"]["kind"]) for r in written] == [("0.png", "crash"), ("1.png", "crash")]


class Vanishing(Replying):
    """Deletes the file that is its model's name and ends its process, at the first prompt."""

    def reply(self, words: list[str]) -> Iterator[str]:
        file = Path(self.files.name)
        if file.exists():
            file.unlink()
            os.kill(os.getpid(), 11)
        yield "fine"


def test_an_input_whose_duplicate_was_deleted_is_asked_about_itself(tmp_path: Path) -> None:
    """The first cannot be opened again after the engine ended; the second must not wait for it without end."""
    gone, kept = tmp_path / "0.png", tmp_path / "1.png"
    for file in (gone, kept):
        file.write_bytes(png())
    file = tmp_path / "r.jsonl"
    held = results(file)
    work = Work(f"{__name__}:Vanishing", ModelFiles(str(gone)), Model(), Input(), Generate())
    with file.open("a") as stream:  # a real one, which the sink writes to the disk every few seconds
        sink = RecordSink(JsonLines(stream), Console(quiet=True), results=held)
        LocalExecutor(RunSpec(Caption(), IDENTITY, work), sink, held).run([Item.of(str(gone)), Item.of(str(kept))])
    written = list(map(json.loads, file.read_text().splitlines()))
    assert [(r["path"], r["text"], r["error"] and r["error"]["kind"]) for r in written] == [
        (str(gone), "", "missing"), (str(kept), "fine", None),
    ]  # fmt: skip


class KilledTwice(Replying):
    """Is killed at its first prompt, as the kernel does where memory is short, until two files exist."""

    def reply(self, words: list[str]) -> Iterator[str]:
        for file in [Path(f"{words[1]}.{number}") for number in range(2)]:
            if not file.exists():
                file.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        yield "fine"


def test_an_engine_that_was_killed_and_started_again_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = RecordSink(JsonLines(io.StringIO()), Console())
    work = Work(f"{__name__}:KilledTwice", ModelFiles("echo"), Model(), Input(), Generate())
    LocalExecutor(RunSpec(Caption(prompt=str(tmp_path / "killed")), IDENTITY, work), sink).run([item(0), item(1)])
    notice, failed = capsys.readouterr().err.splitlines()
    assert notice == "smolcli: the engine was killed (out of memory?) on 0.png and started again"
    assert failed.startswith("smolcli: 0.png: the engine was killed, most likely for want of memory")
    assert (sink.done, sink.failed) == (2, 1)


def test_an_input_that_has_its_record_is_left_out_after_it_was_read(tmp_path: Path) -> None:
    """Of inputs that came through a pipe, or whose file was touched, only the content tells."""
    run_into(tmp_path / "r.jsonl", [item(0), item(1, bad=True)])
    written, sink = run_into(tmp_path / "r.jsonl", [item(0), item(1, bad=True)])
    assert len(written) == 2
    assert (sink.done, sink.skipped) == (0, 2)


def test_pictures_stand_where_the_question_places_them() -> None:
    task = Ask("Is {2} larger than {1}?", together=True)
    other = FrameRef(1, 1, 1)
    [prompt] = task.prompts(Media((FRAME, other)))
    assert prompt.turns[0].parts == ("Is ", other, " larger than ", FRAME, "?")


def test_a_picture_without_a_place_in_the_question_stands_before_it() -> None:
    other = FrameRef(1, 1, 1)
    [first, second] = Ask("Is {2} red?", ("And {1}, {2}?",), together=True).prompts(Media((FRAME, other)))
    assert first.turns[0].parts == (FRAME, "Is ", other, " red?")
    assert second.turns[0].parts == ("And ", FRAME, ", ", other, "?")


class Repeats(Replying):
    """Says what the width of the picture says, of seven tokens at most."""

    def reply(self, words: list[str]) -> Iterator[str]:
        yield from REPLIES[int(words[0][1:].partition("x")[0])]

    def prepare(self, prompt: Prompt) -> PreparedPrompt:
        prepared = super().prepare(prompt)
        is_full = prompt.frames[0].width == FULL
        return replace(prepared, length=self.context_length - 3) if is_full else prepared


FULL = 8  # the width of a picture whose prompt leaves three tokens for the reply
REPLIES = {
    1: ["(bl", "ank", ")"],
    2: ["EXI", "T 2", "7"],
    3: ["(no", " te", "xt)"],
    4: ["(no", " ex", "it)"],
    5: [],
    6: ["(bl", "ank", ") i", "s w", "rit", "ten"],
    7: ["l", "o", "n", "g", " a", "n", "d", " longer"],
    FULL: ["f", "u", "ll", "er"],
}


class Shown(RecordSink):
    """Keeps the pieces that are shown."""

    pieces = ""

    def write_piece(self, text: str) -> None:
        self.pieces += text


def said_of(task: Task, *widths: int) -> tuple[list[tuple[str, bool, list[str]]], Shown]:
    """The text, blank and notices of each record of pictures of these widths, and the sink."""
    stream = io.StringIO()
    sink = Shown(JsonLines(stream), Console(quiet=True))
    work = Work(f"{__name__}:Repeats", ModelFiles("echo"), Model(), Input(), Generate(max_tokens=7), streams=True)
    LocalExecutor(RunSpec(task, IDENTITY, work), sink).run(
        [Item.of(f"{width}.png", png((width, 1))) for width in widths]
    )
    written = map(json.loads, stream.getvalue().splitlines())
    return [(record["text"], record["blank"], record["notices"]) for record in written], sink


def test_ocr_of_a_blank_picture_has_an_empty_text_and_a_long_answer_is_said_to_be_cut() -> None:
    """The replies that nano was taught for empty pages are no text that was read, and are not shown as one."""
    none, cut = ["no text was found"], ["the answer reached --max-tokens; raise it with -n"]
    records, sink = said_of(Ocr(), *range(1, 8))
    assert records == [
        ("", True, none), ("EXIT 27", False, []), ("", True, none), ("(no exit)", False, []), ("", True, none),
        ("(blank) is written", False, []), ("long and", False, cut),
    ]  # fmt: skip
    assert sink.pieces == "EXIT 27(no exit)(blank) is writtenlong and"
    assert list(sink.closing_notices()) == [
        "no text was found in 3 pictures", "7.png: the answer reached --max-tokens; raise it with -n",
    ]  # fmt: skip


class KilledInReply(Replying):
    """Is killed after four texts of its first reply, as the kernel does where memory is short."""

    def reply(self, words: list[str]) -> Iterator[str]:
        yield from ("A ", "cat ", "s", "i")
        if not (killed := Path(words[1])).exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield from ("t", "s.")


def test_an_answer_is_shown_once_though_its_engine_is_killed(tmp_path: Path) -> None:
    sink = Shown(JsonLines(io.StringIO()), Console(quiet=True))
    work = Work(f"{__name__}:KilledInReply", ModelFiles("echo"), Model(), Input(), Generate(), streams=True)
    LocalExecutor(RunSpec(Caption(prompt=str(tmp_path / "killed")), IDENTITY, work), sink).run([item(0)])
    assert (sink.pieces, sink.done, sink.failed) == ("A cat sits.", 1, 0)


def test_several_replies_that_fill_the_context_did_not_reach_max_tokens_together() -> None:
    [(_, _, notices)], _ = said_of(Ask("a?", also=("b?", "c?")), 8)  # three tokens each, of seven
    assert notices == ["the answer reached the end of the model's context"]


def test_another_question_may_be_answered_with_the_same_words() -> None:
    records, sink = said_of(Caption(prompt="What does the sign say?"), 1)
    assert records == [("(blank)", False, [])]
    assert sink.pieces == "(blank)"


class Unsure(Replying):
    """Gives each next token, the stop token too, a probability of one half; it fails on a picture 5 pixels wide."""

    logit = math.log(VOCABULARY - 1)  # e to the power of it is as much as all others have together

    def reply(self, words: list[str]) -> Iterator[str]:
        if words[0].startswith("[5x"):
            raise EngineError("no", "")
        yield from ("a ", "cat")


def test_a_record_says_how_sure_the_model_was() -> None:
    items = [item(0), Item.of("5.png", png((5, 1))), Item.of("copy.png", png())]
    written, _ = records(Ask("One?", also=("Two?",)), items, f"{__name__}:Unsure")
    assert [(r["text"], r["confidence"]) for r in written] == [("a cat\na cat", 0.5), ("", None), ("a cat\na cat", 0.5)]
    [record], _ = records(Promptless(), [Item.of("empty", png())])
    assert record["confidence"] is None  # no model made the answer


class Promptless(Caption):
    """Has no prompts."""

    def prompts(self, media: Media) -> Sequence[Prompt]:
        return []

    def answer(self, replies: Sequence[Reply]) -> Answer:
        return Answer(f"{len(replies)} replies")


def test_an_item_without_prompts_still_has_its_record() -> None:
    [record], sink = records(Promptless(), [Item.of("empty", png())])
    assert (record["path"], record["text"], sink.exit_code) == ("empty", "0 replies", Exit.OK)


def test_control_characters_of_a_name_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Console().error("caf\u00e9\x1b[31m.png: no\nsuch\udcff file")
    assert capsys.readouterr().err == "smolcli: caf\u00e9\\x1b[31m.png: no such\\udcff file\n"
