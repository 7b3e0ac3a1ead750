"""A model's tokenizer, for the library tokenizers: from tokenizer.json, or from the keys of a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from smolcli.errors import ModelError
from smolcli.models.chat_template import STOPS, hidden_tokens
from smolcli.models.files import TOKENIZER, ModelFiles
from smolcli.models.lora import SAVE_EMBEDDINGS_ADVICE
from smolcli.models.tensor_names import DOWNLOAD_AGAIN

# llama.cpp's names of pre-tokenizers, and the same as stages of tokenizer.json. SmolVLM and SmolDocling split off
# single digits before GPT-2's regular expression; granite-docling uses only the expression.
PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "smollm": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
    ],
    "granite-docling": [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}],
}
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5  # of llama.cpp's enum llama_token_type


def load_tokenizer(files: ModelFiles, rows: int) -> Tokenizer:
    """Load the tokenizer.json of a model that has `rows` tokens.

    Raises ModelError if it is damaged or has a token beyond them.
    """
    try:
        tokenizer = Tokenizer.from_file(str(files.tokenizer))
    except Exception as error:  # the library raises nothing more special
        raise ModelError(f"{files.tokenizer}: cannot be loaded ({error})", DOWNLOAD_AGAIN) from error
    last, token = max(((id, token) for token, id in tokenizer.get_vocab().items()), default=(-1, ""))
    if last < 0:
        raise ModelError(f"{files.tokenizer}: has no tokens", DOWNLOAD_AGAIN)
    if last >= rows:
        is_own = files.adapter is None or files.tokenizer != files.adapter / TOKENIZER
        message = f"{files.tokenizer}: the token {token} has the id {last}, but the model has {rows} tokens"
        raise ModelError(message, "take both from the same checkpoint" if is_own else SAVE_EMBEDDINGS_ADVICE)
    return _whole_texts(tokenizer)


def make_tokenizer(gguf: Path, keys: Mapping[str, Any], rows: int) -> Tokenizer:
    """Make the tokenizer of a language half from the keys of its header, which was read with its strings.

    Raises ModelError for one that is missing, damaged, of a kind that no model of the family has, or with another
    number of tokens than the `rows` of the model, as llama.cpp does.
    """
    kind, pre = keys.get("tokenizer.ggml.model"), keys.get("tokenizer.ggml.pre")
    if kind != "gpt2" or pre not in PRE_TOKENIZERS:
        known = " and ".join(PRE_TOKENIZERS)
        raise ModelError(f"{gguf}: has a tokenizer of type {kind} {pre}", f"known are those of type gpt2 {known}")
    try:
        tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
        if len(tokens) != rows:
            raise ValueError(f"it has {len(tokens)} tokens, and the model {rows}")
        ids = {token: id for id, (token, type) in enumerate(zip(tokens, types, strict=True)) if type != UNUSED}
        added = [
            {"id": id, "content": token, "special": types[id] == CONTROL, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
            for token, id in ids.items()
            if types[id] in (CONTROL, USER_DEFINED)
        ]
        content = {
            "version": "1.0",
            "added_tokens": added,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"trim_offsets": True, **stage} for stage in PRE_TOKENIZERS[pre]],
            },
            "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "vocab": ids, "merges": keys["tokenizer.ggml.merges"]},
        }
        return Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # a key of another form, or merges of tokens that there are not
        raise ModelError(f"{gguf}: its tokenizer is damaged ({error})", "fetch or convert it again") from error


def tokenize(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the token ids of a text, in which special tokens are recognized and none is added."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def has_token(tokenizer: Tokenizer, token: str) -> bool:
    """Whether a text is a token of its own."""
    return tokenizer.token_to_id(token) is not None


def make_detokenizer(tokenizer: Tokenizer) -> Callable[[], Callable[[int], str]]:
    """Return a function that returns, for one reply, a function from each token to the text that it adds.

    The text is "" while a character is incomplete, and for chat_template.hidden_tokens.
    """
    added = tokenizer.get_added_tokens_decoder()
    hidden = hidden_tokens({id: token.content for id, token in added.items() if token.special})

    def for_reply() -> Callable[[int], str]:
        stream = DecodeStream(skip_special_tokens=False)
        return lambda token: "" if token in hidden else stream.step(tokenizer, token) or ""

    return for_reply


def configured_stops(keys: Mapping[str, Any]) -> list[object]:
    """Return what the keys of a language half say of the tokens that end a reply, for `stop_tokens`."""
    return [keys.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]


def stop_tokens(token_id: Callable[[str], int | None], configured: Sequence[object], rows: int) -> frozenset[int]:
    """Return the tokens of a model of `rows` tokens that end a reply, by name and as configured, since the two differ.

    `token_id` returns the id of a token by its text, None if there is none. An entry of `configured` is an id, a list
    of ids or None. An id that the model does not have is left out, such as that of the base model's larger vocabulary.
    Raises TypeError for anything else in `configured`.

    >>> sorted(stop_tokens({"<end_of_utterance>": 300}.get, [1, [2, 128001], None], rows=320))
    [1, 2, 300]
    """
    ids: list[object] = [token_id(token) for token in STOPS]
    for entry in configured:
        ids += entry if isinstance(entry, list) else [entry]
    known = set()
    for id in ids:
        if isinstance(id, int) and 0 <= id < rows:
            known.add(id)
        elif id is not None and not isinstance(id, int):
            raise TypeError(f"the id of a stop token is {id!r}")
    return frozenset(known)


def _whole_texts(tokenizer: Tokenizer) -> Tokenizer:
    """Switch off what a tokenizer.json may store from training: cutting texts and filling them up."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
