"""Gradients by differential equations that are solved backward in time."""
