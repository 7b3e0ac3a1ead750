"""The command line: arguments to a typed request, errors to a line and an exit code."""
