"""Scores answers on labelled data."""
