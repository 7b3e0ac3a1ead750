"""Sidecars: files beside each input or under --out-dir with its text, record, XMP description or subtitles.

    path of an input -> sidecar_path -> content of the file -> atomic_write

Two different inputs never have the same sidecar, and a sidecar is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from smolcli import __version__
from smolcli.errors import ErrorKind, InputError, SmolError
from smolcli.system.atomic_file import atomic_write
from smolcli.terminal.stdout import cannot_write
from smolcli.types import Record
from smolcli.writers.columns import video_segments
from smolcli.writers.json_lines import as_json
from smolcli.writers.subtitles import srt, vtt

URL = re.compile(r"(https?)://([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
RESERVED = re.compile(r"_+(outside|https?)", re.IGNORECASE)  # folders with a meaning under --out-dir, and escapes

DC = "http://purl.org/dc/elements/1.1/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
DESCRIPTION = f"{{{DC}}}description"  # the property; rdf:Description is the node that has properties
NODE, ABOUT, ALT, LI = f"{{{RDF}}}Description", f"{{{RDF}}}about", f"{{{RDF}}}Alt", f"{{{RDF}}}li"
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # characters that XML 1.0 does not allow
PACKET = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">
   <xmp:CreatorTool>smolcli {version}</xmp:CreatorTool>
   <dc:description>
    <rdf:Alt>
     <rdf:li xml:lang="x-default">{text}</rdf:li>
    </rdf:Alt>
   </dc:description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""

SUBTITLES = {".srt": srt, ".vtt": vtt}
CACHED_INPUTS = 1024  # whose sidecar paths are kept, from the check before an answer to the write after it


def sidecar_path(path: str, suffix: str, base: str | None, out_dir: Path | None, suffixes: frozenset[str]) -> Path:
    """Return the path of the sidecar of kind `suffix` of the input `path`.

    `suffixes` are the suffixes of the inputs of every command, in lower case, so that a.mp4 does not get the a.txt that
    a.png has from another command. a.png has a.txt and a.json, but a.png.txt if its folder also has a file called a or
    a.jpg. A name whose suffix is unknown or of mixed case is kept whole, and so is every name before .xmp.

    Under `out_dir` come the folders below `base` (default: the current folder), for an input outside `base` _outside/
    and all its folders, for a URL _https/host/path. A folder in `base` called _outside, _http or _https gets one more
    underscore.

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
    if suffix != ".xmp" and _is_stem_unique(folder, stem, input_suffix, suffixes):
        name = stem
    if out_dir is None:
        return Path(folder, name + suffix)
    return out_dir.joinpath(*_folders(folder, base), name + suffix)


