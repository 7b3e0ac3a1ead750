"""generation/grammar.py and --schema: on both backends, replies are valid by the package jsonschema, and the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from typing import Any

import jsonschema
import numpy as np
import pytest

from smolcli import registry
from smolcli.backends.base import Logits
from smolcli.backends.llamacpp.backend import LlamaCpp
from smolcli.backends.pytorch import PyTorch
from smolcli.converters import convert
from smolcli.errors import EngineError, UnavailableError, UsageError
from smolcli.generation.grammar import Grammar, GrammarState
from smolcli.generation.json_schema import canonicalize
from smolcli.generation.replies import ReplyCollector
from smolcli.generation.sampler import AllowedTokens, RepetitionPenalty
from smolcli.generation.scheduler import generate
from smolcli.models import resolve
from smolcli.models.files import ModelFiles
from smolcli.options import Generate, Model
from smolcli.types import Frame, Prompt, Reply
from tests.tiny import make_checkpoint

Pair = tuple[PyTorch, LlamaCpp]
OPTIONS = Model(threads=1, device="cpu", dtype="float32", detail="low")


def object_schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


KINDS = ["circle", 'a "b" \\ é', 7, None, {"x": [1]}]
FINITE = object_schema(kind={"enum": KINDS}, ok={"type": "boolean"})
SHORT = {"type": "string", "maxLength": 9}
NESTED = object_schema(
    at=object_schema(x={"type": "integer", "minimum": -20, "maximum": 300}, note=SHORT),
    list={"type": "array", "items": {"$ref": "#/$defs/row"}, "minItems": 1, "maxItems": 3},
    price={"type": "number", "minimum": 0, "maximum": 100, "multipleOf": 0.25},
)
NESTED["$defs"] = {"row": {"anyOf": [{"type": "null"}, SHORT, {"type": "array", "items": SHORT, "maxItems": 2}]}}
OPEN = {"type": "object", "properties": {"a": SHORT, "b": {"type": "boolean"}}, "additionalProperties": False}
DATED = object_schema(
    date={"type": "string", "format": "date"}, code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}
)
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
    backends: Pair = request.getfixturevalue(request.param)
    return backends


def noise(seed: int) -> Frame:
    return Frame(np.random.default_rng(seed).bytes(3 * 40 * 40), 40, 40)


PROMPTS = [Prompt.user(noise(seed), "What is this?") for seed in range(3)]


def replies(backend: PyTorch | LlamaCpp, options: Generate, prompts: Sequence[Prompt] = PROMPTS) -> list[Reply]:
    complete, collector = {}, ReplyCollector()
    for piece in generate(backend, prompts, options):
        if reply := collector.add(piece):
            assert reply.finish.fault is None
            complete[piece.index] = reply
    return [complete[index] for index in sorted(complete)]


def assert_valid(schema: dict[str, Any], reply: Reply) -> None:
    value = json.loads(reply.text)
    jsonschema.validate(value, schema, jsonschema.Draft202012Validator)
    assert reply.text[0] == "{" and reply.text[-1] == "}"
    assert list(value) == [name for name in schema["properties"] if name in value]  # in the schema's order


@pytest.mark.parametrize("name", SCHEMAS)
def test_greedy_answers_are_valid_and_the_same_on_both_backends(pair: Pair, name: str) -> None:
    options = Generate(max_tokens=400, schema=canonicalize(json.dumps(SCHEMAS[name])))
    first, second = (replies(backend, options) for backend in pair)
    assert [reply.text for reply in first] == [reply.text for reply in second]
    for reply in first + second:
        assert reply.finish.reason == "stop"
        assert_valid(SCHEMAS[name], reply)


@pytest.mark.parametrize("name", SCHEMAS)
def test_sampled_answers_of_a_random_model_are_valid(tiny: Pair, name: str) -> None:
    schema = canonicalize(json.dumps(SCHEMAS[name]))
    same, texts = [], set()
    for seed in range(4):
        options = Generate(400, temperature=2.0, top_p=0.95, seed=seed, schema=schema)
        first, second = (replies(backend, options) for backend in tiny)
        for reply in first + second:
            assert reply.finish.reason == "stop"
            assert_valid(SCHEMAS[name], reply)
        same += [ours.text == theirs.text for ours, theirs in zip(first, second, strict=True)]
        texts |= {reply.text for reply in first}
    assert sum(same) / len(same) > 0.8  # logits differ in the third digit, so near ties go either way
    assert len(texts) > 1


@pytest.mark.parametrize("words", ["a, b int, c bool", "color str[], n int[], done bool?"])
def test_the_short_form_is_enforced(tiny: Pair, words: str) -> None:
    """Strings may use up all tokens: a reply that is complete is valid, any other ran out of tokens."""
    options = Generate(500, temperature=1.0, top_p=0.9, schema=canonicalize(words))
    for backend in tiny:
        for reply in replies(backend, options):
            if reply.finish.reason == "stop":
                assert_valid(json.loads(canonicalize(words)), reply)
            else:
                assert reply.finish.reason in ("length", "repetition")
                with pytest.raises(json.JSONDecodeError):
                    json.loads(reply.text)


def test_an_object_longer_than_max_tokens_is_incomplete(pair: Pair) -> None:
    for backend in pair:
        for reply in replies(backend, Generate(max_tokens=5, schema=canonicalize("vendor, total float"))):
            assert (reply.finish.reason, reply.finish.tokens.new) == ("length", 5)
            with pytest.raises(json.JSONDecodeError):
                json.loads(reply.text)


def test_an_object_of_exactly_max_tokens_is_complete(pair: Pair) -> None:
    """The token that completes the object ends the reply; no stop token is needed."""
    schema = canonicalize(json.dumps(object_schema(a={"const": 1})))
    for backend in pair:
        reply = replies(backend, Generate(max_tokens=99, schema=schema))[0]
        assert reply.text == '{"a":1}'
        exact = replies(backend, Generate(max_tokens=reply.finish.tokens.new, schema=schema))[0]
        assert (exact.text, exact.finish.reason) == (reply.text, "stop")


def test_a_loop_in_a_string_is_retried_with_the_same_grammar(tiny: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a model that repeats one word wherever the grammar allows it, until there is a penalty."""
    [the] = tiny[0].tokenizer.encode(" the", add_special_tokens=False).ids
    filter_allowed, penalize = AllowedTokens.apply, RepetitionPenalty.apply
    has_penalty: list[bool] = []

    def repeat_the(self: AllowedTokens, logits: Logits, generated: Sequence[int]) -> Logits:
        logits = logits.copy()
        logits[the] += 0 if has_penalty else 1000
        return filter_allowed(self, logits, generated)

    def penalize_and_note(self: RepetitionPenalty, logits: Logits, generated: Sequence[int]) -> Logits:
        has_penalty.append(True)
        return penalize(self, logits, generated)

    monkeypatch.setattr(AllowedTokens, "apply", repeat_the)
    monkeypatch.setattr(RepetitionPenalty, "apply", penalize_and_note)
    schema = object_schema(ok={"type": "boolean"}, a={"type": "string", "maxLength": 300})
    for backend in tiny:
        has_penalty.clear()
        [reply] = replies(backend, Generate(900, schema=json.dumps(schema)), PROMPTS[:1])
        assert (reply.finish.reason, reply.text) == ("stop", reply.finish.text)
        assert " the the the" not in reply.text
        assert_valid(schema, reply)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "object", "properties": {"a": {"not": {}}}}, "Unimplemented keys"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}, "does not exist"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, "Invalid type"),
        ({"type": "object", "properties": {"a": {"pattern": "(", "type": "string"}}, "required": ["a"]}, "."),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "."),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_an_error_before_the_first_reply(
    tiny: Pair, schema: dict[str, Any], reason: str
) -> None:
    for backend in tiny:
        with pytest.raises(UsageError, match=f"the schema cannot be enforced: .*{reason}"):
            generate(backend, PROMPTS, Generate(schema=json.dumps(schema)))


