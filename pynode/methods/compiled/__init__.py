"""Whole steps compiled by torch.compile."""
