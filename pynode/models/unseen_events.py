"""Models whose events a plain solve would leave out."""

from __future__ import annotations

from typing import Any


def refuse_events(model: Any, wish: str) -> None:
    """Raise ValueError if a model of a file has events: only ``simulate`` makes them happen.
    wish: what the user wants to add to the model, such as "an input"."""
    events = getattr(model, "events", ())
    if events and hasattr(model, "simulate"):
        names = ", ".join(event.name for event in events)
        raise ValueError(
            f"the model has events ({names}), and only model.simulate makes them happen. But {wish}"
            " needs solve. Write it into the file of the model, as an event or a piecewise formula"
        )
