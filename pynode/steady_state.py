"""``steady_state``: the state at which a field is zero, with its gradient."""
