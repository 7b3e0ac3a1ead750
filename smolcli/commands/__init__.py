"""The commands that are no tasks: bench, models, doctor, convert-to-gguf."""
