"""The executor of `--engine ray`."""
