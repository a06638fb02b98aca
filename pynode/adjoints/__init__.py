"""How gradients are made: cotangents of the outputs into cotangents of y0 and parameters."""
