"""`smolcli records`: writes the records of runs in any format, filtered, and sidecars from them."""
