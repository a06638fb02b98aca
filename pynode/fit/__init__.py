"""Estimation of parameters: optimum, intervals and what the data cannot identify."""
