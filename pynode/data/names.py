"""What the names of columns say: units, time, trajectories, and which error belongs to which
state."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..core.unit_names import split_unit, with_unit

# Names that are the time without doubt, in this order of preference.
PLAIN_TIMES = ("t", "time", "times", "t_s", "time_s", "time (s)", "seconds")
UNIT_WORDS = {
    "ms": "ms milliseconds millisecond msec",
    "s": "s sec secs second seconds",
    "min": "min mins minute minutes",
    "h": "h hr hrs hour hours",
    "d": "d day days",
    "weeks": "wk week weeks",
    "months": "month months",
    "years": "yr yrs year years",
}
TIME_UNITS = {word: unit for unit, words in UNIT_WORDS.items() for word in words.split()}
CLOCKS = frozenset(
    "t,time,times,elapsed,elapsed time,time elapsed,zeit,temps,tiempo,tempo,uhrzeit".split(",")
)
DATES = frozenset(
    "date,datetime,date time,date and time,date/time,timestamp,time stamp,datum,fecha,utc".split(
        ","
    )
)
SHORT_UNITS = ("us", "µs", "μs", "ns", "ps", "fs", "a")
# A unit word of one or two letters is no name of a time column: h is a height, s an entropy.
SHORTEST_UNIT_WORD = 3
TEMPERATURES = ("k", "°c", "c", "degc", "celsius", "kelvin", "°f")
GROUPS = frozenset(
    "run group id subject patient trajectory traj experiment exp batch sample serie case individual"
    " animal replicate rep well curve set dataset unit simulation sim member file".split()
)
ERRORS = "sd|std|stdev|stddev|err|error|sigma|se|sem|stderr|unc|uncertainty|deviation"
_ERROR = re.compile(rf"^(?:(?:{ERRORS})[ _.-]+(.+)|(.+)[ _.-]+(?:{ERRORS}))$", re.IGNORECASE)
# What people set in an apparatus. In some it is a state, so that this is only asked.
_SET = re.compile(r"^(?:temp|temperature?|température|ph|stirrer|rpm|flow|feed|dilution rate)$")
_INPUT = re.compile(r"^(?:u ?\d*|u .+|.*\binput ?\d*|input .+|control|setpoint|stimulus|forcing)$")


def short_name(name: str) -> str:
    """The name without its unit."""
    return split_unit(name)[0]


def time_unit(name: str) -> str:
    """The unit of a column of times: 'h' for 'Time [h]', 'time_h' and 'hours', '' if unknown."""
    short, unit = split_unit(_spaced(name))
    if unit:
        return unit
    words = _plain(short).split()
    if not words:
        return ""
    return TIME_UNITS.get(words[-1], "")


def time_label(name: str, unit: str) -> str:
    """What the axis of a column of times says: 'Time (h)' for 'Time [h]', 'time (h)' for 'time_h'
    and 'hours'. unit: '' if unknown."""
    short, own = split_unit(_spaced(name))
    if own or not unit:
        return with_unit(_spaced(name), unit)
    words = _plain(short).split()
    if words and TIME_UNITS.get(words[-1]) == unit:
        short = " ".join(words[:-1]) or "time"
    return with_unit(short, unit)


def time_rank(name: str) -> int | None:
    """How well a name suits the time, 0 best; None if it is no name of times."""
    if name == "T":
        return 4  # often a temperature
    lowered = name.lower()
    if lowered in PLAIN_TIMES:
        return 0
    short, unit = split_unit(_spaced(lowered))
    plain = _plain(short)
    words = plain.split()
    if plain == "t" and unit and unit not in (*TIME_UNITS, *SHORT_UNITS):
        return None  # T [K] is a temperature
    if plain in CLOCKS:
        return 1
    if len(words) > 1 and words[-1] in TIME_UNITS and " ".join(words[:-1]) in CLOCKS:
        return 1
    if plain in DATES:
        return 2
    if plain in TIME_UNITS and len(plain) >= SHORTEST_UNIT_WORD:
        return 3
    return None


def is_date(name: str) -> bool:
    """Whether a column of this name has dates."""
    return _plain(short_name(name)) in DATES


def is_group(name: str) -> bool:
    """Whether a name is one that people give to columns of trajectories, such as id or run_no."""
    words = _plain(name).replace("#", " ").split()
    if len(words) > 1 and words[-1] in ("id", "no", "nr", "number", "name"):
        words = words[:-1]
    return len(words) == 1 and words[0].rstrip("s") in GROUPS


def is_input(name: str) -> bool:
    """Whether a name is one that people give to inputs, such as u, u_flow or input1, or to what
    is often one, such as T [K]."""
    short, unit = split_unit(name)
    plain = _plain(short)
    if short == "T" and unit.lower() in TEMPERATURES:
        return True
    return bool(_INPUT.match(plain) or _SET.match(plain))


def is_error(name: str) -> bool:
    """Whether a name is one that people give to standard deviations, such as level_sd."""
    return bool(_ERROR.match(short_name(name)))


def error_owner(column: str, states: Sequence[str]) -> str | None:
    """The state that the name of an error column tells, such as level for level_sd. None if none
    fits."""
    found = _ERROR.match(short_name(column))
    if found is None:
        return None
    wanted = (found[1] or found[2]).strip().lower()
    for state in states:
        if wanted in (state.lower(), short_name(state).lower()):
            return state
    return None


def resolve(name: str, header: Sequence[str]) -> str | None:
    """The column that a user means by a name, with or without a unit. None if there is none."""
    if name in header:
        return name
    same = [column for column in header if short_name(column) == name]
    if len(same) == 1:
        return same[0]
    return None


def _spaced(name: str) -> str:
    """The name of a time with blanks around the stroke before its unit: 't / h' for 't/h'."""
    short, stroke, unit = name.partition("/")
    if stroke and unit.lower() in (*TIME_UNITS, *SHORT_UNITS):
        return f"{short} / {unit}"
    return name


def _plain(name: str) -> str:
    """Lower case, with blanks for underscores, hyphens and dots."""
    return " ".join(re.sub(r"[_.\-]+", " ", name.lower()).split())
