"""A model's name to its files."""
