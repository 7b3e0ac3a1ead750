"""CPU, memory, and files that are cached or written whole."""
