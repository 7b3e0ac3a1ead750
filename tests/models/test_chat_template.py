"""models/chat_template.py: the same token ids as transformers' Idefics3 and SmolVLM processors, also for video.

The templates are SmolVLM's and granite-docling's; raw prompts are texts in which the user has put the pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from num2words import num2words
from PIL import Image
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE, SmolVLMProcessor
from transformers.video_utils import VideoMetadata

from smolcli.backends.image_processor import Layout, plan
from smolcli.models import chat_template
from smolcli.models.catalog import CATALOG
from smolcli.models.catalog_facts import facts_of
from smolcli.models.chat_template import GRANITE, SMOLVLM, Turns, hidden_tokens, turns_of
from smolcli.models.files import ModelFiles
from smolcli.types import Frame, Prompt, Turn
from tests import tiny

TILE, TOKENS = 32, 4  # pixels of a tile's side and its image tokens: the code is the same at 512 and 64
SIZES = (
    (1, 1), (2, 1), (5, 3), (3, 500), (500, 3), (32, 32), (64, 32), (32, 96), (128, 96), (128, 128),
    (33, 31), (31, 33), (97, 61), (61, 97), (127, 128), (129, 128), (200, 150), (640, 480),
)  # fmt: skip


@pytest.fixture(scope="module", params=["v1", "v1-2.2b", "docling", "smoldocling"])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tokenizer(variant: str) -> Tokenizer:
    return make_tokenizer(variant)


def make_tokenizer(variant: str) -> Tokenizer:
    vocabulary = tiny.VOCABULARIES[variant]
    tokenizer = tiny.make_tokenizer(vocabulary.roles, vocabulary.markers)
    assert len(tokenizer.encode("\n\n").ids) == 1  # as in the published models: row end and global tile share a token
    return tokenizer


@pytest.fixture(scope="module")
def processor(tokenizer: Tokenizer, variant: str) -> Idefics3Processor:
    template = tiny.GRANITE_TEMPLATE if variant == "docling" else DEFAULT_CHAT_TEMPLATE
    return make_processor(tokenizer, template, tiny.VOCABULARIES[variant].roles["pad"])


def make_processor(tokenizer: Tokenizer, template: str, pad: str) -> Idefics3Processor:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tokenizer.to_str()), pad_token=pad)
    images = Idefics3ImageProcessorPil(max_image_size={"longest_edge": TILE})
    return Idefics3Processor(images, wrapped, image_seq_len=TOKENS, chat_template=template)


def turns_in(tokenizer: Tokenizer, name: str = "model") -> Turns | None:
    return turns_of(ModelFiles(name), lambda token: tokenizer.token_to_id(token) is not None)


def picture(width: int, height: int) -> Frame:
    return Frame(bytes(3 * width * height), width, height)


def ids(tokenizer: Tokenizer, prompt: Prompt, tiles_along: int) -> list[int]:
    """Return our token ids of a prompt, with `tiles_along` tiles on the longest edge."""
    layout = Layout(TILE, TOKENS, tiles_along * TILE)
    grids = [plan(frame.width, frame.height, layout, "high", prompt.split) for frame in prompt.frames]
    text = chat_template.text(chat_template.segments(prompt, grids, turns_in(tokenizer)), TOKENS)
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def template_text(processor: Idefics3Processor, prompt: Prompt) -> str:
    if prompt.raw:
        return "".join(part if isinstance(part, str) else "<image>" for turn in prompt.turns for part in turn.parts)
    messages: list[Any] = [
        {
            "role": turn.role,
            "content": [{"type": "image"} if isinstance(p, Frame) else {"type": "text", "text": p} for p in turn.parts],
        }
        for turn in prompt.turns
    ]
    begun = prompt.turns[-1].role == "assistant"
    return str(processor.apply_chat_template(messages, add_generation_prompt=not begun, continue_final_message=begun))


def reference_ids(processor: Idefics3Processor, prompt: Prompt, tiles_along: int) -> list[int]:
    """Return the token ids of the same prompt by transformers' processor."""
    images = [Image.frombytes("RGB", (frame.width, frame.height), frame.rgb) for frame in prompt.decoded_frames]
    inputs = processor(
        text=[template_text(processor, prompt)],
        images=[images] if images else None,
        size={"longest_edge": tiles_along * TILE},
        do_image_splitting=prompt.split,
    )
    return list(inputs["input_ids"][0])


