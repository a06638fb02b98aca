"""``sbml``: a file of SBML as a ReactionModel."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch

from ..reactions.model import ReactionModel
from .contents import contents_of
from .document import document_of
from .translate import network_of


def sbml(
    path: str | os.PathLike,
    *,
    learn: Sequence[str] | Mapping[str, str] = (),
    free: Sequence[str] = (),
    dtype: torch.dtype = torch.float64,
) -> ReactionModel:
    """The model of an SBML file, Levels 1 to 3.

    path: a file, or the text of one.
    learn: names of constants that become parameters of the module, or a dict of names to their
        scales "lin", "log" or "log10".
    free: names of constants whose initial assignment does not count. They become components of p,
        with the file's value.

    Raise UnsupportedFeature, a ValueError, for a feature that pynode refuses (docs/published.md),
    and ValueError for a file that is no SBML.
    """
    network = network_of(contents_of(document_of(path).getModel(), frozenset(free)))
    return ReactionModel(network, learn, dtype)
