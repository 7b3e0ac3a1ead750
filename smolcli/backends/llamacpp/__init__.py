"""The llama.cpp backend: GGUF pairs on the CPU."""
