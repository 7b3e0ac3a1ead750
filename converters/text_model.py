"""The language model file: llama.cpp's architecture llama with the tokenizer of SmolLM or Granite."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFType, GGUFWriter, SpecialVocab, TokenType

from smolcli.models.checkpoint import Checkpoint
from smolcli.models.file_errors import UnsupportedError, errors_about
from smolcli.models.lora import SAVE_EMBEDDINGS_ADVICE
from smolcli.models.safetensors_reader import optional_json
from smolcli.models.tensor_mapping import Text, language_weights
from smolcli.models.tensor_names import DOWNLOAD_AGAIN
from smolcli.models.tokenizer import PRE_TOKENIZERS

from .gguf_model import GgufModel
from .gguf_writer import add_metadata, add_quantization
from .quantization import Quantization

# The special tokens by role: of SmolVLM, with two tokens at which llama.cpp must stop, and of granite-docling.
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
# Tokens that llama.cpp's converter takes for control tokens, whatever tokenizer.json says.
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<\uff5c.*\uff5c>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]", re.DOTALL)


def build_model(checkpoint: Checkpoint, name: str | None) -> GgufModel:
    """Return the content of a language model file; `name` is the model's, or None for that of the directory.

    Raises ModelError if llama.cpp does not have its tokenizer.
    """
    add_tokenizer, notices = _tokenizer(checkpoint)

    def describe(writer: GGUFWriter, quantization: Quantization) -> None:
        writer.add_type(GGUFType.MODEL)
        add_metadata(writer, checkpoint, name)
        _add_sizes(writer, checkpoint.text)
        add_quantization(writer, quantization)
        add_tokenizer(writer)

    # llama.cpp expects tied embeddings once
    weights = language_weights(checkpoint.text, head=checkpoint.has_head or not checkpoint.text.tied)
    return GgufModel("", MODEL_ARCH_NAMES[MODEL_ARCH.LLAMA], tuple(weights), describe, notices)


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
    """Return a function that adds the tokenizer's keys to a writer, and notices for the user."""
    tokenizer, folder = checkpoint.tokenizer, checkpoint.tokenizer_folder
    prefix = optional_json(folder / "tokenizer_config.json").get("add_prefix_space")
    with errors_about(folder / "tokenizer.json"):
        pre = _pre_tokenizer(tokenizer)
        is_own = folder == checkpoint.directory
        advice = "take both from the same checkpoint" if is_own else SAVE_EMBEDDINGS_ADVICE
        tokens, types = _vocabulary(tokenizer, checkpoint.text.vocabulary, advice)
        # SpecialVocab reads both forms of merges and finds the chat template wherever it is
        special = SpecialVocab(folder, load_merges=True, special_token_types=())
        if len(special.merges) != len(tokenizer["model"]["merges"]):
            raise ValueError("merges")
        templates = special.chat_template = _chat_template(checkpoint)
        if isinstance(templates, Sequence) and not all(isinstance(template, (str, dict)) for template in templates):
            raise ValueError("chat_template")
        ids = {token: id for id, token in enumerate(tokens)}
        roles = _roles(ids)
    # not the ids of the configuration, because published ones have a padding token outside the vocabulary
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

    notice = f"{checkpoint.directory}: has no chat template; programs other than smolcli will have to guess one"
    return add, () if special.chat_template else (notice,)


def _chat_template(checkpoint: Checkpoint) -> Any:
    """Return the chat template of the adapter, else that of the checkpoint, as SpecialVocab finds it; None if none."""
    folders = [checkpoint.adapter.directory] if checkpoint.adapter is not None else []
    folders.append(checkpoint.directory)
    templates = (SpecialVocab(folder, special_token_types=()).chat_template for folder in folders)
    return next(filter(None, templates), None)


def _vocabulary(tokenizer: dict[str, Any], size: int, advice: str) -> tuple[list[str], list[TokenType]]:
    """Return the text and the type of each token, by id; an id without a token gets a placeholder.

    `advice` says what to do about a tokenizer of more tokens than the model's `size`.
    """
    tokens = [f"[PAD{id}]" for id in range(size)]
    types = [TokenType.UNUSED] * size
    added = {str(entry["content"]): entry for entry in tokenizer.get("added_tokens", [])}
    entries = tokenizer["model"]["vocab"] | {content: entry["id"] for content, entry in added.items()}
    for token, id in entries.items():
        if not 0 <= id < size:
            message = f"the token {token} has the id {id}, but the model has {size} tokens"
            raise UnsupportedError(message, advice)
        if types[id] != TokenType.UNUSED:
            raise UnsupportedError(f"{tokens[id]} and {token} have one id, {id}", DOWNLOAD_AGAIN)
        tokens[id] = token
        types[id] = _token_type(token, added.get(token))
    return tokens, types


def _roles(ids: dict[str, int]) -> dict[str, str]:
    for roles in ROLES:
        if all(token in ids for token in roles.values()):
            return roles
    missing = next(token for token in ROLES[0].values() if token not in ids)
    raise UnsupportedError(
        f"has no token {missing}", "only tokenizers of SmolVLM and the docling models can be converted"
    )


def _token_type(token: str, added: dict[str, Any] | None) -> TokenType:
    if added is None:
        return TokenType.NORMAL
    is_control = added.get("special") or _LOOKS_SPECIAL.fullmatch(token)
    return TokenType.CONTROL if is_control else TokenType.USER_DEFINED


def _pre_tokenizer(tokenizer: dict[str, Any]) -> str:
    """Return llama.cpp's name of the pre-tokenizer; only an exact match gives the same tokens."""
    first = tokenizer.get("pre_tokenizer") or {}
    stages = first.get("pretokenizers", [first])
    if (tokenizer.get("model") or {}).get("type") == "BPE" and not tokenizer.get("normalizer"):
        for name, known_stages in PRE_TOKENIZERS.items():
            settings = [
                {key: stage.get(key, key == "use_regex") for key in known}
                for stage, known in zip(stages, known_stages, strict=False)
            ]
            if len(stages) == len(known_stages) and settings == known_stages:
                return name
    raise UnsupportedError(
        "splits text in a way that llama.cpp would not", "only tokenizers of SmolVLM and docling are known"
    )
