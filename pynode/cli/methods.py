"""The command ``pynode methods``: a list."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ..compare.tables import aligned
from . import catalogue
from .command import finish, print_json
from .values import count

METHODS = """\
List the methods, explicit ones first. The options filter the list, and a method must satisfy all of
them: --implicit --structure sparse lists the implicit methods that take a sparse Jacobian.
"""


def add_options(own: argparse.ArgumentParser) -> None:
    """Add the options of 'pynode methods'."""
    own.description = METHODS
    own.add_argument(
        "name",
        nargs="?",
        metavar="TEXT",
        help="only methods whose name, family or reference contains this text",
    )
    kinds = own.add_mutually_exclusive_group()
    for kind in ("explicit", "implicit", "switching"):
        kinds.add_argument(
            f"--{kind}",
            dest="kind",
            action="store_const",
            const=kind,
            help=f"only {kind} methods",
        )
    own.add_argument(
        "--order", type=count(1), metavar="N", help="only methods of at least this order"
    )
    own.add_argument(
        "--backend", choices=("torch", "native", "julia"), help="only methods of this engine"
    )
    own.add_argument(
        "--structure",
        choices=("dense", "sparse", "banded", "krylov"),
        help="only methods that take this kind of Jacobian",
    )
    own.add_argument("--mass", action="store_true", help="only methods that take mass matrices")
    own.add_argument(
        "--batched",
        action="store_true",
        help="only methods that take a separate step for every row of a batch",
    )
    finish(own, _methods, "print a JSON list of objects")


def _methods(arguments) -> int:
    entries = [entry for entry in catalogue.methods() if _matches(entry, arguments)]
    if arguments.json:
        print_json([asdict(entry) for entry in entries])
        return 0
    if not entries:
        raise ValueError("no method has all of these properties: remove one of the options")
    head = ("name", "kind", "order", "Jacobians", "mass", "batched", "backends", "reference")
    lines = [
        (
            e.name,
            e.kind,
            e.order,
            ",".join(e.structures) or "-",
            _yes(e.mass),
            _yes(e.batched),
            ",".join(e.backends),
            e.reference,
        )
        for e in entries
    ]
    print("\n".join(aligned([head, *lines], left=(0, 1, 3, 4, 5, 6, 7))))
    return 0


def _matches(entry, arguments) -> bool:
    text = " ".join((entry.name, entry.family, entry.reference)).lower()
    return (
        (not arguments.name or arguments.name.lower() in text)
        and arguments.kind in (None, entry.kind)
        and (arguments.order is None or int(entry.order.split()[-1]) >= arguments.order)
        and (arguments.backend is None or arguments.backend in entry.backends)
        and (arguments.structure is None or arguments.structure in entry.structures)
        and (entry.mass or not arguments.mass)
        and (entry.batched or not arguments.batched)
    )


def _yes(value) -> str:
    if value:
        return "yes"
    return "-"
