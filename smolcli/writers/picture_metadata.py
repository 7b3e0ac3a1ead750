"""--write-metadata: descriptions and keywords inside the pictures themselves, through the program exiftool.

    record -> photo_texts -> exiftool -> the picture with the texts, and beside it *_original, the picture as it was

exiftool is started once to read what a picture has, and once to write. It reads options from standard input, since a
description may be longer than a command line and have line breaks, and it is given absolute paths, since a name may
begin with a dash.
"""

from __future__ import annotations

import html
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from smolcli.errors import ErrorKind, InputError, UnavailableError
from smolcli.system.file_stamp import stamp_of
from smolcli.types import Record, is_url, pluralize
from smolcli.writers.columns import photo_texts

SECONDS = 600  # to copy a long video on a slow disk
# What people and photo programs write. EXIF:ImageDescription is left out: cameras put their own name there.
READ = (
    "-j",
    "-FileTypeExtension",
    "-XMP-dc:Description",
    "-IPTC:Caption-Abstract",
    "-XMP-dc:Subject",
    "-IPTC:Keywords",
)
NO_XMP = frozenset(("PPM", "PGM", "PBM", "PNM"))  # exiftool writes their comments alone
CACHED_PICTURES = 1024


@dataclass(frozen=True)
class Metadata:
    """What a picture has: its format as a file's suffix in capitals, and the texts that people wrote."""

    format: str
    description: str
    keywords: tuple[str, ...]


