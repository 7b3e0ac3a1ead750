"""Lessons about scenes of everyday things, drawn from icons, and about drawings that nano does not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter

from smolcli.nano import colours, synthetic_images, thing_images
from smolcli.nano.dataset import BUSY, CAPTION, FOLLOW_UP_COUNT, NO_TEXT, READ, TAGS, UNKNOWN, Lesson, still
from smolcli.nano.kinds import CANNOT_TELL, DRAWING, about_kind, in_colours
from smolcli.nano.questions import ABOUT_ONE_THING, ABOUT_THINGS, region, scene_caption, tags
from smolcli.nano.synthetic_images import SHAPES, TILE, Annotation, Picture, Rng, pick
from smolcli.nano.thing_images import Drawing
from smolcli.nano.thing_names import with_article

# Makes a background of (width, height) pixels.
GroundMaker = Callable[[Rng, int, int], Image.Image]

_BUSY_SHARE = 0.2  # of the scenes
_UNKNOWN_SHARE = 0.14
_CONTRAST = 0.4  # the least share of a thing's pixels that differ from a plain background
_GREATEST_RADII = {1: 60, 2: 29, 3: 22, 4: 20, 5: 18}  # in pixels of a tile, of so many things
_LEAST_RADIUS = 11
# What no drawing tells.
_UNTOLD = (
    "Who is this?", "Who made this?", "Why is it there?", "How old is it?", "What brand is it?", "Where was this made?",
)  # fmt: skip


def lesson(rng: Rng, held_out: bool, busy_ground: GroundMaker = thing_images.busy_ground) -> Lesson:
    """A scene of one to five things, some with drawn shapes, or a drawing that nano does not know.

    `held_out` draws from the icon set that training never sees; `busy_ground` makes the backgrounds that are not plain.
    """
    if rng.random() < _UNKNOWN_SHARE:
        return unknown(rng, held_out, busy_ground)
    kind, layout = rng.random(), "free"
    if kind < 0.5:
        names = [thing_images.thing_name(rng)]
    elif kind < 0.68:
        names = [thing_images.thing_name(rng)] * int(rng.integers(2, 6))
    elif kind < 0.93:
        names = _different(rng, 2 if rng.random() < 0.65 else 3)
        layout = pick(rng, ("row", "column")) if rng.random() < 0.85 else "free"
    else:
        few = _different(rng, 2)
        names = [*few, *(pick(rng, few) for _ in range(int(rng.integers(1, 4))))]
    return _about(rng, scene(rng, names, layout, held_out, busy_ground), layout)


def unknown(rng: Rng, held_out: bool, busy_ground: GroundMaker = thing_images.busy_ground) -> Lesson:
    """A drawing of which nano is to say the kind, the colours and the place, and not what it shows."""
    return _about_unknown(rng, _unknown(rng, held_out, busy_ground))


def single(rng: Rng, held_out: bool) -> Lesson:
    """A scene of one thing on a plain background: the first lesson about things."""
    return _about(rng, scene(rng, [thing_images.thing_name(rng)], "free", held_out, None), "free")


def _different(rng: Rng, count: int) -> list[str]:
    """`count` different names, of things and now and then of shapes, at least one of a thing."""
    names = [thing_images.thing_name(rng)]
    while len(names) < count:
        name = pick(rng, SHAPES) if rng.random() < 0.2 else thing_images.thing_name(rng)
        if name not in names:
            names.append(name)
    return [names[place] for place in rng.permutation(count)]


# ---- scenes --------------------------------------------------------------------------------------


def scene(rng: Rng, names: Sequence[str], layout: str, held_out: bool, busy_ground: GroundMaker | None) -> Picture:
    """The things and shapes of these names without overlap on a plain or busy background, the size of a tile."""
    drawings = _drawings(rng, names, held_out)
    picture = _empty(rng, drawings, busy_ground)
    factor = rng.uniform(0.55, 1.0) if len(names) > 1 else 1.0
    while True:
        radii = [_radius(rng, len(names)) * factor for _ in names]
        radii = [max(_LEAST_RADIUS, radius) for radius in radii]
        if places := synthetic_images.centres(rng, radii, TILE, layout):
            break
    for (drawing, colour), radius, (x, y) in zip(drawings, radii, places, strict=True):
        pasted = _paste(picture.image, drawing, x, y, radius)
        size = float(sum(drawing.image.size)) / max(drawing.image.size) * radius
        picture.annotations.append(Annotation(drawing.name, x, y, size, colour or pasted.colour()))
    picture.image = picture.image.resize((TILE, TILE), thing_images.resampling(rng))
    return synthetic_images.worn(rng, picture) if rng.random() < (0.15 if held_out else 0.3) else picture


def _drawings(rng: Rng, names: Sequence[str], held_out: bool) -> list[tuple[Drawing, str]]:
    """A drawing for each name, and its colour if it is a shape; all shapes have one colour.

    In 60 % of the scenes things of one name are drawn from the same icon.
    """
    is_alike = rng.random() < 0.6
    [[colour, _]] = synthetic_images.kinds(rng, "white", 1, held_out)
    icons: dict[str, Image.Image] = {}
    drawings = []
    for name in names:
        if name in SHAPES:
            drawings.append((thing_images.shape(rng, name, colour), colour))
            continue
        if name not in icons or not is_alike:
            icons[name] = thing_images.icon(rng, name, held_out)
        drawings.append((thing_images.varied(rng, name, icons[name], held_out), ""))
    return drawings


def _empty(rng: Rng, drawings: Sequence[tuple[Drawing, str]], busy_ground: GroundMaker | None) -> Picture:
    """A background of some size; if plain, the drawings can be seen on it, unless eight tries find none."""
    width, height = thing_images.canvas_size(rng)
    if busy_ground is not None and rng.random() < _BUSY_SHARE:
        return Picture(busy_ground(rng, width, height), ground=BUSY)
    for _ in range(8):
        ground, paper = synthetic_images.ground(rng)
        if all(drawing.contrast(paper) > _CONTRAST for drawing, _ in drawings):
            break
    return Picture(Image.new("RGB", (width, height), paper), ground=ground)


def _radius(rng: Rng, count: int) -> float:
    """Half of the longer side of a thing in pixels of a tile; one thing alone is most often large."""
    greatest = _GREATEST_RADII[count]
    least = 0.5 * greatest if count == 1 and rng.random() < 0.7 else _LEAST_RADIUS
    return float(rng.uniform(least, greatest))


def _paste(image: Image.Image, drawing: Drawing, x: float, y: float, radius: float) -> Drawing:
    """Draw a thing into an image of any size, at a place in pixels of a tile; return it as large as it was drawn."""
    fx, fy = image.width / TILE, image.height / TILE
    scale = 2 * radius / max(drawing.image.size)
    width, height = (max(1, round(side * scale * f)) for side, f in zip(drawing.image.size, (fx, fy), strict=True))
    scaled = drawing.image.resize((width, height), Image.Resampling.BICUBIC)
    image.paste(scaled, (round(x * fx - width / 2), round(y * fy - height / 2)), scaled)
    return Drawing(drawing.name, scaled)


def _about(rng: Rng, picture: Picture, layout: str) -> Lesson:
    """The lesson about a scene of things: a caption or a question, and follow-up questions."""
    caption = pick(rng, CAPTION), scene_caption(picture, layout)
    asked = ABOUT_ONE_THING if len(picture.annotations) == 1 else ABOUT_THINGS
    has_order = layout != "free" or len({thing.name for thing in picture.annotations}) == 1
    kind = rng.random()
    if kind < 0.45:
        first = caption
    elif kind < 0.53:
        first = about_kind(rng, DRAWING)
    elif kind < 0.59:
        first = pick(rng, READ), NO_TEXT
    elif kind < 0.65 and has_order:
        first = TAGS, tags(picture)
    else:
        first = pick(rng, asked)(rng, picture, layout)
    others = [] if kind < 0.45 else [caption]
    if rng.random() < 0.15:
        others.append((pick(rng, _UNTOLD), CANNOT_TELL) if rng.random() < 0.5 else about_kind(rng, DRAWING))
    others += [pick(rng, asked)(rng, picture, layout) for _ in range(2 * FOLLOW_UP_COUNT)]
    different = [pair for pair in dict.fromkeys(others) if pair != first]
    return replace(still(picture, *first), follow_ups=different[:FOLLOW_UP_COUNT])


# ---- what nano does not know -----------------------------------------------------------------------


def _unknown(rng: Rng, held_out: bool, busy_ground: GroundMaker) -> tuple[Picture, tuple[str, ...]]:
    """A picture of one thing that nano cannot know, and the thing's main colours, which are clear if ten tries find it.

    It is an icon without a name, or a thing that is tiny, blurred, or cut off by the border.
    """
    for _ in range(10):
        flaw = pick(rng, ("unnamed", "unnamed", "tiny", "blurred", "cut off"))
        name = UNKNOWN if flaw == "unnamed" else thing_images.thing_name(rng)
        drawing = thing_images.varied(rng, UNKNOWN, thing_images.icon(rng, name, held_out), held_out)
        picture = _empty(rng, [(drawing, "")], busy_ground)
        radius = float(rng.uniform(3, 5.5)) if flaw == "tiny" else _radius(rng, 1)
        if flaw == "cut off":
            radius = float(rng.uniform(40, 80))
            angle, distance = rng.uniform(0, 2 * np.pi), TILE / 2 + radius * rng.uniform(0.35, 0.6)
            across, down = np.cos(angle), np.sin(angle)
            reach = distance / max(abs(across), abs(down))
            x, y = TILE / 2 + across * reach, TILE / 2 + down * reach
        else:
            x, y = rng.uniform(radius + 2, TILE - radius - 2, 2)
        mask = Image.new("RGB", picture.image.size)
        _paste(picture.image, drawing, x, y, radius)
        _paste(mask, Drawing(UNKNOWN, _white(drawing.image)), x, y, radius)
        resampling = thing_images.resampling(rng)
        image, mask = (layer.resize((TILE, TILE), resampling) for layer in (picture.image, mask))
        if flaw == "blurred":
            image = image.filter(ImageFilter.GaussianBlur(radius * float(rng.uniform(0.3, 0.5))))
        covered = np.asarray(mask)[..., 0] > 127
        shares = colours.colour_shares(np.asarray(image), covered)
        if covered.sum() > 12 and colours.is_clear(shares):
            break
    main = colours.main_colours(shares or {"gray": 1.0})
    rows, columns = np.nonzero(covered) if covered.any() else (np.array([y]), np.array([x]))
    colour = main[0] if shares and shares[main[0]] > 0.5 else ""
    seen = Annotation(UNKNOWN, float(columns.mean()), float(rows.mean()), float(covered.sum() ** 0.5), colour)
    return Picture(image, [seen], ground=picture.ground), main


def _white(image: Image.Image) -> Image.Image:
    """The image's opacity with all of its pixels white."""
    white = Image.new("RGBA", image.size, (255, 255, 255))
    white.putalpha(image.getchannel("A"))
    return white


