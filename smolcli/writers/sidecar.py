"""Files beside each input, or under a folder of their own: its text, its record, its XMP description, its subtitles.

    path -> target -> what the file will hold -> a temporary file -> its place

Two different inputs never write one file, and no file is ever half written.
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
from smolcli.errors import InputError, SmolError
from smolcli.system.atomic_file import atomic_write
from smolcli.terminal.stdout import cannot_write
from smolcli.types import Record
from smolcli.writers.columns import stretches
from smolcli.writers.json_lines import as_json
from smolcli.writers.subtitles import srt, vtt

ADDRESS = re.compile(r"(https?)://([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
RESERVED = re.compile(r"_+(outside|https?)", re.IGNORECASE)  # folders of ours under --out-dir, and their escapes

DC = "http://purl.org/dc/elements/1.1/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
DESCRIPTION = f"{{{DC}}}description"  # the property; rdf:Description is the node that has properties
NODE, ABOUT, ALT, LI = f"{{{RDF}}}Description", f"{{{RDF}}}about", f"{{{RDF}}}Alt", f"{{{RDF}}}li"
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold
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
REMEMBERED = 1024  # inputs whose sidecars' places are known between the first question about them and the last


def target(path: str, suffix: str, base: str | None, out_dir: Path | None, suffixes: frozenset[str]) -> Path:
    """Where the sidecar of kind `suffix` of the input `path` goes.

    `suffixes` are those of the media of every command, in lower case: a.mp4 must not get the a.txt of a.png later.
    a.png has a.txt and a.json, but a.png.txt where a file called a or another a.jpg is in its folder; a name whose
    suffix is not known, or of mixed case, is kept whole too, and so is every name before .xmp. Under `out_dir` come the
    folders below `base` (default: the current one); from elsewhere _outside/ and all folders; an address gives
    _https/host/path. A folder of `base` itself called _outside, _http or _https gains an underscore.

    Raises InputError of kind `unsupported` for standard input, and for an address without `out_dir`.
    """
    if path == "-":
        raise InputError("standard input has no place for a sidecar", "use -o FILE", kind="unsupported")
    if address := ADDRESS.fullmatch(path):
        if out_dir is None:
            raise InputError("an address has no folder for a sidecar", "add --out-dir DIR", kind="unsupported")
        *folders, name = _of_address(address)
        return out_dir.joinpath(*folders, name + suffix)
    folder, name = os.path.split(path)
    stem, own = os.path.splitext(name)
    if suffix != ".xmp" and _stem_is_its_own(folder, stem, own, suffixes):
        name = stem
    if out_dir is None:
        return Path(folder, name + suffix)
    return out_dir.joinpath(*_folders(folder, base), name + suffix)


class Sidecars:
    """Writes the sidecars of kinds `wanted` (registry.SIDECARS) of each record; `target` explains the places.

    A sidecar that is there already: `if_exists` skip leaves it, overwrite replaces it (of an .xmp only the
    description), error refuses the record.
    """

    def __init__(
        self,
        wanted: Sequence[str],
        base: str | None,
        out_dir: Path | None,
        if_exists: str,
        suffixes: frozenset[str],
    ) -> None:
        self.wanted, self.if_exists = tuple(dict.fromkeys(wanted)), if_exists
        self._base, self._out_dir, self._suffixes = base, out_dir, suffixes
        self.targets = lru_cache(REMEMBERED)(self._targets)  # a path is asked about before its answer and after it

    def _targets(self, path: str) -> dict[str, Path]:
        """The place of each sidecar of the input `path`, by its kind."""
        return {kind: target(path, kind, self._base, self._out_dir, self._suffixes) for kind in self.wanted}

    def exists(self, path: str) -> bool:
        """Whether every sidecar of the input `path` is there; not of one that can have none."""
        try:
            return all(os.path.lexists(place) for place in self.targets(path).values())
        except InputError:
            return False

    def check(self, path: str) -> None:
        """Raises InputError for an input that can have no sidecar, or must not: it is not to be asked about."""
        places = self.targets(path).values()
        if self.if_exists == "error" and (there := next(filter(os.path.lexists, places), None)):
            raise InputError(f"{there} is there already", "choose --if-exists skip or overwrite", kind="exists")

    def write(self, record: Record) -> None:
        """The sidecars of one answer, each whole or not at all; none of a failed record.

        Raises InputError before anything is written (`exists`, or as `target` does), and OutputError.
        """
        if record.error is not None:
            return
        self.check(record.path)
        contents = {}
        for kind, place in self.targets(record.path).items():
            there = os.path.lexists(place)
            if not there or self.if_exists == "overwrite":
                contents[place] = _content(kind, record, place if os.path.exists(place) else None)
        for place, content in contents.items():
            _save(place, content)


def _stem_is_its_own(folder: str, stem: str, own: str, suffixes: frozenset[str]) -> bool:
    """Whether no other input of the folder can have a sidecar called after `stem`.

    Each name is probed alone: a folder may hold a million.
    """
    if own not in suffixes and (own.lower() not in suffixes or own != own.upper()):
        return False
    whole = os.path.join(folder, stem)
    if os.path.lexists(whole) and not os.path.isdir(whole):  # as an input, its whole name would be this stem
        return False
    cases = (case for known in suffixes for case in (known, known.upper()) if case != own)
    return not any(_is_another(whole + case, whole + own) for case in cases)


def _is_another(name: str, path: str) -> bool:
    """Whether a file is called `name` that is not `path` itself, as where upper and lower case are one."""
    try:
        found = os.lstat(name)
    except (OSError, ValueError):
        return False
    try:
        return found.st_nlink > 1 or not os.path.samestat(found, os.lstat(path))
    except OSError:
        return True


def _of_address(address: re.Match[str]) -> list[str]:
    """The host, the folders and the name of an address, quoted so that no two addresses are alike.

    No part is empty or made of dots, which are folders of their own; quoting leaves neither "%" nor "%2E" otherwise.
    """
    scheme, place, rest = address.groups()
    parts = place.split("/")
    parts[-1] += rest
    quoted = [quote(os.fsencode(part), safe="=&+,@!~") or "%" for part in parts]
    return [f"_{scheme.lower()}", *(part if part.strip(".") else part.replace(".", "%2E") for part in quoted)]


def _folders(folder: str, base: str | None) -> tuple[str, ...]:
    """The folders under --out-dir that stand for `folder`."""
    here = Path(_absolute(folder))
    try:
        first, *others = here.relative_to(_absolute(base or "")).parts or ("",)
    except ValueError:
        drive = re.sub(r"\W", "", here.anchor)
        return ("_outside", *((drive,) if drive else ()), *here.parts[1:])
    return (f"_{first}" if RESERVED.fullmatch(first) else first, *others)


def _absolute(folder: str) -> str:
    """`folder` from the root; with a `..` in it links are followed, since after a link that leads elsewhere."""
    return os.path.realpath(folder) if ".." in Path(folder).parts else os.path.abspath(folder)


def _content(kind: str, record: Record, old: Path | None) -> bytes:
    """What the sidecar will hold; `old` is the file that it replaces."""
    if kind == ".xmp":
        text = NOT_XML.sub("", record.text)
        return _described(_read(old), text, old) if old else _new_packet(text)
    if old and b"\0" in _read(old, 2**16):  # no text: a picture that is called so, perhaps itself an input
        raise InputError(f"{old} is not a text that could be replaced", "move it away", kind="exists")
    if kind in SUBTITLES:
        return SUBTITLES[kind](stretches(record)).encode()
    text = record.text if kind == ".txt" else as_json(record, indent=2)
    return f"{text}\n".encode("utf-8", "replace")


def _read(place: Path, most: int = -1) -> bytes:
    try:
        with open(place, "rb") as file:
            return file.read(most)
    except OSError as error:
        raise _cannot_write(place, error) from error


def _save(place: Path, content: bytes) -> None:
    """Writes a file whole or not at all; what a killed run left of it is replaced.

    The temporary name has one length, so that a long name fits wherever its sidecar's does. Raises OutputError where no
    file can be written any more, InputError where this one cannot.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place, sync=True) as file:
            file.write(content)
    except OSError as error:
        raise _cannot_write(place, error) from error


