"""Decodes videos with FFmpeg's libraries through PyAV."""
