"""smolcli/tasks/caption.py: which prompt is asked, and tags."""

from __future__ import annotations

import pytest

from smolcli.errors import UsageError
from smolcli.tasks.caption import STYLES, Caption, tags_in
from smolcli.types import Finish, Reply


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


def test_style_and_prompt_are_refused_together() -> None:
    for style in STYLES:  # that of the default too, where it is given
        with pytest.raises(UsageError, match="--prompt replaces the prompt of --style; leave out one of them"):
            Caption(prompt="What is this?", style=style)
