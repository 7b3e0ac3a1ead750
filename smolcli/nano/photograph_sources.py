"""The real photographs that nano's lessons are cut from: which packages give them, under which licences, and how.

Training and evaluation take theirs from different packages. A photograph of at least LARGE pixels also gives parts of
itself, and a panorama views of it, as a camera sees them; `Source.count` says what came of it.
"""

from __future__ import annotations

import base64
import io
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from smolcli.nano.materials import Package

LONGEST_EDGE = 320  # pixels of a photograph as it is kept
LARGE = 1200  # longest edge in pixels from which parts are cut
PARTS = 3
LEAST_CONTRAST = 14  # of 255: standard deviation of the brightness of a part; plainer ones could be drawings
VIEWS = 12  # of a panorama
SUN = 100.0  # light above which the files' compression has lost the colour of a pixel: it is taken for white
SEED = 20  # of the choice of parts and views
NEAR_DUPLICATE = 6  # bits in which the hashes of two near duplicates differ at most
RGB = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Source:
    """Files of a package, found below the folder `where` by their names in `files`, and their licence.

    `photographs` and `pictures` are what it gave: photographs or panoramas, and pictures kept of them.
    """

    package: Package
    licence: str
    where: str
    files: tuple[str, ...]
    photographs: int
    pictures: int


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TRAINING = (
    Source(
        Package("npm", "@pmndrs/assets", "1.7.0"), "CC0-1.0", "package/hdri",
        _words("""apartment.exr.js bridge.exr.js city.exr.js dawn.exr.js esplanade.exr.js forest.exr.js hall.exr.js
               lab.exr.js lobby.exr.js night.exr.js park.exr.js sky.exr.js studio.exr.js sunrise.exr.js sunset.exr.js
               venice.exr.js warehouse.exr.js workshop.exr.js"""),
        18, 216,
    ),
    Source(
        Package("debian", "opencv-doc", "4.6.0+dfsg-12"), "Apache-2.0", "usr/share/doc/opencv-doc/examples",
        _words("""plant.jpg home.png butterfly.png fruits.jpg baboon.jpg left01.jpg leuvenA.jpg squirrel_cls.jpg
               home.jpg aloeL.jpg board.jpg orange.jpg stuff.jpg rubberwhale2.png aero1.jpg aero3.jpg apple.jpg
               butterfly.jpg building.jpg 000.jpg 001.jpg 002.jpg chicky_512.png"""),
        23, 26,
    ),
    Source(
        Package("debian", "opencv-doc", "4.6.0+dfsg-12"), "Apache-2.0", "usr/share/doc/opencv-doc/opencv4/html",
        _words("""feature_building.jpg Background_Subtraction_Tutorial_frame.jpg fusion_mertens.jpg boat.jpg handSrc.jpg
               Remap_Tutorial_Original_Image.jpg water_coins.jpg Hough_Lines_Tutorial_Original_Image.jpg yolo.jpg
               Laplace_Operator_Tutorial_Original_Image.jpg Bounding_Rotated_Ellipses_Source_Image.jpg cat_det.jpg
               Histogram_Comparison_Source_0.jpg space_shuttle.jpg Warp_Affine_Tutorial_Original_Image.jpg
               Histogram_Calculation_Original_Image.jpg astra_color.jpg retina_TreeHdr_retina.jpg
               opencv_bus_res.jpg"""),
        19, 19,
    ),
    Source(
        Package("pypi", "scikit-image", "0.26.0"), "BSD-3-Clause", "skimage/data",
        _words("""coffee.png camera.png astronaut.png gravel.png brick.png grass.png motorcycle_left.png moon.png
               rocket.jpg chelsea.png coins.png hubble_deep_field.jpg"""),
        12, 12,
    ),
    Source(
        Package("debian", "python3-sklearn", "1.2.1+dfsg-1"), "CC-BY-2.0",
        "usr/lib/python3/dist-packages/sklearn/datasets/images", ("china.jpg", "flower.jpg"), 2, 2,
    ),
    Source(
        Package("debian", "mate-backgrounds", "1.26.0-1"), "GPL-2.0-or-later", "usr/share/backgrounds/mate/nature",
        _words("""Aqua.jpg Blinds.jpg Dune.jpg FreshFlower.jpg Garden.jpg GreenMeadow.jpg LadyBird.jpg RainDrops.jpg
               Storm.jpg TwoWings.jpg Wood.jpg YellowFlower.jpg"""),
        12, 45,
    ),
)  # fmt: skip
HELD_OUT = (
    Source(
        Package("debian", "kphotoalbum", "5.9.1-1"), "GPL-2.0-or-later", "usr/share/kphotoalbum/demo",
        _words("""anne_helene.jpg bar55.jpg bar55_2.jpg blackie.jpg cold_water.jpg donna.jpg donna_2.jpg
               grand_canyon_1.jpg grand_canyon_2.jpg grand_canyon_3.jpg jesper.jpg jesper_2.jpg new_wave_1.jpg
               new_wave_2.jpg pool.jpg pool_2.jpg skagen.jpg skagen_2.jpg snow.jpg spiff.jpg spiff_2.jpg sunset.jpg
               wayne.jpg"""),
        23, 23,
    ),
    Source(
        Package("debian", "plasma-workspace-data", "4:5.27.5-2+deb12u2"), "CC0-1.0",
        "usr/share/plasma/avatars/photos",
        ("Air Balloon.png", *(f"{name}.png" for name in _words(
            "Astronaut Books Brushes Bulb Car Cat Chameleon Cocktail Dog Fish Gamepad Owl Pancakes Parrot Pencils "
            "Soccer Sunflower Sushi"))),
        19, 19,
    ),
    Source(
        Package("debian", "plasma-workspace-wallpapers", "4:5.27.5-2"), "LGPL-3.0", "usr/share/wallpapers",
        tuple(f"{name}/contents/images/2560x1600.jpg" for name in _words(
            "BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite OneStandsOut Path "
            "summer_1am")),
        11, 42,
    ),
    Source(
        Package("debian", "lomiri-wallpapers-16.04", "20.04.0-2"), "CC-BY-4.0 and CC0-1.0", "usr/share/backgrounds",
        _words("""aitzgorri_by_Aitzol_Berasategi.jpg friends_by_Aitzol_Berasategi.jpg life_by_Aitzol_Berasategi.jpg
               picosdeeuropa_by_Aitzol_Berasategi.jpg sunset_by_Aitzol_Berasategi.jpg Picture_0B_by_freespace.jpg
               Picture_1A_by_freespace.jpg seeding_by_Clements_Engelhardt.jpg Wine_by_Jakkub_Mede.jpg"""),
        9, 36,
    ),
    # Without waage.jpg, whose display can be read, and with it another.
    Source(
        Package("debian", "kalzium-data", "4:22.12.3-1"), "GPL-2.0-or-later", "usr/share/kalzium/data/toolpics",
        ("[!w]*.jpg",), 37, 37,
    ),
    Source(
        Package("debian", "golang-github-disintegration-imaging-dev", "1.6.2-2"), "MIT",
        "usr/share/gocode/src/github.com/disintegration/imaging/testdata", ("branches.jpg", "flowers.png"), 2, 2,
    ),
    # Its studio and sunrise show the places of two panoramas of training.
    Source(
        Package("debian", "blender-data", "3.4.1+dfsg-2"), "CC0-1.0", "usr/share/blender/datafiles/studiolights/world",
        ("city.exr", "courtyard.exr", "forest.exr", "interior.exr", "night.exr", "sunset.exr"), 6, 72,
    ),
)  # fmt: skip