class Sidecars:
    """Writes the sidecars of the `kinds` (of registry.SIDECARS) for each record; `sidecar_path` says where.

    If one exists, `if_exists` skip leaves it, overwrite replaces it (in an .xmp only the description), error refuses
    the record.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        base: str | None,
        out_dir: Path | None,
        if_exists: str,
        suffixes: frozenset[str],
    ) -> None:
        self._kinds, self._if_exists = tuple(dict.fromkeys(kinds)), if_exists
        self._base, self._out_dir, self._suffixes = base, out_dir, suffixes
        self._paths = lru_cache(CACHED_INPUTS)(self._find_paths)

    def _find_paths(self, path: str) -> dict[str, Path]:
        """Return the path of each sidecar of the input `path`, by its kind."""
        return {kind: sidecar_path(path, kind, self._base, self._out_dir, self._suffixes) for kind in self._kinds}

    def exists(self, path: str) -> bool:
        """Whether every sidecar of the input `path` exists; False for an input that can have none."""
        try:
            return all(map(os.path.lexists, self._paths(path).values()))
        except InputError:
            return False

    def check(self, path: str) -> None:
        """Raise InputError if the input `path` should not be answered: it can have no sidecar, or must not have one."""
        paths = self._paths(path).values()
        if self._if_exists == "error" and (existing := next(filter(os.path.lexists, paths), None)):
            raise InputError(
                f"{existing} exists already", "choose --if-exists skip or overwrite", kind=ErrorKind.EXISTS
            )

    def write(self, record: Record) -> None:
        """Write the sidecars of one record, each whole or not at all; nothing for a failed record.

        Raises InputError before anything is written (of kind `exists`, or as `sidecar_path` does) or if one cannot be
        written (kind `unwritable`), OutputError if no file can be written any more.
        """
        if record.error is not None:
            return
        self.check(record.path)
        contents = {}
        for kind, path in self._paths(record.path).items():
            if self._if_exists == "overwrite" or not os.path.lexists(path):
                contents[path] = _content(kind, record, path if os.path.exists(path) else None)
        for path, content in contents.items():
            _save(path, content)


def _is_stem_unique(folder: str, stem: str, suffix: str, suffixes: frozenset[str]) -> bool:
    """Whether the input stem + suffix is the only one in the folder whose sidecar can be called after `stem`.

    The possible names are looked up one by one, because the folder may hold a million files.
    """
    if suffix not in suffixes and (suffix.lower() not in suffixes or suffix != suffix.upper()):
        return False
    bare = os.path.join(folder, stem)
    if os.path.lexists(bare) and not os.path.isdir(bare):  # as an input it would have the same sidecar
        return False
    others = (other for known in suffixes for other in (known, known.upper()) if other != suffix)
    return not any(_is_another_file(bare + other, bare + suffix) for other in others)


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


def _content(kind: str, record: Record, old: Path | None) -> bytes:
    """Return the content of a sidecar; `old` is the file that it replaces."""
    if kind == ".xmp":
        text = NOT_XML.sub("", record.text)
        return _replace_description(_read(old), text, old) if old else _new_packet(text)
    if old and b"\0" in _read(old, 2**16):  # a picture of that name, perhaps itself an input
        raise InputError(f"{old} is not a text file, so it is not replaced", "move it away", kind=ErrorKind.EXISTS)
    if kind in SUBTITLES:
        return SUBTITLES[kind](video_segments(record)).encode()
    text = record.text if kind == ".txt" else as_json(record, indent=2)
    return f"{text}\n".encode("utf-8", "replace")


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


def _new_packet(text: str) -> bytes:
    # XML readers turn a bare return into a newline
    return PACKET.format(version=__version__, text=escape(text, {"\r": "&#13;"})).encode()


def _replace_description(data: bytes, text: str, path: Path) -> bytes:
    """Return the XMP packet `data` with `text` as its description; everything else, such as edits, is kept.

    Descriptions in other languages are kept too. Raises InputError of kind `exists` if `data` is not an XMP packet.
    """
    packet = _Packet()
    parser = ET.XMLParser(target=packet)
    try:
        parser.feed(data)
        root = parser.close()
        rdf = next(root.iter(f"{{{RDF}}}RDF"), None)
    except (ET.ParseError, LookupError, ValueError):  # the last two for an unknown encoding
        rdf = None
    if rdf is None:
        raise InputError(f"{path} is not an XMP packet that can be read", "move it away", kind=ErrorKind.EXISTS)
    _set_description(rdf, text)
    has_declaration = b"<?xml " in data[:100].replace(b"\0", b"")
    return packet.serialize(root, has_declaration).encode()


def _set_description(rdf: ET.Element, text: str) -> None:
    nodes = rdf.findall(NODE) or [ET.SubElement(rdf, NODE, {ABOUT: ""})]
    node = next((candidate for candidate in nodes if candidate.find(DESCRIPTION) is not None), nodes[0])
    old = node.find(DESCRIPTION)
    index, tail = (0, node.text) if old is None else (list(node).index(old), old.tail)
    new = ET.Element(DESCRIPTION)
    items = ET.SubElement(new, ALT)
    ET.SubElement(items, LI, {LANGUAGE: "x-default"}).text = text
    for other in nodes:
        other.attrib.pop(DESCRIPTION, None)  # the short form, from programs that do not write languages
        for description in other.findall(DESCRIPTION):
            items.extend(li for li in description.iter(LI) if li.get(LANGUAGE, "x-default") != "x-default")
            other.remove(description)
    new.tail = tail
    node.insert(index, new)


class _Packet(ET.TreeBuilder):
    """Builds the tree of an XMP packet, and keeps its prefixes and the instructions and comments around its root."""

    def __init__(self) -> None:
        super().__init__(insert_comments=True, insert_pis=True)
        self._prefixes = {"dc": DC, "rdf": RDF}
        self._before: list[str] = []
        self._after: list[str] = []
        self._around = self._before
        self._depth = 0

    def start_ns(self, prefix: str, uri: str) -> None:
        self._prefixes[prefix] = uri

    def start(self, tag: Any, attrs: Any, /) -> ET.Element:
        self._depth += 1
        self._around = self._after
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ET.Element:
        self._depth -= 1
        return super().end(tag)

    def comment(self, text: str | None, /) -> Any:
        if self._depth:
            return super().comment(text)
        self._around.append(f"<!--{text}-->")

    def pi(self, target: str, text: str | None = None, /) -> Any:
        if self._depth:
            return super().pi(target, text)
        self._around.append(f"<?{target} {text or ''}?>")

    def serialize(self, root: ET.Element, has_declaration: bool) -> str:
        """Return the whole packet, for UTF-8; `has_declaration` puts an XML declaration first."""
        for prefix, uri in self._prefixes.items():
            if prefix:  # a default namespace would also apply to elements that have none
                with contextlib.suppress(ValueError):  # ns0, ns1 ... are reserved by ElementTree
                    ET.register_namespace(prefix, uri)
        # a bare return came from a character reference; written bare it would be read as a newline
        body = ET.tostring(root, encoding="unicode").replace("\r", "&#13;")
        first = ['<?xml version="1.0" encoding="UTF-8"?>'] if has_declaration else []
        return "\n".join([*first, *self._before, body, *self._after, ""])
