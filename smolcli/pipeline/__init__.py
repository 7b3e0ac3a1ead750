"""One request from its options to an exit code."""
