"""tasks/page_forms/searchable_pdf.py, as the programs pdftotext, pdfgrep, pdftoppm and qpdf see its files."""

import io
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.page import Line, Page, Region, Word
from smolcli.inputs.pages import Pages
from smolcli.tasks.page_forms.original import Original
from smolcli.types import Box, Source
from tests.helpers import RECORD
from tests.tasks.page_forms.pages import around, line, page, region

pikepdf = pytest.importorskip("pikepdf")
from smolcli.tasks.page_forms.glyphless_font import font_file, to_unicode  # noqa: E402
from smolcli.tasks.page_forms.searchable import Searchable  # noqa: E402
from smolcli.tasks.page_forms.searchable_pdf import SearchablePdf, write_searchable  # noqa: E402

WIDTH, HEIGHT = 1240, 1754  # A4 at 150 dots to the inch
TEXTS = [
    "The quick brown fox",
    "jumps over the lazy",
    "dog in Würzburg 12.50",
    "and \u6f22\u5b57 \u03a9mega \U0001d538 fi",
]
LONG = "Another row reaches from one edge toward opposite."
BOX = re.compile(r'<word xMin="([\d.-]+)" yMin="([\d.-]+)" xMax="([\d.-]+)" yMax="([\d.-]+)">(.*?)</word>')


def tool(name: str, *arguments: str | Path) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def read_page(**fields: object) -> Page:
    turn = fields.get("turn", 0)
    size = {"width": WIDTH, "height": HEIGHT} if turn in (0, 180) else {"width": HEIGHT, "height": WIDTH}
    regions = [
        region(TEXTS, left=100, top=100),
        region([LONG], left=100, top=800),
        region(["A footer"], left=500, top=1100, kind="footer"),
    ]
    return page(*regions, **{"dpi": 150.0, **size, **fields})  # type: ignore[arg-type]


