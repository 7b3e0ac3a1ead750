"""A SmolVLM checkpoint as a pair of GGUF files for llama.cpp; a library without a command line.

language, mmproj = convert(Path("SmolVLM2-256M"), Path("out"), quant="q8_0", mmproj_quant="f16")
"""

from __future__ import annotations

from .convert import convert

__all__ = ["convert"]
