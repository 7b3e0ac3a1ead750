"""Results as text, tables, plots, a page, and comparisons of two of them."""
