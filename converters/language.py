"""The language GGUF: architecture llama, SmolLM's tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFType, GGUFWriter, SpecialVocab, TokenType

from smolcli.errors import ModelError

from .checkpoint import Checkpoint
from .output import add_metadata, add_quantization, write_gguf
from .quantize import Quantization
from .smolvlm import Text, Weight, language_weights

# Written under these names by every tokenizer of the family; llama.cpp must stop at both ends of a turn.
SPECIAL = {
    "bos": "<|im_start|>",
    "eos": "<end_of_utterance>",
    "eot": "<|im_end|>",
    "unk": "<|endoftext|>",
    "pad": "<|im_end|>",
}
PRE_TOKENIZERS = [("Digits", "individual_digits", True), ("ByteLevel", "add_prefix_space", False)]


def weights(checkpoint: Checkpoint) -> list[Weight]:
    """The tensors of the language GGUF; tied embeddings are stored once, as llama.cpp wants them."""
    return list(language_weights(checkpoint.text, head=checkpoint.has_head or not checkpoint.text.tied))


def write(checkpoint: Checkpoint, path: Path, quantization: Quantization, name: str | None = None) -> None:
    """Write the language half to `path`; ModelError as in `write_gguf`, or if the tokenizer is not SmolLM's."""

    def describe(writer: GGUFWriter) -> None:
        writer.add_type(GGUFType.MODEL)
        add_metadata(writer, checkpoint, name)
        _add_sizes(writer, checkpoint.text)
        add_quantization(writer, quantization)
        _add_tokenizer(writer, checkpoint)

    writer = GGUFWriter(None, MODEL_ARCH_NAMES[MODEL_ARCH.LLAMA])
    write_gguf(path, writer, describe, checkpoint, weights(checkpoint), quantization)


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


def _add_tokenizer(writer: GGUFWriter, checkpoint: Checkpoint) -> None:
    tokens, types = _vocabulary(checkpoint)
    prefix = checkpoint.optional_json("tokenizer_config.json").get("add_prefix_space")
    if isinstance(prefix, bool):
        writer.add_add_space_prefix(prefix)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    # gguf's reader knows merges of old and new form and every place of a chat template; the ids are ours because
    # published configurations name a padding token outside the vocabulary.
    special = SpecialVocab(checkpoint.directory, load_merges=True, special_token_types=())
    special.special_token_ids = {role: tokens.index(token) for role, token in SPECIAL.items()}
    special.add_special_token = {"bos": False, "eos": False}
    special.add_to_gguf(writer, quiet=True)


def _vocabulary(checkpoint: Checkpoint) -> tuple[list[str], list[TokenType]]:
    """Every token's text and type by id; ids without a token get a placeholder."""
    tokenizer = checkpoint.tokenizer
    _check_kind(tokenizer)
    tokens = [f"[PAD{number}]" for number in range(checkpoint.text.vocabulary)]
    types = [TokenType.UNUSED] * len(tokens)
    added = {entry["content"]: entry for entry in tokenizer.get("added_tokens", [])}
    entries = tokenizer["model"]["vocab"] | {content: entry["id"] for content, entry in added.items()}
    for token, number in entries.items():
        if number >= len(tokens):
            raise ModelError(
                f"the tokenizer has {max(entries.values()) + 1} tokens and the model {len(tokens)}",
                "take both from the same checkpoint",
            )
        tokens[number] = token
        types[number] = _type(token, added.get(token))
    for token in SPECIAL.values():
        if token not in entries:
            raise ModelError(f"the tokenizer has no token {token}", "only tokenizers of SmolVLM can be converted")
    return tokens, types


def _type(token: str, added: dict[str, Any] | None) -> TokenType:
    if added is None:
        return TokenType.NORMAL
    # llama.cpp takes tokens of this look for control tokens, whatever the file says.
    control = added.get("special") or (token.startswith("<|") and token.endswith("|>"))
    return TokenType.CONTROL if control else TokenType.USER_DEFINED


def _check_kind(tokenizer: dict[str, Any]) -> None:
    """llama.cpp's pre-tokenizer "smollm" is one exact splitting of text: another would change the tokens."""
    stages = (tokenizer.get("pre_tokenizer") or {}).get("pretokenizers", [])
    found = [
        (stage.get("type"), key, stage.get(key)) for stage, (_, key, _) in zip(stages, PRE_TOKENIZERS, strict=False)
    ]
    bpe = (tokenizer.get("model") or {}).get("type") == "BPE"
    if not bpe or tokenizer.get("normalizer") or len(stages) != len(PRE_TOKENIZERS) or found != PRE_TOKENIZERS:
        raise ModelError("the tokenizer splits text differently", "only tokenizers of SmolVLM can be converted")
