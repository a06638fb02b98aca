"""What native code cannot do, or could do wrongly, is refused with a sentence."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from pynode.translate import TranslationRefused, translate
from tests.support.awkward_fields import AWKWARD
from tests.support.native_fields import DOUBLE, NAMES


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", "off")


@pytest.mark.parametrize(
    ("f", "words"), [entry[1:] for entry in AWKWARD], ids=[entry[0] for entry in AWKWARD]
)
def test_awkward_fields(f, words):
    y0 = torch.tensor([0.3, 0.7, 0.9], dtype=DOUBLE)
    with pytest.raises(TranslationRefused) as refused:
        code = translate(f, y0, 0.1)
        for name in NAMES:
            code.function(name)
    sentence = str(refused.value)
    assert words in sentence
    assert sentence.endswith(".")


def test_the_users_line_is_named():
    def f(t, y):
        z = y * 2
        return torch.sort(z).values

    line = f.__code__.co_firstlineno + 2
    with pytest.raises(TranslationRefused, match=rf"test_refusals\.py:{line}"):
        translate(f, torch.ones(3, dtype=DOUBLE), 0.0)


@pytest.mark.parametrize(
    ("y0", "words"),
    [
        (torch.ones(3, dtype=torch.float16), "float64 or float32"),
        (torch.ones(3, dtype=torch.complex128), "float64 or float32"),
        (torch.ones(2, 2, dtype=DOUBLE), "must be flat"),
        (torch.ones(3, dtype=DOUBLE, device="meta"), "runs on the CPU"),
    ],
)
def test_states_that_are_refused(y0, words):
    with pytest.raises(TranslationRefused, match=words):
        translate(lambda t, y: -y, y0, 0.0)


def test_a_wrong_translation_is_refused(monkeypatch):
    """The comparison with torch notices a rule that is wrong."""
    from pynode.translate.scalar_functions import SCALAR

    right = SCALAR["tanh_backward"]
    monkeypatch.setitem(SCALAR, "tanh_backward", lambda e, g, y: e.neg(right(e, g, y)))
    code = translate(lambda t, y: torch.tanh(y), torch.ones(3, dtype=DOUBLE), 0.0)
    code.function("f")
    for name in ("jac", "vjp", "second"):
        with pytest.raises(TranslationRefused, match="differs from torch"):
            code.function(name)


def test_a_field_without_finite_numbers_is_refused():
    with pytest.raises(TranslationRefused, match="infinite numbers or NaN"):
        translate(lambda t, y: torch.log(y), -torch.ones(3, dtype=DOUBLE), 0.0).function("f")


def test_numpy_works_again_after_a_recording():
    before = {name: vars(torch.Tensor).get(name) for name in ("numpy", "tolist", "__array__")}
    with pytest.raises(TranslationRefused):
        translate(lambda t, y: y * y.tolist()[0], torch.ones(3, dtype=DOUBLE), 0.0)
    assert before == {name: vars(torch.Tensor).get(name) for name in before}
    assert np.asarray(torch.ones(2)).sum() == 2


def test_another_thread_may_use_numpy_during_a_recording():
    inside = threading.Event()
    done = threading.Event()
    found = []

    def other():
        inside.wait(10)
        found.append(torch.ones(3).numpy().sum())
        done.set()

    def f(t, y):
        inside.set()
        assert done.wait(10)
        return -y

    thread = threading.Thread(target=other)
    thread.start()
    translate(f, torch.ones(3, dtype=DOUBLE), 0.0)
    thread.join()
    assert found == [3.0]


def test_without_llvmlite_a_sentence_says_what_to_install():
    code = (
        "import sys; sys.modules['llvmlite'] = None; sys.modules['llvmlite.binding'] = None\n"
        "import torch, pynode\nfrom pynode.translate import TranslationRefused, translate\n"
        "try:\n    translate(lambda t, y: -y, torch.ones(2), 0.0)\n"
        "except TranslationRefused as refused:\n    print(refused)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert "pip install 'torch-stiff-ode[native]'" in done.stdout, done.stderr
