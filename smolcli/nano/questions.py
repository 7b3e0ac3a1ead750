"""Questions about a scene of shapes and things, and their right answers, from the scene's annotations."""

from __future__ import annotations

from collections.abc import Callable

from smolcli.nano import thing_names
from smolcli.nano.synthetic_images import COLOURS, GROUNDS, NUMBERS, SHAPES, Annotation, Picture, Rng, pick

# Makes of a scene and its layout (row, column or free) a question and its answer.
Question = Callable[[Rng, Picture, str], tuple[str, str]]
_COMMON = sorted(thing_names.COMMON)


def with_article(colour: str, shape: str) -> str:
    """The name of one shape: "an orange ring"."""
    return thing_names.with_article(f"{colour} {shape}")


def label(annotation: Annotation) -> str:
    """What answers call a shape or a thing: "red star", "cat"."""
    return f"{annotation.colour} {annotation.name}" if annotation.name in SHAPES else annotation.name


def _name(annotation: Annotation) -> str:
    return thing_names.with_article(label(annotation))


def scene_caption(picture: Picture, layout: str) -> str:
    """The one right caption of a scene: counts of what is equal, the relation of two, or the order of three."""
    things, on = picture.annotations, f" on a {picture.ground} background"
    labels = [label(thing) for thing in things]
    if len(things) == 1:
        return _name(things[0]) + on
    if len(set(labels)) == 1:
        return f"{NUMBERS[len(things)]} {thing_names.plural(labels[0])}{on}"
    if len(things) == 2 and layout != "free":
        relation = "to the left of" if layout == "row" else "above"
        return f"{_name(things[0])} {relation} {_name(things[1])}{on}"
    if len(things) == 3 and layout != "free":
        order = "from left to right" if layout == "row" else "from top to bottom"
        return f"{order}: {_name(things[0])}, {_name(things[1])} and {_name(things[2])}{on}"
    counts = sorted(((labels.count(label), label) for label in set(labels)), key=lambda count: (-count[0], count[1]))
    parts = [f"{NUMBERS[count]} {thing_names.plural(name) if count > 1 else name}" for count, name in counts]
    return (" and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}") + on


def tags(picture: Picture) -> str:
    """Each kind of shape or thing in a scene once, in the order of its annotations."""
    return ", ".join(dict.fromkeys(label(thing) for thing in picture.annotations))


def region(x: float, y: float, width: float, height: float) -> str:
    """The name of the third of a picture that a point is in, across and down; "" near the border of two thirds.

    >>> region(20, 100, 128, 128)
    'bottom left'
    """
    across, down = 3 * x / width, 3 * y / height
    if min(abs(position - border) for position in (across, down) for border in (1, 2)) < 0.12:
        return ""
    row, column = ("top", "", "bottom")[int(down)], ("left", "", "right")[int(across)]
    return f"{row} {column}".strip() or "centre"


def _has_things(picture: Picture) -> bool:
    return any(thing.name not in SHAPES for thing in picture.annotations)


def _other_name(rng: Rng, picture: Picture) -> str:
    """The name of a shape, or of a thing where the picture has things, which may be in the picture or not."""
    return pick(rng, _COMMON if _has_things(picture) else SHAPES)


