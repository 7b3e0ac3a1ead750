"""`smolcli convert-to-gguf`."""
