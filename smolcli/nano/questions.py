"""Questions about a drawn scene and their right answers, from the scene's annotations."""

from __future__ import annotations

from collections.abc import Callable

from smolcli.nano.synthetic_images import COLOURS, NUMBERS, SHAPES, Annotation, Picture, Rng, pick

# Makes of a scene and its layout (row, column or free) a question and its answer.
Question = Callable[[Rng, Picture, str], tuple[str, str]]


def with_article(colour: str, shape: str) -> str:
    """The name of one shape: "an orange ring"."""
    return f"{'an' if colour == 'orange' else 'a'} {colour} {shape}"


def _name(annotation: Annotation) -> str:
    return with_article(annotation.colour, annotation.name)


def plural(shape: str) -> str:
    """The plural of a shape's name."""
    return "crosses" if shape == "cross" else f"{shape}s"


def scene_caption(picture: Picture, layout: str) -> str:
    """The one right caption of a scene: counts of equal shapes, the relation of two, or the order of three."""
    shapes, on = picture.annotations, f" on a {picture.ground} background"
    pairs = [(shape.colour, shape.name) for shape in shapes]
    if len(shapes) == 1:
        return _name(shapes[0]) + on
    if len(set(pairs)) == 1:
        return f"{NUMBERS[len(shapes)]} {shapes[0].colour} {plural(shapes[0].name)}{on}"
    if len(shapes) == 2 and layout != "free":
        relation = "to the left of" if layout == "row" else "above"
        return f"{_name(shapes[0])} {relation} {_name(shapes[1])}{on}"
    if len(shapes) == 3 and layout != "free":
        order = "from left to right" if layout == "row" else "from top to bottom"
        return f"{order}: {_name(shapes[0])}, {_name(shapes[1])} and {_name(shapes[2])}{on}"
    counts = sorted(((pairs.count(pair), *pair) for pair in set(pairs)), key=lambda count: (-count[0], count[1:]))
    parts = [f"{NUMBERS[count]} {colour} {plural(shape) if count > 1 else shape}" for count, colour, shape in counts]
    return " and ".join(parts) + on


def tags(picture: Picture) -> str:
    """Each kind of shape in a scene once, in the order of its annotations."""
    return ", ".join(dict.fromkeys(f"{shape.colour} {shape.name}" for shape in picture.annotations))


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


def _how_many(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    if rng.random() < 0.3:
        question = pick(rng, ("How many shapes are there?", "How many objects are there?"))
        return question, str(len(picture.annotations))
    present = [shape.name for shape in picture.annotations]
    shape = pick(rng, present) if rng.random() < 0.75 else pick(rng, SHAPES)
    question = pick(rng, ("How many {} are there?", "How many {}?")).format(plural(shape))
    return question, str(present.count(shape))


def _what_colour(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    word = pick(rng, ("colour", "color"))
    if rng.random() < 0.15:
        return f"What {word} is the background?", picture.ground
    present = [shape.name for shape in picture.annotations]
    name = pick(rng, present) if rng.random() < 0.9 else pick(rng, SHAPES)
    colours = {shape.colour for shape in picture.annotations if shape.name == name}
    if not colours:
        return f"What {word} is the {name}?", f"there is no {name}"
    if len(colours) > 1:
        return _how_many(rng, picture, layout)
    return f"What {word} is the {name}?", colours.pop()


def _what_shape(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    colour = pick(rng, [shape.colour for shape in picture.annotations])
    names = {shape.name for shape in picture.annotations if shape.colour == colour}
    if len(names) > 1:
        return _is_there(rng, picture, layout)
    return pick(rng, ("What shape is {}?", "What shape is the {} object?")).format(colour), names.pop()


def _is_there(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    present = {(shape.colour, shape.name) for shape in picture.annotations}
    colour, name = pick(rng, sorted(present))
    if rng.random() < 0.5:  # usually absent: another colour or another shape
        if rng.random() < 0.5:
            colour = pick(rng, list(COLOURS))
        else:
            name = pick(rng, SHAPES)
    return f"Is there {with_article(colour, name)}?", "yes" if (colour, name) in present else "no"


def _relation(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    """Ask how two shapes of a row or column lie, or which shape is next to another."""
    shapes = picture.annotations
    if layout == "free" or len(shapes) < 2 or len({(shape.colour, shape.name) for shape in shapes}) < len(shapes):
        return _how_many(rng, picture, layout)
    first, second = sorted(rng.choice(len(shapes), 2, replace=False))
    before, after = ("to the left of", "to the right of") if layout == "row" else ("above", "below")
    if rng.random() < 0.5:
        a, b = shapes[first], shapes[second]
        x, y, relation = (a, b, before) if rng.random() < 0.5 else (b, a, after)
        is_true = rng.random() >= 0.5
        if not is_true:
            x, y = y, x
        return f"Is the {x.colour} {x.name} {relation} the {y.colour} {y.name}?", "yes" if is_true else "no"
    a, b = shapes[first], shapes[first + 1]
    if rng.random() < 0.5:
        if first == 0:
            return f"What is {before} the {b.colour} {b.name}?", _name(a)
    elif first + 1 == len(shapes) - 1:
        return f"What is {after} the {a.colour} {a.name}?", _name(b)
    return _is_there(rng, picture, layout)


def _where(rng: Rng, picture: Picture, layout: str) -> tuple[str, str]:
    names = [shape.name for shape in picture.annotations]
    shape = pick(rng, picture.annotations)
    answer = region(shape.x, shape.y, *picture.image.size)
    if names.count(shape.name) > 1 or not answer:
        return _is_there(rng, picture, layout)
    return f"Where is the {shape.name}?", answer


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
