"""Everyday questions that nano cannot answer of a photograph; the right answer to each is kinds.CANNOT_TELL."""

from __future__ import annotations

from functools import cache

from smolcli.nano.fonts import is_held_out
from smolcli.nano.synthetic_images import Rng, pick

ANIMALS = ("dog", "cat", "bird", "horse", "cow", "sheep", "fish", "bear", "rabbit", "duck", "butterfly", "elephant")
PEOPLE = ("person", "man", "woman", "child", "baby", "boy", "girl", "crowd")
OBJECTS = (
    "car", "bus", "bicycle", "train", "boat", "plane", "truck", "motorcycle", "traffic light", "road", "bridge",
    "house", "building", "church", "window", "door", "tree", "flower", "mountain", "river", "lake", "beach", "cloud",
    "table", "chair", "bed", "lamp", "bottle", "cup", "plate", "knife", "pizza", "cake", "apple", "banana", "book",
    "phone", "laptop", "camera", "clock", "bag", "hat", "umbrella", "ball", "flag", "sign", "fence", "snowman",
)  # fmt: skip
NOUNS = (*ANIMALS, *PEOPLE, *OBJECTS)
# {} is a noun; {s} its plural.
ABOUT_NOUN = (
    "Is there {} in the picture?", "Is there {} in this photo?", "Do you see {}?", "Can you see {}?",
    "Does the photo show {}?", "Is this {}?", "Is that {} in the background?", "Where is {the}?", "How big is {the}?",
    "What is {the} doing?", "Who owns {the}?", "How old is {the}?", "What is next to {the}?", "What is behind {the}?",
    "How many {s} are in this photo?", "How many {s} can you see?", "Are there any {s}?", "Are there {s} here?",
)  # fmt: skip
WHO = (
    "Who is this?", "Who is in the picture?", "Who is the person in this photo?", "Who took this photo?",
    "Whose house is this?", "What is his name?", "What is her name?", "Do you know this person?",
    "Is this a celebrity?", "Is the person famous?", "How old is he?", "How old is she?", "How old are these people?",
    "Is it a man or a woman?", "How many people are there?", "How many people are in the photo?", "Is anybody there?",
    "Is there anyone in the photo?", "Are they a family?", "Are they friends?", "Is he happy?", "Is she happy?",
    "Is she smiling?", "Does he look sad?", "Is anyone crying?", "What is he wearing?", "What is she wearing?",
    "Does he wear glasses?", "Is anyone wearing a hat?", "What is the person doing?", "What are the people doing?",
    "What is she holding?", "What does he hold in his hand?", "What is he looking at?",
    "Is the person standing or sitting?", "What colour are her eyes?", "What colour is his hair?",
    "What are they talking about?", "What is he thinking?", "Why is he laughing?", "What job does he have?",
)  # fmt: skip
WHAT = (
    "What animal is this?", "What kind of animal is it?", "What breed is the dog?", "What breed is this cat?",
    "What kind of bird is it?", "What species is this?", "What kind of tree is that?", "What kind of flower is this?",
    "What plant is this?", "Is the animal dangerous?", "Is it a wild animal?", "What does it eat?",
    "How many animals are there?", "How many legs does it have?", "How much does it weigh?", "Is it alive?",
    "Is this edible?", "What food is this?", "What dish is shown?", "What is on the plate?", "Is it vegetarian?",
    "How many calories does it have?", "Is the fruit ripe?", "What drink is in the glass?", "What object is this?",
    "What is this thing?", "What is it used for?", "What is it made of?", "What material is it made of?",
    "What is on the table?", "What is in the background?", "What is in the foreground?", "What is the main subject?",
    "What is the largest object?", "What is in the middle?", "What is at the bottom?", "What is to the left?",
    "What brand is it?", "What brand is the car?", "What model is this?", "What make is this car?",
    "Which company made it?", "How much does it cost?", "Is it expensive?", "Is it new or old?", "Is it broken?",
    "Does it work?", "How fast is it?", "How tall is it?", "How far away is it?", "What is the licence plate?",
    "What sport is this?", "Who is winning?", "What game do they play?", "What instrument is that?",
    "What song is this?", "Which film is this from?",
)  # fmt: skip
WHERE_AND_WHEN = (
    "Where was this taken?", "Where is this?", "Which city is this?", "Which country is this?", "What place is this?",
    "What is the name of this place?", "What building is that?", "What mountain is this?", "Which river is it?",
    "Which street is this?", "Is this in Europe?", "Is it indoors or outdoors?", "Is this inside a building?",
    "What room is this?", "Is it a kitchen?", "Is this a city or the country?", "Is this at the sea?",
    "When was this taken?", "What year was this taken?", "What time is it?", "What time of day is it?",
    "Is it day or night?", "Is it morning or evening?", "What day is it?", "What season is it?",
    "Is it summer or winter?", "What is the weather like?", "How is the weather?", "Is it raining?", "Is it sunny?",
    "Is it snowing?", "Is it cold?", "Is it windy?", "What is the temperature?", "What is the occasion?",
    "What event is this?", "Is this a wedding?", "Is it a holiday?", "What happened here?", "What will happen next?",
    "What is happening?", "What is going on here?", "What is the story behind this photo?",
    "Why was this photo taken?",
)  # fmt: skip
ABOUT_THE_PHOTO = (
    "What camera was used?", "Which lens was used?", "Was a flash used?", "Is this photo edited?",
    "Is this photo real?", "Was this made by AI?", "Is it a good photo?", "Is it beautiful?", "Do you like it?",
    "What mood does it have?", "What feeling does it convey?", "What does it mean?", "What does the photo symbolise?",
    "Is this picture copyrighted?", "Who owns this picture?", "Is it safe?", "Is this legal?",
    "Is anything unusual here?", "What is wrong with this picture?", "What is missing?", "Is something hidden in it?",
    "What should I do?", "Can I eat this?", "Can I park here?", "Is this mine?", "How do I get there?",
    "Would a child like it?", "Is this suitable for children?", "What does it smell like?",
    "What sound does it make?",
)  # fmt: skip
WHOLE = (*WHO, *WHAT, *WHERE_AND_WHEN, *ABOUT_THE_PHOTO)
HELD_OUT_OF = 5  # one in so many questions and templates is for evaluation alone
_PLURALS = {
    "sheep": "sheep", "fish": "fish", "butterfly": "butterflies", "person": "people", "man": "men", "woman": "women",
    "child": "children", "baby": "babies", "bus": "buses", "church": "churches", "beach": "beaches", "knife": "knives",
    "snowman": "snowmen",
}  # fmt: skip


def _fill(template: str, noun: str) -> str:
    plural = _PLURALS.get(noun, f"{noun}s")
    with_article = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    return template.replace("{}", with_article).replace("{the}", f"the {noun}").replace("{s}", plural)


@cache
def whole_questions(held_out: bool) -> tuple[str, ...]:
    """The questions without a noun to fill in, for evaluation or for training."""
    return tuple(question for question in WHOLE if is_held_out(question, HELD_OUT_OF) == held_out)


@cache
def templates(held_out: bool) -> tuple[str, ...]:
    """The templates of ABOUT_NOUN for evaluation or for training."""
    return tuple(template for template in ABOUT_NOUN if is_held_out(template, HELD_OUT_OF) == held_out)


def open_question(rng: Rng, held_out: bool) -> str:
    """A question that nano cannot answer of a photograph; held-out templates are never used in training."""
    if rng.random() < 0.65:
        return pick(rng, whole_questions(held_out))
    return _fill(pick(rng, templates(held_out)), pick(rng, NOUNS))
