"""XMP packets, in which photo programs keep the description of a picture: a new one, or one that gets another text."""

from __future__ import annotations

import contextlib
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from smolcli import __version__
from smolcli.errors import ErrorKind, InputError

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


def new_packet(text: str) -> bytes:
    """Return an XMP packet with this description."""
    # XML readers turn a bare return into a newline
    return PACKET.format(version=__version__, text=escape(text, {"\r": "&#13;"})).encode()


def replace_description(data: bytes, text: str, path: Path) -> bytes:
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
