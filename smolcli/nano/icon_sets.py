"""The free icon sets that nano's things are drawn from, and their cache: every wanted icon as an array of pixels.

`python -m smolcli.nano.materials icons.npz` fetches the sets from the npm registry and renders them once;
`icons(held_out)` loads them.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from smolcli.nano import materials
from smolcli.nano.thing_names import ICONS, names_of_icons, normalised

SIDE = 112  # pixels of a rendered icon
# At most so many drawings of one thing from one set: a flag has hundreds.
_PER_NAME, _PER_SET = 6, 200
# Icons without a name are drawn as things that nano does not know, except those that look like a named thing or a
# shape, or hold text.
_LOOKS_NAMED = re.compile(
    r"face|cat|dog|heart|circle|square|diamond|star|triangle|arrow|hand|finger|point|man\b|men\b|person|people|boy|girl"
    r"|woman|women|adult|child|family|couple|kiss|clock|thirty|flag|keycap|button|letter|digit|number|input|squared"
    r"|latin|regional|sign\b|symbol|skin-tone|smil|circled|ideograph|cross|plus|minus|moon|sun|mark\b|book|note|page"
    r"|tele|phone|speaker|car\b|train|bus|leaf|flower|tree|key|lock|bell|ball|box|umbrella|cloud|hat|shoe|nose|fist"
    r"|bicep|thumb|foot|claus|angel|\bear\b|glasses|clothes|bear|bird|pickle|lime"
    r"|eighteen|atm|closet|badge|slot|zzz|trade|copyright|registered|hundred|currency|dollar|restroom|chart|information"
    r"|fox|fish|mail|envelope|disc|disk|floppy|printer|battery|camera|bridge|relieved|sleepy|pensive|weary|unamused"
    r"|smirk|grin|tongue|mouth|shirt|building|expressionless|guapimao|hush"
    r"|confused|confounded|flushed|perserv|anguish|tired|halo|mask|worried|grimac|scream|cold-?sweat|fear|bolt|bunny"
    r"|^no-|^(?:\d|[a-z]{1,2}$)"
)


@dataclass(frozen=True)
class IconSet:
    """One npm package of icons: what it is, whose it is, and what its names mean where they differ from others'."""

    name: str
    version: str
    licence: str
    author: str
    is_held_out: bool = False
    is_monochrome: bool = False
    meanings: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def package(self) -> materials.Package:
        """The npm package; its icons.json is in the format of Iconify."""
        return materials.Package("npm", f"@iconify-json/{self.name}", self.version)


_OF_SCREENS = {"mouse": "computer mouse", "school": "", "hospital": ""}
_OF_FIREFOX = {"frown": "", "pout": "", "sunglasses": "face with sunglasses"}
SETS = (
    IconSet("fluent-emoji", "1.2.7", "MIT", "Microsoft"),
    IconSet("fluent-emoji-flat", "1.2.6", "MIT", "Microsoft"),
    IconSet("twemoji", "1.2.5", "CC BY 4.0", "Twitter and contributors"),
    IconSet("emojione", "1.2.3", "CC BY 4.0", "Emoji One, EmojiTwo"),
    IconSet("fxemoji", "1.2.2", "Apache 2.0", "Mozilla", meanings=_OF_FIREFOX),
    IconSet("streamline-emojis", "1.2.4", "CC BY 4.0", "Streamline", meanings={"turkey": ""}),
    IconSet("fluent-emoji-high-contrast", "1.2.6", "MIT", "Microsoft", is_monochrome=True),
    IconSet("mdi", "1.2.3", "Apache 2.0", "Pictogrammers", is_monochrome=True, meanings=_OF_SCREENS),
    IconSet("ph", "1.2.2", "MIT", "Phosphor Icons", is_monochrome=True, meanings=_OF_SCREENS),
    IconSet("tabler", "1.2.41", "MIT", "Paweł Kuna", is_monochrome=True, meanings=_OF_SCREENS),
    IconSet("fa6-solid", "1.2.4", "CC BY 4.0", "Font Awesome", is_monochrome=True, meanings=_OF_SCREENS),
    IconSet("noto", "1.2.9", "Apache 2.0", "Google", is_held_out=True),
)


