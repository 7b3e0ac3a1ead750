"""What single formats of pictures need beyond Pillow: one module a format."""
