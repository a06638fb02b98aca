"""Models whose events a plain solve would leave out."""

from __future__ import annotations

from typing import Any


def refuse_events(f: Any, wish: str = "") -> None:
    """Raise ValueError if f is a model of a file that has events: only its ``simulate`` makes them
    happen. wish: what the user wants to add to the model, such as "an input"."""
    events = getattr(f, "events", ())
    if not events or not hasattr(f, "simulate"):
        return
    names = ", ".join(event.name for event in events)
    told = f"the model has events ({names}), and only model.simulate makes them happen"
    without = "model.without_events() is the model that leaves them out on purpose"
    if wish:
        raise ValueError(
            f"{told}. But {wish} needs solve. Write it into the file of the model, as an event or a"
            f" piecewise formula; {without}"
        )
    raise ValueError(f"{told}: call model.simulate(t, p); {without}")
