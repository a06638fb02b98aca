"""Jacobians, linear solves and Newton's method: the pieces of the implicit methods."""
