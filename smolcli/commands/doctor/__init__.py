"""`smolcli doctor`."""
