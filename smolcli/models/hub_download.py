"""Reads the beginning of a file on the hub, and downloads large files so that a later download goes on where one ended.

    start = read_start("org/name", "config.json", 1 << 20)
    download("org/name", "model.safetensors", cache_dir)    # then snapshot_download finds it in the cache

huggingface_hub removes the part of a file that it has fetched when it is interrupted. Here the part is kept beside the
whole files of the hub's cache, under the name of its content.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

from smolcli.errors import ModelError
from smolcli.system.file_digest import sha256_and_size

PART_SUFFIX = ".smolcli.incomplete"
SHA256_DIGITS = 64  # of the etag of a large file; that of a small one is a SHA-1 of git, of 40
_CONTENT_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

constants.DOWNLOAD_CHUNK_SIZE = 1 << 20  # bytes that are written at a time, and lost when the process is killed


def endpoint() -> str | None:
    """The address of the hub in HF_ENDPOINT; None is the library's default."""
    return os.environ.get("HF_ENDPOINT") or None


def read_start(repo: str, name: str, count: int) -> bytes:
    """Return the first `count` bytes of a file, or all of a smaller one. Raises what huggingface_hub raises."""
    headers = {**build_hf_headers(), "Range": f"bytes=0-{count - 1}"}
    data = b""
    with get_session().stream("GET", hf_hub_url(repo, name, endpoint=endpoint()), headers=headers) as response:
        hf_raise_for_status(response)
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) >= count:  # a server that ignores the range sends the whole file
                break
    return data[:count]


def kept_bytes(repo: str, cache: Path) -> int:
    """The bytes of the repository's files that earlier downloads have fetched in part."""
    return sum(part.stat().st_size for part in (_folder(repo, cache) / "blobs").glob(f"*{PART_SUFFIX}"))


def download(repo: str, name: str, cache: Path) -> None:
    """Fetch a file into the cache, unless it is there; what an earlier download has fetched of it is not fetched again.

    Raises what huggingface_hub raises, and ModelError for content that is not what the hub announced.
    """
    url = hf_hub_url(repo, name, endpoint=endpoint())
    metadata = get_hf_file_metadata(url, endpoint=endpoint())
    if metadata.size is None or not _CONTENT_NAME.fullmatch(metadata.etag or ""):
        return  # without them nothing can go on, and any other etag must not name a file; huggingface_hub fetches it
    assert metadata.etag is not None
    folder = _folder(repo, cache)
    blob = folder / "blobs" / metadata.etag
    lock = cache / ".locks" / folder.name / f"{metadata.etag}.lock"
    for path in (blob, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return
        part = blob.with_name(metadata.etag + PART_SUFFIX)
        with part.open("ab") as file:
            if file.tell() > metadata.size:
                file.truncate(0)
            http_get(
                url, file, resume_size=file.tell(), headers=build_hf_headers(), expected_size=metadata.size,
                displayed_filename=name,
            )  # fmt: skip
        if len(metadata.etag) == SHA256_DIGITS and _sha256(part) != metadata.etag:
            part.unlink()
            raise ModelError(f"{repo}: {name} was damaged on its way", "pull again")
        part.replace(blob)


def _folder(repo: str, cache: Path) -> Path:
    return cache / repo_folder_name(repo_id=repo, repo_type="model")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return sha256_and_size(file)[0]
