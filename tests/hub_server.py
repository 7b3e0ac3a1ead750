"""A local server with the part of the Hugging Face hub's API that huggingface_hub uses."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import pytest

from smolcli.models import hub
from tests.helpers import gguf

IDEFICS3 = b'{"model_type": "idefics3"}'
CONTENT = ("GET", "/cdn/")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAIR_REPO = "ggml-org/SmolVLM-256M-Instruct-GGUF"
CHECKPOINT_REPO = "HuggingFaceTB/SmolVLM-256M-Instruct"
LARGE = (".safetensors", ".gguf")  # files of which the hub tells the SHA-256


class Hub(ThreadingHTTPServer):
    """Serves repositories from memory. `gated` and `down` change its responses, `cut` ends downloads early.

    `commits` has the commit of a repository's main, by default COMMIT, and no other revision is known. Where it
    `ignores_ranges` it sends the whole file to whoever asks for the rest of one. `stalls` maps a file to the bytes
    after which a download of it stops without an end; `stalled` is set then. `announced` maps a file of a repository
    to the bytes and the SHA-256 (None: it is told of no small file) that are told of it, whatever its content is.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.commits: dict[str, str] = {}
        self.announced: dict[tuple[str, str], tuple[int, str | None]] = {}
        self.down = False
        self.ignores_ranges = False
        self.cut: dict[str, list[int]] = {}
        self.stalls: dict[str, int] = {}
        self.stalled, self.done = threading.Event(), threading.Event()
        self.log: list[tuple[str, str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fetches(self) -> list[tuple[str, str]]:
        """Each file whose content was fetched, and in which range; not those whose beginning alone was."""
        gets = [
            (path.rsplit("/", 1)[-1], ranged)
            for method, path, ranged in self.log
            if (method, path[: len(CONTENT[1])]) == CONTENT
        ]
        return [(name, ranged) for name, ranged in gets if not ranged.startswith("bytes=0-")]

    def downloads(self) -> list[str]:
        return [name for name, _ in self.fetches()]

    def ranges(self, name: str) -> list[str]:
        return [ranged for fetched, ranged in self.fetches() if fetched == name]


class Handler(BaseHTTPRequestHandler):
    """Implements model info, tree, resolve (a redirect to the content, as for the hub's large files) and ranges."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.strip("/")
        self.server.log.append((self.command, "/" + path, self.headers.get("Range", "")))
        words = path.split("/")
        if self.server.down:
            return self.answer(503, b"")
        if words[0] == "cdn":
            return self.content("/".join(words[1:3]), "/".join(words[3:]))
        repo = "/".join(words[2:4] if words[0] == "api" else words[:2])
        if repo not in self.server.repos:
            return self.answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        files = self.server.repos[repo]
        commit = self.server.commits.get(repo, COMMIT)
        if [*words[5:6], commit][0] not in ("main", commit) if words[0] == "api" else words[3] not in ("main", commit):
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if words[0] == "api":
            entries = [self.sibling(repo, name, data) for name, data in files.items()]
            info: Any = {"id": repo, "modelId": repo, "sha": commit, "siblings": entries}
            if words[4:5] == ["tree"]:
                info = [self.entry(name, data) for name, data in files.items()]
            return self.answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
        if repo in self.server.gated:
            return self.answer(401, b"", {"X-Error-Code": "GatedRepo"})
        name = "/".join(words[4:])
        data = files[name]
        headers = {"X-Repo-Commit": commit, "X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{digest(data)}"'}
        # Redirect to another host, as the hub does; the library follows a redirect within a host by itself.
        content = f"{self.server.url.replace('127.0.0.1', 'localhost')}/cdn/{repo}/{name}"
        return self.answer(302, b"", headers | {"Location": content})

    @staticmethod
    def entry(name: str, data: bytes) -> dict[str, Any]:
        return {"type": "file", "path": name, "size": len(data), "oid": digest(data)[:40]}

    def sibling(self, repo: str, name: str, data: bytes) -> dict[str, Any]:
        real = (len(data), digest(data) if name.endswith(LARGE) else None)
        size, sha256 = self.server.announced.get((repo, name), real)
        lfs = {"sha256": sha256, "size": size, "pointerSize": 130} if sha256 else None
        return {"rfilename": name, "size": size, "blobId": digest(data)[:40], "lfs": lfs}

    def content(self, repo: str, name: str) -> None:
        data = self.server.repos[repo][name]
        asked = self.headers.get("Range", "bytes=0-")
        is_ranged = "Range" in self.headers and not (self.server.ignores_ranges and asked.endswith("-"))
        start, _, end = (asked if is_ranged else "bytes=0-").removeprefix("bytes=").partition("-")
        sent = data[int(start) : int(end) + 1 if end else None]
        headers = {"Content-Length": str(len(sent)), "ETag": f'"{digest(data)}"'}
        if is_ranged:
            headers["Content-Range"] = f"bytes {start}-{int(start) + len(sent) - 1}/{len(data)}"
        is_whole = not end  # not the beginning alone, which is looked at first
        cuts = self.server.cut.get(name)
        cut = cuts.pop(0) if cuts and is_whole else None
        stall = self.server.stalls.get(name) if is_whole else None
        self.answer(206 if is_ranged else 200, sent[: cut if stall is None else stall], headers)
        self.close_connection = cut is not None
        if stall is not None:
            self.wfile.flush()
            self.server.stalled.set()
            self.server.done.wait()

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@contextmanager
def serve_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a hub without repositories, and have this process fetch from it alone, into a cache in `tmp_path`."""
    hub_server = Hub()
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


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blob(name: str, size: int = 3000) -> bytes:
    """Make bytes that do not repeat, so that a file joined incorrectly differs."""
    return b"".join(hashlib.sha256(f"{name}{i}".encode()).digest() for i in range(size // 32 + 1))[:size]


def language_half(name: str) -> bytes:
    return gguf(general__architecture="llama") + blob(name)


def vision_half(name: str, projector: str = "idefics3") -> bytes:
    return gguf(general__architecture="clip", clip__projector_type=projector) + blob(name)
