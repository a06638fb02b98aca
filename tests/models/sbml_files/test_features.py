"""What an SBML file can say, each feature with a closed form."""

import math

import pytest
import torch

from pynode import solve
from tests.support.cases import tensor
from tests.support.sbml_texts import add_algebraic, antimony, changed, free, libsbml, sbml

TIGHT = {"rtol": 1e-9, "atol": 1e-12}


def at_end(model, name, end=1.0):
    return float(model.simulate([0.0, end], **TIGHT)[name][-1])


def end_of(text, name, end=1.0):
    return at_end(antimony(f"model m; {text}; end"), name, end)


def close(found, expected, rel=1e-7):
    assert found == pytest.approx(expected, rel=rel)


def test_rate_rules_and_assignment_rules():
    close(end_of("S' = -2*S; S = 3; R := S^2 + time", "R"), 9 * math.exp(-4) + 1)


def test_function_definitions():
    text = "function f(a, b) a^2 + b end; model m; S' = f(2, k); S = 0; k = 1; end"
    close(at_end(antimony(text), "S"), 5)


def test_piecewise_in_time_and_state():
    close(end_of("S' = piecewise(1, time < 0.25, 3); S = 0", "S"), 0.25 + 3 * 0.75)
    close(end_of("S' = piecewise(2, S < 1, 0); S = 0", "S", 3.0), 1, rel=1e-5)


def test_boundary_species_do_not_react():
    text = "species S, $B; J: B -> S; k*B; k = 2; B = 3; S = 0"
    close(end_of(text, "S"), 6)
    close(end_of(text, "B"), 3)


def test_species_by_their_amounts():
    """hasOnlySubstanceUnits: the name means the amount, whatever the volume."""
    text = "compartment C = 4; substanceOnly species S in C; J: S -> ; k*S; k = 1; S = 3"
    close(end_of(text, "S"), 3 * math.exp(-1))


def test_local_parameters_hide_global_ones():
    def change(model):
        law = model.getReaction("J").getKineticLaw()
        parameter = law.createLocalParameter()
        parameter.setId("k")
        parameter.setValue(2.0)

    model = sbml(changed("J: S -> ; k*S; k = 1; S = 1", change))
    assert {"k", "J.k"} <= set(model.constants)
    close(at_end(model, "S"), math.exp(-2))


def test_conversion_factors():
    def change(model):
        model.setConversionFactor("two")
        model.getSpecies("P").setConversionFactor("ten")

    text = "J: S -> P; 1; S = 5; P = 0; const two = 2, ten = 10"
    model = sbml(changed(text, change))
    close(at_end(model, "S"), 3)
    close(at_end(model, "P"), 10)


def test_stoichiometry_that_changes():
    """A species reference with a rule is a quantity like others."""

    def change(model):
        product = model.getReaction("J").getProduct(0)
        product.setId("count")
        product.setConstant(False)
        rule = model.createAssignmentRule()
        rule.setVariable("count")
        rule.setMath(libsbml.parseL3Formula("1 + 2*time"))

    model = sbml(changed("J: -> P; 3; P = 0", change))
    close(at_end(model, "P"), 3 * (1 + 1))
    close(at_end(model, "count"), 3)


def test_volumes_that_change():
    """The amount of S decays; its concentration also falls because the volume grows."""
    text = "compartment C = 1; C' = 2; species S in C; J: S -> ; k*S*C; k = 0.5; S = 6"
    close(end_of(text, "S"), 6 * math.exp(-0.5) / 3)


def test_initial_assignments_in_any_order():
    close(end_of("S' = a; S = 2*b; a = 3*b; b = 2", "S"), 4 + 6)


def test_initial_amounts_and_concentrations():
    def change(model):
        model.getSpecies("S").unsetInitialConcentration()
        model.getSpecies("S").setInitialAmount(3.0)

    text = "compartment C = 2; species S in C, R in C; S = 1; R = 7; J: S -> R; 0*S"
    model = sbml(changed(text, change))
    assert dict(zip(model.states, model.initial().tolist())) == {"S": 1.5, "R": 7.0}
    assert model.network.species["S"].starts_as_amount


