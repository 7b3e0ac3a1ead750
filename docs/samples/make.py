"""Draws the samples of this folder: `python docs/samples/make.py`; Pillow's own font, so the same everywhere."""

from collections.abc import Iterator
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

from smolcli.nano.synthetic_images import COLOURS, GROUNDS, draw_shape

HERE = Path(__file__).parent
WHITE = (255, 255, 255)


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


if __name__ == "__main__":
    main()
