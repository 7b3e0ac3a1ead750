"""Words of the command line to items, and items to pixels."""