def make_training(file: BinaryIO) -> None:
    """Write the photographs of training: see `photographs.load`."""
    write_pictures(file, _gathered(TRAINING))


def make_held_out(file: BinaryIO) -> None:
    """Write the photographs of evaluation: see `photographs.load`."""
    write_pictures(file, _gathered(HELD_OUT))


def _gathered(sources: tuple[Source, ...]) -> list[tuple[int, RGB]]:
    """The number of its source and the pixels of each picture, without near duplicates of earlier photographs."""
    rng = np.random.default_rng(SEED)
    found: list[tuple[int, RGB]] = []
    hashes: list[np.ndarray[Any, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, source in enumerate(sources):
            root = source.package.unpack(Path(folder)) / source.where
            for path in _paths(root, source.files):
                pictures = list(_pictures(rng, path))
                code = difference_hash(pictures[0])
                if any(is_near_duplicate(code, other) for other in hashes):
                    continue
                hashes.append(code)
                found += [(number, picture) for picture in pictures]
    return found


def _paths(root: Path, names: tuple[str, ...]) -> list[Path]:
    """The file of each name at or below `root`, the first of several; all files that a pattern like *.jpg matches."""
    paths: list[Path] = []
    for name in names:
        matches = sorted(root.glob(name)) or sorted(root.rglob(name))
        if not matches:
            raise FileNotFoundError(f"{root} has no {name}")
        paths += matches if "*" in name else matches[:1]
    return paths


def _pictures(rng: np.random.Generator, path: Path) -> Iterator[RGB]:
    if path.name.endswith((".exr", ".exr.js")):
        panorama = _panorama(path)
        for number in range(VIEWS):
            yield view(rng, panorama, 360 * number / VIEWS)
        return
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    yield _reduced(image)
    if max(image.size) >= LARGE:
        for _ in range(PARTS):
            share = rng.uniform(0.3, 0.6)
            width, height = round(share * image.width), round(share * image.height)
            left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
            part = _reduced(image.crop((left, top, left + width, top + height)))
            if np.asarray(Image.fromarray(part).convert("L")).std() >= LEAST_CONTRAST:
                yield part


def _reduced(image: Image.Image) -> RGB:
    scale = min(1.0, LONGEST_EDGE / max(image.size))
    size = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


# ---- panoramas -----------------------------------------------------------------------------------


def _panorama(path: Path) -> np.ndarray[Any, Any]:
    """float32 (height, width, 3), linear light, of an equirectangular OpenEXR file, perhaps in a JavaScript module."""
    import OpenEXR  # an extra of training alone

    data = path.read_bytes()
    if path.suffix == ".js":
        [encoded] = re.findall(rb"base64,([A-Za-z0-9+/=]+)", data)
        data = base64.b64decode(encoded)
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        file.write(data)
        file.flush()
        pixels = OpenEXR.File(file.name).channels()["RGB"].pixels.astype(np.float32)
    strength = np.abs(pixels).max(-1)
    pixels[strength > SUN] = strength[strength > SUN, None]
    linear: np.ndarray[Any, Any] = np.maximum(pixels, 0)
    return linear


def view(rng: np.random.Generator, panorama: np.ndarray[Any, Any], degrees: float) -> RGB:
    """What a camera sees that looks about `degrees` to the right of the panorama's middle: a photograph."""
    yaw = np.deg2rad(degrees + rng.uniform(-12, 12))
    pitch = np.deg2rad(rng.uniform(-18, 22))
    half_width = np.tan(np.deg2rad(rng.uniform(60, 95)) / 2)
    width, height = ((256, 192), (256, 171), (192, 256), (224, 224))[int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))]
    across = np.linspace(-half_width, half_width, width)[None, :]
    down = np.linspace(-half_width, half_width, height)[:, None] * height / width
    y = -down * np.cos(pitch) + np.sin(pitch) + 0 * across
    z = down * np.sin(pitch) + np.cos(pitch) + 0 * across
    longitude = np.arctan2(across, z) + yaw
    latitude = np.arctan2(y, np.hypot(across, z))
    rows, columns, _ = panorama.shape
    seen = _bilinear(panorama, (0.5 - latitude / np.pi) * rows - 0.5, (longitude / (2 * np.pi) + 0.5) * columns - 0.5)
    # Photographic exposure (Reinhard): the middle brightness becomes middle gray, lights do not clip.
    exposed = seen * (rng.uniform(0.15, 0.4) / max(1e-4, float(np.median(seen))))
    toned = exposed * (1 + exposed / 4) / (1 + exposed)
    return np.round(255 * np.clip(toned, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def _bilinear(panorama: np.ndarray[Any, Any], row: RGB, column: RGB) -> np.ndarray[Any, Any]:
    """The panorama between its pixels; it is round: columns go on at the other edge."""
    rows, columns, _ = panorama.shape
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    down, right = (row - top)[..., None], (column - left)[..., None]
    y0, y1 = top.clip(0, rows - 1), (top + 1).clip(0, rows - 1)
    x0, x1 = left % columns, (left + 1) % columns
    upper = panorama[y0, x0] * (1 - right) + panorama[y0, x1] * right
    mixed: np.ndarray[Any, Any] = (
        upper * (1 - down) + (panorama[y1, x0] * (1 - right) + panorama[y1, x1] * right) * down
    )
    return mixed


# ---- near duplicates -----------------------------------------------------------------------------


def difference_hash(pixels: RGB) -> np.ndarray[Any, Any]:
    """Bool (64,): where a picture, reduced to 8 x 9 brightnesses, gets brighter to the right."""
    small = np.asarray(Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.LANCZOS), int)
    return (small[:, 1:] > small[:, :-1]).ravel()


def is_near_duplicate(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> bool:
    """Whether two hashes are of the same photograph, perhaps of another size or brightness."""
    return int((first != second).sum()) <= NEAR_DUPLICATE


def write_pictures(file: BinaryIO, pictures: list[tuple[int, RGB]]) -> None:
    """An .npz: `pixels` uint8, all pictures in a row; `sizes` int (n, 2), height and width; `sources` int (n,)."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        pixels=np.concatenate([pixels.ravel() for _, pixels in pictures]),
        sizes=np.array([pixels.shape[:2] for _, pixels in pictures]),
        sources=np.array([number for number, _ in pictures]),
    )
    file.write(buffer.getbuffer())
