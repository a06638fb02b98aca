"""Examines what is installed: whether native code and Julia work, and what to do if not.

Everything that may hang or crash runs in a fresh process with a time limit.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import textwrap
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from .backends.julia.runtime import running, start
from .backends.julia.setup import image, process, versions
from .backends.julia.setup.locate import locate
from .backends.julia.setup.packages import adding, check
from .backends.packages import missing_for_native
from .backends.registry import native_engine
from .core.text_table import WIDTH
from .integrate import solve

LIMIT = 900.0  # seconds for one trial: the first start after an update precompiles for minutes
OK: Literal["ok"] = "ok"
NOTE: Literal["note"] = "note"
PROBLEM: Literal["problem"] = "problem"
ORDERS = {
    "torch, then juliacall": "import torch, juliacall",
    "juliacall, then torch": "import juliacall, torch",
}
_TOGETHER = (
    "; assert torch.eye(9).inverse().sum() == 9 and juliacall.Main.seval('sum(inv([1.0 0; 0 1]))')"
    " == 2"
)
_WITHOUT = {
    "sensitivity": "gradients only by the native Gauss adjoint",
    "radau": "no Radau IIA methods",
}


@dataclass(frozen=True)
class Finding:
    """One result. state: 'ok'; 'note' for an optional part that is missing; 'problem'. remedy: what
    to do, '' if nothing."""

    name: str
    state: Literal["ok", "note", "problem"]
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        lines = _hanging(f"{self.state:<8} {self.name:<13} ", self.text)
        if self.remedy:
            lines += _hanging(f"{'':<22} -> ", self.remedy)
        return "\n".join(lines)


def _hanging(head, text):
    """The lines of a text after a head; the further lines begin where the text began."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def examine(limit: float = LIMIT, report: Callable[[Finding], None] | None = None) -> list[Finding]:
    """All Findings. report(finding) is called with each as soon as it is known. limit: seconds for
    each trial in a process."""
    findings = []
    for finding in _findings(limit):
        findings.append(finding)
        if report is not None:
            report(finding)
    return findings


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether no finding is a problem."""
    return all(finding.state != PROBLEM for finding in findings)


def as_json(findings: Iterable[Finding]) -> str:
    """A JSON object: ok, and the findings with their name, state, text and remedy."""
    every = list(findings)
    plain = {"ok": healthy(every), "findings": [asdict(finding) for finding in every]}
    return json.dumps(plain, indent=2)


def _findings(limit):
    yield Finding(
        "torch engine",
        OK,
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.platform()}",
    )
    yield _native(limit)
    location = locate()
    if not location.ready:
        found = _problem("Julia", location.problem)
        if location.absent:
            # pynode works without Julia.
            found = replace(found, state=NOTE)
        yield found
        return
    yield Finding("Julia", OK, str(location))
    before = _version(location)
    if before.state == OK:
        packages, silence = check(location)
    else:
        packages = ()
        silence = ""
    findings = [
        before,
        *_packages(location, packages, silence),
        *_image(location),
        *_threads(),
    ]
    yield from findings
    if not healthy(findings):
        yield Finding(
            "trials",
            NOTE,
            "not tried, because they could not succeed",
            "remove the problems above first",
        )
        return
    yield from _orders(location, limit)
    installed = {package.name for package in packages if package.within}
    yield from (
        _trial(adjoint, limit)
        for adjoint in ("NativeGauss", "GaussAdjoint")[: 1 + ("SciMLSensitivity" in installed)]
    )
    yield _gpu("CUDA" in installed)


def _native(limit) -> Finding:
    """The native engine: a solve and its gradient, compared with the torch engine."""
    missing = missing_for_native()
    if missing:
        text = f"backend='native' needs {' and '.join(missing)}"
        return Finding("native engine", NOTE, text, "pip install 'torch-stiff-ode[native]'")
    finished = process.run(
        [sys.executable, "-c", "from pynode.doctor import trial; trial('native')"], limit
    )
    if not finished.ok:
        return Finding(
            "native engine",
            PROBLEM,
            f"a solve and its gradient {finished.end}",
            "report this with the whole output, and use backend='torch'",
        )
    return _compared("native engine", "native code", json.loads(finished.out.splitlines()[-1]))


def _problem(name, sentence) -> Finding:
    """The Finding for a sentence 'what is wrong: what to do'."""
    text, _, remedy = sentence.rpartition(": ")
    return Finding(name, PROBLEM, text, remedy)


def _version(location) -> Finding:
    version = process.version(location.exe)
    if not version:
        return _problem(
            "version",
            f"{location.exe} is not a Julia that runs here: give the path of the julia program",
        )
    if not versions.fits(version):
        return _problem(
            "version",
            f"Julia {version}, but {versions.julia()} or a later 1.x is needed: install one",
        )
    return Finding("version", OK, f"Julia {version} ({versions.julia()} or a later 1.x is needed)")


def _packages(location, packages, silence):
    if silence:
        yield Finding(
            "packages",
            PROBLEM,
            f"{location.exe} {silence}",
            "start it by hand, and see what it says",
        )
    faults = [
        package.fault(location) for package in packages if not (package.optional or package.within)
    ]
    yield from (_problem("packages", fault) for fault in faults)
    if packages and not faults:
        needed = (
            f"{package.name} {package.version}"
            for package in packages
            if package.bounds and not package.optional
        )
        yield Finding("packages", OK, f"{', '.join(needed)}; PythonCall matches juliacall")
    options = {name: option for option, name in versions.OPTIONS.items()}
    for package in packages:
        option = options.get(package.name)
        if option and package.within:
            yield Finding("packages", OK, f"{package.name} {package.version}")
        elif option and package.version:
            yield _problem("packages", package.fault(location))
        elif option in _WITHOUT:
            text = f"{package.name} is not in the project: {_WITHOUT[option]}"
            yield Finding("packages", NOTE, text, adding(location, option))


def _image(location):
    """Whether the system image, where there is one, fits its packages."""
    file, fits = image.state(location.exe, location.project)
    if file is None:
        return
    if fits:
        yield Finding("system image", OK, f"{file}, {file.stat().st_size / 1e6:.0f} MB")
    else:
        text = f"{file} is not used, because Julia or a package has changed since"
        yield Finding("system image", NOTE, text, f"{image.COMMAND}, or {image.COMMAND} --remove")


def _threads():
    threads = _julia_threads()
    if os.environ.get("PYTHON_JULIACALL_HANDLE_SIGNALS", "yes") != "yes":
        text = "Julia would start without handling signals: only one thread at a time can solve"
        state = NOTE
        if threads != "1":
            text = (
                f"Julia would start with {threads} threads without handling signals, which can"
                " crash its garbage collector"
            )
            state = PROBLEM
        yield Finding("threads", state, text, "unset PYTHON_JULIACALL_HANDLE_SIGNALS")
    elif running() and not start().entries.parallel:
        yield Finding(
            "threads",
            NOTE,
            "another package has started Julia here without handling signals: only one thread at a"
            " time can solve",
            "call pynode.julia.start() before that package starts Julia",
        )
    else:
        number = threads
        if threads == "auto":
            number = f"{os.cpu_count()} (auto: one for each core)"
        yield Finding(
            "threads",
            OK,
            f"threads of Julia: {number}; PYTHON_JULIACALL_THREADS=N chooses another number",
        )


def _julia_threads() -> str:
    """With how many threads pynode starts Julia: a number, or 'auto'."""
    return os.environ.get("PYTHON_JULIACALL_THREADS") or os.environ.get("JULIA_NUM_THREADS", "auto")


def _orders(location, limit):
    environment = location.environment | {
        "PYTHON_JULIAPKG_OFFLINE": "yes",
        # As pynode starts it.
        "PYTHON_JULIACALL_HANDLE_SIGNALS": "yes",
    }
    for name, imports in ORDERS.items():
        finished = process.run(
            [sys.executable, "-W", "ignore", "-c", imports + _TOGETHER], limit, environment
        )
        if finished.ok:
            yield Finding("import order", OK, f"{name}: {finished.seconds:.0f} s")
        else:
            if imports.startswith("import torch"):
                first = "juliacall"
                second = "torch"
            else:
                first = "torch or pynode"
                second = "juliacall"
            yield Finding(
                "import order",
                PROBLEM,
                f"{name}: {finished.end}",
                f"import {first} before {second}",
            )


def _trial(adjoint, limit) -> Finding:
    """A solve and its gradient, compared with the torch engine."""
    report = "report this with the whole output"
    finished = process.run(
        [sys.executable, "-c", f"from pynode.doctor import trial; trial({adjoint!r})"], limit
    )
    if not finished.ok:
        return Finding(
            "trial", PROBLEM, f"a solve and its gradient by {adjoint} {finished.end}", report
        )
    return _compared("trial", adjoint, json.loads(finished.out.splitlines()[-1]))


def _compared(name, what, result) -> Finding:
    """The Finding of a trial."""
    text = (
        f"{what}: start {result['start']:.1f} s, first solve with gradient"
        f" {result['first']:.1f} s, the next {result['second']:.2g} s; compared with the torch"
        f" engine: states {result['states']:.0e}, gradients {result['gradients']:.0e}"
    )
    good = result["states"] < 1e-5 and result["gradients"] < 1e-3
    if good:
        return Finding(name, OK, text)
    return Finding(name, PROBLEM, text, "report this with the whole output")


def trial(adjoint: str) -> None:
    """Solve Robertson's reaction with torch, and with Julia by this adjoint or with the engine
    'native', with gradients. Print seconds and relative differences as JSON."""

    def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
        began = time.monotonic()
        result = function(*arguments)
        return time.monotonic() - began, result

    if adjoint == "native":
        started, _ = timed(native_engine)
        engine = ("native", "discrete")
    else:
        started, _ = timed(start)
        engine = ("julia", adjoint)
    first, _ = timed(_robertson, *engine)
    second, (y, gradient) = timed(_robertson, *engine)
    reference, slope = _robertson("torch", "discrete")
    states = ((y - reference).abs() / reference.abs().amax(0)).max()
    gradients = ((gradient - slope).abs() / slope.abs()).max()
    result = {
        "start": started,
        "first": first,
        "second": second,
        "states": float(states),
        "gradients": float(gradients),
    }
    print(json.dumps(result))


def _robertson(backend, adjoint):
    """The states (3, 3), and the gradient of the first component at the last time with respect to
    the logarithms of the rates, (3,)."""
    logs = torch.tensor([0.04, 3e7, 1e4], dtype=torch.float64).log().requires_grad_()

    def f(t: torch.Tensor, y: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
        a, b, c = logs.exp()
        slow = a * y[0] - c * y[1] * y[2]
        fast = b * y[1] ** 2
        return torch.stack((-slow, slow - fast, fast))

    y0 = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    solution = solve(
        f,
        y0,
        [0.0, 1.0, 100.0],
        method="Rodas5P",
        rtol=1e-7,
        atol=1e-11,
        args=(logs,),
        backend=backend,
        adjoint=adjoint,
    )
    solution.y[-1, 0].backward()
    return solution.y.detach(), logs.grad


def _gpu(packaged) -> Finding:
    if not torch.cuda.is_available():
        return Finding("GPU", OK, "torch finds none; solves run on the CPU")
    text = (
        f"{torch.cuda.get_device_name()}; a field there is called with a copy of the state, which"
        " Julia has on the CPU"
    )
    return Finding(
        "GPU",
        OK,
        text + ("; CUDA.jl is in the project, for JuliaBackend(state='cuda')" if packaged else ""),
    )
