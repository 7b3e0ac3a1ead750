"""smolcli/inputs/pdf.py: pages of PDFs are rendered one at a time, and what is wrong with one is said of it."""

from __future__ import annotations

import gc
import hashlib
import io
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pypdfium2
import pytest

from smolcli.errors import ErrorKind, InputError
from smolcli.inputs.load import load, open_pictures
from smolcli.inputs.pages import Pages
from smolcli.inputs.pdf import MAX_AUTO_PIXELS, PAGES_AN_OPENING, Pdf, fit
from smolcli.options import Input
from smolcli.types import Item
from tests.inputs.pdfs import PdfPage, assemble, gray_image, make_pdf, stream, text

LINES = ("The quick brown fox jumps over the lazy dog,", "and a second line of words follows it here.")
FULL_PAGE = b"595 0 0 842 0 0 cm /I Do "


def pixels(pdf: Pdf, index: int) -> np.ndarray:
    """A page as gray values, (height, width)."""
    [(found, frame)] = pdf.pictures([index])
    assert found == index
    return np.frombuffer(frame.rgb, np.uint8).reshape(frame.height, frame.width, 3)[:, :, 1]


def sizes(data: bytes, pages: Pages | None = None, options: Input | None = None) -> list[tuple[int, int, int]]:
    """Width, height and resolution of each page."""
    pdf = Pdf(data, options or Input(), pages)
    pictures = ((pixels(pdf, frame.index), pdf.dpi_of(frame.index)) for frame in pdf.media.frames)
    return [(picture.shape[1], picture.shape[0], round(dpi)) for picture, dpi in pictures]


# ---- resolution --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels_of_scan", "dpi"),
    [((1240, 1754), 150), ((2480, 3508), 300), ((4960, 7016), 400), ((595, 842), 72)],
    ids=["150 dpi", "300 dpi", "600 dpi is more than is needed", "a picture of one point a pixel"],
)
def test_a_scan_is_rendered_at_its_own_resolution(pixels_of_scan: tuple[int, int], dpi: int) -> None:
    page = PdfPage(FULL_PAGE, image=gray_image(*pixels_of_scan))
    [(width, height, found)] = sizes(make_pdf(page))
    assert found == dpi
    assert abs(width - 595 / 72 * dpi) <= 2 and abs(height - 842 / 72 * dpi) <= 2


def test_text_and_lines_are_rendered_at_200_dpi_and_dpi_fixes_it() -> None:
    data = make_pdf(PdfPage(text(LINES), media=(0, 0, 360, 144)))
    assert sizes(data) == [(1000, 400, 200)]
    assert sizes(data, Pages(dpi=50)) == [(250, 100, 50)]
    [frame] = Pdf(data, Input(), Pages(dpi=50)).media.frames
    assert (frame.width, frame.height) == (250, 100)  # known before the page is loaded


def test_a_mask_finer_than_its_background_counts_and_a_small_logo_does_not() -> None:
    scan = make_pdf(PdfPage(FULL_PAGE, image=gray_image(1240, 1754)))
    logo = b"q " + FULL_PAGE + b"Q q 20 0 0 20 500 800 cm /J Do Q"
    objects = (gray_image(400, 400),)
    resources = PdfPage(logo, image=gray_image(1240, 1754))
    with_logo = make_pdf(resources, objects=objects).replace(b"/XObject<</I ", b"/XObject<</J 3 0 R/I ")
    assert sizes(scan)[0][2] == sizes(with_logo)[0][2] == 150
    mask = (gray_image(2480, 3508),)
    both = PdfPage(b"q " + FULL_PAGE + b"Q q 595 0 0 842 0 0 cm /J Do Q", image=gray_image(620, 877))
    assert sizes(make_pdf(both, objects=mask).replace(b"/XObject<</I ", b"/XObject<</J 3 0 R/I "))[0][2] == 300


