"""benchmarks/golden.py with a local hub that serves a tiny random model in the place of 256m."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import golden
from benchmarks.golden import GOLDEN, PROBES, Published, current, golden_prompt, is_framed, read, table
from smolcli.converters import convert
from smolcli.models.catalog import CATALOG
from tests.hub_server import CHECKPOINT_REPO, PAIR_REPO, Hub, serve_hub
from tests.tiny import make_checkpoint

REMADE = "2" * 40  # a commit that the catalog does not know, so that it takes any files
CASES = [GOLDEN, *PROBES]


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The files of both repositories of 256m, of a model of two layers."""
    folder = make_checkpoint(tmp_path_factory.mktemp("golden") / "Tiny", "v1", tile=64)
    language, vision = convert(folder, folder.parent / "pair", "f16", "f16")
    pair = {"SmolVLM-256M-Instruct-f16.gguf": language, "mmproj-SmolVLM-256M-Instruct-f16.gguf": vision}
    return {
        CHECKPOINT_REPO: {path.name: path.read_bytes() for path in folder.iterdir()},
        PAIR_REPO: {name: path.read_bytes() for name, path in pair.items()},
    }


@pytest.fixture
def hub(halves: dict[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub(tmp_path, monkeypatch) as server:
        for repo, files in halves.items():
            server.repos[repo], server.commits[repo] = dict(files), REMADE
        monkeypatch.setattr(golden, "PUBLISHED", {})
        yield server


def run(monkeypatch: pytest.MonkeyPatch, results: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the script and return its exit code and the lines of its results."""
    monkeypatch.setattr(sys, "argv", ["golden.py", str(results), *options])
    code = golden.main()
    return code, list(read(results))


def test_both_backends_reply_as_transformers(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "golden.jsonl"
    code, lines = run(monkeypatch, results, "--models", "256m", "--tokens", "6")
    assert code == 0 and [line["failures"] for line in lines] == [[]] * 2 * len(CASES)
    assert [(line["backend"], line["case"]) for line in lines] == [
        (backend, case) for backend in ("torch", "llamacpp") for case in CASES
    ]
    assert all(line["same_ids"] and line["kl"] < 1e-3 and line["commit"] == REMADE for line in lines)
    assert all(line["same_answer"] and line["answer"] == line["reference"] for line in lines[: len(CASES)])
    assert "| 256m | torch | float32 | 5 | 5 |" in capsys.readouterr().out
    # Of a run that broke off in the middle of a line, only what is missing is run again.
    whole = results.read_text().splitlines(keepends=True)
    results.write_text("".join(whole[:-1]) + whole[-1][:40])
    again = run(monkeypatch, results, "--models", "256m", "--tokens", "6")[1]
    assert [line["case"] for line in again] == [line["case"] for line in lines]
    assert json.dumps(again[-1]) == json.dumps(lines[-1])


def test_an_answer_that_was_not_published_fails(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "PROBES", ())
    monkeypatch.setattr(golden, "PUBLISHED", {"256m": Published(1141, (1, 11126), (42,), " A multicolored")})
    code, lines = run(monkeypatch, tmp_path / "golden.jsonl", "--models", "256m", "--tokens", "2")
    assert code == 1
    for line in lines:
        assert line["failures"] == [
            "the token ids are not the published ones", "the answer is not the published ' A multicolored'",
        ]  # fmt: skip


def test_other_weights_in_the_pair_are_found(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pair of another seed has the same ids and other logits."""
    other = make_checkpoint(tmp_path / "Other", "v1", tile=64, seed=1)
    halves = convert(other, tmp_path / "pair", "f16", "f16")
    for name, path in zip(hub.repos[PAIR_REPO], halves, strict=True):
        hub.repos[PAIR_REPO][name] = path.read_bytes()
    monkeypatch.setattr(golden, "PROBES", ())
    code, [checkpoint, pair] = run(monkeypatch, tmp_path / "golden.jsonl", "--models", "256m", "--tokens", "2")
    assert code == 1 and checkpoint["failures"] == []
    assert pair["same_ids"] and [failure.partition(" is above ")[2] for failure in pair["failures"]] == ["0.0005"]


def test_a_model_that_cannot_be_pulled_is_told_and_tried_again(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "PROBES", ())
    results = tmp_path / "golden.jsonl"
    hub.gated.add(PAIR_REPO)
    code, [line] = run(monkeypatch, results, "--models", "256m", "--tokens", "2")
    assert code == 1 and "its owner asks for a login" in line["error"]
    hub.gated.clear()
    code, lines = run(monkeypatch, results, "--models", "256m", "--tokens", "2")
    assert code == 0 and len(lines) == 3 and len(current(lines)) == 2


def test_a_dry_run_names_the_files_and_fetches_nothing(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path / "golden.jsonl", "--dry-run") == (0, [])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CATALOG) and hub.log == []
    names = "SmolVLM2-500M-Video-Instruct-Q8_0.gguf, mmproj-SmolVLM2-500M-Video-Instruct-Q8_0.gguf"
    assert (
        f"500m-video: HuggingFaceTB/SmolVLM2-500M-Video-Instruct (2,030 MB), "
        f"ggml-org/SmolVLM2-500M-Video-Instruct-GGUF ({names}; 546 MB)" in lines
    )  # the bytes of tests/data/hub_listings.json


def test_a_name_that_is_not_in_the_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, tmp_path / "golden.jsonl", "--models", "256m,512m")


def test_an_error_that_a_later_run_did_not_meet_is_not_counted() -> None:
    error: dict[str, Any] = {"model": "256m", "backend": "torch", "error": "killed", "failures": ["killed"]}
    other = error | {"backend": "llamacpp"}
    result = {
        "model": "256m", "backend": "torch", "dtype": "float32", "case": GOLDEN, "failures": [], "kl": 0.5,
        "same_ids": True, "same_first": True, "same_answer": False,
    }  # fmt: skip
    assert current([error, other, result]) == [other, result]
    assert table([other, result]).splitlines()[2:] == [
        "| 256m | torch | float32 | 1 | 1 | 0.5 | 1 | 0 | 0 |", "256m: killed",
    ]  # fmt: skip


def test_the_golden_picture_is_a_horizontal_gradient() -> None:
    [frame] = golden_prompt().decoded_frames
    row = frame.rgb[: 3 * 100]
    assert (frame.width, frame.height) == (100, 80) and frame.rgb == row * 80
    assert list(row[::3]) == list(row[1::3]) == sorted(row[::3]) and (row[0], row[-1]) == (0, 255)
    assert not is_framed([1, 2], (1,), (1,))
