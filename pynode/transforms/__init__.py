"""A solve inside the transforms of torch.func."""
