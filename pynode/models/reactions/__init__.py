"""Reaction models: what every format of a file becomes, and what every model can do."""
