"""Models that were not trained on turns, from the command line: asked in plain text, which a notice says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smolcli.models.model_info import describe
from tests.helpers import png, smolcli
from tests.tiny import make_checkpoint

NOTICE = "SmolVLM-256M-Base gets the text without turns of a conversation and goes on with it, as with --raw"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    (folder / "a.png").write_bytes(png((40, 30), 0x4080C0))
    for name in ("SmolVLM-256M-Base", "Instruct"):
        make_checkpoint(folder / name, "v1", 5)
    return folder


def caption(folder: Path, model: str, *options: str) -> tuple[dict[str, Any], str]:
    """The record of a picture, and standard error."""
    words = ("caption", folder / "a.png", "-m", folder / model, "-b", "numpy", "-f", "jsonl", "-n", "4", *options)
    done = smolcli(*words)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record, done.stderr.decode()


def test_a_base_model_is_asked_as_with_raw_and_a_notice_says_so(folder: Path) -> None:
    record, errors = caption(folder, "SmolVLM-256M-Base")
    assert NOTICE in errors
    raw, errors = caption(folder, "SmolVLM-256M-Base", "--raw")
    assert NOTICE not in errors
    assert (raw["text"], raw["tokens"], raw["id"]) == (record["text"], record["tokens"], record["id"])
    other, errors = caption(folder, "Instruct")
    assert NOTICE not in errors
    assert other["tokens"]["prompt"] > record["tokens"]["prompt"]
    assert other["tokens"]["image"] == record["tokens"]["image"]
    other_raw, _ = caption(folder, "Instruct", "--raw")
    assert (other_raw["text"], other_raw["tokens"], other_raw["id"]) == (raw["text"], raw["tokens"], raw["id"])
    assert other["id"] != raw["id"]  # though the files are the same


def test_info_says_what_a_base_model_is(folder: Path) -> None:
    assert describe(str(folder / "SmolVLM-256M-Base"))["warnings"] == [f"it {NOTICE.partition(' ')[2]}"]
    assert describe(str(folder / "Instruct"))["warnings"] == []