def _how_many(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    if rng.random() < 0.3:
        asked = ("things", "objects") if _has_things(picture) else ("shapes", "objects")
        return f"How many {pick(rng, asked)} are there?", str(len(picture.annotations))
    present = [thing.name for thing in picture.annotations]
    name = pick(rng, present) if rng.random() < 0.75 else _other_name(rng, picture)
    question = pick(rng, ("How many {} are there?", "How many {}?")).format(thing_names.plural(name))
    return question, str(present.count(name))


def _what_colour(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    word = pick(rng, ("colour", "color"))
    if rng.random() < 0.15 and picture.ground in GROUNDS:
        return f"What {word} is the background?", picture.ground
    present = [thing.name for thing in picture.annotations]
    name = pick(rng, present) if rng.random() < 0.9 else _other_name(rng, picture)
    colours = {thing.colour for thing in picture.annotations if thing.name == name}
    if not colours:
        return f"What {word} is the {name}?", f"there is no {name}"
    if len(colours) > 1 or "" in colours:  # of several colours, or of none that is clear
        return _how_many(rng, picture, layout)
    return f"What {word} is the {name}?", colours.pop()


def _what_shape(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    if _has_things(picture):
        return _what_is(rng, picture, layout)
    colour = pick(rng, [shape.colour for shape in picture.annotations])
    names = {shape.name for shape in picture.annotations if shape.colour == colour}
    if len(names) > 1:
        return _is_there(rng, picture, layout)
    return pick(rng, ("What shape is {}?", "What shape is the {} object?")).format(colour), names.pop()


def _what_is(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    """What one thing is, or what is in one part of a picture of several."""
    things = picture.annotations
    if len(things) == 1:
        return pick(rng, ("What is this?", "What is it?", "What is that?")), _name(things[0])
    regions = [region(thing.x, thing.y, *picture.image.size) for thing in things]
    thing, part = pick(rng, list(zip(things, regions, strict=True)))
    if not all(regions) or sum(part in other for other in regions) > 1:
        return _is_there(rng, picture, layout)
    place = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
    return f"What is {place.get(part, f'in the {part}')}?", _name(thing)


def _is_there(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    present = {label(thing): thing for thing in picture.annotations}
    asked = pick(rng, sorted(present))
    thing = present[asked]
    if rng.random() < 0.5:  # usually absent: another colour or another name
        if thing.name in SHAPES and rng.random() < 0.5:
            asked = f"{pick(rng, list(COLOURS))} {thing.name}"
        else:
            name = _other_name(rng, picture)
            asked = f"{thing.colour} {name}" if name in SHAPES else name
    return f"Is there {thing_names.with_article(asked)}?", "yes" if asked in present else "no"


def _relation(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    """Ask how two things of a row or column lie, or which one is next to another."""
    things = picture.annotations
    if layout == "free" or len(things) < 2 or len({label(thing) for thing in things}) < len(things):
        return _how_many(rng, picture, layout)
    first, second = sorted(rng.choice(len(things), 2, replace=False))
    before, after = ("to the left of", "to the right of") if layout == "row" else ("above", "below")
    if rng.random() < 0.5:
        a, b = things[first], things[second]
        x, y, relation = (a, b, before) if rng.random() < 0.5 else (b, a, after)
        is_true = rng.random() >= 0.5
        if not is_true:
            x, y = y, x
        return f"Is the {label(x)} {relation} the {label(y)}?", "yes" if is_true else "no"
    a, b = things[first], things[first + 1]
    if rng.random() < 0.5:
        if first == 0:
            return f"What is {before} the {label(b)}?", _name(a)
    elif first + 1 == len(things) - 1:
        return f"What is {after} the {label(a)}?", _name(b)
    return _is_there(rng, picture, layout)


def _where(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    names = [thing.name for thing in picture.annotations]
    thing = pick(rng, picture.annotations)
    answer = region(thing.x, thing.y, *picture.image.size)
    if names.count(thing.name) > 1 or not answer:
        return _is_there(rng, picture, layout)
    return f"Where is the {thing.name}?", answer


def _blank_or_text(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    return pick(rng, ("Is the picture blank?", "Is there any text?")), "no"


# A question that stands twice is asked twice as often.
QUESTIONS: tuple[Question, ...] = (
    _how_many,
    _how_many,
    _what_colour,
    _what_colour,
    _what_shape,
    _is_there,
    _relation,
    _relation,
    _relation,
    _where,
    _where,
    _where,
    _blank_or_text,
)
# What a model learns last: to count, and to look from one shape to another.
FOLLOW_UPS: tuple[Question, ...] = (
    _how_many,
    _how_many,
    _how_many,
    _relation,
    _relation,
    _relation,
    _where,
    _where,
    _is_there,
    _what_colour,
)
# What is asked about scenes with things.
ABOUT_THINGS: tuple[Question, ...] = (
    _how_many,
    _how_many,
    _what_colour,
    _what_is,
    _what_is,
    _is_there,
    _is_there,
    _relation,
    _relation,
    _where,
    _where,
)
ABOUT_ONE_THING: tuple[Question, ...] = (
    _how_many,
    _what_colour,
    _what_colour,
    _what_is,
    _what_is,
    _what_is,
    _is_there,
    _is_there,
    _is_there,
    _where,
    _where,
    _blank_or_text,
)
