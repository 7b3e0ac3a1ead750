"""smolcli: small vision-language models in the shell."""

__version__ = "0.1.0"
