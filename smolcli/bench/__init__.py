"""`smolcli bench`: speed, memory and quality of models, and the reports of them."""
