"""Gradients of the steps that a solve took."""
