"""smolcli/tasks/caption.py: which prompt is asked, and tags."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smolcli.errors import UsageError
from smolcli.tasks.ask import Ask
from smolcli.tasks.caption import STYLES, Caption, tags_in
from smolcli.types import Finish, FrameRef, Media, Prompt, Reply


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("green star, orange heart", ["green star", "orange heart"]),
        ("Dog, dog,  cat ,", ["Dog", "cat"]),
        ("- a dog\n- a cat\n", ["a dog", "a cat"]),
        ("1. dog\n2. 3 cats.", ["dog", "3 cats"]),
        ("\"dog\"; 'cat'", ["dog", "cat"]),
        ("U.S.A., 50 mm, no. 5", ["U.S.A", "50 mm", "no. 5"]),
        ("", []),
    ],
)
def test_the_tags_of_a_reply(text: str, tags: list[str]) -> None:
    assert tags_in(text) == tags


def test_only_the_style_tags_has_keywords() -> None:
    reply = Reply("sun, sea", Finish("stop"))
    assert Caption(style="tags").answer([reply]).data == ["sun", "sea"]
    assert Caption().answer([reply]).data is None
    assert Caption(style="tags").answer([Reply("{}", Finish("stop"), {"tag": "sun"})]).data == {"tag": "sun"}


def test_the_prompt_is_that_of_the_style_or_the_users_own() -> None:
    assert Caption().words == STYLES["short"]
    assert Caption(style="tags").words == STYLES["tags"]
    assert Caption(prompt="What is this?").words == "What is this?"


@pytest.mark.parametrize("task", [Caption(prompt="A cat", raw=True), Ask("A cat", also=("A dog",), raw=True)])
def test_with_raw_every_prompt_is_raw_and_the_id_says_so(task: Caption | Ask) -> None:
    frame = FrameRef(0, 1, 1)
    prompts = task.prompts(Media((frame,)))
    assert prompts[0] == Prompt.user(frame, "A cat", raw=True)
    assert all(prompt.raw for prompt in prompts)
    plain = replace(task, raw=False)
    assert task.id_options == plain.id_options | {"raw": True}
    assert not any(prompt.raw for prompt in plain.prompts(Media((frame,))))


def test_style_and_prompt_are_refused_together() -> None:
    for style in STYLES:  # that of the default too, where it is given
        with pytest.raises(UsageError, match="--prompt replaces the prompt of --style; leave out one of them"):
            Caption(prompt="What is this?", style=style)
