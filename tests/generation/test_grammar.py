"""grammar.py and --schema on both backends: every answer is valid by the package jsonschema, and the same on both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import jsonschema
import numpy as np
import pytest

from smolcli import registry
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.pytorch import PyTorch
from smolcli.converters import convert
from smolcli.errors import EngineError, UnavailableError, UsageError
from smolcli.generation.grammar import Grammar, GrammarState
from smolcli.generation.json_schema import canonical
from smolcli.generation.replies import ReplyCollector
from smolcli.generation.sampler import Sampler
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Frame, Prompt, Reply
from tests.tiny import make_checkpoint

Pair = tuple[PyTorch, LlamaCpp]
OPTIONS = Model(threads=1, device="cpu", dtype="float32", detail="low")


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


FINITE = closed(kind={"enum": ["circle", "a \"b\" \\ é", 7, None, {"x": [1]}]}, ok={"type": "boolean"})  # fmt: skip
SHORT = {"type": "string", "maxLength": 9}
NESTED = closed(
    at=closed(x={"type": "integer", "minimum": -20, "maximum": 300}, note=SHORT),
    list={"type": "array", "items": {"$ref": "#/$defs/row"}, "minItems": 1, "maxItems": 3},
    price={"type": "number", "minimum": 0, "maximum": 100, "multipleOf": 0.25},
)
NESTED["$defs"] = {"row": {"anyOf": [{"type": "null"}, SHORT, {"type": "array", "items": SHORT, "maxItems": 2}]}}
OPEN = {"type": "object", "properties": {"a": SHORT, "b": {"type": "boolean"}}, "additionalProperties": False}
DATED = closed(date={"type": "string", "format": "date"}, code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"})
SCHEMAS = {"finite": FINITE, "nested": NESTED, "optional": OPEN, "patterns": DATED}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = make_checkpoint(tmp_path_factory.mktemp("grammar") / "Tiny", "v2", 5)
    files = ModelFiles("Tiny", folder, *convert(folder, folder, "f32", "f32"))
    with closing(PyTorch(files, OPTIONS)) as torch, closing(LlamaCpp(files, OPTIONS)) as llamacpp:
        yield torch, llamacpp


@pytest.fixture(scope="module")
def nano() -> Iterator[Pair]:
    files = resolve.resolve(Model(model="nano"), "torch")
    with closing(PyTorch(files, OPTIONS)) as torch, closing(LlamaCpp(files, OPTIONS)) as llamacpp:
        yield torch, llamacpp


@pytest.fixture(params=["tiny", "nano"])
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.getfixturevalue(request.param)
    return found


def noise(seed: int) -> Frame:
    return Frame(np.random.default_rng(seed).bytes(3 * 40 * 40), 40, 40)


PROMPTS = [Prompt.user(noise(seed), "What is this?") for seed in range(3)]


def replies(backend: PyTorch | LlamaCpp, options: Generate) -> list[Reply]:
    found, joined = {}, ReplyCollector()
    for piece in backend.generate(PROMPTS, options):
        if reply := joined.add(piece):
            assert reply.finish.fault is None
            found[piece.index] = reply
    return [found[index] for index in sorted(found)]


def check(schema: dict[str, Any], reply: Reply) -> None:
    value = json.loads(reply.text)
    jsonschema.validate(value, schema, jsonschema.Draft202012Validator)
    assert reply.text[0] == "{" and reply.text[-1] == "}"
    assert list(value) == [name for name in schema["properties"] if name in value]  # in the schema's order


@pytest.mark.parametrize("name", SCHEMAS)
def test_greedy_answers_are_valid_and_the_same_on_both_backends(pair: Pair, name: str) -> None:
    options = Generate(max_tokens=400, schema=canonical(json.dumps(SCHEMAS[name])))
    first, second = (replies(backend, options) for backend in pair)
    assert [reply.text for reply in first] == [reply.text for reply in second]
    for reply in first + second:
        assert reply.finish.reason == "stop"
        check(SCHEMAS[name], reply)


@pytest.mark.parametrize("name", SCHEMAS)
def test_sampled_answers_of_a_random_model_are_valid(tiny: Pair, name: str) -> None:
    schema = canonical(json.dumps(SCHEMAS[name]))
    same, texts = [], set()
    for seed in range(4):
        options = Generate(400, temperature=2.0, top_p=0.95, seed=seed, schema=schema)
        first, second = (replies(backend, options) for backend in tiny)
        for reply in first + second:
            assert reply.finish.reason == "stop"
            check(SCHEMAS[name], reply)
        same += [one.text == other.text for one, other in zip(first, second, strict=True)]
        texts |= {reply.text for reply in first}
    assert sum(same) / len(same) > 0.8  # scores differ in the third digit: near ties fall either way
    assert len(texts) > 1


@pytest.mark.parametrize("words", ["a, b int, c bool", "color str[], n int[], done bool?"])
def test_the_short_form_is_enforced(tiny: Pair, words: str) -> None:
    """Strings may take all tokens; what is whole is valid, what is not has run out of them."""
    options = Generate(500, temperature=1.0, top_p=0.9, schema=canonical(words))
    for backend in tiny:
        for reply in replies(backend, options):
            if reply.finish.reason == "stop":
                check(json.loads(canonical(words)), reply)
            else:
                assert reply.finish.reason in ("length", "repetition")
                with pytest.raises(json.JSONDecodeError):
                    json.loads(reply.text)


def test_an_object_that_does_not_fit_ends_as_length_and_is_no_json(pair: Pair) -> None:
    for backend in pair:
        for reply in replies(backend, Generate(max_tokens=5, schema=canonical("vendor, total float"))):
            assert (reply.finish.reason, reply.finish.tokens.new) == ("length", 5)
            with pytest.raises(json.JSONDecodeError):
                json.loads(reply.text)


def test_an_object_that_just_fits_ends_as_stop(pair: Pair) -> None:
    """The token that completes it ends the reply, without another that says so."""
    schema = canonical(json.dumps(closed(a={"const": 1})))
    for backend in pair:
        whole = replies(backend, Generate(max_tokens=99, schema=schema))[0]
        assert whole.text == '{"a":1}'
        fits = replies(backend, Generate(max_tokens=whole.finish.tokens.new, schema=schema))[0]
        assert (fits.text, fits.finish.reason) == (whole.text, "stop")


def test_a_loop_in_a_string_is_tried_again_under_the_same_grammar(tiny: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that says one word for ever wherever it may, until it is penalised."""
    choose, [the] = Sampler.choose, tiny[0].tokenizer.encode(" the", add_special_tokens=False).ids

    def stuck(self: Sampler, scores: Any) -> int:
        assert self._grammar is not None
        return the if self._penalty == 1 and self._grammar.allowed()[the] else choose(self, scores)

    monkeypatch.setattr(Sampler, "choose", stuck)
    schema = closed(ok={"type": "boolean"}, a={"type": "string", "maxLength": 300})
    for backend in tiny:
        reply = replies(backend, Generate(900, schema=json.dumps(schema)))[0]
        assert (reply.finish.reason, reply.text) == ("stop", reply.finish.text)
        assert " the the the" not in reply.text
        check(schema, reply)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "object", "properties": {"a": {"not": {}}}}, "Unimplemented keys"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}, "does not exist"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, "Invalid type"),
        ({"type": "object", "properties": {"a": {"pattern": "(", "type": "string"}}, "required": ["a"]}, "."),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "."),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_told_before_the_first_answer(
    tiny: Pair, schema: dict[str, Any], why: str
) -> None:
    for backend in tiny:
        with pytest.raises(UsageError, match=f"the schema cannot be enforced: .*{why}"):
            backend.generate(PROMPTS, Generate(schema=json.dumps(schema)))


