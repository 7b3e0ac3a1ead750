"""Draws the samples of this folder: `python docs/samples/make.py`; Pillow's own font, so the same everywhere."""

from collections.abc import Iterator
from pathlib import Path

import av
import pikepdf
from PIL import Image, ImageDraw, ImageFont

from smolcli.nano.synthetic_images import COLOURS, GROUNDS, draw_shape

HERE = Path(__file__).parent
WHITE = (255, 255, 255)
SCAN_DPI = 150
HOURS = [("Day", "Opens", "Closes"), ("Monday", "10:00", "18:00"), ("Thursday", "12:00", "20:00")]
LEND = [
    "The library lends books, maps and tools. A card is free for every-",
    "one who lives in the town; visitors pay two euros a week.",
]
DUES = ["A book that is late costs ten cents a day. Nobody pays more than", "the book is worth."]


def scene(side: int, *things: tuple[str, str, float, float, float], ground: str = "white") -> Image.Image:
    image = Image.new("RGB", (side, side), GROUNDS[ground])
    for colour, shape, x, y, r in things:
        draw_shape(image, shape, COLOURS[colour], x, y, r, GROUNDS[ground])
    return image


def printed(size: tuple[int, int], paper: str, ink: str, lines: list[str], height: int, pitch: int) -> Image.Image:
    image = Image.new("RGB", size, paper)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(height)
    for number, line in enumerate(lines):
        draw.text((12, 10 + number * pitch), line, fill=ink, font=font)
    return image


def chart() -> Image.Image:
    image = Image.new("RGB", (256, 256), WHITE)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(28)
    for number, (name, colour, height) in enumerate((("Mon", "red", 60), ("Tue", "green", 110), ("Wed", "blue", 160))):
        left = 20 + 80 * number
        draw.rectangle((left, 210 - height, left + 50, 210), fill=COLOURS[colour])
        draw.text((left, 216), name, fill="black", font=font)
    return image


def clip() -> list[Image.Image]:
    return [scene(128, ("blue", "circle", 24 + 20 * k, 64, 16)) for k in range(5)]


def film() -> Iterator[Image.Image]:
    """Twelve seconds at 25 frames a second, in three scenes."""
    for k in range(100):
        yield scene(256, ("red", "circle", 48 + 1.6 * k, 120, 34))
    for k in range(100):
        yield scene(256, ("blue", "square", 140, 208 - 1.6 * k, 34), ground="gray")
    for k in range(100):
        yield scene(256, ("purple", "heart", 208 - 1.6 * k, 130, 40), ground="yellow")


def scanned_page() -> Image.Image:
    """A heading, a paragraph, a table with rules, and a last line, at SCAN_DPI."""
    image = Image.new("L", (860, 520), 255)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(24)
    draw.text((50, 40), "Town Library", fill=0, font=ImageFont.load_default(44))
    for number, line in enumerate(LEND):
        draw.text((50, 125 + 36 * number), line, fill=0, font=font)
    for row, cells in enumerate(HOURS):
        for column, cell in enumerate(cells):
            left, top = 50 + 200 * column, 230 + 50 * row
            draw.rectangle((left, top, left + 200, top + 50), outline=0, width=2)
            draw.text((left + 16, top + 10), cell, fill=0, font=font)
    draw.text((50, 425), "Please bring tools back clean.", fill=0, font=font)
    return image


def leaflet() -> pikepdf.Pdf:
    """Two pages: the first is a picture, as a scanner makes it; the second has its text as text."""
    pdf, scan = pikepdf.new(), scanned_page()
    size = tuple(edge * 72 / SCAN_DPI for edge in scan.size)
    picture = pdf.make_stream(
        scan.tobytes(),
        Type=pikepdf.Name.XObject,
        Subtype=pikepdf.Name.Image,
        Width=scan.width,
        Height=scan.height,
        ColorSpace=pikepdf.Name.DeviceGray,
        BitsPerComponent=8,
    )
    helvetica = pikepdf.Dictionary(
        Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica,
        Encoding=pikepdf.Name.WinAnsiEncoding,
    )  # fmt: skip
    texts = ["BT /F 20 Tf 24 205 Td (Late books) Tj ET"]
    texts += [f"BT /F 11 Tf 24 {170 - 16 * number} Td ({line}) Tj ET" for number, line in enumerate(DUES)]
    for content, resources in (
        (f"{size[0]} 0 0 {size[1]} 0 0 cm /Scan Do", {"XObject": {"/Scan": picture}}),
        ("\n".join(texts), {"Font": {"/F": helvetica}}),
    ):
        page = pdf.add_blank_page(page_size=(int(size[0]), int(size[1])))
        page.Contents = pdf.make_stream(content.encode())
        kinds = {f"/{kind}": pikepdf.Dictionary(value) for kind, value in resources.items()}
        page.Resources = pikepdf.Dictionary(kinds)
    return pdf


def main() -> None:
    scene(256, ("red", "circle", 66, 120, 40), ("blue", "square", 186, 136, 44)).save(HERE / "scene.png")
    shapes = [("green", "star", 44, 110, 34), ("orange", "heart", 128, 140, 36), ("purple", "ring", 210, 118, 34)]
    scene(256, *shapes).save(HERE / "three.png")
    circles = [("green", "circle", 50, 120, 30), ("green", "circle", 128, 132, 34), ("green", "circle", 208, 124, 32)]
    scene(256, *circles).save(HERE / "circles.png")
    printed((256, 256), "white", "black", ["OPEN", "9:00 - 18:30", "Sunday closed", "Tel. 555 0123"], 34, 56).save(
        HERE / "page.png"
    )
    printed((256, 128), "#0b5d1e", "white", ["EXIT 27"], 56, 60).save(HERE / "sign.png")
    chart().save(HERE / "chart.png")
    Image.new("RGB", (256, 256), WHITE).save(HERE / "blank.png")
    frames = clip()
    frames[0].save(HERE / "clip.gif", save_all=True, append_images=frames[1:], duration=500, loop=0)
    with av.open(str(HERE / "film.mp4"), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryslow", "x264-params": "threads=1"})
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for image in film():
            frame = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    leaflet().save(HERE / "leaflet.pdf", deterministic_id=True, recompress_flate=True)


if __name__ == "__main__":
    main()
