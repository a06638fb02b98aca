"""The command ``pynode julia install | status | use | sysimage``."""

from __future__ import annotations

from ..backends.julia import api as julia
from ..backends.julia.setup import sysimage as image
from ..backends.julia.setup import versions
from .call import Call
from .commands.julia import Install, Status, Sysimage, Use
from .output import print_json


def install(command: Install, call: Call) -> int:
    """Install Julia and the solvers; returns the exit code."""
    chosen = {option: getattr(command, option) for option in versions.OPTIONS}
    julia.install(**chosen, progress=command.talk.say)
    return 0


def sysimage(command: Sysimage, call: Call) -> int:
    """Make or remove the system image; returns the exit code."""
    if command.remove:
        told = "There was no system image."
        if image.remove():
            told = "Removed."
        print(told)
    else:
        image.make(command.talk.say)
    return 0


def status(command: Status, call: Call) -> int:
    """Show which Julia pynode would start; returns the exit code."""
    location = julia.status()
    if command.json:
        print_json({"ready": location.ready, "text": str(location)})
    else:
        print(location)
    if location.ready:
        return 0
    return 1


def use(command: Use, call: Call) -> int:
    """Remember or forget a Julia; returns the exit code."""
    if command.forget:
        if command.exe or command.project:
            raise ValueError("--forget takes neither --exe nor --project: remove them")
        print("Forgotten." if julia.forget() else "No Julia was remembered.")
        return 0
    if not (command.exe and command.project):
        raise ValueError("give both --exe and --project, or --forget")
    remembered = julia.use(str(command.exe), str(command.project))
    print(f"Remembered in {remembered}. Try it: pynode doctor")
    return 0
