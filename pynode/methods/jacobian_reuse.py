"""States of methods that keep a Jacobian over many steps."""

from __future__ import annotations


class KeepsJacobian:
    """What parks such a state: (t, y, ...) where its Jacobian was made is its ``origin``, None
    without one."""

    def parked(self, state):
        """Without the Jacobian and its factorisation, which are made again at their origin."""
        return state._replace(
            jac=None, solver=None, origin=None if state.jac is None else state.origin
        )

    def restored(self, state):
        """The state that was parked; its Jacobian and factorisation are the same in every digit."""
        if state.origin is None:
            return state
        jac = state.jacobian(*state.origin[:2])
        return state._replace(jac=jac, solver=self.refactorised(state, jac))

    def refactorised(self, state, jac):
        """The solver of Newton's iteration, at the size of step that the state names."""
        return state.jacobian.factorised(jac, state.c, state.origin[2])
