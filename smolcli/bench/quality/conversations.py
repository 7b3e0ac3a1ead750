r"""Reads a training set's conversation of one turn as a question and its answer.

    {"conversations": [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "a cat"}]}
    {"messages": [{"role": "user", "content": "What is this?"}, {"role": "assistant", "content": "a cat"}]}

The first form is LLaVA's, the second that of the Hugging Face hub and of OpenAI, where `content` is a text or a list of
parts. `<image>` in a text, or a part of the type image, is the place of a picture.
"""

from __future__ import annotations

from smolcli.errors import InputError

CONVERSATIONS = ("conversations", "messages")
IMAGE_PLACE = "<image>"
_USER, _ASSISTANT = ("human", "user"), ("gpt", "assistant")


def question_and_answer(conversation: object) -> tuple[str, str]:
    """The user's text and the assistant's. Raises InputError for anything but one turn of each, in this order."""
    if not isinstance(conversation, list) or not all(isinstance(message, dict) for message in conversation):
        raise InputError("its conversation is no list of messages", "write it as LLaVA does, or as question and answer")
    roles = [message.get("from", message.get("role")) for message in conversation]
    if len(roles) != 2 or roles[0] not in _USER or roles[1] not in _ASSISTANT:
        raise InputError(
            f"its conversation has the roles {', '.join(map(str, roles))[:100]}", "give one question and one answer"
        )
    question, answer = (_text(message.get("value", message.get("content"))) for message in conversation)
    return question, answer


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(_part_text, content))
    raise InputError("a message of its conversation is not text", "write it in quotes")


def _part_text(part: object) -> str:
    """The text of a part of a message; a part of the type image stands for a picture of the row."""
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind == "image":
        return IMAGE_PLACE
    raise InputError("a message of its conversation has a part that is neither text nor image", "leave it out")


def place_pictures(question: str, count: int) -> str:
    r"""The question with `<image>` where its `count` pictures stand, without any if all of them come first.

    Line breaks beside a place are the training set's separators, not part of the question. Raises InputError if the
    places are not as many as the pictures.

    >>> place_pictures("<image>\nWhat is this?", 1)
    'What is this?'
    >>> place_pictures("Is <image> like <image>?", 2)
    'Is <image> like <image>?'
    """
    texts = question.split(IMAGE_PLACE)
    places = len(texts) - 1
    if places not in (0, count):
        raise InputError(f"its question has {places} times {IMAGE_PLACE} for {count} pictures", "give as many of both")
    texts = [text.strip("\n") for text in texts] if places else texts
    return texts[-1] if not any(text.strip() for text in texts[:-1]) else IMAGE_PLACE.join(texts)
