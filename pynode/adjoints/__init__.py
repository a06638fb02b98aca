"""Adjoints turn cotangents of the outputs into cotangents of y0 and of the parameters."""
