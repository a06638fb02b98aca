"""The sentences about mistakes in the arguments."""

from __future__ import annotations

from cyclopts import App, CoercionError, CycloptsError, MissingArgumentError, ValidationError
from cyclopts.exceptions import UnusedCliTokensError


def mistake_sentence(app: App, mistake: CycloptsError) -> str:
    """One sentence about a mistake that cyclopts found, and where the help is."""
    chain = " ".join([app.name[0], *(mistake.command_chain or ())])
    text = _said(mistake)
    if not text.endswith((".", "?")):
        text = f"{text}."
    return f"{chain}: {text} See {chain} --help."


def _said(mistake: CycloptsError) -> str:
    if isinstance(mistake, MissingArgumentError) and mistake.argument is not None:
        if mistake.keyword is not None:
            return f"{mistake.keyword} needs a value."
        return f"{mistake.argument.parameter.metavar} is missing."
    if isinstance(mistake, ValidationError) and mistake.group is not None:
        return f"{mistake.exception_message}."
    if isinstance(mistake, UnusedCliTokensError) and mistake.unused_tokens:
        word = mistake.unused_tokens[0]
        return (
            f"{word!r} is one word too many. Write a list with commas, and a name with blanks in"
            ' quotes, such as "A [mM],B [mM]".'
        )
    if isinstance(mistake, CoercionError) and mistake.msg is None and mistake.token is not None:
        if mistake.target_type is float and mistake.token.keyword:
            return f"{mistake.token.keyword} takes a number, not {mistake.token.value!r}."
    return str(mistake)
