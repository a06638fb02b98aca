"""A solve under the transforms of torch.func."""
