"""A model as text: as chemists write it, and as a Python file that needs torch alone."""

import torch

from tests.support.sbml_texts import antimony

TEXT = """
model two_steps
  bind: A + 2 B => C; k1*A*B^2/(1 + C/Ki)
  leave: C => ; k2*C
  total := A + C
  Ki = 4*k2
  z' = -time*z
  A = 1; B = 2; C = 0.25; k1 = 0.5; k2 = 1e-3; z = 1
  dose: at 3 after (A < 0.5): B = 2
end
"""
LONG = "model long; S' = " + " + ".join(f"k{i}*exp(-S*k{i})" for i in range(20))
LONG += "".join(f"; k{i} = {i / 10}" for i in range(20)) + "; S = 1; end"


def loaded(text):
    """The module of a file's text, made."""
    scope = {}
    exec(text, scope)
    kinds = [kind for kind in scope.values() if isinstance(kind, type)]
    return kinds[0](), scope


def test_a_model_prints_as_chemists_write():
    lines = str(antimony(TEXT)).splitlines()
    assert lines == [
        "two_steps: 4 states, 2 reactions, 7 constants",
        "  A + 2 B -> C ; bind = k1*A*B^2/(1 + C/Ki)",
        "  C ->         ; leave = k2*C",
        "  dz/dt = -time*z",
        "  total = A + C",
        "  Ki = 4*k2",
        "  dose: when A < 0.5 after 3: B = 2",
    ]


def test_the_file_computes_what_the_model_computes(tmp_path):
    model = antimony(TEXT)
    path = tmp_path / "two_steps.py"
    text = model.to_python(path)
    assert path.read_text(encoding="utf-8") == text
    assert "import torch\n" in text and "pynode" not in text
    module, scope = loaded(text)
    assert scope["STATES"] == model.states and tuple(scope["CONSTANTS"]) == model.constants
    y = torch.rand(5, 4, dtype=torch.float64)
    t = torch.rand(5, 1, dtype=torch.float64)
    torch.testing.assert_close(module(t, y), model(t, y))
    torch.testing.assert_close(module(2.0, y[0]), model(2.0, y[0]))
    torch.testing.assert_close(module.initial(), model.initial())


def test_the_file_has_the_constants_of_now():
    model = antimony(TEXT, learn={"k1": "log"})
    with torch.no_grad():
        model.learned["k1"].fill_(0.0)
    assert loaded(model.to_python())[1]["CONSTANTS"]["k1"] == 1.0


def test_lines_are_as_long_as_a_person_writes():
    """Also where the formula is long; and the file reads in sentences what it leaves out."""
    for text in (TEXT, LONG):
        lines = antimony(text).to_python().splitlines()
        assert max(len(line) for line in lines if not line.startswith("  d")) <= 100
    assert "The events are not part of this file." in antimony(TEXT).to_python()
    module, _ = loaded(antimony(LONG).to_python())
    y = torch.ones(1, dtype=torch.float64)
    torch.testing.assert_close(module(0.0, y), antimony(LONG)(0.0, y))


def test_the_description_of_many_compounds():
    text = antimony("model m; J: A -> 3 B + C; k*A; A = 1; B = 0; C = 0; k = 1; end")
    assert "A <-> 3 B + C ; J = k*A" in str(text)