def _cannot_write(place: Path, error: OSError) -> SmolError:
    """The end of the run where no other sidecar could be written either, else the failure of one input."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
        return cannot_write(str(place), error)
    return InputError(
        f"its sidecar {place} cannot be written ({error.strerror})", "see to it, or use --out-dir", kind="unwritable"
    )


def _new_packet(text: str) -> bytes:
    # a reader makes a newline of a bare return
    return PACKET.format(version=__version__, text=escape(text, {"\r": "&#13;"})).encode()


def _described(data: bytes, text: str, place: Path) -> bytes:
    """The XMP packet `data` with `text` as its description; all else, an editing history for one, is kept.

    Descriptions in other languages stay. Raises InputError of kind `exists` for what is not an XMP packet.
    """
    packet = _Packet()
    parser = ET.XMLParser(target=packet)
    try:
        parser.feed(data)
        root = parser.close()
        rdf = next(root.iter(f"{{{RDF}}}RDF"), None)
    except (ET.ParseError, LookupError, ValueError):  # the last two of an encoding that is not known
        rdf = None
    if rdf is None:
        raise InputError(f"{place} is not an XMP packet that can be read", "move it away", kind="exists")
    _describe(rdf, text)
    declared = b"<?xml " in data[:100].replace(b"\0", b"")
    return packet.written(root, declared).encode()


def _describe(rdf: ET.Element, text: str) -> None:
    nodes = rdf.findall(NODE) or [ET.SubElement(rdf, NODE, {ABOUT: ""})]
    node = next((each for each in nodes if each.find(DESCRIPTION) is not None), nodes[0])
    old = node.find(DESCRIPTION)
    place, tail = (0, node.text) if old is None else (list(node).index(old), old.tail)
    new = ET.Element(DESCRIPTION)
    items = ET.SubElement(new, ALT)
    ET.SubElement(items, LI, {LANGUAGE: "x-default"}).text = text
    for each in nodes:
        each.attrib.pop(DESCRIPTION, None)  # the short form, of writers that know of no languages
        for description in each.findall(DESCRIPTION):
            items.extend(li for li in description.iter(LI) if li.get(LANGUAGE, "x-default") != "x-default")
            each.remove(description)
    new.tail = tail
    node.insert(place, new)


class _Packet(ET.TreeBuilder):
    """Builds the tree of an XMP packet; keeps its prefixes, and the instructions and comments around it."""

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

    def written(self, root: ET.Element, declared: bool) -> str:
        """The whole packet, in UTF-8; `declared` says whether an XML declaration comes first."""
        for prefix, uri in self._prefixes.items():
            if prefix:  # as a default namespace it would take in what has none
                with contextlib.suppress(ValueError):  # ns0, ns1 ... are ElementTree's own
                    ET.register_namespace(prefix, uri)
        # a bare return can only come from a character reference, and would be read as a newline
        body = ET.tostring(root, encoding="unicode").replace("\r", "&#13;")
        first = ['<?xml version="1.0" encoding="UTF-8"?>'] if declared else []
        return "\n".join([*first, *self._before, body, *self._after, ""])
