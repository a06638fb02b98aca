"""Expressions as torch source and as text: against sympy's own values."""

import math

import pytest
import torch

from tests.support.sbml_texts import FormulaPrinter, FunctionSource, compiled, sympy

a, b, c = (sympy.Symbol(name, real=True) for name in "abc")
VALUES = {x: sympy.Rational(text) for x, text in ((a, "0.7"), (b, "1.9"), (c, "-0.4"))}
FORMULAS = [
    a + b * c - 3,
    -(a + b) * c,
    a - (b - c),
    a - b * (c - 1),
    -a / (b * c),
    a / b / c,
    a * b**-2 * c,
    1 / (a + b),
    (a + b) ** -3,
    (a * b) ** 2,
    a**b,
    a ** (b + c),
    (a**b) ** c,
    b**-a,
    (a + 1) ** sympy.Rational(1, 2) / b,
    sympy.Rational(1, 3) * a**3,
    -(c**3),
    (-c) ** a,
    sympy.exp(-a) + sympy.log(b) + sympy.sqrt(a * b),
    2**a + sympy.E**a,
    sympy.sin(a) * sympy.cos(b) + sympy.tan(c) + sympy.atan(b) + sympy.asin(a) + sympy.acos(a),
    sympy.sinh(a) + sympy.cosh(b) * sympy.tanh(c) + sympy.asinh(c) + sympy.acosh(b),
    sympy.sec(a) + sympy.csc(a) + sympy.cot(a) + sympy.sech(a) + sympy.csch(a) + sympy.coth(a),
    sympy.asec(b) + sympy.acsc(b) + sympy.acot(b) + sympy.acoth(b) + sympy.asech(a),
    sympy.Abs(c) + sympy.floor(b) + sympy.ceiling(b) + sympy.sign(c),
    sympy.factorial(3 * sympy.floor(b)),
    sympy.Max(a, b, 1) + sympy.Min(a, c, sympy.Rational(1, 2)),
    sympy.Piecewise((a, b > c), (b, True)),
    sympy.Piecewise((1, sympy.And(a > 0, c > 0)), (2, sympy.Or(b < 1, c <= 0)), (3, True)),
    sympy.Piecewise((a, sympy.Not(sympy.Eq(b, 2))), (c, True)) * 2,
    sympy.Piecewise((2, sympy.Xor(a > 0, b > 0)), (5, True)),
]


def function(expressions, **options):
    source = FunctionSource(
        "value", {"y": ["a", "b", "c"]}, {}, {}, arguments=("t", "y"), **options
    )
    return compiled(source.text(expressions), "value", "<test>")


@pytest.mark.parametrize("share", [True, False], ids=["shared", "plain"])
def test_values(share):
    y = torch.tensor([float(VALUES[x]) for x in (a, b, c)], dtype=torch.float64)
    t = torch.zeros((), dtype=torch.float64)
    found = function(FORMULAS, share=share)(t, y)
    expected = [float(formula.subs(VALUES).evalf(20)) for formula in FORMULAS]
    for formula, value, right in zip(FORMULAS, found.tolist(), expected):
        assert value == pytest.approx(right, rel=1e-13), formula


def test_rows():
    """Rows of y give rows of results, also where a result is a number."""
    y = torch.rand(4, 3, dtype=torch.float64)
    found = function([sympy.Integer(2), a + b])(torch.zeros(()).double(), y)
    torch.testing.assert_close(found, torch.stack((0 * y[:, 0] + 2, y[:, 0] + y[:, 1]), 1))


def test_numbers_keep_all_digits():
    third = sympy.Rational("0.1234567890123456789")
    found = function([third + a * 0, sympy.Rational("6.02214179e23")])
    values = found(torch.zeros(()).double(), torch.ones(3).double())
    assert values.tolist() == [0.1234567890123456789, 6.02214179e23]


