"""smolcli/records/record_id.py: what an id is made of, and that ids do not change between versions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, make_dataclass, replace

import pytest

from smolcli.options import Batch, Generate, Input, Model, Output, Sampling
from smolcli.records.record_id import Identity, id_options
from smolcli.tasks.ask import Ask
from smolcli.tasks.base import Task
from smolcli.tasks.caption import Caption
from smolcli.tasks.ocr import Ocr
from smolcli.tasks.video_summarize import VideoSummarize
from smolcli.terminal.option_fields import opt

CONTENT = hashlib.sha256(b"a picture").hexdigest()
BASE = Identity("caption", "nano", "torch", "f", {"prompt": "o"})
# Fields of each group of options that change no answer, and so are not part of the id.
WITHOUT_KEY = {
    Model: {"model", "mmproj", "backend", "threads", "jobs", "offline"},
    Generate: set(),
    Sampling: set(),
    Input: {option.name for option in fields(Input)},
    Output: {option.name for option in fields(Output)},
    Batch: {option.name for option in fields(Batch)},
    Caption: {"style", "prompt"},  # both are in the key of the prompt's text
    Ask: set(),
    Ocr: {"password", "searchable"},
    VideoSummarize: {"question", "contact_sheet"},
}


def id_of(name: str, task: Task, generate: Generate | None = None, model: Model | None = None) -> str:
    options = {**task.id_options, **id_options(generate or Generate(), model or Model())}
    return Identity(name, "nano", "llamacpp", "0123abcd", options).id_of(CONTENT)


def test_an_id_is_the_hash_of_sorted_keys_and_values() -> None:
    worked_example = (
        '[["backend","torch"],["max_tokens",9],["model","f"],["prompt","Caf\\u00e9?"],["task","caption"]]' + CONTENT
    )
    identity = Identity("caption", "nano", "torch", "f", {"prompt": "Caf\u00e9?", "max_tokens": 9})
    assert identity.id_of(CONTENT) == hashlib.sha256(worked_example.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "task", "more", "golden"),
    [
        ("caption", Caption(), (), "64b1bc79d8fad07fdbadd7012410491f30cc992c642c2fc4ce59b1c0796829d1"),
        (
            "caption",
            Caption(style="tags"),
            (Generate(max_tokens=20),),
            "3c67da47cc2186d128559911ea1119de8585e2a26658900777dc02dd1898b1dc",
        ),
        (
            "ask",
            Ask("What?", also=("Where?",)),
            (Generate(temperature=0.5, top_p=0.9, seed=3),),
            "cd345224e62e703c0b52a6e41a1026d7bf1afb9d6e10d502366150a66bae5306",
        ),
        (
            "ask",
            Ask("What is {1}?", together=True),
            (Generate(schema='{"type":"object"}'),),
            "d13ec873848fcfc0e6fe13cc4d6977dd7eb841c794aeb3c0226050a924956e18",
        ),
        (
            "ocr",
            Ocr(pieces="page"),
            (Generate(), Model(detail="high", dtype="float32", vision_encoder="mtmd")),
            "2eb2d90280a873eb37a8f3ebd8b52d133c3fe23811b2931477a444fa4eb8e6c8",
        ),
        (
            "video-summarize",
            VideoSummarize(segment=30.0, start=1.5, decoder="ffmpeg"),
            (Generate(),),
            "4489a38adc8b385c0b750335a67be261d86b2b1b0691ef282e318bc514bf12fd",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "-" not in value else "",
)
def test_ids_are_those_of_earlier_versions(name: str, task: Task, more: tuple, golden: str) -> None:  # type: ignore[type-arg]
    """If this fails, --resume no longer finds the records of earlier versions: change the code, not the value."""
    assert id_of(name, task, *more) == golden


def test_an_id_depends_on_content_task_options_and_model_only() -> None:
    others = [
        replace(BASE, task="ask"),
        replace(BASE, backend="llamacpp"),
        replace(BASE, fingerprint="g"),
        replace(BASE, options={"prompt": "p"}),
        replace(BASE, options={"prompt": "o", "seed": 1}),
    ]
    assert len({BASE.id_of("a"), BASE.id_of("b"), *(other.id_of("a") for other in others)}) == 7
    assert BASE.id_of("a") == replace(BASE, model="a copy of nano").id_of("a")
    reordered = Identity("caption", "nano", "torch", "f", {"seed": 1, "prompt": "o"})
    assert reordered.id_of("a") == others[-1].id_of("a")


def test_an_option_added_later_or_a_field_renamed_changes_no_id() -> None:
    @dataclass(frozen=True)
    class Before:
        seed: int = opt(0, "", id_key="seed")

    after = make_dataclass(
        "After", [("start_value", int, opt(0, "", id_key="seed")), ("later", str, opt("x", "", id_key="later"))]
    )
    assert id_options(Before(3)) == id_options(after(3)) == {"seed": 3}
    assert id_options(after(3, "y")) == {"seed": 3, "later": "y"}


@pytest.mark.parametrize("group", WITHOUT_KEY, ids=lambda group: group.__name__)
def test_every_option_says_whether_it_changes_answers(group: type) -> None:
    assert {option.name for option in fields(group) if not option.metadata["id_key"]} == WITHOUT_KEY[group]


def test_the_text_of_the_prompt_is_a_part_of_the_id() -> None:
    assert Caption(style="short").id_options == Caption(prompt="Describe this image in one sentence.").id_options
    tasks = (Caption(), Caption(style="tags"), Ask("a"), Ask("b"), Ask("a", also=("b",)), Ocr())
    assert len({id_of("same", task) for task in tasks}) == 6
