"""Prompts to replies, the same for all backends: scheduling, sampling, repetition, schemas."""