def make(file: BinaryIO) -> None:
    """Fetch each set and write its wanted icons into an open file; needs npm, resvg-py and some minutes.

    The members of the .npz are NAME.pixels, uint8 (n, 112, 112, 4) RGBA, or (n, 112, 112, 1), their opacity, of
    monochrome sets, and NAME.names as JSON. Raises subprocess.CalledProcessError if npm cannot fetch a package.
    """
    members: dict[str, np.ndarray[Any, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for icon_set in SETS:
            source = icon_set.package.unpack(Path(folder)) / "package" / "icons.json"
            pixels, names = _drawn(icon_set, json.loads(source.read_text(encoding="utf-8")))
            members[f"{icon_set.name}.pixels"], members[f"{icon_set.name}.names"] = pixels, np.array(json.dumps(names))
    np.savez_compressed(file, **members)  # type: ignore[arg-type]


def _wanted(icon_set: IconSet, icons: list[str]) -> Iterator[tuple[str, str]]:
    """Pairs of a thing's name and an icon of it; the name is "" for icons that nano is not to know."""
    names = {**names_of_icons(), **icon_set.meanings}
    of_name: dict[str, list[str]] = {}
    for icon in sorted(icons):
        name = names.get(normalised(icon), "")
        if name or not (icon_set.is_monochrome or _LOOKS_NAMED.search(icon)):
            of_name.setdefault(name, []).append(icon)
    for name, found in of_name.items():
        most = _PER_NAME if name else _PER_SET
        for place in np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int)):
            yield name, found[place]


def _drawn(icon_set: IconSet, definitions: dict[str, Any]) -> tuple[np.ndarray[Any, Any], list[str]]:
    """The pixels of the wanted icons, as `make` writes them, and their names; without icons of hardly any pixels."""
    pixels, names = [], []
    for name, icon in _wanted(icon_set, list(definitions["icons"])):
        rendered = _rendered(definitions, definitions["icons"][icon])
        if (rendered[..., 3] > 127).sum() > 150:
            pixels.append(rendered[..., 3:] if icon_set.is_monochrome else rendered)
            names.append(name)
    return np.stack(pixels), names


def _rendered(definitions: dict[str, Any], icon: dict[str, Any]) -> np.ndarray[Any, Any]:
    """uint8 (112, 112, 4), the icon in straight RGBA, in the middle where it is not square."""
    import resvg_py  # type: ignore[import-not-found, unused-ignore]  # of the extra `nano`

    left, top = icon.get("left", definitions.get("left", 0)), icon.get("top", definitions.get("top", 0))
    width = icon.get("width", definitions.get("width", 16))
    height = icon.get("height", definitions.get("height", 16))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIDE}" height="{SIDE}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )
    image = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True))))
    return np.asarray(image.convert("RGBA"))


@dataclass(frozen=True)
class Icons:
    """The icons of one set: `of_name` has the images of each thing, cropped, "" of those that nano is not to know.

    An image is uint8 (height, width, 4), or (height, width, 1) where the set is monochrome.
    """

    icon_set: IconSet
    of_name: dict[str, list[np.ndarray[Any, Any]]]


@lru_cache(maxsize=2)
def icons(held_out: bool) -> tuple[Icons, ...]:
    """The sets that training draws from, or with `held_out` the one that it never sees.

    Raises FileNotFoundError where `python -m smolcli.nano.materials` has not made them.
    """
    return tuple(_load(icon_set) for icon_set in SETS if icon_set.is_held_out == held_out)


def _load(icon_set: IconSet) -> Icons:
    with np.load(materials.path("icons.npz")) as cache:
        pixels, names = cache[f"{icon_set.name}.pixels"], json.loads(str(cache[f"{icon_set.name}.names"]))
    of_name: dict[str, list[np.ndarray[Any, Any]]] = {}
    for name, icon in zip(names, pixels, strict=True):
        if name in ICONS or not name:
            of_name.setdefault(name, []).append(_cropped(icon))
    return Icons(icon_set, of_name)


def _cropped(icon: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The part of the icon that has opaque pixels."""
    rows, columns = (np.flatnonzero((icon[..., -1] > 20).any(axis)) for axis in (1, 0))
    return icon[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
