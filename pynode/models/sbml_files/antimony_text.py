"""``antimony``: a model in Antimony's language as a ReactionModel."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from ..reactions.model import ReactionModel
from .read import sbml

if find_spec("antimony") is None:
    raise ImportError(
        "Models in Antimony's language need antimony: pip install 'torch-stiff-ode[antimony]'."
    )

SUFFIXES = (".ant", ".txt")  # of files


def antimony(
    text: str | os.PathLike,
    *,
    learn: Sequence[str] | Mapping[str, str] = (),
    free: Sequence[str] = (),
    dtype: torch.dtype = torch.float64,
) -> ReactionModel:
    """The model of a text in Antimony's language (Smith et al., Bioinformatics 25 (2009)), or of a
    file with such a text. Options as for ``sbml``. Raise ValueError for a text that is no
    Antimony, FileNotFoundError for a file that is not there."""
    return sbml(as_sbml(text), learn=learn, free=free, dtype=dtype)


def as_sbml(text: str | os.PathLike) -> str:
    """The SBML of a text or file in Antimony's language."""
    import antimony as language

    plain = os.fspath(text)
    if "\n" not in plain and ";" not in plain:
        if Path(plain).is_file():
            plain = Path(plain).read_text(encoding="utf-8")
        elif not isinstance(text, str) or Path(plain).suffix in SUFFIXES:
            raise FileNotFoundError(f"there is no file {plain!r}")
    language.clearPreviousLoads()
    if language.loadAntimonyString(plain) < 0:
        raise ValueError(f"the text is no Antimony: {language.getLastError().strip()}")
    return language.getSBMLString(language.getMainModuleName())
