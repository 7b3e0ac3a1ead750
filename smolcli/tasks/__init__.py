"""What is asked about an item, and how the replies become an answer."""