def test_both_ways_to_make_a_tokenizer_give_the_same_tokens_and_masks(pair: Pair) -> None:
    first, second = (backend.grammar_tokenizer() for backend in pair)
    assert first.vocab_size == second.vocab_size == len(pair[1].logits(PROMPTS[0])[0])
    for token in range(first.vocab_size):
        assert first.decode_bytes([int(token)]) == second.decode_bytes([int(token)])
    text = '{"vendor":"Año 2 1 the picture\\n","n":[1.5,-20,7],"x y":true}'
    schema = canonicalize(
        json.dumps(object_schema(**{"vendor": SHORT | {"maxLength": 99}, "n": {"items": {}}, "x y": {}}))
    )
    tokens = first.tokenize_str(text)
    assert tokens == second.tokenize_str(text)
    states = [Grammar(tokenizer, schema).start() for tokenizer in (first, second)]
    for token in tokens:
        ours, theirs = (state.allowed_tokens() for state in states)
        assert ours.shape == (first.vocab_size,)
        assert ours[token] and (ours == theirs).all()
        is_complete = {state.accept_token(token) for state in states}
    assert is_complete == {True}


def texts(value: Any) -> list[str]:
    return [json.dumps(value, separators=(",", ":"), ensure_ascii=False)]


def test_the_mask_is_that_of_all_texts_of_a_small_language(nano: Pair) -> None:
    """With an allowed token, the text is the beginning of a text of the language; every such text can be reached."""
    values = [{"n": n, "w": word} for n in range(3) for word in ("a", "ab", "é")]
    language = [text.encode() for value in values for text in texts(value)]
    schema = object_schema(n={"type": "integer", "minimum": 0, "maximum": 2}, w={"enum": ["a", "ab", "é"]})
    tokenizer = nano[0].grammar_tokenizer()
    grammar = Grammar(tokenizer, json.dumps(schema))
    reached = set()

    def walk(text: bytes, tokens: list[int]) -> None:
        state: GrammarState = grammar.start()
        is_complete = [state.accept_token(token) for token in tokens]
        assert not any(is_complete[:-1])
        if is_complete and is_complete[-1]:
            reached.add(text)
            return
        allowed = np.flatnonzero(state.allowed_tokens())
        assert len(allowed)
        for token in allowed:
            longer = text + tokenizer.decode_bytes([int(token)])
            assert any(whole.startswith(longer) for whole in language)
            walk(longer, [*tokens, int(token)])

    walk(b"", [])
    assert reached == set(language)


def test_a_token_that_is_not_allowed_is_an_engine_error(nano: Pair) -> None:
    state = Grammar(nano[0].grammar_tokenizer(), canonicalize("a")).start()
    with pytest.raises(EngineError, match="cannot be followed any further"):
        state.accept_token(5)


def test_llguidance_is_needed_for_a_schema_only(nano: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys, smolcli.backends.llamacpp.backend, smolcli.generation.json_schema\n"
        "print('llguidance' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "llguidance" else find_spec(name))
    answer = partial(generate, nano[1], PROMPTS)
    with pytest.raises(
        UnavailableError, match=r"--schema needs the library llguidance.*pip install 'smolcli\[schema\]'"
    ):
        answer(Generate(schema=canonicalize("a")))
    assert list(answer(Generate(max_tokens=1)))
