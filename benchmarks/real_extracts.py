"""Writes tests/data/real: what the tests need of the real files of published models, and digests of what they yield.

    PYTHONPATH=. python benchmarks/real_extracts.py ../shared/real

The configurations and chat templates are copied. Of each tokenizer.json are kept the special tokens, the bytes, and the
tokens and merges that the prompts of tests/real_files.py are made of: tokenizing them applies the same merges in the
same order, since those that are left out never apply. The digests are of the token ids that transformers' processors
give for those prompts with the whole files, and of the whole vocabulary.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks.golden import GOLDEN, golden_prompt, load_processor, read_json, template_text
from smolcli.types import Prompt
from tests.real_files import DIGESTS, EXTRACTS, REAL, TOKENIZER, assemble, digest, files_in, prompts, reference_ids

TEXTS = ("\n\n", "\n", "<row_1_col_1>")  # that the processors put around tiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with the real files, in the layout of tests/real_files.py")
    args = parser.parse_args()
    needed: dict[Path, set[str]] = {}  # texts by tokenizer
    digests: dict[str, Any] = {"prompts": {}, "vocabularies": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in REAL:
            files = files_in(args.folder, name)
            processor = load_processor(assemble(name, files, Path(folder) / name))
            asked = prompts(name) | ({GOLDEN: (golden_prompt(), "high")} if name == "256m" else {})
            digests["prompts"][name] = {
                case: digest(reference_ids(processor, prompt, detail)) for case, (prompt, detail) in asked.items()
            }
            rows = range(read_json(Path(folder) / name, "config.json")["text_config"]["vocab_size"])
            digests["vocabularies"][name] = digest(processor.tokenizer.convert_ids_to_tokens(rows))
            texts = needed.setdefault(files.pop(TOKENIZER), set())
            texts |= texts_of(processor, (prompt for prompt, _ in asked.values()))
            for path in files.values():
                copy = EXTRACTS / path.relative_to(args.folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            whole = Path(folder) / name / TOKENIZER
            target = (EXTRACTS / files_in(args.folder, name)[TOKENIZER].relative_to(args.folder)).with_suffix("")
            target.with_suffix(".json").write_text(json.dumps(cut(whole, texts), ensure_ascii=False) + "\n")
            print(f"{name}: {len(asked)} prompts", flush=True)
    DIGESTS.write_text(json.dumps(digests, indent=1) + "\n")


def texts_of(processor: Any, asked: Iterable[Prompt]) -> set[str]:
    """All texts that are tokenized for prompts: those of the chat template, and what stands around tiles."""
    pieces = {text for prompt in asked for text in template_text(processor, prompt).split("<image>")}
    return pieces | {f"{piece}{text}" for piece in pieces for text in ("", *TEXTS)} | set(TEXTS)


def cut(path: Path, texts: Iterable[str]) -> dict[str, Any]:
    """Leave out of a tokenizer.json all tokens and merges that do not take part in tokenizing `texts`."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(path))
    model = content["model"]
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    special = {token["content"] for token in content["added_tokens"]}
    applied: set[int] = set()
    for text in texts:
        for word in plain_words(tokenizer, text, special):
            applied |= merges_of(list(word), ranks)
    kept = [merges[rank] for rank in sorted(applied)]
    tokens = {token for merge in kept for token in (*merge, "".join(merge))}
    tokens |= {token for token in model["vocab"] if len(token) == 1 or token in special}
    model["vocab"] = {token: id for token, id in model["vocab"].items() if token in tokens}
    # The library numbers special tokens that are not in the vocabulary by its size, and this one has holes.
    model["vocab"] |= {token["content"]: token["id"] for token in content["added_tokens"]}
    model["merges"] = [list(merge) for merge in kept]
    return content


def plain_words(tokenizer: Tokenizer, text: str, special: set[str]) -> list[str]:
    """The words, as the pre-tokenizer writes them, of what lies between the special tokens of a text."""
    words = []
    for start, end in gaps(tokenizer, text, special):
        words += [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text[start:end])]
    return words


def gaps(tokenizer: Tokenizer, text: str, special: set[str]) -> list[tuple[int, int]]:
    """Where a text lies between its special tokens: the beginning and the end of each part."""
    encoded = tokenizer.encode(text, add_special_tokens=False)
    marks = [offset for offset, token in zip(encoded.offsets, encoded.tokens, strict=True) if token in special]
    edges = [0, *(edge for mark in marks for edge in mark), len(text)]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]


def merges_of(symbols: list[str], ranks: dict[tuple[str, ...], int]) -> set[int]:
    """The ranks of the merges that byte-pair encoding applies to a word."""
    applied: set[int] = set()
    while pairs := [(ranks[pair], at) for at, pair in enumerate(pairwise(symbols)) if pair in ranks]:
        rank, at = min(pairs)
        applied.add(rank)
        symbols[at : at + 2] = ["".join(symbols[at : at + 2])]
    return applied


if __name__ == "__main__":
    main()
