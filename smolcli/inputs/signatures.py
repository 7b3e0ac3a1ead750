"""Knows pictures and videos by the first bytes of their files; imports no decoder."""

from __future__ import annotations

import os
import re
import stat

SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\0\0\1\0": "ICO",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
}
HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))
AVIF_BRANDS = frozenset((b"avif", b"avis"))
CAMERA_RAW = "camera raw"
RAW_SIGNATURES = {  # of camera raw that is no ordinary TIFF
    b"FUJIFILMCCD-RAW": "RAF",
    b"IIRO": "ORF",
    b"IIRS": "ORF",
    b"MMOR": "ORF",
    b"IIU\0": "RW2",
    b"FOVb": "X3F",
}
# The headers of pictures that messages have no name for, as Pillow's plugins look for them.
_OTHER_PICTURES = re.compile(
    b"|".join((
        rb"\0\0\0\x0cjP {2}\r\n\x87\n", rb"\xff\x4f\xff\x51",  # JPEG 2000, as a file and as a codestream
        rb"qoif", rb"DDS ",
        rb"\x01\xda[\0\x01][\x01\x02]\0[\x01-\x03]",  # SGI
        rb"\n[\0-\x05]\x01[\x01\x02\x04\x08]",  # PCX
        rb"BM.{4}\0{4}",  # BMP, with its reserved zeros
        rb"P[1-7fF]\s",  # Netpbm: PBM, PGM, PPM, PAM, PFM
    )),
    re.DOTALL,
)  # fmt: skip
_VIDEOS = re.compile(
    b"|".join((
        rb"\x1aE\xdf\xa3",  # EBML: Matroska, WebM
        rb"RIFF.{4}AVI ",
        rb"\0\0\x01[\xba\xb3]",  # MPEG program stream, MPEG video
        rb"G.{187}G", rb".{4}G.{191}G",  # MPEG transport stream: packets of 188 bytes, of 192 in AVCHD
        rb"0&\xb2u\x8ef\xcf\x11",  # ASF
        rb"FLV\x01",
        rb"OggS.{24}(\x80theora|\x01video|BBCD)",
        rb"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
        rb"YUV4MPEG2 ",
    )),
    re.DOTALL,
)  # fmt: skip
# Brands of the file type box of ISO 14496-12 that stand for sound alone.
_SOUND_BRANDS = frozenset((b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B "))
HEAD_BYTES = 256  # from the start of a file, in which signatures are found
PDF_HEAD_BYTES = 1024  # the same for a PDF, which may have other bytes before it; the readers of most makers allow that


def kind_of(data: bytes) -> str:
    r"""Return the kind of picture by the signature in the first bytes, as messages name it; "" if it is unknown.

    >>> kind_of(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic")
    'HEIC'
    """
    if raw_kind_of(data):
        return CAMERA_RAW
    if data[4:8] == b"ftyp":
        end = min(int.from_bytes(data[:4], "big"), 256)
        brands = {data[offset : offset + 4] for offset in range(8, end, 4)}
        if brands & AVIF_BRANDS:
            return "AVIF"
        return "HEIC" if brands & HEIC_BRANDS else ""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((kind for signature, kind in SIGNATURES.items() if data.startswith(signature)), "")


def raw_kind_of(data: bytes) -> str:
    """Return the kind of a raw file that is no ordinary TIFF, by its first bytes; "" if it is none."""
    if data[4:12] == b"ftypcrx ":
        return "CR3"
    return next((kind for signature, kind in RAW_SIGNATURES.items() if data.startswith(signature)), "")


def begins_as(path: str, reads: str) -> bool:
    """Whether the file `path` begins as what a task `reads`, a key of registry.READERS; False if it cannot be read.

    Costs one read of HEAD_BYTES; what is no plain file is not opened.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb", buffering=0) as file:
            head = file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return False
    if reads == "video":
        return is_video(head)
    return _is_picture(head) or (reads == "document" and is_pdf(head))


def _is_picture(head: bytes) -> bool:
    return bool(kind_of(head) or _OTHER_PICTURES.match(head))


def is_pdf(data: bytes) -> bool:
    """Whether bytes, of which the first PDF_HEAD_BYTES count, are those of a PDF."""
    return b"%PDF-" in data[:PDF_HEAD_BYTES] and not kind_of(data)


def is_video(head: bytes) -> bool:
    """Whether the first bytes of a file, HEAD_BYTES of them, are those of a video; an animated picture may be one."""
    if head[4:8] == b"ftyp":
        return not kind_of(head) and head[8:12] not in _SOUND_BRANDS
    return head.startswith(b"GIF8") or bool(_VIDEOS.match(head))