def test_what_is_not_defined():
    t = torch.zeros((), dtype=torch.float64)
    values = function([sympy.nan + 0 * a, sympy.oo, sympy.Piecewise((a, a > 5))])(
        t, torch.ones(3).double()
    )
    assert math.isnan(values[0]) and math.isinf(values[1]) and math.isnan(values[2])


def test_definitions_in_a_circle_are_refused():
    source = FunctionSource("f", {"y": []}, {}, {"a": b + 1, "b": a * 2}, arguments=("t", "y"))
    with pytest.raises(ValueError, match="circle"):
        source.text([a])


BRANCHES = [
    sympy.Piecewise((sympy.sqrt(a - 1), a > 1), (0, True)),
    sympy.Piecewise(((a - 1) ** b, a > 1), (c / a, True)),
    sympy.Piecewise((0, a <= 0), (2 * a, a < 0.5), (sympy.log(a), True)),
    sympy.Piecewise((a**2, sympy.Or(a > -5, c > 0)), (1 / (a - 0.5), True)),
]


@pytest.mark.parametrize("share", [True, False], ids=["shared", "plain"])
@pytest.mark.parametrize("formula", BRANCHES, ids=str)
def test_branches_that_are_not_taken_leave_derivatives_finite(formula, share):
    """The branch that is not taken is NaN or infinite at some of these points."""
    for start in (-2.0, 0.25, 0.75, 3.0):
        y = torch.tensor([start, 1.5, -0.5], dtype=torch.float64, requires_grad=True)
        function([formula, formula + a], share=share)(torch.zeros(()).double(), y)[0].backward()
        at = {a: start, b: 1.5, c: -0.5}
        expected = [float(sympy.diff(formula, x).subs(at)) for x in (a, b, c)]
        assert y.grad.tolist() == pytest.approx(expected, rel=1e-12)


def test_long_chains_of_definitions():
    """Longer than Python's limit of recursion."""
    chain = {f"x{i + 1}": sympy.Symbol(f"x{i}", real=True) + i % 7 for i in range(1200)}
    source = FunctionSource("value", {"y": ["x0"]}, {}, chain, arguments=("t", "y"))
    text = source.text([sympy.Symbol("x1200", real=True)])
    y = torch.ones(1, dtype=torch.float64)
    found = compiled(text, "value", "<test>")(torch.zeros(()).double(), y)
    assert found.item() == 1 + sum(i % 7 for i in range(1200))


def test_names_that_python_does_not_allow():
    odd = [sympy.Symbol(name, real=True) for name in ("lambda", "r.k", "init(S)", "2x", "r_k")]
    names = [x.name for x in odd]
    source = FunctionSource("value", {"y": names}, {}, {}, arguments=("t", "y"))
    value = compiled(source.text([sum(i * x for i, x in enumerate(odd, 1))]), "value", "<test>")
    y = torch.tensor([1.0, 10.0, 100.0, 1000.0, 10000.0], dtype=torch.float64)
    assert value(torch.zeros(()).double(), y).item() == 54321


@pytest.mark.parametrize(
    "formula, text",
    [
        (a * b**2 / (a + c), "a*b^2/(a + c)"),
        (-a + b, "b - a"),
        (-(a + b) / c, "(-a - b)/c"),
        ((a * b) ** -1, "1/(a*b)"),
        (c ** (a + b), "c^(a + b)"),
        (sympy.Rational(1, 4) * a, "0.25*a"),
        (sympy.Piecewise((a, b > 1), (0, True)), "piecewise(a, b > 1, 0)"),
    ],
)
def test_texts(formula, text):
    assert FormulaPrinter().doprint(formula) == text
    assert sympy.sympify(
        text.replace("^", "**"), {"piecewise": lambda *x: formula} | {"a": a, "b": b, "c": c}
    ).equals(formula)


def test_constants_stand_first():
    assert FormulaPrinter(first=["c"]).doprint(a * b * c) == "c*a*b"
