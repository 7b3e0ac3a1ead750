"""Vision encoders beside llama.cpp: tiles to embeddings."""
