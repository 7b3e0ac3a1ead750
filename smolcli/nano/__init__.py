"""The built-in model: its weights, and the recipe that makes them."""
