"""Child processes of Python, and the pipes to them."""
