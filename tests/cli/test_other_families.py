"""Pairs of other families from the command line: questions, videos, and a model that llama.cpp does not know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.families import FAMILIES, make_pair
from tests.helpers import SAMPLES, line, smolcli


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


def test_two_questions_about_a_picture(folder: Path) -> None:
    pair, picture = make_pair(folder, "moondream2"), SAMPLES / "scene.png"
    done = smolcli("ask", "What?", "-Q", "Where?", picture, "-m", pair.gguf, "-n", "3", "-f", "json", "--threads", "1")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["model"], record["backend"], record["error"]) == ("moondream2-F32", "llamacpp", None)
    tokens, seconds = record["tokens"], record["seconds"]
    assert tokens["image"] == 2 * FAMILIES["moondream2"].tokens and 0 < tokens["new"] <= 6
    assert tokens["prompt"] == tokens["image"] + len("What?\nWhere?\n") - 1  # letters are tokens, and so is "he"
    assert seconds["load"] > 0 and seconds["encode"] > 0 and seconds["prefill"] > 0
    assert [pair["question"] for pair in record["data"]] == ["What?", "Where?"]


def test_a_video_is_several_pictures_of_one_tile(folder: Path) -> None:
    pair = make_pair(folder, "internvl")
    options = ("-m", pair.gguf, "--frames", "3", "-n", "3", "-f", "json", "--threads", "1")
    done = smolcli("video-summarize", SAMPLES / "clip.gif", *options)
    record = json.loads(done.stdout)
    assert record["error"] is None and record["tokens"]["image"] == 3 * FAMILIES["internvl"].tokens


def test_a_projector_that_llama_cpp_does_not_know(folder: Path) -> None:
    pair = make_pair(folder / "unknown", "gemma3")
    assert pair.mmproj is not None
    pair.mmproj.write_bytes(pair.mmproj.read_bytes().replace(b"\x06\0\0\0\0\0\0\0gemma3", b"\x06\0\0\0\0\0\0\0molmoe"))
    done = smolcli("caption", SAMPLES / "scene.png", "-m", pair.gguf)
    assert (done.returncode, done.stdout) == (3, b"")
    expected = "gemma3-F32: it has a projector of type molmoe, which this llama.cpp does not know; pip install -U llama"
    assert line(done).startswith(f"smolcli: {expected}")