def test_a_picture_in_a_form_has_the_resolution_that_both_matrices_give() -> None:
    entries = b"/Type/XObject/Subtype/Form/BBox[0 0 10 10]/Matrix[2 0 0 2 0 0]/Resources<</XObject<</J 4 0 R>>>>"
    form = stream(b"q 10 0 0 10 0 0 cm /J Do Q", entries)  # 20 points with its matrix
    page = PdfPage(b"q 10 0 0 10 0 0 cm /I Do Q", media=(0, 0, 200, 200), image=b"null")
    data = make_pdf(page, objects=(form, gray_image(250, 250)))
    data = data.replace(b"/XObject<</I 7 0 R>>", b"/XObject<</I 3 0 R>>")
    assert sizes(data) == [(250, 250, 90)]  # 250 pixels on 200 points


def test_a_page_too_large_is_rendered_at_less_and_says_so() -> None:
    page = PdfPage(media=(0, 0, 14400, 14400))
    pdf = Pdf(make_pdf(page, page), Input())
    picture = pixels(pdf, 0)
    assert 0.99 * MAX_AUTO_PIXELS < picture.size <= MAX_AUTO_PIXELS
    assert picture.shape[0] == picture.shape[1]
    [fault] = pdf.faults
    assert fault == "page 1 was read at 32 dpi and not at 200, since it is so large; --dpi allows more"
    assert sizes(make_pdf(page), None, Input(max_pixels=10_000))[0][:2] == (100, 100)
    pdf = Pdf(make_pdf(*[page] * 9), Input(max_pixels=100))
    for index in range(9):
        pixels(pdf, index)
    assert len(pdf.faults) == 4  # not one for each


def test_a_narrow_page_keeps_to_the_limit() -> None:
    for width, height in ((1, 1e7), (1e7, 1), (3, 5e5)):
        raster = fit(width, height, 300, 10_000)
        assert raster is not None and 0 < raster.width * raster.height <= 10_000
    assert fit(0, 100, 300, 100) is None and fit(float("nan"), 100, 300, 100) is None


