"""A machine with stand-ins for Julia, juliacall and juliapkg."""

from pynode.backends.julia.setup import install, process
from pynode.backends.julia.setup.locate import PAIR
from tests.support import fakes


class Machine:
    """julia: a program; project: an empty folder; told: the lines of the installations; steps: the
    commands that they ran."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.setenv = monkeypatch.setenv
        self.julia = fakes.make_julia(folder / "julia")
        self.project = folder / "project"
        self.project.mkdir()
        self.told = []
        self.steps = []

    def install(self, *options, installer=install.Juliapkg, run=None):
        """Install with these options, and the process that precompiles replaced."""
        return install.install(options, self.told.append, installer, run or self.precompile)

    def precompile(self, command, *_, **__):
        self.steps.append(command)
        return process.ProcessResult(0, "", "", 1.0)

    def choose(self, version="1.10.8", **changes):
        """Let the variables name a Julia of this version, whose project has these changes."""
        exe = fakes.make_julia(self.folder / "chosen", version, **changes)
        for name, value in zip(PAIR, (exe, str(self.project))):
            self.setenv(name, value)
