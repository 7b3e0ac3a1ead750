"""llamacpp/jinja_template.py: templates of several kinds, and what a hostile one may not do."""

from __future__ import annotations

import pytest

from smolcli.backends.llamacpp.jinja_template import JinjaTemplate
from smolcli.errors import ModelError
from smolcli.types import FrameRef, Prompt, Turn

PICTURE = FrameRef(0, width=1, height=1)
ASKED = Prompt.user(PICTURE, "What is this?", system="Be brief.")
# After Qwen2-VL's, Gemma 3's and Mistral's published templates, as far as they differ.
PLAIN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[go]{% endif %}"
LISTS = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]"
    "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text | trim }}{% endif %}{% endfor %}{% endfor %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
)
FORGETS_SYSTEM = (
    "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (PLAIN, "[system]Be brief.[user]<P>What is this?[go]"),
        (LISTS, "<s>[system]Be brief.[user]<P>What is this?"),
        (NO_SYSTEM, "[user]Be brief.\n\n<P>What is this?</s>"),
        (FORGETS_SYSTEM, "[user]Be brief.\n\n<P>What is this?"),
        (None, "Be brief.\n<P>What is this?\n"),
    ],
)
def test_what_is_said_is_in_the_text_however_the_template_takes_it(source: str | None, text: str) -> None:
    template = JinjaTemplate(source, "<s>", "</s>")
    assert template.render(ASKED, "<P>") == text
    begun = Prompt((*ASKED.turns, Turn("assistant", ("It is",))))
    assert template.render(begun, "<P>") == f"{text}It is"


@pytest.mark.parametrize("source", [PLAIN, None])
def test_a_raw_prompt_is_its_text(source: str | None) -> None:
    prompt = Prompt.user(PICTURE, "A photograph of", raw=True)
    assert JinjaTemplate(source, "<s>", "</s>").render(prompt, "<P>") == "<P>A photograph of"


def test_extensions_of_transformers_are_known() -> None:
    source = (
        "{% for m in messages %}{% generation %}{{ m.content | tojson }}{% endgeneration %}"
        "{% if loop.first %}{% continue %}{% endif %}{{ strftime_now('%Y') | length }}{% endfor %}"
    )
    assert JinjaTemplate(source, "", "").render(Prompt.user("é"), "") == '"é"'


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for m in messages %}", "Unexpected end of template"),
        ("{{ raise_exception('only for tools') }}", "only for tools"),
        ("always the same", "leaves out what is said"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ messages.clear() }}{{ messages }}", "unsafe"),
        ("{{ 1 // 0 }}", "zero"),
    ],
)
def test_a_template_that_cannot_render_a_question_is_an_error_of_the_model(source: str, reason: str) -> None:
    with pytest.raises(ModelError, match=f"its chat template cannot be rendered .*{reason}") as caught:
        JinjaTemplate(source, "", "")
    assert len(str(caught.value).splitlines()) == 1