@pytest.mark.slow  # 8 seconds
def test_a_bomb_of_a_few_kilobytes_is_rendered_small() -> None:
    image = stream(
        bytes(35_000 * 35_000 // 80),
        b"/Subtype/Image/Width 35000/Height 35000/ColorSpace/DeviceGray/BitsPerComponent 1",
    )
    data = make_pdf(PdfPage(b"8400 0 0 8400 0 0 cm /I Do", media=(0, 0, 8400, 8400), image=image))
    assert len(data) < 50_000
    [(width, height, dpi)] = sizes(data)
    assert width * height <= MAX_AUTO_PIXELS and dpi == 54


# ---- what is drawn -----------------------------------------------------------------------------------------


def test_pages_are_drawn_with_their_fields_and_annotations() -> None:
    field = (
        b"<</Type/Annot/Subtype/Widget/FT/Tx/T(name)/V(filled in)/DA(/F 24 Tf 0 g)/Rect[20 20 180 60]/F 4"
        b"/AP<</N 4 0 R>>>>"
    )
    font = b"<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
    look = stream(
        b"/Tx BMC BT /F 24 Tf 0 g 5 10 Td (filled in) Tj ET EMC",
        b"/Type/XObject/Subtype/Form/BBox[0 0 160 40]/Resources" + font,
    )
    form = b"/AcroForm<</Fields[3 0 R]/DR %s/DA(/F 24 Tf 0 g)>>" % font
    page = PdfPage(media=(0, 0, 200, 100), more=b"/Annots[3 0 R]")
    pdf = Pdf(make_pdf(page, objects=(field, look), catalog=form), Input())
    assert (pixels(pdf, 0) < 128).sum() > 500
    layer = pdf.text_layer(0)
    assert layer is not None and [line.text for line in layer.lines] == ["filled in"]
    assert (pixels(pdf, 0) < 128).sum() > 500  # still


def test_a_page_is_white_where_nothing_is_drawn_and_channels_are_in_order() -> None:
    data = make_pdf(PdfPage(b"1 0 0 rg 0 0 100 50 re f", media=(0, 0, 100, 100)))
    [(_, frame)] = Pdf(data, Input(), Pages(dpi=72)).pictures([0])
    assert (frame.width, frame.height) == (100, 100)
    assert frame.rgb[:3] == b"\xff\xff\xff" and frame.rgb[-3:] == b"\xff\0\0"


# ---- choosing pages ----------------------------------------------------------------------------------------


def test_chosen_pages_keep_their_places_in_the_document() -> None:
    data = make_pdf(*[PdfPage(b"0 0 %d 50 re f" % (10 * number), media=(0, 0, 100, 50)) for number in range(1, 8)])
    pdf = Pdf(data, Input(), Pages(pages="2,5-"))
    assert [frame.index for frame in pdf.media.frames] == [1, 4, 5, 6]
    dark = {index: (np.frombuffer(frame.rgb, np.uint8) < 128).mean() for index, frame in pdf.pictures([1, 4, 6])}
    assert {index: round(share, 1) for index, share in dark.items()} == {1: 0.2, 4: 0.5, 6: 0.7}
    assert pdf.media.notices == ()
    assert Pdf(data, Input(), Pages(pages="6-9")).media.notices == ("has 7 pages, and not all of --pages 6-9",)
    with pytest.raises(InputError, match="has 7 pages, and none of --pages 8-9; choose others") as refusal:
        Pdf(data, Input(), Pages(pages="8-9"))
    assert refusal.value.kind == "no-frames"


# ---- what is wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7\n",
        b"%PDF-1.7\n" + bytes(5000),
        b"%PDF-1.7\ntrailer<</Root 1 0 R>>\n%%EOF",
        make_pdf(PdfPage())[:60],
        make_pdf(),
    ],
    ids=["header alone", "zeros", "no objects", "cut short", "no pages"],
)
def test_what_has_no_pages_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="is a PDF without pages that can be read; get a whole copy") as refusal:
        Pdf(data, Input())
    assert refusal.value.kind == "truncated"


def damaged_image(entries: bytes = b"/Filter/DCTDecode") -> bytes:
    return (
        b"<</Subtype/Image/Width 60/Height 80/ColorSpace/DeviceGray/BitsPerComponent 8%s/Length 9>>\n"
        b"stream\nno pixels\nendstream" % entries
    )


@pytest.mark.parametrize("rotate", [0, 90])
@pytest.mark.parametrize("decoder", [b"/Filter/DCTDecode", b"/Filter/JPXDecode"])
def test_a_picture_that_cannot_be_decoded_is_no_blank_page(decoder: bytes, rotate: int) -> None:
    place = b"%d 0 0 %d 0 0 cm /I Do"
    whole = PdfPage(place % (595, 842), image=damaged_image(decoder), rotate=rotate)
    white = PdfPage(place % (595, 842), image=gray_image(60, 80, 255))
    small = PdfPage(text(["Some words"]) + place % (200, 100), image=damaged_image(decoder), rotate=rotate)
    pdf = Pdf(make_pdf(white, whole, small), Input(), Pages(dpi=50))
    [_] = pdf.pictures([0])
    with pytest.raises(InputError, match="is a picture that is damaged") as error:
        list(pdf.pictures([1]))
    assert error.value.kind == ErrorKind.TRUNCATED
    assert not pdf.faults
    [_] = pdf.pictures([2])
    assert pdf.faults == ["page 3 has a damaged picture, which was not looked at"]


def test_a_damaged_page_does_not_stop_the_others() -> None:
    pages = [PdfPage(media=(0, 0, 72, 72)) for _ in range(3)]
    data = make_pdf(*pages).replace(b"/Kids[3 0 R 6 0 R 9 0 R]", b"/Kids[3 0 R 99 0 R 9 0 R]")
    pdf = Pdf(data, Input(), Pages(dpi=72))
    assert pixels(pdf, 0).shape == pixels(pdf, 2).shape == (72, 72)
    with pytest.raises(InputError, match=r"is damaged or cut short .*; get a whole copy"):
        list(pdf.pictures([1]))
    with pytest.raises(InputError, match="is damaged"):
        pdf.text_layer(1)
    assert [frame.index for frame in pdf.measured().frames] == [0, 2]
    assert any("page 2" in notice for notice in pdf.media.notices)


