"""`smolcli config`: shows and sets the defaults of options."""
