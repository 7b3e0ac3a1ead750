"""The engine: a child process that opens inputs and runs the model, and the watch over it."""
