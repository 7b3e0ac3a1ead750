"""The models' side of the seam: what runs a model, and the protocol it implements."""