class PictureMetadata:
    """Writes the description or the keywords of each record into its picture; everything else in it is kept.

    If the picture has a description (or keywords, where `gives_keywords`), `if_exists` skip leaves it alone, overwrite
    replaces the description and adds the keywords, error refuses the record. A picture that cannot be written is a
    failure where `is_only_output`, else a notice of the record. `notify` is given messages for the user. Raises
    UnavailableError where exiftool is not installed.
    """

    def __init__(
        self, gives_keywords: bool, if_exists: str, is_only_output: bool, notify: Callable[[str], None]
    ) -> None:
        self._program = require_exiftool()
        self._gives_keywords, self._if_exists = gives_keywords, if_exists
        self._is_only_output, self._notify = is_only_output, notify
        self._read = lru_cache(CACHED_PICTURES)(self._read_metadata)
        self._left_alone = self._written = 0

    def exists(self, path: str) -> bool:
        """Whether the picture has what would be written; False for what exiftool cannot read."""
        try:
            return self._has_texts(self._metadata_of(path))
        except InputError:
            return False

    def check(self, path: str) -> None:
        """Raise InputError if the input `path` should not be answered: it cannot be written, or must not be."""
        if path == "-" or is_url(path):
            message = "there is no picture on this machine to write metadata into"
            raise InputError(message, "leave out --write-metadata", kind=ErrorKind.UNSUPPORTED)
        if self._is_only_output or self._if_exists == "error":
            try:
                metadata = self._metadata_of(path)
            except InputError:
                return  # whoever opens it says why
            self._check_texts(metadata)
            if self._is_only_output:
                self._check_format(metadata)

    def write(self, record: Record) -> Record:
        """Write a record's texts into its picture; returns the record with the picture's new stamp.

        Raises InputError if that fails and there is no other output.
        """
        description, keywords = photo_texts(record)
        if description is None and not keywords:
            return record
        try:
            is_embedded = self._embed(record, description, keywords)
        except InputError as error:
            if self._is_only_output:
                raise
            return replace(record, notices=(*record.notices, f"nothing is written into it: {error}"))
        if not is_embedded:
            return record
        return replace(record, embedded=True, stamp=record.stamp and stamp_of(record.path))

    def complete(self, path: str, find_record: Callable[[], Record | None]) -> Record | None:
        """Write the texts of a record of an earlier run that was not asked for metadata; returns the changed record."""
        record = find_record()
        if record is None or record.embedded:
            return None
        changed = self.write(record)
        for notice in changed.notices[len(record.notices) :]:
            self._notify(f"{path}: {notice}")
        return changed if changed.embedded else None

    def closing_notices(self, left_alone: int) -> Iterator[str]:
        """Yield what is said at the end of a run; `left_alone` inputs were not looked at because of their metadata."""
        subject = "keywords are" if self._gives_keywords else "a description is"
        if left_alone := left_alone + self._left_alone:
            yield f"{left_alone:,} left alone: {subject} in the picture; --if-exists overwrite"
        if self._written:
            noun = "keywords" if self._gives_keywords else "descriptions"
            yield f"{noun} written into {pluralize(self._written, 'file')}; the originals are beside them: *_original"

    # ---- one picture ---------------------------------------------------------------------------------

    def _embed(self, record: Record, description: str | None, keywords: Sequence[str]) -> bool:
        """Write the texts into the picture, unless it has them already; returns False if it is left alone."""
        path, stamp = record.path, stamp_of(record.path)
        metadata = self._metadata_of(path)
        if (description in (None, metadata.description)) and set(keywords) <= set(metadata.keywords):
            return True
        if self._if_exists == "skip" and self._has_texts(metadata):
            self._left_alone += 1
            return False
        self._check_texts(metadata)
        self._check_format(metadata)
        if record.stamp and stamp != record.stamp:
            raise InputError("was changed while it was looked at", "run it again", kind=ErrorKind.CHANGED)
        options: list[str] = []
        if description is not None:
            tags = ("XMP-dc:Description", "EXIF:ImageDescription")  # a format without EXIF has the first alone
            options = [f"-{tag}={_escape(description)}" for tag in tags]
        for word in keywords:
            options += [f"-XMP-dc:Subject{sign}={_escape(word)}" for sign in "-+"]  # so that it is not there twice
        self._run(path, ("-q", "-E", "-api", "LargeFileSupport=1", *options))
        if stamp_of(path) == stamp:
            raise InputError("exiftool wrote nothing into it", "use --sidecar .xmp", kind=ErrorKind.UNWRITABLE)
        self._written += 1
        return True

    def _has_texts(self, metadata: Metadata) -> bool:
        return bool(metadata.keywords if self._gives_keywords else metadata.description)

    def _check_texts(self, metadata: Metadata) -> None:
        if self._if_exists == "error" and self._has_texts(metadata):
            contents = "keywords" if self._gives_keywords else "a description"
            raise InputError(f"has {contents} already", "choose --if-exists skip or overwrite", kind=ErrorKind.EXISTS)

    def _check_format(self, metadata: Metadata) -> None:
        if metadata.format not in _writable_formats(self._program):
            message = f"exiftool cannot write into {metadata.format or 'this kind of'} files"
            raise InputError(message, "use --sidecar .xmp", kind=ErrorKind.UNSUPPORTED)

    def _metadata_of(self, path: str) -> Metadata:
        return self._read(path, stamp_of(path))

    def _read_metadata(self, path: str, stamp: str) -> Metadata:
        """Return what a picture has; `stamp` is its stamp, for the cache."""
        try:
            [fields] = json.loads(self._run(path, READ))
        except ValueError:
            raise InputError("exiftool cannot read it", "use --sidecar .xmp", kind=ErrorKind.UNWRITABLE) from None
        descriptions = [str(fields[name]) for name in ("Description", "Caption-Abstract") if name in fields]
        keywords = [fields.get(name, []) for name in ("Subject", "Keywords")]
        words = [word for value in keywords for word in (value if isinstance(value, list) else [value])]
        description = next(filter(str.strip, descriptions), "")
        return Metadata(str(fields.get("FileTypeExtension", "")).upper(), description, tuple(map(str, words)))

    def _run(self, path: str, options: Sequence[str]) -> str:
        """Return what exiftool prints about the file `path`. Raises InputError with its message if it fails."""
        # Of a linked file the file itself is changed. A session of its own: Ctrl-C does not end a write halfway.
        command = [self._program, "-charset", "filename=utf8", "-@", "-", os.path.realpath(path)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            output, errors = process.communicate("".join(f"{option}\n" for option in options).encode(), SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise InputError(f"exiftool took over {SECONDS} seconds", kind=ErrorKind.UNWRITABLE) from None
        if process.returncode != 0:
            lines = errors.decode("utf-8", "replace").splitlines()
            line = next((line for line in lines if line.startswith("Error")), "it failed")
            message = line.removeprefix("Error: ").rpartition(" - ")[0] or line
            raise InputError(f"exiftool: {message}", "use --sidecar .xmp", kind=ErrorKind.UNWRITABLE)
        return output.decode("utf-8", "replace")


def require_exiftool() -> str:
    """Return the path of exiftool. Raises UnavailableError if it is not installed."""
    program = shutil.which("exiftool")
    if program is None:
        advice = "apt install libimage-exiftool-perl, or brew install exiftool"
        raise UnavailableError("--write-metadata needs exiftool, which is not installed", advice)
    return program


@lru_cache(1)
def _writable_formats(program: str) -> frozenset[str]:
    """Return the formats, as suffixes in capitals, into which exiftool writes descriptions."""
    done = subprocess.run([program, "-listwf"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return frozenset(done.stdout.partition(":")[2].split()) - NO_XMP


def _escape(text: str) -> str:
    """Return a text on one line, as exiftool -E reads it."""
    return html.escape(text).replace("\n", "&#10;").replace("\r", "&#13;")
