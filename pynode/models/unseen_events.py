"""Models whose events a plain solve would leave out."""

from __future__ import annotations

from typing import Any


def refuse_events(model: Any, wish: str) -> None:
    """Raise ValueError if the model is one of a file and has events: they happen in ``simulate``
    alone. wish: what the user wants to add to it, such as "an input"."""
    events = getattr(model, "events", ())
    if events and hasattr(model, "simulate"):
        names = ", ".join(event.name for event in events)
        raise ValueError(
            f"the model has events ({names}), which happen in model.simulate alone, and {wish}"
            " needs solve: write it into the file of the model, as an event or a piecewise formula"
        )