def _about_unknown(rng: Rng, seen: tuple[Picture, tuple[str, ...]]) -> Lesson:
    """The lesson about a drawing of which nano can say the colours and the place alone."""
    picture, main = seen
    [thing] = picture.annotations
    word = pick(rng, ("colour", "color"))
    pairs = [
        (pick(rng, ("What is this?", "What is it?", "What is that?")), CANNOT_TELL),
        (f"Is there {with_article(thing_images.thing_name(rng))}?", CANNOT_TELL),
        (pick(rng, _UNTOLD), CANNOT_TELL),
        (pick(rng, READ), NO_TEXT),
        (pick(rng, ("Is the picture blank?", "Is there any text?")), "no"),
        (TAGS, ", ".join(("drawing", *main))),
        about_kind(rng, DRAWING),
    ]
    if thing.colour:
        pairs.append((f"What {word} is it?", thing.colour))
    if picture.ground != BUSY:
        pairs.append((f"What {word} is the background?", picture.ground))
    if where := region(thing.x, thing.y, TILE, TILE):
        pairs.append(("Where is it?", where))
    caption = pick(rng, CAPTION), f"a drawing, {in_colours(main)}, on a {picture.ground} background"
    chosen = [pairs[number] for number in rng.permutation(len(pairs))[:FOLLOW_UP_COUNT]]
    first, *follow_ups = [caption, *chosen] if rng.random() < 0.5 else [chosen[0], caption, *chosen[1:]]
    return replace(still(picture, *first), follow_ups=follow_ups)
