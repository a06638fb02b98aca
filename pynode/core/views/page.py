"""A solution as a piece of HTML, which notebooks show."""

from __future__ import annotations

import html
from typing import Any

import numpy as np


def page(solution: Any) -> str:
    """How the solve ended, what it cost, and a small picture if matplotlib is installed."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in _facts(solution)
    )
    return (
        "<div style='display:flex;gap:1em;align-items:center;flex-wrap:wrap'>"
        f"<table>{rows}</table>{_picture(solution)}</div>"
    )


def _facts(solution):
    """(name, value) of each line of the table."""
    t = np.asarray(solution.to_numpy().t)
    span = f"{t[0].min():.6g} to {t[-1].max():.6g}, {len(t)} outputs"
    if t.ndim == 2:
        span = f"{t.shape[1]} rows, {span}"
    shown = ", ".join(solution.names[:6])
    if len(solution.names) > 6:
        shown += f" and {len(solution.names) - 6} more"
    stats = solution.stats
    facts = [
        ("ended", solution.message),
        ("method", f"{solution.method or 'none'}, engine {solution.backend or 'none'}"),
        ("t", span),
        ("states", shown),
        (
            "work",
            f"{stats.accepted} steps, {stats.rejected} rejected, {stats.nfe} evaluations of f",
        ),
    ]
    if isinstance(solution.events, list) and solution.events:
        facts.append(("events", str(len(solution.events))))
    return facts


def _picture(solution):
    try:
        from .picture import thumbnail

        return thumbnail(solution)
    except ImportError:
        return ""