def test_avogadro_and_derivatives():
    close(end_of("S' = -S; S = 2; R := rateOf(S)", "R"), -2 * math.exp(-1))
    # [S] = amount / C, with a derivative by both.
    text = "compartment C = 1; C' = 2; species S in C; J: S => ; 3; S = 9; Q := rateOf(S)"
    close(end_of(text, "Q"), -3 / 3 - 6 * 2 / 9)
    close(end_of("n := avogadro; S' = 1; S = 0", "n"), 6.02214179e23)


def test_submodels():
    text = (
        "model inner; J: S -> ; k*S; S = 1; k = 1; end;"
        " model outer; A: inner(); B: inner(); B.k = 2; end"
    )
    model = antimony(text)
    ends = {name: at_end(model, name) for name in model.states}
    close(ends, {"A_S": math.exp(-1), "B_S": math.exp(-2)})


def test_algebraic_rules_in_closed_form():
    """A rule that is linear in its unknown becomes a formula, and no state is needed."""

    def change(model):
        free(model, "T")
        add_algebraic(model, "S + T - 10")

    model = sbml(changed("S' = -S; S = 4; T = 0", change))
    assert model.states == ("S",) and model.mass is None
    close(at_end(model, "T"), 10 - 4 * math.exp(-1))


def test_algebraic_rules_as_a_dae():
    """z^3 + z = S has no simple formula: a mass matrix and consistent values serve."""

    def change(model):
        free(model, "z")
        add_algebraic(model, "z^3 + z - S")

    model = sbml(changed("S' = -k*S; S = 10; k = 0.5; z = 1; at (z < 1.5): S = 30", change))
    assert model.mass.tolist() == [1.0, 0.0]
    p = model.values.clone().requires_grad_()
    simulation = model.simulate([0.0, 0.5, 2.0], p, **TIGHT)
    z = simulation["z"]
    torch.testing.assert_close(z**3 + z, simulation["S"], rtol=1e-7, atol=0)
    # S jumps to 30 as z^3 + z falls to 4.875.
    jump = math.log(10 / 4.875) / 0.5
    close(simulation["S"].tolist(), [10, 10 * math.exp(-0.25), 30 * math.exp(-0.5 * (2 - jump))])
    (gradient,) = torch.autograd.grad(z[1], p)
    slope = 1 / (3 * float(z[1].detach()) ** 2 + 1)
    found = gradient[model.constants.index("k")]
    close(float(found), -0.5 * 10 * math.exp(-0.25) * slope, rel=1e-5)


def test_algebraic_rules_without_an_unknown_are_refused():
    text = changed("S' = -S; S = 4; const T = 1", lambda model: add_algebraic(model, "S - T"))
    with pytest.raises(ValueError, match="determines no quantity"):
        sbml(text)


def test_fast_reactions():
    """A and B are always in the ratio 1 to 2, from the first time on, while B decays slowly."""

    def change(model):
        model.getReaction("J").setFast(True)

    text = "J: A -> B; 2*A - B; K: B -> ; k*B; A = 3; B = 0; k = 0.3"
    model = sbml(changed(text, change, (3, 1)))
    simulation = model.simulate([0.0, 2.0], **TIGHT)
    total = 3 * math.exp(-0.3 * 2 / 3 * 2)
    close(simulation["A"].tolist(), [1, total / 3], rel=1e-6)
    close(simulation["B"].tolist(), [2, total * 2 / 3], rel=1e-6)


def test_names_of_python_and_of_pynode():
    """Names that mean something else in the generated code, or in formulas."""
    text = "model m; S' = lambda + torch*time0; S = 0; lambda = 1; torch = 2; time0 = 3; y = 5; end"
    close(at_end(antimony(text), "S"), 7)


def test_a_solve_by_hand():
    """A model without events is a field: solve takes it as any other."""
    model = antimony("model m; S -> R; k*S; S = 1; R = 0; k = 2; end")
    solution = solve(model, model.initial(), [0.0, 1.0], args=(model.values,), **TIGHT)
    torch.testing.assert_close(
        solution.y[-1], tensor(math.exp(-2), 1 - math.exp(-2)), rtol=1e-7, atol=0
    )
