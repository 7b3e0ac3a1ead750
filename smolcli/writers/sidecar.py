"""Sidecars: files beside each input or under --out-dir with its text, record, XMP description or subtitles.

    path of an input -> sidecar_path -> content of the file -> atomic_write

Two different inputs never have the same sidecar, and a sidecar is written whole or not at all.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from smolcli.errors import ErrorKind, InputError, SmolError
from smolcli.system.atomic_file import atomic_write
from smolcli.terminal.stdout import cannot_write
from smolcli.terminal.words import enumerate_words
from smolcli.types import Record, pluralize
from smolcli.writers.columns import photo_texts, video_segments
from smolcli.writers.json_lines import as_json
from smolcli.writers.subtitles import srt, vtt
from smolcli.writers.template import RecordTemplate
from smolcli.writers.xmp import new_packet, updated_packet

URL = re.compile(r"(https?)://([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
RESERVED = re.compile(r"_+(outside|https?)", re.IGNORECASE)  # folders with a meaning under --out-dir, and escapes

SUBTITLES = {".srt": srt, ".vtt": vtt}
CACHED_INPUTS = 1024  # whose sidecar paths are kept, from the check before an answer to the write after it
COMPARED = 1000  # inputs of an earlier run whose sidecars are compared with their records
MAX_LISTED = 500_000  # names of a folder that are kept in memory, 60 MB


def _exists(folder: str, name: str) -> bool:
    return os.path.lexists(os.path.join(folder, name))


def sidecar_path(
    path: str,
    suffix: str,
    base: str | None,
    out_dir: Path | None,
    suffixes: frozenset[str],
    exists: Callable[[str, str], bool] = _exists,
) -> Path:
    """Return the path of the sidecar of kind `suffix` of the input `path`.

    `suffixes` are the suffixes of the inputs of every command, in lower case, so that a.mp4 does not get the a.txt that
    a.png has from another command. a.png has a.txt and a.json, but a.png.txt if its folder also has a file called a or
    a.jpg. A name whose suffix is unknown or of mixed case is kept whole, and so is every name before .xmp.

    Under `out_dir` come the folders below `base` (default: the current folder), for an input outside `base` _outside/
    and all its folders, for a URL _https/host/path. A folder in `base` called _outside, _http or _https gets one more
    underscore.

    `exists` tells whether a folder has a name.

    Raises InputError of kind `unsupported` for standard input, and for a URL without `out_dir`.
    """
    if path == "-":
        raise InputError("standard input has no place for a sidecar", "use -o FILE", kind=ErrorKind.UNSUPPORTED)
    if url := URL.fullmatch(path):
        if out_dir is None:
            raise InputError("a URL has no folder for a sidecar", "add --out-dir DIR", kind=ErrorKind.UNSUPPORTED)
        *folders, name = _url_parts(url)
        return out_dir.joinpath(*folders, name + suffix)
    folder, name = os.path.split(path)
    stem, input_suffix = os.path.splitext(name)
    if suffix != ".xmp" and _is_stem_unique(folder, stem, input_suffix, suffixes, exists):
        name = stem
    if out_dir is None:
        return Path(folder, name + suffix)
    return out_dir.joinpath(*_folders(folder, base), name + suffix)


class Sidecars:
    """Writes the sidecars of the `kinds` for each record; `sidecar_path` says where.

    Kinds are those of registry.SIDECARS, and any other suffix for text, which `template` may format. If a sidecar
    exists, `if_exists` skip leaves it, overwrite replaces it (in an .xmp the description alone; keywords are added),
    error refuses the record.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        base: str | None,
        out_dir: Path | None,
        if_exists: str,
        suffixes: frozenset[str],
        template: str | None = None,
    ) -> None:
        self._template = None if template is None else RecordTemplate(template)
        self._kinds, self._if_exists = tuple(dict.fromkeys(kinds)), if_exists
        self._base, self._out_dir, self._suffixes = base, out_dir, suffixes
        self._paths = lru_cache(CACHED_INPUTS)(self._find_paths)
        self._named_whole = 0  # sidecars written under the whole name of an input, since another has its stem
        self._example = ""  # the first of them
        self.left_alone = 0  # records whose existing sidecar stays, although it says something else
        self._compared = 0
        self._names_in = lru_cache(4)(_names_in)

    def closing_notices(self, left_alone: int) -> Iterator[str]:
        """Yield what is said at the end of a run; `left_alone` inputs were not looked at because of their sidecars."""
        if left_alone := left_alone + self.left_alone:
            yield f"{left_alone:,} left alone: a {enumerate_words(self._kinds)} is there; --if-exists overwrite"
        if self._named_whole:
            count = pluralize(self._named_whole, "sidecar")
            yield f"{count} named like {self._example}, because several inputs differ in their suffix alone"

    def _find_paths(self, path: str) -> dict[str, Path]:
        """Return the path of each sidecar of the input `path`, by its kind."""
        return {kind: sidecar_path(path, kind, self._base, self._out_dir, self._suffixes) for kind in self._kinds}

    def exists(self, path: str) -> bool:
        """Whether every sidecar of the input `path` exists; False for an input that can have none."""
        try:
            paths = [
                sidecar_path(path, kind, self._base, self._out_dir, self._suffixes, self._is_listed)
                for kind in self._kinds
            ]
        except InputError:
            return False
        return all(map(os.path.lexists, paths))

    def _is_listed(self, folder: str, name: str) -> bool:
        """Whether the folder had this name when it was listed for the first time in this run.

        A hundred names decide where the sidecar of an input is; to list a folder of inputs that are left out takes the
        time of some look-ups. Before a file is written, the names are looked up anew.
        """
        names = self._names_in(folder)
        return _exists(folder, name) if names is None else name in names

    def complete(self, path: str, find_record: Callable[[], Record | None]) -> Record | None:
        """Write the sidecars that an input lacks which is done; `find_record` gives its record.

        The first COMPARED ones that exist are compared with their records, to say which are left alone; where all of
        them agree, the others are taken to. Raises as `write` does, but not for a sidecar that exists.
        """
        is_overwritten = self._if_exists == "overwrite"
        if not is_overwritten and self.exists(path):
            if self._compared >= COMPARED and not self.left_alone:
                return None
            self._compared += 1
        if (record := find_record()) is not None:
            self._write(record)
        return None

    def check(self, path: str) -> None:
        """Raise InputError if the input `path` should not be answered: it can have no sidecar, or must not have one."""
        paths = self._paths(path).values()
        if self._if_exists == "error" and (existing := next(filter(os.path.lexists, paths), None)):
            raise InputError(
                f"{existing} exists already", "choose --if-exists skip or overwrite", kind=ErrorKind.EXISTS
            )

    def write(self, record: Record) -> Record:
        """Write the sidecars of one record, each whole or not at all; nothing for a failed record. Returns the record.

        Raises InputError before anything is written (of kind `exists`, or as `sidecar_path` does) or if one cannot be
        written (kind `unwritable`), OutputError if no file can be written any more.
        """
        if record.error is None:
            self.check(record.path)
            self._write(record)
        return record

    def _write(self, record: Record) -> None:
        """Write the sidecars that are not there, or with `if_exists` overwrite those that say something else."""
        contents, is_left_alone = {}, False
        for kind, path in self._paths(record.path).items():
            if not os.path.lexists(path) or self._if_exists == "overwrite":
                contents[path] = self._content(kind, record, path if os.path.exists(path) else None)
            else:
                is_left_alone |= not self._holds(path, kind, record)
        for path, content in contents.items():
            if not os.path.isfile(path) or _read(path) != content:
                _save(path, content)
                if _is_named_whole(path, record.path, self._suffixes):
                    self._named_whole += 1
                    self._example = self._example or str(path)
        self.left_alone += is_left_alone

    def _holds(self, path: Path, kind: str, record: Record) -> bool:
        """Whether the file `path` is what would be written for this record."""
        try:
            return _read(path) == self._content(kind, record, path)
        except SmolError:
            return False

    def _content(self, kind: str, record: Record, old: Path | None) -> bytes:
        """Return the content of a sidecar; `old` is the file that it replaces."""
        if kind == ".xmp":
            texts = photo_texts(record)
            return updated_packet(_read(old), old, *texts) if old else new_packet(*texts)
        if old and b"\0" in _read(old, 2**16):  # a picture of that name, perhaps itself an input
            raise InputError(f"{old} is not a text file, so it is not replaced", "move it away", kind=ErrorKind.EXISTS)
        if kind in SUBTITLES:
            return SUBTITLES[kind](video_segments(record)).encode()
        if kind == ".json":
            text = f"{as_json(record, indent=2)}\n"
        else:
            text = f"{record.text}\n" if self._template is None else self._template.format(record)
        return text.encode("utf-8", "replace")


