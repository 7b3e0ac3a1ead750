"""backends/prompt_preparer.py: the tokens and tiles of prompts equal those of the whole text and of `cut`."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from smolcli.backends import prompt_preparer
from smolcli.backends.base import PreparedPrompt
from smolcli.backends.image_processor import Layout, Tiles, cut
from smolcli.backends.prompt_preparer import PromptPreparer
from smolcli.models import chat_template
from smolcli.models.files import BUILT_IN
from smolcli.types import Frame, Prompt, Turn

LAYOUT = Layout(tile=32, tokens=4, longest_edge=128)


def noise(seed: int, width: int, height: int, time: float | None = None) -> Frame:
    return Frame(np.random.default_rng(seed).bytes(3 * width * height), width, height, time)


SPLIT, WHOLE = noise(1, 70, 50), noise(2, 30, 20)
VIDEO = [noise(number, 40, 30, time=61.5 * number) for number in range(3)]
PROMPTS = {
    "text": Prompt.user("What is 2 + 2?"),
    "picture": Prompt.user(SPLIT, "What is this?"),
    "pictures in a row": Prompt.user(SPLIT, WHOLE, "Which?", split=False),
    "between words": Prompt.user("Compare ", WHOLE, " with ", SPLIT, " and  two spaces ", WHOLE, "."),
    "white space at a picture": Prompt.user("  ", WHOLE, "\n\n", SPLIT, " \t"),
    "system": Prompt.user(WHOLE, "Año 日本 🙂?", system="Be brief."),
    "video": Prompt.user(*chat_template.video_parts(VIDEO, 200.0), "What happens?", split=False),
    "begun reply": Prompt((Turn("user", (WHOLE, "Read it.")), Turn("assistant", ("It says ",)))),
}


@pytest.fixture(scope="module", params=["nano", "tiny"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    folder = BUILT_IN if request.param == "nano" else request.getfixturevalue("checkpoint")
    return Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))


@pytest.mark.parametrize("name", PROMPTS)
def test_segments_have_the_tokens_of_the_whole_text(name: str, tokenizer: Tokenizer) -> None:
    prompt = PROMPTS[name]

    def tokenize(text: str) -> list[int]:
        tokens: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return tokens

    prepared = PromptPreparer(LAYOUT, "auto", tokenize, 10**6)(prompt)
    pictures = [cut(frame, LAYOUT, "auto", prompt.split) for frame in prompt.decoded_frames]
    segments = chat_template.segments(prompt, [picture.grid for picture in pictures])
    whole = tokenize(chat_template.text(segments, LAYOUT.tokens))
    [image] = tokenize(chat_template.IMAGE)
    tokens: list[int] = []
    for part in prepared.parts:
        tokens += [image] * LAYOUT.tokens if isinstance(part, bytes) else part
    assert tokens == whole
    assert prepared.length == len(whole)
    assert prepared.image_tokens == whole.count(image)
    assert prepared.tiles == [tile for picture in pictures for tile in picture.pixels]


def test_questions_about_a_picture_share_its_tiles_while_there_are_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts: list[tuple[int, bool]] = []

    def counting(frame: Frame, layout: Layout, detail: str, split: bool) -> Tiles:
        cuts.append((frame.width, split))
        return cut(frame, layout, detail, split)

    monkeypatch.setattr(prompt_preparer, "cut", counting)
    preparer = PromptPreparer(LAYOUT, "auto", lambda text: [0] * len(text), 10**6)
    picture = noise(3, 70, 50)
    first, second = (preparer(Prompt.user(picture, question)) for question in ("Is it red?", "Is it large?"))
    assert first.tiles == second.tiles == cut(picture, LAYOUT, "auto", split=True).pixels
    assert preparer(Prompt.user(picture, "Is it red?", split=False)).tiles != first.tiles
    assert cuts == [(70, True), (70, False)]
    freed = weakref.ref(picture)
    del picture
    assert freed() is None


def prepared(detail: str, context_length: int = 10**6) -> PreparedPrompt:
    """The prompt of two pictures, of 3 tiles along the longest edge and of one, with a token for each character."""
    preparer = PromptPreparer(LAYOUT, detail, lambda text: [0] * len(text), context_length)
    return preparer(Prompt.user(SPLIT, WHOLE, "Which?"))


@pytest.mark.parametrize("fewer", [3, 2, 1])
def test_pictures_that_do_not_fit_the_context_are_cut_into_the_most_tiles_that_do(fewer: int) -> None:
    """What --detail N gives, since each of the two pictures has as many tiles along its edge as --detail says."""
    finer, wanted = prepared(str(fewer + 1)), prepared(str(fewer))
    for context_length in (wanted.length + 1, finer.length):
        given = prepared("high", context_length)
        assert replace(given, notice="") == wanted
        assert f"(at most {fewer} along an edge)" in given.notice
    assert prepared(str(fewer), wanted.length + 1) == wanted  # it fits as it is, without a notice


def test_pictures_that_have_few_tiles_keep_them_where_others_do_not_fit() -> None:
    pictures = [cut(SPLIT, LAYOUT, "2", split=True), cut(WHOLE, LAYOUT, "low", split=True)]
    assert prepared("auto", prepared("auto").length).tiles == [tile for picture in pictures for tile in picture.pixels]


@pytest.mark.parametrize("detail", ["high", "low"])
def test_a_prompt_that_is_too_long_with_one_tile_a_picture_stays_too_long(detail: str) -> None:
    assert replace(prepared(detail, 10), parts=()) == replace(prepared("low"), parts=())
