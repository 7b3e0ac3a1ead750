"""What several tests share: programs they start, records they write, and runs on the echo backend."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy  # noqa: F401 - whose library for matrices is looked for
from markdown_it import MarkdownIt
from PIL import Image

from smolcli.engine.protocol import Work
from smolcli.errors import ErrorKind
from smolcli.executors.base import RunSpec
from smolcli.executors.local import LocalExecutor
from smolcli.models.files import ModelFiles
from smolcli.options import Batch, Generate, Input, Model
from smolcli.records.page_records import split_pages
from smolcli.records.record_id import Identity
from smolcli.records.resume import ResultsFile
from smolcli.records.sink import RecordSink
from smolcli.tasks.base import Task
from smolcli.terminal.console import Console
from smolcli.types import (
    Fault,
    Item,
    Memory,
    Record,
    Seconds,
    Tokens,
)
from smolcli.writers.json_lines import JsonLines
from smolcli.writers.sidecar import Sidecars


def png(size: tuple[int, int] = (2, 1), color: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


ECHO = "smolcli.backends.echo:Echo"


IDENTITY = Identity("test", "echo", "echo")


def records(
    task: Task,
    items: Iterable[Item],
    backend: str = ECHO,
    results: ResultsFile | None = None,
    generate: Generate = Generate(),  # noqa: B008
    lists_devices: str = "",
    **batch: Any,
) -> tuple[list[dict[str, Any]], RecordSink]:
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        fail_fast = batch.get("fail_fast", False)
        pages = task.page_options
        split = partial(split_pages, page_id=IDENTITY.page_id) if pages.split_pages else None
        sink = RecordSink(JsonLines(stream), Console(quiet=True), results=results, fail_fast=fail_fast, split=split)
        work = Work(
            backend, ModelFiles("echo"), Model(), Input(), generate,
            every_page=task.reads_every_page, asks_for_pages=task.asks_for_pages, pages=pages,
            lists_devices=lists_devices,
        )  # fmt: skip
        LocalExecutor(RunSpec(task, IDENTITY, work, Batch(**batch)), sink, results).run(items)
        stream.seek(0)
        return [json.loads(line) for line in stream], sink


def results(path: Path) -> ResultsFile:
    path.touch()
    file = ResultsFile(path, IDENTITY)
    file.read()
    return file


SAMPLES = Path(__file__).parent.parent / "docs" / "samples"


def smolcli(*words: object, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SMOLCLI", "HF_"))}
    return subprocess.run(
        [sys.executable, "-m", "smolcli", *map(str, words)],
        input=stdin,
        capture_output=True,
        env={**clean, "XDG_CONFIG_HOME": "/proc/nonexistent", "HF_HOME": "/proc/nonexistent", **env},
        timeout=120,
    )


LIBRARIES = {
    "torch", "transformers", "llama_cpp", "numpy", "PIL", "gguf", "huggingface_hub", "safetensors", "pydantic", "rich",
    "tqdm", "multiprocessing", "importlib.metadata",
}  # fmt: skip


def loaded(*words: object, **env: str) -> tuple[set[str], str]:
    """The modules that the program has loaded at its end, and what it said."""
    code = (
        "import sys\n"
        "from smolcli.__main__ import main\n"
        "try: main()\n"
        "finally: print('\\n', *(name for name, module in sys.modules.items() if module), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split()), done.stdout


def gguf(**keys: str) -> bytes:
    """A GGUF file of version 3 (ggml's docs/gguf.md) with these keys, a dot for two underscores, and no tensors."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys))
    for key, value in keys.items():
        head += _gguf_string(key.replace("__", ".")) + struct.pack("<I", 8) + _gguf_string(value)  # 8: a string
    return head


def _gguf_string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def line(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line that a failure is told in."""
    message = done.stderr.decode()
    assert message.count("\n") == 1, message
    assert message.startswith("smolcli: ")
    assert "Traceback" not in message
    return message


RECORD = Record(
    "a.png", "0f", "1e", "2 3 4", "caption", "a cat", None, "nano", "echo", "stop", Tokens(5, 3, 2),
    Seconds(decode=1 / 3), (), Memory(68, 134), None,
)  # fmt: skip


LINES = replace(RECORD, text="one\n\ntwo")


BAD = replace(
    RECORD, path="b.png", text="", finish_reason="error", error=Fault(ErrorKind.MISSING, "no such file; check the path")
)


def written(writer: type, *records: Record, **options: bool) -> str:
    stream = io.StringIO()
    opened = writer(stream, **options)
    for record in records:
        opened.write(record)
    opened.close()
    return stream.getvalue()


KNOWN = frozenset((".png", ".jpg", ".mp4"))


def sidecars(*wanted: str, if_exists: str = "skip", out_dir: Path | None = None) -> Sidecars:
    return Sidecars(wanted, "in", out_dir, if_exists, KNOWN)


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
