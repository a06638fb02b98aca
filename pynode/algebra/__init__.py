"""Jacobians, linear solvers and Newton's method: the parts of the implicit methods."""