def _is_stem_unique(
    folder: str, stem: str, suffix: str, suffixes: frozenset[str], exists: Callable[[str, str], bool]
) -> bool:
    """Whether the input stem + suffix is the only one in the folder whose sidecar can be called after `stem`.

    The possible names are looked up one by one, because the folder may hold a million files.
    """
    known = _spellings(suffixes)
    if suffix not in known:
        return False
    bare = os.path.join(folder, stem)
    if exists(folder, stem) and not os.path.isdir(bare):  # as an input it would have the same sidecar
        return False
    others = (other for other in known if other != suffix and exists(folder, stem + other))
    return not any(_is_another_file(bare + other, bare + suffix) for other in others)


@lru_cache(2)
def _spellings(suffixes: frozenset[str]) -> frozenset[str]:
    """Return suffixes as programs write them: .jpg, .JPG and .Jpg. Others, as .jPg, keep their whole names."""
    return frozenset(
        spelling for suffix in suffixes for spelling in (suffix, suffix.upper(), f".{suffix[1:].capitalize()}")
    )


def _is_named_whole(sidecar: Path, path: str, suffixes: frozenset[str]) -> bool:
    """Whether a sidecar has the whole name of an input that it would be named after the stem of, were it unique."""
    name = os.path.basename(path)
    is_known = os.path.splitext(name)[1] in _spellings(suffixes)
    return is_known and sidecar.suffix != ".xmp" and sidecar.name.startswith(f"{name}.")


