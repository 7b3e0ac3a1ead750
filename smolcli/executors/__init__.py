"""Executors make records of items: on this machine, or on a Ray cluster."""