def test_both_routes_to_a_tokenizer_give_the_same_tokens_and_masks(pair: Pair) -> None:
    first, second = (backend._vocabulary for backend in pair)
    assert first.vocab_size == second.vocab_size == len(pair[1].logits(PROMPTS[0])[0])
    for token in range(first.vocab_size):
        assert first.decode_bytes([token]) == second.decode_bytes([token])
    text = '{"vendor":"Año 2 1 the picture\\n","n":[1.5,-20,7],"x y":true}'
    schema = canonical(json.dumps(closed(**{"vendor": SHORT | {"maxLength": 99}, "n": {"items": {}}, "x y": {}})))
    tokens = first.tokenize_str(text)
    assert tokens == second.tokenize_str(text)
    masks = [Grammar(vocabulary, schema).follow() for vocabulary in (first, second)]
    for token in tokens:
        one, other = (mask.allowed() for mask in masks)
        assert one.shape == (first.vocab_size,)
        assert one[token] and (one == other).all()
        complete = {mask.take(token) for mask in masks}
    assert complete == {True}


def texts(value: Any) -> list[str]:
    return [json.dumps(value, separators=(",", ":"), ensure_ascii=False)]


def test_the_mask_is_that_of_all_texts_of_a_small_language(nano: Pair) -> None:
    """Where a token may come, the text with it begins one of the language's; every text can be reached."""
    values = [{"n": n, "w": word} for n in range(3) for word in ("a", "ab", "é")]
    language = [text.encode() for value in values for text in texts(value)]
    schema = closed(n={"type": "integer", "minimum": 0, "maximum": 2}, w={"enum": ["a", "ab", "é"]})
    vocabulary = nano[0]._vocabulary
    grammar = Grammar(vocabulary, json.dumps(schema))
    reached = set()

    def walk(said: bytes, tokens: list[int]) -> None:
        following: GrammarState = grammar.follow()
        complete = [following.take(token) for token in tokens]
        assert not any(complete[:-1])
        if complete and complete[-1]:
            reached.add(said)
            return
        allowed = np.flatnonzero(following.allowed())
        assert len(allowed)
        for token in allowed:
            longer = said + vocabulary.decode_bytes([token])
            assert any(text.startswith(longer) for text in language)
            walk(longer, [*tokens, int(token)])

    walk(b"", [])
    assert reached == set(language)


def test_a_token_that_is_not_allowed_is_a_fault_of_the_engine(nano: Pair) -> None:
    following = Grammar(nano[0]._vocabulary, canonical("a")).follow()
    with pytest.raises(EngineError, match="cannot be followed any further"):
        following.take(5)


def test_the_library_is_needed_for_a_schema_alone(nano: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys, smolcli.backends.llamacpp.backend, smolcli.generation.json_schema\n"
        "print('llguidance' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    find = registry.find_spec
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "llguidance" else find(name))
    asks = partial(nano[1].generate, PROMPTS)
    with pytest.raises(
        UnavailableError, match=r"--schema needs the library llguidance.*pip install 'smolcli\[schema\]'"
    ):
        asks(Generate(schema=canonical("a")))
    assert list(asks(Generate(max_tokens=1)))
