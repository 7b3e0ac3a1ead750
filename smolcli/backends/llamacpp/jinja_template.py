"""Renders a Prompt with the chat template that a GGUF file carries, as llama.cpp's programs and transformers do.

    template = JinjaTemplate(header.keys.get("tokenizer.chat_template"), start="<s>", end="</s>")
    template.render(prompt, marker="<__media__>")   # the conversation up to where the reply begins, a marker a picture

The template comes with the file: jinja2's sandbox keeps it from everything but the messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from smolcli.errors import ModelError
from smolcli.types import Prompt, Turn

Message = dict[str, Any]
PROBE = Prompt((Turn("system", ("one",)), Turn("user", ("two",)), Turn("assistant", ("three",)), Turn("user", ("4",))))


class JinjaTemplate:
    """A chat template; `source` None renders the texts alone, for a model that was not trained on turns.

    `start` and `end` are the texts of the model's start and end tokens. Raises ModelError for a template that cannot
    render a question.
    """

    def __init__(self, source: str | None, start: str, end: str) -> None:
        self._start, self._end = start, end
        self._template: jinja2.Template | None = None
        if source is None:
            return
        try:
            self._template = _environment().from_string(source)
            self.render(PROBE, "")
        except Exception as error:  # a template may raise what it likes
            message = f"its chat template cannot be rendered ({_first_line(error)})"
            raise ModelError(message, "ask who made the file for another") from error

    def render(self, prompt: Prompt, marker: str) -> str:
        """Return the text of a conversation, in which each picture is `marker`.

        A template without a system turn gets that text at the start of the first question, one whose contents are lists
        gets a list. Of a raw prompt it is the text alone. Raises what the template raises.
        """
        turns = list(prompt.turns)
        if prompt.raw:
            return "\n".join(_text(turn, marker) for turn in turns)
        begins = _text(turns.pop(), marker) if turns[-1].role == "assistant" else ""
        if self._template is None:
            return "\n".join([*(_text(turn, marker) for turn in turns), begins])
        texts = [(turn.role, _text(turn, marker)) for turn in turns]
        return self._render(texts) + begins

    def _render(self, texts: Sequence[tuple[str, str]]) -> str:
        """The first rendering that has all of the texts, of several ways to give them to the template."""
        error: Exception | None = None
        for conversation in (texts, _without_system(texts)):
            for content in (_as_text, _as_list):
                messages = [{"role": role, "content": content(text)} for role, text in conversation]
                try:
                    rendered = self._render_messages(messages)
                except Exception as raised:
                    error = error or raised
                    continue
                if all(text.strip() in rendered for _, text in conversation):
                    return rendered
        raise error or ValueError("it leaves out what is said")

    def _render_messages(self, messages: Sequence[Message]) -> str:
        assert self._template is not None
        return self._template.render(
            messages=messages, add_generation_prompt=True, bos_token=self._start, eos_token=self._end
        )


def _as_text(text: str) -> str:
    return text


def _as_list(text: str) -> list[Message]:
    return [{"type": "text", "text": text}]


def _text(turn: Turn, marker: str) -> str:
    return "".join(part if isinstance(part, str) else marker for part in turn.parts)


def _without_system(texts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same conversation with the system's text at the start of the first user turn."""
    system = "\n\n".join(text for role, text in texts if role == "system")
    others = [(role, text) for role, text in texts if role != "system"]
    if system and others:
        role, text = others[0]
        others[0] = role, f"{system}\n\n{text}"
    return others


def _environment() -> ImmutableSandboxedEnvironment:
    """The environment in which transformers renders chat templates (its utils/chat_template_utils.py)."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    functions: dict[str, Callable[..., Any]] = {"raise_exception": _raise, "strftime_now": _format_now}
    environment.globals.update(functions)
    return environment


class _GenerationTag(Extension):
    """Passes over {% generation %}, with which transformers marks what is learned in training."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, **options: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _raise(message: str) -> None:
    raise ValueError(message)


def _format_now(form: str) -> str:
    return datetime.now().strftime(form)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
