"""A home of its own for every run of the tests: they neither see nor change the user's settings, models and caches."""

import os
import tempfile

# Before any test imports a library that reads it (huggingface_hub, Matplotlib), and for every program they start.
home = tempfile.TemporaryDirectory(prefix="smolcli-home-")
os.environ["HOME"] = home.name
for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "HF_HUB_CACHE", "MPLCONFIGDIR"):
    os.environ.pop(name, None)