@pytest.mark.parametrize("tiles_along", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_one_picture(tokenizer: Tokenizer, processor: Idefics3Processor, size: Sequence[int], tiles_along: int) -> None:
    prompt = Prompt.user(picture(*size), "What is in the picture?")
    assert ids(tokenizer, prompt, tiles_along) == reference_ids(processor, prompt, tiles_along)


A, B, C = picture(100, 70), picture(31, 200), picture(8, 8)
CONVERSATIONS = {
    "no picture": Prompt.user("What is 2 + 2?"),
    "unsplit": Prompt.user(A, "What is this?", split=False),
    "unsplit pictures": Prompt.user("One", B, "two", C, C, split=False),
    "picture alone": Prompt.user(A),
    "text first": Prompt.user("Read the text in this: ", A),
    "neighbours": Prompt.user(A, B, C, "Which is the odd one out?"),
    "interleaved": Prompt.user("First ", A, " and then\n", B, "\n\nor the same again ", A, "? In 12 words."),
    "pieces of text": Prompt.user("one\n", "\ntwo", A, "\n", "\n", "thr", "ee"),
    "system": Prompt.user(A, "What is this?", system="You answer in one word."),
    "turns": Prompt(
        (
            Turn("system", ("Be brief.",)),
            Turn("user", (A, "What is this?")),
            Turn("assistant", ("A square.\n",)),
            Turn("user", ("And this: ", B)),
        )
    ),
    "a reply begun": Prompt((Turn("user", (A, "What is this?")), Turn("assistant", ("A squ",)))),
    "other letters": Prompt.user(C, "Größe 1024\u202fm² — 日本語 🙂\t\r\n  end "),
    "tags": Prompt.user(A, "Find <text> at <loc_17><loc_0>, then <otsl><fcel>1<nl></otsl>"),
    "raw": Prompt.user(A, "A photograph of", raw=True),
    "raw pictures": Prompt.user("First ", A, " then\n", B, C, raw=True),
    "raw text": Prompt.user(" The capital of France is", raw=True),
}


@pytest.mark.parametrize("tiles_along", [1, 3, 4])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversation(tokenizer: Tokenizer, processor: Idefics3Processor, name: str, tiles_along: int) -> None:
    prompt = CONVERSATIONS[name]
    assert ids(tokenizer, prompt, tiles_along) == reference_ids(processor, prompt, tiles_along)


@pytest.mark.parametrize("name", ["text first", "unsplit", "interleaved"])
def test_a_base_model_is_given_the_text_alone(tokenizer: Tokenizer, processor: Idefics3Processor, name: str) -> None:
    prompt = CONVERSATIONS[name]
    layout = Layout(TILE, TOKENS, 2 * TILE)
    grids = [plan(frame.width, frame.height, layout, "high", prompt.split) for frame in prompt.frames]
    turns = turns_in(tokenizer, "HuggingFaceTB/SmolVLM-256M-Base")
    text = chat_template.text(chat_template.segments(prompt, grids, turns), TOKENS)
    assert tokenizer.encode(text, add_special_tokens=False).ids == reference_ids(
        processor, replace(prompt, raw=True), 2
    )


@pytest.mark.parametrize(
    ("name", "is_base"),
    [
        ("HuggingFaceTB/SmolVLM-256M-Base", True),
        ("HuggingFaceTB/SmolVLM-500M-Base", True),
        ("HuggingFaceTB/SmolVLM-Base", True),
        ("HuggingFaceTB/SmolVLM-Synthetic", True),
        ("HuggingFaceTB/SmolVLM2-2.2B-Base", True),
        ("SmolVLM-256M-Base-Q8_0", True),
        ("ggml-org/SmolVLM-256M-Base-GGUF", True),
        ("smolvlm-base-f16", True),
        ("HuggingFaceTB/SmolVLM-256M-Instruct", False),
        ("SmolVLM-256M-Base-receipts", False),
        ("receipts-base", False),
        ("256m", False),
        ("ibm-granite/granite-docling-258M", False),
    ],
)
def test_base_models_are_known_by_their_names(name: str, is_base: bool) -> None:
    assert ModelFiles(name).is_base == is_base


@pytest.mark.parametrize(
    ("variant", "turns"), [("v1", SMOLVLM), ("v2", SMOLVLM), ("smoldocling", SMOLVLM), ("docling", GRANITE)]
)
def test_the_turns_are_those_of_the_vocabulary(variant: str, turns: Turns) -> None:
    assert turns_in(make_tokenizer(variant)) is turns
    assert turns_of(ModelFiles("model"), {"<|endoftext|>"}.__contains__) is None


def test_the_template_of_granite_docling_is_the_published_one() -> None:
    published = facts_of(CATALOG["docling"]).checkpoint.files["chat_template.jinja"]
    assert hashlib.sha256(tiny.GRANITE_TEMPLATE.encode()).hexdigest() == published.sha256


@pytest.mark.parametrize(
    ("variant", "shown"),
    [
        ("v1", set()),
        ("docling", set(tiny.GRANITE_MARKERS[-10:])),
        ("smoldocling", {*tiny.GRANITE_MARKERS[-10:], *tiny.PLACES, "<reponame>"}),
    ],
)
def test_only_tags_of_doctags_are_text_of_a_reply(variant: str, shown: set[str]) -> None:
    tokens = make_tokenizer(variant).get_added_tokens_decoder()
    special = {id: token.content for id, token in tokens.items()}
    assert {special[id] for id in special.keys() - hidden_tokens(special)} == shown


def reference_video(indices: Sequence[int], fps: float, duration: float) -> str:
    """Return what SmolVLMProcessor writes for `<video>`.

    The processor cannot be constructed without torchvision, and this method uses only these attributes of it.
    """
    processor: Any = SimpleNamespace(
        image_seq_len=TOKENS,
        image_token=chat_template.IMAGE,
        fake_image_token=chat_template.FAKE,
        global_image_token=chat_template.GLOBAL,
    )
    metadata = VideoMetadata(
        total_num_frames=max(indices) + 1, fps=fps, duration=duration, frames_indices=list(indices)
    )
    pixels = SimpleNamespace(shape=(1, len(indices), 3, TILE, TILE))
    inputs = {"pixel_values": pixels, "video_metadata": [metadata]}
    return str(SmolVLMProcessor.replace_video_token(processor, inputs, 0))


@pytest.mark.parametrize(
    ("indices", "fps", "duration"),
    [
        ([0], 24, 0.04),
        ([3, 95], 29.97, 3.9),
        (range(0, 240, 30), 30, 8.0),
        (range(0, 50 * 75, 75), 25, 150.2),
        (range(0, 8 * 400, 400), 1, 3725.5),
        ([0, 100_000], 1, 100_001.0),
    ],
    ids=["1 frame", "2 frames", "8 frames", "50 frames", "an hour", "days"],
)
def test_video(indices: Sequence[int], fps: float, duration: float) -> None:
    tokenizer = make_tokenizer("v1")
    processor = make_processor(tokenizer, DEFAULT_CHAT_TEMPLATE, "<|im_end|>")
    frames = [Frame(bytes(3), 1, 1, time=index / fps) for index in indices]
    prompt = Prompt.user(*chat_template.video_parts(frames, duration), "What happens?", system="Watch.", split=False)
    messages: list[Any] = [
        {"role": "system", "content": [{"type": "text", "text": "Watch."}]},
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What happens?"}]},
    ]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    text = text.replace("<video>", reference_video(indices, fps, duration))
    expected = tokenizer.encode(text, add_special_tokens=False).ids
    assert ids(tokenizer, prompt, 1) == expected
    image = tokenizer.token_to_id(chat_template.IMAGE)
    assert image is not None
    assert expected.count(image) == len(indices) * TOKENS


def test_video_frame_without_time() -> None:
    with pytest.raises(ValueError, match="no time"):
        chat_template.video_parts([picture(1, 1)], 1.0)


def test_numbers_in_words() -> None:
    numbers = [*range(10_000), 12_345, 110_000, 999_999]
    assert [chat_template.in_words(n) for n in numbers] == [num2words(n) for n in numbers]


def test_tiles_are_numbered_by_rows_with_the_global_tile_last() -> None:
    segments = chat_template.segments(Prompt.user(C, A), [chat_template.UNSPLIT, chat_template.Grid(2, 3)])
    tiles = [segment for segment in segments if isinstance(segment, chat_template.Tile)]
    assert tiles == [chat_template.Tile(0, 0), *(chat_template.Tile(1, number) for number in range(7))]
    marker = segments[segments.index(chat_template.Tile(1, 5)) - 1]
    assert isinstance(marker, str) and marker.endswith("<row_2_col_3>")
    assert all(isinstance(a, chat_template.Tile) or isinstance(b, chat_template.Tile) for a, b in pairwise(segments))
