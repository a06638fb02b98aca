"""The options that several commands have."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cyclopts import ArgumentCollection, Group, Parameter

from ..core.given import Given
from ..core.option_kinds import Count, Names, listed
from .output import sentence

# The fields of a record are options of the command, without a prefix.
FLAT = Parameter(name="*")


def group(title: str, place: int) -> Parameter:
    """The options of a record under a title of their own in the help. place: the number of the
    group, from 1 on."""
    return Parameter(name="*", group=Group(title, sort_key=place))


def one_of(title: str, place: int | None = None) -> Group:
    """A group of options of which only one may be given. place: its place in the help. Without one
    the help does not show the group, so that its options need another one, too."""
    if place is None:
        return Group(title, show=False, validator=_only_one)
    return Group(title, sort_key=place, validator=_only_one)


def _only_one(options: ArgumentCollection) -> None:
    given = [option.name for option in options.filter_by(value_set=True)]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other: give one of them")


_LOUDNESS = one_of("loudness")
_EARLIER = one_of("Earlier run", 97)
COLUMNS = listed(str, "columns", "COLUMNS")
# Options of two groups appear under the title of the first.
EVERY = Group("Every command", sort_key=99)


@dataclass(frozen=True, kw_only=True)
class Talk(Given):
    """What a command tells."""

    config: Annotated[Path | None, Parameter(metavar="FILE.toml", group=EVERY)] = None
    """Read options from this file. Options of the command line replace them."""
    debug: Annotated[bool, Parameter(group=EVERY)] = False
    """Show the traceback of a failure."""
    quiet: Annotated[bool, Parameter(alias="-q", group=(EVERY, _LOUDNESS))] = False
    """Print only results and failures."""
    verbose: Annotated[bool, Parameter(alias="-v", group=(EVERY, _LOUDNESS))] = False
    """Explain a failed solve on one page."""

    def say(self, text: str) -> None:
        """Tell the user what happens, on the standard error. Results go to the standard output."""
        if not self.quiet:
            sentence(text, sys.stderr)


@dataclass(frozen=True, kw_only=True)
class Command(Given):
    """A base of the records of all commands: what a command does, with all its options."""

    # Where the work is done: MODULE:FUNCTION of this room. It gets the record and the Call, and
    # returns the exit code. Only a command that runs loads it.
    work: ClassVar[str]
    talk: Annotated[Talk, FLAT] = Talk()


@dataclass(frozen=True, kw_only=True)
class Columns(Given):
    """What the columns of a table mean."""

    time: Annotated[str | None, Parameter(metavar="COLUMN")] = None
    """Column of times. Without it: the one whose name says so, such as t, time or date."""
    group: Annotated[str | None, Parameter(metavar="COLUMN")] = None
    """Column that distinguishes trajectories. Without it: one that plainly does."""
    drop: Annotated[Names, COLUMNS] = ()
    """Columns to ignore, separated by commas."""
    input: Annotated[Names, COLUMNS] = ()
    """Columns that are exogenous inputs u(t), separated by commas."""
    error: Annotated[Names, COLUMNS] = ()
    """Columns with standard deviations. level_sd belongs to the state level by its name,
    level=COLUMN says so."""

    def as_arguments(self) -> dict[str, Any]:
        """The arguments of ``pynode.data.read``."""
        return {
            "time": self.time,
            "group": self.group,
            "drop": self.drop,
            "inputs": self.input,
            "errors": self.error,
        }


@dataclass(frozen=True, kw_only=True)
class Earlier(Given):
    """What becomes of an earlier run in the same folder."""

    resume: Annotated[bool, Parameter(group=_EARLIER)] = False
    """Go on with the run that --out contains."""
    overwrite: Annotated[bool, Parameter(group=_EARLIER)] = False
    """Start again, even if --out contains a run."""


@dataclass(frozen=True, kw_only=True)
class Threads(Given):
    """The threads of torch."""

    threads: Count = 1
    """Number of torch threads. More than one helps only wide networks."""