def encrypted(password: str, data: bytes, **more: object) -> bytes:
    pikepdf = pytest.importorskip("pikepdf")
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(data)) as document:
        document.save(out, encryption=pikepdf.Encryption(user=password, owner="owner", **more))
    return out.getvalue()


@pytest.mark.parametrize("revision", [3, 4, 6])
def test_encrypted_documents_are_opened_by_their_password_alone(revision: int) -> None:
    plain = make_pdf(PdfPage(text(LINES)))
    data = encrypted(
        "sesam\u00e9" if revision == 6 else "sesame",
        plain,
        R=revision,
        **({"aes": False, "metadata": False} if revision == 3 else {}),
    )
    password = "sesam\u00e9" if revision == 6 else "sesame"
    with pytest.raises(InputError, match="is encrypted; give its password with --password") as refusal:
        Pdf(data, Input())
    assert refusal.value.kind == "unsupported"
    with pytest.raises(InputError, match="is encrypted with another password; check --password"):
        Pdf(data, Input(), Pages(password="guess"))
    page = Pdf(data, Input(), Pages(password=password)).text_layer(0)
    assert page is not None and [line.text for line in page.lines] == list(LINES)
    with pytest.raises(InputError, match="without pages"):  # and not the error before it
        Pdf(make_pdf(), Input())
    assert Pdf(encrypted("", plain), Input()).page_count == 1  # only changing it needs a password
    assert Pdf(plain, Input(), Pages(password="unneeded")).page_count == 1


def test_a_file_that_changes_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(make_pdf(PdfPage(), PdfPage()))
    pdf = Pdf(str(path), Input())
    pixels(pdf, 0)
    path.write_bytes(make_pdf(PdfPage(text(LINES)), PdfPage()))
    for look in (lambda: pixels(pdf, 1), lambda: pdf.text_layer(1)):
        with pytest.raises(InputError, match="was changed while it was looked at") as refusal:
            look()
        assert refusal.value.kind == "changed"
    pdf.let_go()
    path.unlink()
    with pytest.raises(InputError, match="was changed"):
        pixels(pdf, 1)


def test_recursion_ends() -> None:
    pages_in_a_circle = {1: b"<</Type/Catalog/Pages 2 0 R>>", 2: b"<</Type/Pages/Count 3/Kids[2 0 R]>>"}
    with pytest.raises(InputError, match="is damaged"):
        list(Pdf(assemble(pages_in_a_circle), Input()).pictures([2]))
    form = stream(b"/I Do", b"/Type/XObject/Subtype/Form/BBox[0 0 100 100]/Resources<</XObject<</I 3 0 R>>>>")
    data = make_pdf(PdfPage(b"/I Do", media=(0, 0, 72, 72), image=b"null"), objects=(form,))
    data = data.replace(b"/XObject<</I 6 0 R>>", b"/XObject<</I 3 0 R>>")
    assert sizes(data, Pages(dpi=72)) == [(72, 72, 72)]


# ---- many pages --------------------------------------------------------------------------------------------


def many_pages(count: int) -> bytes:
    return make_pdf(*[PdfPage(b"0 0 %d 9 re f" % (1 + number % 70), media=(0, 0, 72, 72)) for number in range(count)])


def test_a_document_of_5000_pages_is_open_at_once_and_any_page_is_found() -> None:
    data = many_pages(5000)
    started = time.process_time()
    pdf = Pdf(data, Input(), Pages(dpi=72))
    assert len(pdf.media.frames) == 5000
    assert time.process_time() - started < 2
    for index in (4999, 0, 2500):
        assert (pixels(pdf, index)[-5] < 128).sum() == 1 + index % 70


