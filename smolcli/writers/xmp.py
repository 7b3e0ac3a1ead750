"""XMP packets, in which photo programs keep descriptions and keywords: a new one, or one that gets others."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from smolcli import __version__
from smolcli.errors import ErrorKind, InputError

DC = "http://purl.org/dc/elements/1.1/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
SUBJECT = f"{{{DC}}}subject"  # keywords
DESCRIPTION = f"{{{DC}}}description"  # the property; rdf:Description is the node that has properties
NODE, ABOUT, ALT, BAG, LI = (f"{{{RDF}}}{name}" for name in ("Description", "about", "Alt", "Bag", "li"))
PACKET = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">
   <xmp:CreatorTool>smolcli {version}</xmp:CreatorTool>
{properties}  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


DESCRIPTION_XML = """\
   <dc:description>
    <rdf:Alt>
     <rdf:li xml:lang="x-default">{}</rdf:li>
    </rdf:Alt>
   </dc:description>
"""
SUBJECT_XML = """\
   <dc:subject>
    <rdf:Bag>
{}    </rdf:Bag>
   </dc:subject>
"""


def new_packet(description: str | None, keywords: Sequence[str] = ()) -> bytes:
    """Return an XMP packet with this description and these keywords."""
    properties = "" if description is None else DESCRIPTION_XML.format(_escape(description))
    if keywords:
        properties += SUBJECT_XML.format("".join(f"     <rdf:li>{_escape(word)}</rdf:li>\n" for word in keywords))
    return PACKET.format(version=__version__, properties=properties).encode()


def updated_packet(data: bytes, path: Path, description: str | None, keywords: Sequence[str] = ()) -> bytes:
    """Return the XMP packet `data`, of the file `path`, with this description, and these keywords beside its own.

    Everything else, such as edits, is kept, and so are descriptions in other languages; with neither a description nor
    keywords it is returned as it is. Raises InputError of kind `exists` if `data` is not an XMP packet.
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
    if description is None and not keywords:
        return data
    nodes = rdf.findall(NODE) or [ET.SubElement(rdf, NODE, {ABOUT: ""})]
    if description is not None:
        _set_description(nodes, description)
    _add_keywords(nodes, keywords)
    has_declaration = b"<?xml " in data[:100].replace(b"\0", b"")
    return packet.serialize(root, has_declaration).encode()


def _escape(text: str) -> str:
    return escape(text, {"\r": "&#13;"})  # XML readers turn a bare return into a newline


def _set_description(nodes: list[ET.Element], text: str) -> None:
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


def _add_keywords(nodes: list[ET.Element], keywords: Sequence[str]) -> None:
    """Add the keywords that the packet does not have yet."""
    items = [li for node in nodes for subject in node.findall(SUBJECT) for li in subject.iter(LI)]
    known = {li.text for li in items}
    missing = [word for word in keywords if word not in known]
    if not missing:
        return
    subject = next((subject for node in nodes for subject in node.findall(SUBJECT)), None)
    if subject is None:
        subject = ET.SubElement(nodes[0], SUBJECT)
        subject.tail = "\n"
    bag = next(iter(subject), None)
    if bag is None:
        bag = ET.SubElement(subject, BAG)
    for word in missing:
        ET.SubElement(bag, LI).text = word


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
