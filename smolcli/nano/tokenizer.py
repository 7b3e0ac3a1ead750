r"""nano's tokenizer: a token for each byte, one for "\n\n", and the special tokens of the SmolVLM family."""

from __future__ import annotations

from functools import lru_cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from smolcli.models.chat_template import END, FAKE, GLOBAL, IMAGE, START

HEAD = ("<|endoftext|>", START, "<|im_end|>")
TAIL = (GLOBAL, *(f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)), FAKE, IMAGE, END)
SIZE = 320  # rows of the embedding, a multiple of q8_0's blocks of 32


@lru_cache
def tokenizer() -> Tokenizer:
    """The tokenizer that export.py saves as tokenizer.json."""
    byte = sorted(pre_tokenizers.ByteLevel.alphabet())
    newline = "\u010a"  # what GPT-2's byte alphabet writes for \n
    vocab = {token: number for number, token in enumerate((*HEAD, *byte, newline * 2))}
    byte_level = Tokenizer(models.BPE(vocab, [(newline, newline)]))
    byte_level.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    byte_level.decoder = decoders.ByteLevel()
    byte_level.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*HEAD, *TAIL)])
    filler = SIZE - byte_level.get_vocab_size()
    byte_level.add_special_tokens(
        [AddedToken(f"<|reserved_special_token_{n}|>", special=True, normalized=False) for n in range(filler)]
    )
    return byte_level
