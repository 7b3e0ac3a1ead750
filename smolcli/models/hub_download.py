"""Reads the beginning of a file on the hub, and downloads large files so that a later download goes on where one ended.

    start = read_start("org/name", "config.json", 1 << 20)
    download("org/name", "model.safetensors", cache_dir)    # then snapshot_download finds it in the cache

huggingface_hub removes the part of a file that it has fetched when it is interrupted. Here the part is kept beside the
whole files of the hub's cache, under the name of its content.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from pathlib import Path
from typing import Any, BinaryIO, cast

from huggingface_hub import constants, get_hf_file_metadata, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

from smolcli.errors import ModelError
from smolcli.models.hub_cache import PART_SUFFIX
from smolcli.system.file_digest import BLOCK_BYTES

SHA256_DIGITS = 64  # of the etag of a large file; that of a small one is a SHA-1 of git, of 40
_CONTENT_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

constants.DOWNLOAD_CHUNK_SIZE = 1 << 20  # bytes that are written at a time, and lost when the process is killed


def endpoint() -> str | None:
    """The address of the hub in HF_ENDPOINT; None is the library's default."""
    return os.environ.get("HF_ENDPOINT") or None


def read_start(repo: str, name: str, count: int, revision: str | None = None) -> bytes:
    """Return the first `count` bytes of a file, or all of a smaller one. Raises what huggingface_hub raises."""
    headers = {**build_hf_headers(), "Range": f"bytes=0-{count - 1}"}
    data = b""
    url = hf_hub_url(repo, name, revision=revision, endpoint=endpoint())
    with get_session().stream("GET", url, headers=headers) as response:
        hf_raise_for_status(response)
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) >= count:  # a server that ignores the range sends the whole file
                break
    return data[:count]


def kept_bytes(repo: str, cache: Path) -> int:
    """The bytes of the repository's files that earlier downloads have fetched in part."""
    return sum(part.stat().st_size for part in (_folder(repo, cache) / "blobs").glob(f"*{PART_SUFFIX}"))


def download(repo: str, name: str, cache: Path, revision: str | None = None, sha256: str = "") -> bool:
    """Fetch a file into the cache, unless it is there; what an earlier download has fetched of it is not fetched again.

    Its SHA-256 is computed while it arrives, and must be the one that the hub announces and begin with `sha256`.
    Returns whether it was compared with either; False also for a file that is left to huggingface_hub.
    Raises what huggingface_hub raises, and ModelError for content that is something else.
    """
    url = hf_hub_url(repo, name, revision=revision, endpoint=endpoint())
    metadata = get_hf_file_metadata(url, endpoint=endpoint())
    if metadata.size is None or not _CONTENT_NAME.fullmatch(metadata.etag or ""):
        return (
            False  # without them nothing can go on, and any other etag must not name a file; huggingface_hub fetches it
        )
    assert metadata.etag is not None
    is_sha256 = len(metadata.etag) == SHA256_DIGITS
    folder = _folder(repo, cache)
    blob = folder / "blobs" / metadata.etag
    lock = cache / ".locks" / folder.name / f"{metadata.etag}.lock"
    for path in (blob, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return is_sha256
        part = blob.with_name(metadata.etag + PART_SUFFIX)
        with part.open("a+b") as opened:
            file = _DigestingFile(opened, metadata.size)
            http_get(
                url, cast(BinaryIO, file), resume_size=file.tell(), headers=build_hf_headers(),
                expected_size=metadata.size, displayed_filename=name,
            )  # fmt: skip
        announced = metadata.etag if is_sha256 else ""
        if not (file.sha256.startswith(announced) and file.sha256.startswith(sha256)):
            part.unlink()
            raise ModelError(f"{repo}: {name} was damaged on its way", "pull again")
        part.replace(blob)
    return bool(announced or sha256)


class _DigestingFile(io.BufferedIOBase):
    """A file that computes the SHA-256 of what is written to it; what it holds at first is read for it.

    `opened` is open for reading and appending. More than `size` bytes are the part of another file, and are removed.
    """

    def __init__(self, opened: BinaryIO, size: int) -> None:
        self._file = opened
        if opened.seek(0, os.SEEK_END) > size:
            opened.truncate(0)
        opened.seek(0)
        self._digest = hashlib.sha256()
        while block := opened.read(BLOCK_BYTES):
            self._digest.update(block)

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def truncate(self, size: int | None = None) -> int:
        """Cut the file to nothing, which a server causes that sends the whole file again; no other size is known."""
        if size if size is not None else self._file.tell():
            raise OSError("a part of a file cannot be taken back")
        self._digest = hashlib.sha256()
        return self._file.truncate(0)


def _folder(repo: str, cache: Path) -> Path:
    return cache / repo_folder_name(repo_id=repo, repo_type="model")
