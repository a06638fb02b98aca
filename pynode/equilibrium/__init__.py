"""``steady_state``: the state at which a field is zero, with its gradient."""

from .find import SteadyState, SteadyStateError, steady_state

__all__ = ["SteadyState", "SteadyStateError", "steady_state"]