def _names_in(folder: str) -> frozenset[str] | None:
    """Return the names in a folder; None where there are too many."""
    try:
        names = frozenset(os.listdir(folder or "."))
    except OSError:
        return frozenset()
    return names if len(names) <= MAX_LISTED else None


def _is_another_file(name: str, path: str) -> bool:
    """Whether a file `name` exists that is not `path` itself, which it is if the file system ignores case."""
    try:
        status = os.lstat(name)
    except (OSError, ValueError):
        return False
    try:
        return status.st_nlink > 1 or not os.path.samestat(status, os.lstat(path))
    except OSError:
        return True


def _url_parts(url: re.Match[str]) -> list[str]:
    """Return scheme, host, folders and name of a URL, quoted so that different URLs have different paths.

    An empty part becomes "%" and dots become "%2E", because neither can be the name of a file; quoting yields neither.
    """
    scheme, location, rest = url.groups()
    parts = location.split("/")
    parts[-1] += rest
    quoted = [quote(os.fsencode(part), safe="=&+,@!~") or "%" for part in parts]
    return [f"_{scheme.lower()}", *(part if part.strip(".") else part.replace(".", "%2E") for part in quoted)]


def _folders(folder: str, base: str | None) -> tuple[str, ...]:
    """Return the folders under --out-dir for an input in `folder`."""
    here = Path(_absolute(folder))
    try:
        first, *others = here.relative_to(_absolute(base or "")).parts or ("",)
    except ValueError:
        drive = re.sub(r"\W", "", here.anchor)
        return ("_outside", *((drive,) if drive else ()), *here.parts[1:])
    return (f"_{first}" if RESERVED.fullmatch(first) else first, *others)


def _absolute(folder: str) -> str:
    """Return `folder` as an absolute path; links are followed if it has a `..`, whose meaning depends on them."""
    return os.path.realpath(folder) if ".." in Path(folder).parts else os.path.abspath(folder)


def _read(path: Path, max_bytes: int = -1) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(max_bytes)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _save(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, sync=True) as file:
            file.write(content)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> SmolError:
    """Return OutputError, which ends the run, if no other sidecar could be written either, otherwise InputError."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
        return cannot_write(str(path), error)
    return InputError(
        f"its sidecar {path} cannot be written ({error.strerror})",
        "use another folder with --out-dir",
        kind=ErrorKind.UNWRITABLE,
    )
