"""Forward sensitivities of a native solve, in compiled code."""
