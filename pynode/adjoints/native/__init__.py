"""The discrete adjoint of native solves, in compiled code."""
