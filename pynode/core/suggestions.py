"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import Field, fields
from functools import wraps
from typing import Any, ClassVar, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def suggestion(name: str, known: Iterable[str]) -> str:
    """'did you mean this?' for the known name nearest to a wrong one, or all known names."""
    names = list(known)
    by_lower = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=2, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(by_lower[match]) for match in near)}?"
    if not names:
        return "it has none"
    if len(names) > 8:
        return "see its docstring"
    return f"it has {', '.join(names)}"


class SuggestsOptions:
    """A base of dataclasses. A TypeError for an option that the class does not have names the
    nearest one."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        wrong = [option for option in options if option not in cls.__dataclass_fields__]
        if wrong:
            known = [field.name for field in fields(cls) if field.init and field.repr]
            raise TypeError(no_option(cls.__name__, wrong[0], known))
        return super().__new__(cls)


def no_option(owner: str, option: str, known: Iterable[str]) -> str:
    """The message for an option that there is not."""
    return f"{owner} has no option {option!r}: {suggestion(option, known)}"


def suggests_options(function: Callable[P, R]) -> Callable[P, R]:
    """The same function. A TypeError for an option that it does not have names the nearest one."""
    parameters = inspect.signature(function).parameters
    keywords = [p for p in parameters.values() if p.kind != p.POSITIONAL_ONLY]
    known = [p.name for p in keywords if p.kind != p.VAR_KEYWORD and p.name != "self"]
    name = function.__qualname__.removesuffix(".__init__").split(".")[-1]

    @wraps(function)
    def called(*arguments: Any, **options: Any) -> R:
        try:
            return function(*arguments, **options)
        except TypeError:
            wrong = [option for option in options if option not in parameters]
            if not wrong:
                raise
            raise TypeError(no_option(name, wrong[0], known)) from None

    return called
