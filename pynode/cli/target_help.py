"""What the commands say of their targets."""

from .. import problems

_KINDS = (
    "a trained model (MODEL.pt), MODULE:OBJECT or FILE.py:OBJECT (a Problem, an ODEProblem or a"
    f" vector field), or one of: {', '.join(problems.names())}."
)
ONE = f"What to solve: {_KINDS}"
MANY = f"What to solve, one or more of these: {_KINDS}"
