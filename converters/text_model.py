"""The language half: architecture llama, SmolLM's or Granite's tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFType, GGUFWriter, SpecialVocab, TokenType

from .checkpoint import Checkpoint
from .errors import AGAIN, Unfit, named
from .gguf_model import Half
from .gguf_writer import add_metadata, add_quantization
from .quantization import Quantization
from .tensor_mapping import Text, language_weights

# llama.cpp's name of each splitting of text into words before BPE, and the stages of tokenizer.json that do it.
# SmolVLM and SmolDocling split off digits one by one; granite-docling takes GPT-2's regular expression alone.
PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "smollm": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
    ],
    "granite-docling": [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}],
}
# The tokens by role, of SmolVLM (which llama.cpp must stop at both ends of a turn) and of granite-docling.
ROLES = (
    {
        "bos": "<|im_start|>",
        "eos": "<end_of_utterance>",
        "eot": "<|im_end|>",
        "unk": "<|endoftext|>",
        "pad": "<|im_end|>",
    },
    {"bos": "<|start_of_role|>", "eos": "<|end_of_text|>", "unk": "<|unk|>", "pad": "<|end_of_text|>"},
)


_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<\uff5c.*\uff5c>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]", re.DOTALL)


def half(checkpoint: Checkpoint, name: str | None) -> Half:
    """The language half; ModelError if llama.cpp does not know its tokenizer."""
    add_tokenizer, notices = _tokenizer(checkpoint)

    def describe(writer: GGUFWriter, quantization: Quantization) -> None:
        writer.add_type(GGUFType.MODEL)
        add_metadata(writer, checkpoint, name)
        _add_sizes(writer, checkpoint.text)
        add_quantization(writer, quantization)
        add_tokenizer(writer)

    # tied embeddings are stored once, as llama.cpp wants them
    weights = language_weights(checkpoint.text, head=checkpoint.has_head or not checkpoint.text.tied)
    return Half("", MODEL_ARCH_NAMES[MODEL_ARCH.LLAMA], tuple(weights), describe, notices)


def _add_sizes(writer: GGUFWriter, text: Text) -> None:
    writer.add_block_count(text.layers)
    writer.add_context_length(text.positions)
    writer.add_embedding_length(text.hidden)
    writer.add_feed_forward_length(text.feed_forward)
    writer.add_head_count(text.heads)
    writer.add_head_count_kv(text.kv_heads)
    writer.add_rope_freq_base(text.rope_theta)
    writer.add_layer_norm_rms_eps(text.rms_epsilon)
    writer.add_key_length(text.head_dim)
    writer.add_value_length(text.head_dim)
    writer.add_vocab_size(text.vocabulary)
    writer.add_rope_dimension_count(text.head_dim)


def _tokenizer(checkpoint: Checkpoint) -> tuple[Callable[[GGUFWriter], None], tuple[str, ...]]:
    """What adds the tokenizer's keys, and what the user should know of it."""
    tokenizer = checkpoint.tokenizer
    prefix = checkpoint.optional_json("tokenizer_config.json").get("add_prefix_space")
    with named(checkpoint.directory / "tokenizer.json"):
        pre = _pre_tokenizer(tokenizer)
        tokens, types = _vocabulary(tokenizer, checkpoint.text.vocabulary)
        # gguf's reader knows merges of old and new form and every place of a chat template
        special = SpecialVocab(checkpoint.directory, load_merges=True, special_token_types=())
        if len(special.merges) != len(tokenizer["model"]["merges"]):
            raise ValueError("merges")
        templates = special.chat_template
        if isinstance(templates, Sequence) and not all(isinstance(one, (str, dict)) for one in templates):
            raise ValueError("chat_template")
        ids = {token: number for number, token in enumerate(tokens)}
        roles = _roles(ids)
    # the ids are ours because published configurations name a padding token outside the vocabulary
    special.special_token_ids = {role: ids[token] for role, token in roles.items()}
    special.add_special_token = {"bos": False, "eos": False, **special.add_special_token}

    def add(writer: GGUFWriter) -> None:
        if isinstance(prefix, bool):
            writer.add_add_space_prefix(prefix)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        special.add_to_gguf(writer, quiet=True)

    without = f"{checkpoint.directory}: has no chat template; programs other than smolcli will have to guess one"
    return add, () if special.chat_template else (without,)


def _vocabulary(tokenizer: dict[str, Any], size: int) -> tuple[list[str], list[TokenType]]:
    """Every token's text and type by id; ids without a token get a placeholder."""
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [TokenType.UNUSED] * size
    added = {str(entry["content"]): entry for entry in tokenizer.get("added_tokens", [])}
    entries = tokenizer["model"]["vocab"] | {content: entry["id"] for content, entry in added.items()}
    for token, number in entries.items():
        if not 0 <= number < size:
            what = f"the token {token} has the id {number}, but the model has {size} tokens"
            raise Unfit(what, "take both from the same checkpoint")
        if types[number] != TokenType.UNUSED:
            raise Unfit(f"{tokens[number]} and {token} have one id, {number}", AGAIN)
        tokens[number] = token
        types[number] = _type(token, added.get(token))
    return tokens, types


def _roles(ids: dict[str, int]) -> dict[str, str]:
    for roles in ROLES:
        if all(token in ids for token in roles.values()):
            return roles
    missing = next(token for token in ROLES[0].values() if token not in ids)
    raise Unfit(f"has no token {missing}", "only tokenizers of SmolVLM and the docling models can be converted")


def _type(token: str, added: dict[str, Any] | None) -> TokenType:
    if added is None:
        return TokenType.NORMAL
    # upstream's converter takes tokens of these looks for control tokens, whatever the file says
    control = added.get("special") or _LOOKS_SPECIAL.fullmatch(token)
    return TokenType.CONTROL if control else TokenType.USER_DEFINED


def _pre_tokenizer(tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name of what splits the text: each is one exact way, another would change the tokens."""
    first = tokenizer.get("pre_tokenizer") or {}
    stages = first.get("pretokenizers", [first])
    if (tokenizer.get("model") or {}).get("type") == "BPE" and not tokenizer.get("normalizer"):
        for name, wanted in PRE_TOKENIZERS.items():
            found = [
                {key: stage.get(key, key == "use_regex") for key in one}
                for stage, one in zip(stages, wanted, strict=False)
            ]
            if len(stages) == len(wanted) and found == wanted:
                return name
    raise Unfit("splits text in a way that llama.cpp would not", "only tokenizers of SmolVLM and docling are known")
