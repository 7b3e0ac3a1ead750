"""A hub on this machine, in place of the real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import CHECKPOINT_REPO, IDEFICS3, PAIR_REPO, Hub, blob, language_half, serve_hub, vision_half


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub(tmp_path, monkeypatch) as hub_server:
        names = [f"{half}SmolVLM-256M-Instruct-{quant}.gguf" for half in ("", "mmproj-") for quant in ("Q8_0", "f16")]
        halves = {name: (vision_half if name.startswith("mmproj") else language_half)(name) for name in names}
        hub_server.repos[PAIR_REPO] = {"README.md": b"# SmolVLM", **halves}
        others = [
            "tokenizer.json",
            "preprocessor_config.json",
            "model.safetensors",
            "onnx/config.json",
            "onnx/model.onnx",
        ]
        hub_server.repos[CHECKPOINT_REPO] = {"config.json": IDEFICS3, **{name: blob(name) for name in others}}
        yield hub_server