def test_a_plan_looks_at_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it ends at once, whatever is packed in a page."""
    bomb = PdfPage(b"0 0 m 9 9 l S " * 100_000, image=gray_image(20, 10))
    data = make_pdf(bomb, PdfPage(media=(0, 0, 14400, 14400)), PdfPage(media=(0, 0, 720, 0)))
    monkeypatch.setattr(pypdfium2.PdfDocument, "get_page", None)
    media = Pdf(data, Input()).measured()
    assert [(frame.width, frame.height) for frame in media.frames[:1]] == [(1653, 2339)]  # A4 at 200 dpi
    assert media.frames[1].width * media.frames[1].height <= MAX_AUTO_PIXELS
    [frame] = Pdf(data, Input(), Pages(dpi=72, pages="1")).measured().frames
    assert (frame.width, frame.height) == (595, 842)


def test_the_document_is_opened_anew_now_and_then_and_after_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    pdf = Pdf(many_pages(3 * PAGES_AN_OPENING), Input(), Pages(dpi=20))
    seen: dict[int, object] = {}
    for index in range(3 * PAGES_AN_OPENING):
        pixels(pdf, index)
        seen[id(pdf._document)] = pdf._document
    assert len(seen) >= 3
    pdf.let_go()
    assert pdf._document is None
    pixels(pdf, 1)
    document = pdf._document
    assert document is not None
    del pdf
    gc.collect()
    assert not document.raw  # closed with it


def test_threads_take_turns() -> None:
    """PDFium is not thread-safe: without the lock this crashes or gives other pixels."""
    documents = [
        make_pdf(*[PdfPage(text([f"{name} {number}"] * 9), media=(0, 0, 200, 842)) for number in range(40)])
        for name in "abcd"
    ]
    expected = [
        [pixels(Pdf(data, Input(), Pages(dpi=30)), index).tobytes() for index in range(40)] for data in documents
    ]

    def look(number: int) -> list[bytes]:
        pdf = Pdf(documents[number], Input(), Pages(dpi=30))
        found = []
        for index in range(40):
            found.append(pixels(pdf, index).tobytes())
            layer = pdf.text_layer(index)
            assert layer is not None and layer.lines[0].text == f"{'abcd'[number]} {index}"
            if index % 7 == 0:
                pdf.let_go()
        return found

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(look, range(4))) == expected


# ---- through load ------------------------------------------------------------------------------------------


def opened(path: Path, *, data: bytes | None = None, pages: Pages | None = None) -> Sequence[int]:
    item = Item.of(str(path), data)
    loaded, content = load(item, leaves_pdf=True)
    assert content.sha256 == hashlib.sha256(path.read_bytes() if data is None else data).hexdigest()
    assert bool(content.stamp) == (data is None)
    source = open_pictures(item, loaded, Input(), pages or Pages())
    assert source.held == len(data or b"")
    return [frame.index for frame in source.media.frames]


def test_a_file_is_known_by_its_bytes_and_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(b"junk before it\n" + many_pages(3))
    assert opened(path) == [0, 1, 2]
    assert opened(path, pages=Pages(pages="2-")) == [1, 2]
    assert opened(path, data=many_pages(2)) == [0, 1]  # as from a pipe
    loaded, _ = load(Item.of(str(path)), leaves_pdf=True)
    assert loaded[0].data == b""


@pytest.mark.parametrize(
    "name", ["-dash.pdf", "sp ace.pdf", "\u00fcml\u00e4ut.pdf", b"latin-\xe9.pdf", "~tilde.pdf", "a\nb.pdf"]
)
def test_any_name_can_be_opened(tmp_path: Path, name: str | bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / (name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name)
    path.write_bytes(many_pages(2))
    assert opened(path) == [0, 1]
    monkeypatch.chdir(tmp_path)
    assert opened(Path(path.name)) == [0, 1]
