"""engine/client.py with real children: an input that ends the child fails alone."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue

import pytest

from smolcli.engine.client import Engine
from smolcli.engine.protocol import Failed, InboxMessage, Opened, ReplyReceived
from smolcli.errors import EngineError, ModelError
from smolcli.types import Item, Prompt
from tests.engine.troubled import PICTURE, faults, outcomes_of, work
from tests.helpers import png


def test_a_crash_fails_one_input_and_the_engine_goes_on() -> None:
    outcomes = outcomes_of("one", "SIGSEGV", "two", "SIGILL", "three")
    assert sorted(outcomes) == [
        (0, "one!", None), (1, "", "crash"), (2, "two!", None), (3, "", "crash"), (4, "three!", None),
    ]  # fmt: skip


def test_a_kill_says_memory_and_a_crash_says_the_signal_and_the_last_words_of_this_crash() -> None:
    by_number = {number: fault or ("", "") for number, _, fault in faults("SIGKILL", "SIGSEGV", "one", "exit")}
    assert by_number[0][0] == "memory"
    assert "memory" in by_number[0][1]
    assert "SIGSEGV" in by_number[1][1] and "GGML_ASSERT failed" in by_number[1][1]
    assert "exit code 7" in by_number[3][1] and "GGML_ASSERT" not in by_number[3][1]


def test_the_loss_of_the_gpu_ends_the_child_and_costs_the_input_with_which_it_happens_again(tmp_path: Path) -> None:
    """Of eight that are under way; they are tried alone in another child, which may use the GPU again."""
    flag = str(tmp_path / "flag")
    words = [("a", flag)] * 5 + [("lose", flag)] + [("b", flag)] * 4
    ended = {number: (text, fault) for number, text, fault in faults(*words, backend="Eight")}
    kind, message = ended.pop(5)[1] or ("", "")
    assert kind == "crash" and "exit code 1" in message and "device-side assert triggered" in message
    assert ended == {number: ("fine", None) for number in range(10) if number != 5}


def test_a_child_that_dies_between_two_inputs_fails_none() -> None:
    outcomes = outcomes_of("one", "the last", "two", "three")
    assert sorted(outcomes) == [(0, "one!", None), (1, "the last!", None), (2, "two!", None), (3, "three!", None)]


def test_an_input_that_ends_the_engine_once_and_not_when_it_is_tried_alone_is_answered(tmp_path: Path) -> None:
    """As after a kill for want of memory, while another input was being opened."""
    fifo = tmp_path / "slow.png"
    os.mkfifo(fifo)  # its opening lasts until the engine has died
    outcomes = outcomes_of(
        ("once", str(tmp_path / "flag")), "two",
        items=[Item.of("0.png", PICTURE), Item.of(str(fifo))], timeout=3.0,
    )  # fmt: skip
    assert outcomes == [(0, "once!", None), (1, "", "timeout")]


def test_after_a_crash_replies_come_in_the_order_of_asking(tmp_path: Path) -> None:
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    replied: list[int] = []
    with closing(Engine(work(), inbox)) as engine:
        for number in range(4):
            engine.open(number, Item.of("a.png", PICTURE))
        engine.flush()
        opened: set[int] = set()
        while len(opened) < 4:
            opened |= {event.number for event in engine.handle(inbox.get(timeout=60)) if isinstance(event, Opened)}
        for number, word in enumerate([("once", str(tmp_path / "flag")), ("a",), ("b",), ("c",)]):
            engine.ask(number, 0, Prompt.user(*word))
        while len(replied) < 4:
            engine.flush()
            for event in engine.handle(inbox.get(timeout=60)):
                if isinstance(event, ReplyReceived):
                    replied.append(event.number)
                    engine.release(event.number)
    assert replied == [0, 1, 2, 3]


def test_an_input_that_hangs_and_one_without_end_are_told_apart(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.png")
    items = [Item.of("0.png", PICTURE), Item.of(str(tmp_path / "never.png")), *[Item.of("x", PICTURE)] * 2]
    outcomes = {
        number: (text, fault or ("", ""))
        for number, text, fault in faults("hang", "", "endless", "one", items=items, timeout=1.0)
    }
    assert outcomes[3] == ("one!", ("", ""))
    assert {outcomes[number][1][0] for number in (0, 1, 2)} == {"timeout"}
    assert "no word of an answer within 1 s" in outcomes[0][1][1]
    assert "could not be opened within 1 s" in outcomes[1][1][1]
    assert "the answer had no end within 1 s" in outcomes[2][1][1]


def test_an_input_that_waits_beside_one_that_hangs_is_not_blamed(tmp_path: Path) -> None:
    flag = str(tmp_path / "flag")
    outcomes = outcomes_of(("fine", flag), ("hang", flag), ("fine", flag), backend="Two", timeout=2.0)
    assert sorted(outcomes) == [(0, "fine", None), (1, "", "timeout"), (2, "fine", None)]


def test_an_input_that_others_overtake_is_blamed_for_what_it_does(tmp_path: Path) -> None:
    words = [("long", str(tmp_path / "flag")), *[("other", str(tmp_path / "flag"))] * 81]
    outcomes = outcomes_of(*words, ("last", str(tmp_path / "flag")), backend="Long")
    assert sorted(outcomes) == [(0, "", "crash"), *((n, "fine", None) for n in range(1, 83))]


def test_a_prompt_that_ends_the_engine_while_it_is_prepared_is_blamed_not_the_one_being_answered(
    tmp_path: Path,
) -> None:
    flag = str(tmp_path / "flag")
    outcomes = outcomes_of(("fine", flag), ("deadly", flag), ("fine", flag), backend="Preparing")
    assert sorted(outcomes) == [(0, "fine", None), (1, "", "memory"), (2, "fine", None)]


def test_a_prompt_that_ends_the_engine_before_its_first_piece_is_found() -> None:
    outcomes = outcomes_of("deadly", "fine", "fine", backend="Early")
    assert sorted(outcomes) == [(0, "", "memory"), (1, "fine", None), (2, "fine", None)]


def test_three_crashes_in_a_row_end_the_run() -> None:
    with pytest.raises(EngineError, match=r"3 times in a row the engine crashed \(SIGSEGV\)"):
        outcomes_of("SIGSEGV", "SIGSEGV", "SIGSEGV", "never")


def test_a_model_that_cannot_be_loaded_ends_the_run_and_blames_no_input() -> None:
    with pytest.raises(EngineError, match=r"3 times in a row the engine crashed \(SIGILL\)"):
        outcomes_of("one", "two", files="deadly")


def test_a_file_that_changes_before_a_new_child_opens_it_fails(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(PICTURE)
    os.mkfifo(tmp_path / "slow.png")  # being opened when the child ends, so that both are tried again
    inbox: SimpleQueue[InboxMessage] = SimpleQueue()
    with closing(Engine(work(), inbox)) as engine:
        engine.open(0, Item.of(str(file)))
        engine.open(1, Item.of(str(tmp_path / "slow.png")))
        failed = None
        while failed is None:
            engine.flush()
            for event in engine.handle(inbox.get(timeout=60)):
                if isinstance(event, Opened):
                    file.write_bytes(png((3, 3)))
                    engine.ask(0, 0, Prompt.user("SIGKILL"))
                failed = event if isinstance(event, Failed) else None
    assert (failed.number, failed.fault.kind) == (0, "changed")


def test_errors_of_the_child_are_raised_as_themselves() -> None:
    with pytest.raises(ModelError, match="broken.gguf is not a GGUF; get another"):
        outcomes_of("one", files="broken")
    with pytest.raises(EngineError, match="a fault of ours"):
        outcomes_of("fault")