def picture(width: int = WIDTH, height: int = HEIGHT, mode: str = "L") -> Image.Image:
    """A picture that looks different in each of its corners."""
    ramp = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 100, width)).astype(np.uint8)
    made = Image.fromarray(ramp).convert(mode)
    made.paste(255 if mode == "L" else (255,) * len(made.getbands()), (0, 0, width // 4, height // 8))
    return made


def png(size: tuple[int, int] = (WIDTH, HEIGHT)) -> Source:
    data = io.BytesIO()
    picture(*size).save(data, "PNG")
    return Source("scan.png", data.getvalue())


def jpeg(image: Image.Image, **options: object) -> Source:
    data = io.BytesIO()
    image.save(data, "JPEG", **options)
    return Source("scan.jpg", data.getvalue())


def pdf(
    media: Sequence[float], crop: Sequence[float] | None = None, rotation: int = 0, pages: int = 1, content: bytes = b""
) -> Source:
    made = pikepdf.new()
    for _ in range(pages):
        made.add_blank_page(page_size=(100, 100))
        target = made.pages[-1].obj
        target.MediaBox, target.Rotate = list(media), rotation
        if crop is not None:
            target.CropBox = list(crop)
        target.Contents = made.make_stream(content)
    data = io.BytesIO()
    made.save(data)
    return Source("doc.pdf", data.getvalue())


def words(path: Path, *options: str) -> list[tuple[str, tuple[float, ...]]]:
    """The words that pdftotext finds, and their boxes in points."""
    found = BOX.findall(tool("pdftotext", "-bbox", *options, path, "-"))
    return [(text.replace("&amp;", "&"), tuple(map(float, box))) for *box, text in found]


def assert_words_are_in_place(path: Path, read: Page, size: tuple[float, float], *options: str) -> None:
    """Check that each word of the page is found once, and its box within 3 % of the page."""
    found = words(path, *options)
    original = Original(read)
    scale = size[0] / original.width
    expected = [(word.text, original.box(word.box)) for item in read.lines for word in item.words]
    assert sorted(text for text, _ in found) == sorted(text for text, _ in expected)
    places = dict(found)
    for text, box in expected:
        for value, wanted, edge in zip(places[text], box, (*size, *size), strict=True):
            assert value == pytest.approx(wanted * scale, abs=0.03 * edge), text


@pytest.mark.parametrize("skew", [0.0, 0.2, 3.0, -5.0])
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_words_stand_where_they_are_printed(turn: int, skew: float, tmp_path: Path) -> None:
    out = tmp_path / "out.pdf"
    read = read_page(turn=turn, skew=skew)
    write_searchable(out, [png()], [[read]])
    size = WIDTH * 72 / 150, HEIGHT * 72 / 150
    assert_words_are_in_place(out, read, size)
    lines = tool("pdftotext", out, "-").splitlines()
    assert sorted(filter(str.strip, lines)) == sorted([*TEXTS, LONG, "A footer"])  # each whole
    raw = tool("pdftotext", "-raw", out, "-").split()
    assert sorted(raw) == sorted(word for item in read.lines for word in item.text.split())
    with pikepdf.open(out) as made:
        assert [float(value) for value in made.pages[0].mediabox] == pytest.approx([0, 0, *size], abs=0.01)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("box", [(0, 0, 595, 842), (-50, 30, 545, 872), (645, 942, 50, 100)])
def test_words_of_a_pdf_stand_where_it_shows_them(box: tuple[int, ...], rotation: int, tmp_path: Path) -> None:
    # Rendered at 150 dots to the inch as it is shown, with /Rotate.
    out, shown = tmp_path / "out.pdf", (595, 842) if rotation % 180 == 0 else (842, 595)
    width, height = (round(edge * 150 / 72) for edge in shown)
    read = replace(read_page(), width=width, height=height)
    write_searchable(out, [pdf((-100, -100, 1000, 1000), box, rotation)], [[read]])
    assert_words_are_in_place(out, read, shown, "-cropbox")


def test_text_is_read_in_lines_and_searched(tmp_path: Path) -> None:
    out = tmp_path / "out.pdf"
    write_searchable(out, [png()], [[read_page()]])
    assert tool("pdftotext", out, "-").split("\n\n")[0] == "\n".join(TEXTS)
    assert "quick brown" in tool("pdfgrep", "quick brown fox", out)
    assert "Würzburg" in tool("pdfgrep", "würzburg", "-i", out)
    tool("qpdf", "--check", out)


def test_words_that_touch_are_not_one(tmp_path: Path) -> None:
    whole = replace(line("abcdefghijklmnop", 100, 100), text="Simple, easy to use")  # one box for four words
    read = replace(read_page(), regions=(Region("text", whole.box, (whole,)),))
    write_searchable(tmp_path / "out.pdf", [png()], [[read]])
    assert tool("pdftotext", tmp_path / "out.pdf", "-").split() == ["Simple,", "easy", "to", "use"]


@pytest.mark.parametrize(
    ("turn", "skew"), [(0, 0.0), (0, 2.0), (0, -2.0), (90, 0.0), (90, -2.0), (270, 0.0), (270, 3.0)]
)
def test_no_character_and_no_line_is_lost_to_pdfium(turn: int, skew: float, tmp_path: Path) -> None:
    pdfium = pytest.importorskip("pypdfium2")
    out = tmp_path / "out.pdf"
    write_searchable(out, [png()], [[read_page(turn=turn, skew=skew)]])
    text = pdfium.PdfDocument(out)[0].get_textpage().get_text_range()
    assert [row.strip() for row in text.splitlines()] == [*TEXTS, LONG, "A footer"]


def test_scripts_without_spaces_and_from_the_right(tmp_path: Path) -> None:
    out = tmp_path / "out.pdf"
    hebrew, arabic = "\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627"
    lines = (line("\u6f22\u5b57 \u4eee\u540d", 100, 100), line(hebrew, 100, 300), line(arabic, 100, 500))
    write_searchable(out, [png()], [[replace(read_page(), regions=(Region("text", around(lines), lines),))]])
    text = tool("pdftotext", out, "-")
    assert "\u6f22\u5b57\u4eee\u540d" in text
    assert hebrew in text and arabic in text


def test_the_text_cannot_be_seen(tmp_path: Path) -> None:
    source = pdf((0, 0, 595, 842), content=b"0 0 1 rg 100 100 200 200 re f")
    write_searchable(tmp_path / "out.pdf", [source], [[replace(read_page(), width=1240, height=1754)]])
    assert source.data is not None
    (tmp_path / "in.pdf").write_bytes(source.data)
    pictures = []
    for name in ("in", "out"):
        tool("pdftoppm", "-r", "40", "-png", tmp_path / f"{name}.pdf", tmp_path / name)
        pictures.append(np.asarray(Image.open(next(tmp_path.glob(f"{name}-*.png")))))
    assert np.array_equal(pictures[0], pictures[1])
    assert (pictures[0] == (0, 0, 255)).all(axis=2).any()


def test_inputs_are_appended_and_pages_that_were_not_read_stay(tmp_path: Path) -> None:
    out = tmp_path / "out.pdf"
    whole = pdf((0, 0, 595, 842), pages=3, content=b"q q 1 0 0 1 5 5 cm")  # operators that are not balanced
    read = replace(read_page(), number=2, width=1240, height=1754)
    from_layer = replace(read, number=3, has_text_layer=True)
    beyond = replace(read, number=9)
    write_searchable(out, [png(), whole, png()], [[read_page()], [read, from_layer, beyond], [read_page()]])
    texts = tool("pdftotext", out, "-").split("\f")
    assert [bool(text.strip()) for text in texts] == [True, False, True, False, True, False]
    assert_words_are_in_place(out, read, (595, 842), "-f", "3", "-l", "3")
    with pikepdf.open(out) as made:
        fonts = {str(found.objgen) for target in made.pages for found in _fonts(target)}
        assert len(fonts) == 1


def _fonts(target: Any) -> list[Any]:
    forms = [form for form in target.resources.get("/XObject", {}).values() if form.get("/Subtype") == "/Form"]
    return [form.Resources.Font["/F0"] for form in forms]


def test_pages_that_share_resources_keep_them_apart(tmp_path: Path) -> None:
    made = pikepdf.new()
    shared = made.make_indirect(pikepdf.Dictionary(Font=pikepdf.Dictionary()))
    for _ in range(2):
        made.add_blank_page(page_size=(595, 842))
        made.pages[-1].obj.Resources = shared
    data = io.BytesIO()
    made.save(data)
    first, second = (replace(read_page(), number=number, width=1240, height=1754) for number in (1, 2))
    write_searchable(tmp_path / "out.pdf", [Source("a.pdf", data.getvalue())], [[first, second]])
    with pikepdf.open(tmp_path / "out.pdf") as written:
        assert [len(target.resources.XObject) for target in written.pages] == [1, 1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_kept_and_shown_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = jpeg(picture(400, 300), exif=exif, quality=95)
    assert source.data is not None
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(source.data)))
    read = page(region(["word"], left=20, top=20), width=upright.width, height=upright.height, dpi=72.0)
    write_searchable(tmp_path / "out.pdf", [source], [[read]])
    with pikepdf.open(tmp_path / "out.pdf") as made:
        assert made.pages[0].resources.XObject.Im0.read_raw_bytes() == source.data
    tool("pdftoppm", "-r", "72", "-gray", tmp_path / "out.pdf", tmp_path / "shown")
    shown = Image.open(next(tmp_path.glob("shown*.pgm")))
    assert shown.size == upright.size
    assert np.abs(np.asarray(shown, int) - np.asarray(upright, int)).mean() < 3


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK", "RGBA", "P"])
def test_every_kind_of_picture_is_shown(mode: str, tmp_path: Path) -> None:
    base = picture(200, 100, "RGB")
    base.paste((255, 0, 0), (100, 50, 150, 90))
    image = base.convert(mode)
    data = io.BytesIO()
    image.save(data, "JPEG" if mode == "CMYK" else "PNG", **({"quality": 95} if mode == "CMYK" else {}))
    read = page(region(["word"], left=20, top=20), width=200, height=100, dpi=72.0)
    write_searchable(tmp_path / "out.pdf", [Source("x", data.getvalue())], [[read]])
    if mode == "CMYK":  # whose way to RGB every program has of its own
        tool("pdftoppm", "-r", "72", tmp_path / "out.pdf", tmp_path / "shown")
        shown = np.asarray(Image.open(next(tmp_path.glob("shown*.ppm"))), int)
        assert np.abs(shown - np.asarray(image.convert("RGB"), int)).mean() < 20
    else:
        tool("pdfimages", "-png", tmp_path / "out.pdf", tmp_path / "shown")
        shown = np.asarray(Image.open(next(tmp_path.glob("shown*.png"))).convert("RGB"), int)
        assert np.array_equal(shown, np.asarray(image.convert("RGB"), int))


def test_pages_of_a_tiff(tmp_path: Path) -> None:
    data = io.BytesIO()
    frames = [picture(100, 50), picture(60, 90).convert("1")]
    frames[0].save(data, "TIFF", save_all=True, append_images=frames[1:])
    pages = [page(width=100, height=50, dpi=72.0), page(width=60, height=90, dpi=0.0, number=2)]
    write_searchable(tmp_path / "out.pdf", [Source("x.tif", data.getvalue())], [pages])
    with pikepdf.open(tmp_path / "out.pdf") as made:
        assert [[float(value) for value in target.mediabox[2:]] for target in made.pages] == [
            [100, 50],
            [pytest.approx(561.33, abs=0.01), 842],
        ]
        assert [int(target.resources.XObject.Im0.BitsPerComponent) for target in made.pages] == [8, 1]


@pytest.mark.parametrize(
    ("format", "options", "size"),
    [
        ("PNG", {"dpi": (300, 300)}, (144, 72)),  # 600 x 300 pixels at 300 dots to the inch are 2 x 1 inches
        ("JPEG", {"dpi": (300, 300)}, (144, 72)),
        ("TIFF", {"dpi": (204, 98)}, (600 / 204 * 72, 300 / 98 * 72)),  # as a fax has it
        ("PNG", {"dpi": (72, 72)}, (842, 421)),
        ("PNG", {}, (842, 421)),
        ("WEBP", {}, (842, 421)),
    ],
)
def test_a_picture_is_as_large_as_its_file_says(
    format: str, options: dict[str, Any], size: tuple[float, float], tmp_path: Path
) -> None:
    data = io.BytesIO()
    picture(600, 300, "RGB").save(data, format, **options)
    read = page(width=600, height=300, dpi=0.0)
    write_searchable(tmp_path / "out.pdf", [Source("x", data.getvalue())], [[read]])
    with pikepdf.open(tmp_path / "out.pdf") as made:
        shown = [float(value) for value in made.pages[0].mediabox[2:]]
    assert shown == pytest.approx(size, abs=0.05)


def test_a_photo_held_sideways_keeps_its_resolution(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6  # Orientation: the picture is shown turned by 90 degrees
    source = jpeg(picture(600, 300), dpi=(200, 100), exif=exif)
    write_searchable(tmp_path / "out.pdf", [source], [[page(width=300, height=600, dpi=0.0)]])
    with pikepdf.open(tmp_path / "out.pdf") as made:  # 600 pixels at 200 to the inch go down, 300 at 100 across
        assert [float(value) for value in made.pages[0].mediabox[2:]] == pytest.approx([216, 216], abs=0.05)


def test_pictures_that_were_read_as_a_whole_are_pages_too(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    picture(600, 300).save(path, dpi=(300, 300))
    out = tmp_path / "out.pdf"
    without_data = replace(RECORD, path=str(path), task="ocr", text="A small note", data=None)
    with_page = replace(without_data, data={"pages": [{"page": 1, "text": "Another one"}]})
    failed_page = {"page": 2, "text": "", "error": {"kind": "truncated", "message": "is damaged"}}
    without_text = replace(without_data, text="", blank=True, data={"pages": [{"page": 1, "text": ""}, failed_page]})
    with Searchable(out, 10**6) as searchable:
        for written in (without_data, with_page, without_text):
            assert searchable.write(written) == written
    with pikepdf.open(out) as made:
        assert [[float(value) for value in target.mediabox[2:]] for target in made.pages] == [
            pytest.approx([144, 72], abs=0.05)
        ] * 3
    assert [text.strip() for text in tool("pdftotext", out, "-").split("\f")] == ["A small note", "Another one", "", ""]


def test_the_record_of_one_chosen_page_is_that_of_the_page(tmp_path: Path) -> None:
    """With --pages 2, a record of an earlier run that read the page whole does not say its number."""
    path, out = tmp_path / "scan.tif", tmp_path / "out.pdf"
    picture(100, 50).save(path, save_all=True, append_images=[picture(60, 90)])
    with Searchable(out, 10**6, first_page=Pages(pages="2").first_page) as searchable:
        searchable.write(replace(RECORD, path=str(path), task="ocr", text="The second", data=None))
    with pikepdf.open(out) as made:
        [shown] = made.pages
        assert [float(value) for value in shown.mediabox[2:]] == [pytest.approx(60 * 842 / 90, abs=0.01), 842]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"%PDF-1.7\nnothing", ErrorKind.TRUNCATED),
        (b"", ErrorKind.UNSUPPORTED),
        (b"text", ErrorKind.UNSUPPORTED),
        (b"\xff\xd8\xff\xe0 not a jpeg \xff\xd9", ErrorKind.TRUNCATED),
    ],
)
def test_bad_inputs_are_errors_of_one_line(data: bytes, kind: ErrorKind, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        write_searchable(tmp_path / "out.pdf", [Source("x", data)], [[read_page()]])
    assert refused.value.kind == kind
    assert list(tmp_path.iterdir()) == []  # nothing is left half-written


def test_a_locked_pdf_and_a_missing_file(tmp_path: Path) -> None:
    made = pikepdf.new()
    made.add_blank_page()
    data = io.BytesIO()
    made.save(data, encryption=pikepdf.Encryption(owner="a", user="b"))
    out = tmp_path / "out.pdf"
    with SearchablePdf(out) as pdf:
        with pytest.raises(InputError, match="locked"):
            pdf.add(Source("x.pdf", data.getvalue()), [])
        with pytest.raises(InputError) as missing:
            pdf.add(Source(str(tmp_path / "no.pdf")), [])
        assert missing.value.kind == ErrorKind.MISSING
        pdf.add(png(), [read_page()])  # the others are written all the same
    assert "quick" in tool("pdftotext", out, "-")


def test_a_locked_pdf_is_opened_with_its_password(tmp_path: Path) -> None:
    made = pikepdf.new()
    made.add_blank_page(page_size=(200, 100))
    data = io.BytesIO()
    made.save(data, encryption=pikepdf.Encryption(owner="a", user="b"))
    out = tmp_path / "out.pdf"
    with SearchablePdf(out, password="b") as pdf:
        pdf.add(Source("x.pdf", data.getvalue()), [read_page()])
    assert "quick" in tool("pdftotext", out, "-")


@pytest.mark.parametrize("skew", [3.0, -5.0])
def test_words_of_a_large_skewed_heading_stay_whole(skew: float, tmp_path: Path) -> None:
    """Without a resolution a pixel is a point, and poppler cuts where a character is half a point higher."""
    boxes = [(106, "Minutes", 386), (414, "of", 484), (506, "the", 621), (652, "meeting", 940)]
    heading = Line(
        Box(106, 91, 940, 154),
        tuple(Word(Box(left, 91, right, 154), text) for left, text, right in boxes),
        36.0,
        140,
        "Minutes of the meeting",
    )
    read = Page(1, WIDTH, HEIGHT, (Region("heading", heading.box, (heading,), level=1),), skew=skew)
    write_searchable(tmp_path / "out.pdf", [png()], [[read]])
    assert tool("pdftotext", tmp_path / "out.pdf", "-").strip() == "Minutes of the meeting"


def test_the_font_is_a_font() -> None:
    tt = pytest.importorskip("fontTools.ttLib")
    font = tt.TTFont(io.BytesIO(font_file()), checkChecksums=2)
    assert font["hmtx"].metrics == {".notdef": (500, 0), "glyph00001": (500, 0)}
    assert (font["hhea"].ascent, font["head"].unitsPerEm, font["maxp"].numGlyphs) == (800, 1000, 2)


def test_blocks_of_a_cmap_are_short() -> None:
    cmap = to_unicode({chr(0x4E00 + number): number + 1 for number in range(250)} | {"\U0001d538": 251})
    assert re.findall(r"(\d+) beginbfchar", cmap) == ["100", "100", "51"]
    assert "<00FB> <D835DD38>" in cmap
