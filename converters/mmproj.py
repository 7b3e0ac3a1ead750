"""The mmproj file: vision encoder and connector as llama.cpp's architecture clip with projector idefics3."""

from __future__ import annotations

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFType, GGUFWriter, VisionProjectorType

from smolcli.models.checkpoint import Checkpoint
from smolcli.models.preprocessor_config import SPLITTING_KEY, does_split
from smolcli.models.tensor_mapping import vision_weights

from .gguf_model import GgufModel
from .gguf_writer import add_metadata, add_quantization
from .quantization import Quantization


def build_model(checkpoint: Checkpoint, name: str | None) -> GgufModel:
    """Return the content of an mmproj file; `name` is the model's, or None for that of the directory."""

    def describe(writer: GGUFWriter, quantization: Quantization) -> None:
        writer.add_type(GGUFType.MMPROJ)
        add_metadata(writer, checkpoint, name)
        _add_sizes(writer, checkpoint)
        _add_preprocessing(writer, checkpoint)
        add_quantization(writer, quantization)

    weights = vision_weights(checkpoint.vision, checkpoint.text.hidden)
    return GgufModel("mmproj-", MODEL_ARCH_NAMES[MODEL_ARCH.MMPROJ], tuple(weights), describe)


def _add_sizes(writer: GGUFWriter, checkpoint: Checkpoint) -> None:
    vision = checkpoint.vision
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(VisionProjectorType.IDEFICS3)
    writer.add_vision_projection_dim(checkpoint.text.hidden)
    writer.add_vision_image_size(vision.image)
    writer.add_vision_patch_size(vision.patch)
    writer.add_vision_embedding_length(vision.hidden)
    writer.add_vision_feed_forward_length(vision.feed_forward)
    writer.add_vision_block_count(vision.layers)
    writer.add_vision_head_count(vision.heads)
    writer.add_vision_attention_layernorm_eps(vision.epsilon)
    writer.add_vision_projector_scale_factor(vision.scale)
    writer.add_vision_use_gelu(True)


def _add_preprocessing(writer: GGUFWriter, checkpoint: Checkpoint) -> None:
    preprocessor = checkpoint.preprocessor
    writer.add_vision_image_mean(preprocessor["image_mean"])
    writer.add_vision_image_std(preprocessor["image_std"])
    # Without the longest edge llama.cpp splits pictures into other tiles than those that the model was trained with.
    writer.add_vision_preproc_image_size(preprocessor["size"]["longest_edge"])
    if not does_split(preprocessor):
        writer.add_bool(SPLITTING_KEY, False)
