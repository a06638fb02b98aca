"""Gradients by differential equations that are solved backwards in time."""
