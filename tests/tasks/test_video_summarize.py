"""The task video-summarize, fed by hand: what fits one prompt is one, the rest are notes and a summary of the notes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers.models.smolvlm.video_processing_smolvlm import get_resize_output_image_size

from smolcli.backends.image_processor import Layout, cut, shrink_to_tile
from smolcli.errors import ErrorKind, InputError, UsageError
from smolcli.models import chat_template
from smolcli.models.files import BUILT_IN
from smolcli.tasks.video_summarize import QUESTION, SUMMARY, VideoSummarize
from smolcli.types import Answer, Fault, Finish, Frame, FrameRef, Media, ModelLimits, Prompt, Reply, Span, Tokens

Say = Callable[[Prompt], str]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(BUILT_IN / "tokenizer.json"))


def video(*spans: tuple[float, float, int], context: int = 8192, reply: int = 512, tile_tokens: int = 64) -> Media:
    """A video of spans (start, end, frame count) whose frames lie evenly in them."""
    frames: list[FrameRef] = []
    made = []
    for start, end, count in spans:
        times = [start + (end - start) * (number + 0.5) / count for number in range(count)]
        made.append(Span(start, end, len(frames), len(frames) + count))
        frames += [FrameRef(index, 4, 2, time) for index, time in enumerate(times, len(frames))]
    room = ModelLimits(context, 512, tile_tokens, reply)
    return Media(tuple(frames), spans=tuple(made), duration=spans[-1][1], limits=room)


def answered(task: VideoSummarize, media: Media, say: Say) -> tuple[list[list[Prompt]], Answer]:
    """The rounds of prompts, and the answer; a reply has a token for each byte."""
    steps = task.steps(media)
    rounds: list[list[Prompt]] = []
    replies: list[Reply] | None = None
    while True:
        try:
            requests = next(steps) if replies is None else steps.send(replies)
        except StopIteration as end:
            return rounds, end.value
        prompts = [request for request in requests if isinstance(request, Prompt)]
        rounds.append(prompts)
        texts = [say(prompt) for prompt in prompts]
        replies = [Reply(text, Finish("stop", Tokens(new=len(text.encode())))) for text in texts]


def text_of(prompt: Prompt) -> str:
    return "".join(part for part in prompt.turns[0].parts if isinstance(part, str))


def test_what_fits_is_one_prompt_and_its_reply_is_the_answer() -> None:
    media = video((0, 75.9, 50))
    rounds, answer = answered(VideoSummarize(), media, lambda prompt: "A cat sleeps.")
    assert rounds == [[Prompt.user(*chat_template.video_parts(media.frames, 75.9), QUESTION, split=False)]]
    assert answer.text == "A cat sleeps."
    assert answer.data["summary"] == "A cat sleeps."
    assert answer.data["segments"] == [
        {"start": 0, "end": 75.9, "text": "A cat sleeps.", "frames": [frame.time for frame in media.frames]}
    ]
    assert (answer.data["duration"], answer.data["frames"]) == (75.9, 50)


def test_segments_get_a_note_each_with_their_times_and_then_a_summary() -> None:
    media = video((0, 30, 4), (30, 60, 4), (3600, 3725, 4))
    notes = iter(("One.", "Two.", "Three.", "All."))
    rounds, answer = answered(VideoSummarize(), media, lambda prompt: next(notes))
    assert [[prompt.draft for prompt in prompts] for prompts in rounds] == [[True] * 3, [False]]
    lines = "[00:00-00:30] One.\n[00:30-01:00] Two.\n[1:00:00-1:02:05] Three."
    assert lines in text_of(rounds[1][0]) and text_of(rounds[1][0]).endswith(SUMMARY)
    assert answer.text == f"All.\n\n{lines}"
    assert [part["text"] for part in answer.data["segments"]] == ["One.", "Two.", "Three."]
    assert [len(part["frames"]) for part in answer.data["segments"]] == [4, 4, 4]
    assert rounds[0][1].frames == list(media.frames[4:8])


def test_of_a_model_that_reads_no_notes_the_notes_are_the_summary() -> None:
    media = video((0, 9, 3), (9, 18, 3), (18, 27, 3))
    assert media.limits is not None
    media = replace(media, limits=replace(media.limits, understands_text=False))
    replies = iter(("It moves up.", "It moves up.", "It stops."))
    rounds, answer = answered(VideoSummarize(), media, lambda prompt: next(replies))
    assert (len(rounds), answer.data["summary"]) == (1, "It moves up.; It stops.")


def test_a_question_is_asked_about_each_segment_and_the_notes() -> None:
    rounds, _ = answered(VideoSummarize(question="Does it rain?"), video((0, 9, 3), (9, 18, 3)), lambda prompt: "Yes.")
    assert [text_of(prompt).endswith("Does it rain?") for prompts in rounds for prompt in prompts] == [True] * 3


def test_what_does_not_fit_is_cut_into_parts_of_as_many_frames(tokenizer: Tokenizer) -> None:
    media = video((10, 1010, 300))
    rounds, answer = answered(VideoSummarize(), media, lambda prompt: "A cat.")
    counts = [len(prompt.frames) for prompt in rounds[0]]
    assert sum(counts) == 300 and max(counts) - min(counts) <= 1 and len(counts) == 4  # of 7,680 tokens, 67 and a text
    segments = answer.data["segments"]
    assert [part["start"] for part in segments] == [10, *[part["end"] for part in segments[:-1]]]
    assert segments[-1]["end"] == 1010
    for part in segments:
        assert all(part["start"] <= time <= part["end"] for time in part["frames"])


@pytest.mark.parametrize("context", [600, 2048, 8192])
def test_no_prompt_overruns_the_context_whatever_is_replied(tokenizer: Tokenizer, context: int) -> None:
    """Counted with a real tokenizer; the notes are as long as they may be."""
    reply = min(512, context // 2)
    media = video(*((start, start + 30.0, 8) for start in range(0, 3000, 30)), context=context, reply=reply)
    longest = "Ünï " * reply

    def note(prompt: Prompt) -> str:
        ids = tokenizer.encode(
            chat_template.text(chat_template.segments(prompt, [chat_template.UNSPLIT] * len(prompt.frames)), 64)
        ).ids
        assert len(ids) + reply <= context
        return longest.encode()[:reply].decode("utf-8", "ignore")

    rounds, answer = answered(VideoSummarize(), media, note)
    assert len(rounds[-1]) == 1 and not rounds[-1][0].draft
    assert all(prompt.draft for prompts in rounds[:-1] for prompt in prompts)
    counts = [len(prompts) for prompts in rounds]
    assert all(after < before for before, after in pairwise(counts))
    for prompts in rounds[2:]:
        assert "[00:00-" in text_of(prompts[0])  # a note on notes keeps the times of all that it is about
    assert answer.data["segments"][0]["text"] == note(rounds[-1][0])


def test_a_question_that_leaves_no_room_is_told(tokenizer: Tokenizer) -> None:
    for question, spans in (("Why? " * 1800, 1), ("Why? " * 1500, 2)):
        media = video(*((start, start + 9, 3) for start in range(0, 9 * spans, 9)), reply=512)
        with pytest.raises(InputError, match="leave no space for (frames|notes)") as raised:
            answered(VideoSummarize(question=question), media, lambda prompt: "No.")
        assert raised.value.kind == "too-long"


def test_parts_that_have_no_answer_are_left_out() -> None:
    task, media = VideoSummarize(), video((0, 9, 3), (9, 18, 3), (18, 27, 3))
    steps = task.steps(media)
    asked = next(steps)
    replies = [Reply(f"note {number}", Finish("stop", Tokens(new=6))) for number in range(len(asked))]
    replies[1] = Reply("", Finish("error", fault=Fault(ErrorKind.TRUNCATED, "no frame of it can be read")))
    [prompt] = steps.send(replies)
    assert isinstance(prompt, Prompt)
    assert "[00:00-00:09] note 0\n[00:18-00:27] note 2" in text_of(prompt)
    with pytest.raises(StopIteration) as end:
        steps.send([Reply("All.", Finish("stop"))])
    assert [part["text"] for part in end.value.value.data["segments"]] == ["note 0", "note 2"]


def test_choices_that_contradict_each_other() -> None:
    wrong_rates: list[dict[str, Any]] = [{"fps": rate} for rate in (math.inf, math.nan)]
    wrong_times: list[dict[str, Any]] = [{"segment": 0.0}, {"start": 5.0, "end": 5.0}, {"end": 0.0}]
    others: list[dict[str, Any]] = [{"frames": 3, "fps": 1.0}, {"question": " "}]
    for wrong in (*others, *wrong_rates, *wrong_times):
        with pytest.raises(UsageError):
            VideoSummarize(**wrong)


@pytest.mark.parametrize("size", [(1920, 1080), (319, 181), (181, 319), (100, 100), (3, 500), (512, 512), (64, 48)])
@pytest.mark.parametrize("tile", [32, 512])
def test_a_frame_is_resized_as_the_reference_video_processor_does(size: tuple[int, int], tile: int) -> None:
    """Its sizes, and its filter twice: torchvision's Lanczos on a CPU is Pillow's."""
    width, height = size
    noise = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.manual_seed(7))
    image = Image.fromarray(noise.numpy())
    between = get_resize_output_image_size(noise.permute(2, 0, 1)[None], tile)
    first = image.resize((between[1], between[0]), Image.Resampling.LANCZOS)
    square = first.resize((tile, tile), Image.Resampling.LANCZOS)
    frame = shrink_to_tile(Frame(image.tobytes(), width, height, 1.5), tile)
    assert (frame.rgb, frame.width, frame.height, frame.time) == (first.tobytes(), between[1], between[0], 1.5)
    assert cut(frame, Layout(tile, 4, 4 * tile), "high", split=False).pixels == [square.tobytes()]
