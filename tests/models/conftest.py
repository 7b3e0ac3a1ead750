"""A hub on this machine, in place of the real one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from smolcli.models import hub
from tests.hub_server import CHECKPOINT_REPO, IDEFICS3, PAIR_REPO, Hub, blob, language_half, vision_half


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub_server = Hub()
    names = [f"{half}SmolVLM-256M-Instruct-{quant}.gguf" for half in ("", "mmproj-") for quant in ("Q8_0", "f16")]
    halves = {name: (vision_half if name.startswith("mmproj") else language_half)(name) for name in names}
    hub_server.repos[PAIR_REPO] = {"README.md": b"# SmolVLM", **halves}
    others = ["tokenizer.json", "preprocessor_config.json", "model.safetensors", "onnx/config.json", "onnx/model.onnx"]
    hub_server.repos[CHECKPOINT_REPO] = {"config.json": IDEFICS3, **{name: blob(name) for name in others}}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "SMOLCLI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_ENDPOINT", hub_server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    # The library reads these two from the environment once, at import.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    # Commands fetch in a child process; here in this one, which is faster and has the settings above.
    monkeypatch.setattr("smolcli.models.pull.call", lambda target, *args, verbose: hub.pull(*args))
    # The library sleeps for a second before it resumes a broken download.
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    huggingface_hub.close_session()
    threading.Thread(target=hub_server.serve_forever, args=(0.01,), daemon=True).start()
    yield hub_server
    hub_server.done.set()
    huggingface_hub.close_session()
    hub_server.shutdown()
    hub_server.server_close()
