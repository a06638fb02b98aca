"""Reading mechanisms: files, phases, CHEMKIN, and what is refused by its name."""

import pytest
import torch

from pynode.models import cantera
from tests.support.mechanisms import mechanism

ct = pytest.importorskip("cantera", reason="mechanisms need cantera")
pytestmark = pytest.mark.filterwarnings("ignore:NasaPoly2")

CHEMKIN = """
ELEMENTS
H O
END
SPECIES
H2 O2 H O OH
END
THERMO ALL
   300.000  1000.000  4000.000
H2                TEST  H   2               G   300.000  4000.000 1000.00      1
 3.10000000E+00 1.10000000E-03-2.00000000E-07 3.00000000E-11-1.00000000E-15    2
-9.00000000E+02-1.20000000E+00 3.10000000E+00 1.10000000E-03-2.00000000E-07    3
 3.00000000E-11-1.00000000E-15-9.00000000E+02-1.20000000E+00                   4
O2                TEST  O   2               G   300.000  4000.000 1000.00      1
 3.30000000E+00 1.10000000E-03-2.00000000E-07 3.00000000E-11-1.00000000E-15    2
-1.00000000E+03 5.80000000E+00 3.30000000E+00 1.10000000E-03-2.00000000E-07    3
 3.00000000E-11-1.00000000E-15-1.00000000E+03 5.80000000E+00                   4
H                 TEST  H   1               G   300.000  4000.000 1000.00      1
 2.50000000E+00 0.00000000E+00 0.00000000E+00 0.00000000E+00 0.00000000E+00    2
 2.55000000E+04-4.00000000E-01 2.50000000E+00 0.00000000E+00 0.00000000E+00    3
 0.00000000E+00 0.00000000E+00 2.55000000E+04-4.00000000E-01                   4
O                 TEST  O   1               G   300.000  4000.000 1000.00      1
 2.50000000E+00 0.00000000E+00 0.00000000E+00 0.00000000E+00 0.00000000E+00    2
 2.92000000E+04 4.80000000E+00 2.50000000E+00 0.00000000E+00 0.00000000E+00    3
 0.00000000E+00 0.00000000E+00 2.92000000E+04 4.80000000E+00                   4
OH                TEST  O   1H   1          G   300.000  4000.000 1000.00      1
 3.40000000E+00 1.10000000E-03-2.00000000E-07 3.00000000E-11-1.00000000E-15    2
 3.70000000E+03 2.10000000E+00 3.40000000E+00 1.10000000E-03-2.00000000E-07    3
 3.00000000E-11-1.00000000E-15 3.70000000E+03 2.10000000E+00                   4
END
REACTIONS CAL/MOLE
H+O2<=>O+OH      2.650E+16  -0.671  17041.0
O+H2<=>H+OH      3.870E+04   2.700   6260.0
  REV / 1.1E+04   2.7   4000.0 /
END
"""
# What a reaction of a gas can have besides, with the name under which it is refused.
REFUSED = {
    "Blowers-Masel": """
- equation: O + H2 <=> H + OH
  type: Blowers-Masel
  rate-constant: {A: 38.7, b: 2.7, Ea0: 26200.0, w: 1.0e+06}""",
    "two-temperature-plasma": """
- equation: O + H2 => H + OH
  type: two-temperature-plasma
  rate-constant: {A: 38.7, b: 2.7, Ea-gas: 26200.0, Ea-electron: 1000.0}""",
    "linear-Burke": """
- equation: H + OH (+M) <=> H2O (+M)
  type: linear-Burke
  colliders:
  - name: M
    type: falloff
    low-P-rate-constant: {A: 2.2e+04, b: -2.0, Ea: 0.0}
    high-P-rate-constant: {A: 1.6e+09, b: 0.1, Ea: 100.0}
    Troe: {A: 0.73, T3: 94.0, T1: 1756.0}
  - name: N2
    efficiency: {A: 1.2, b: 0.0, Ea: 0.0}""",
}


def written(folder, text, name="mechanism.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def test_a_file(tmp_path):
    reactor = cantera(written(tmp_path, mechanism("Arrhenius", "Troe")))
    assert reactor.states == ("T", *reactor.species)
    assert reactor.mechanism.equations == ("H + O2 <=> O + OH", "2 OH (+M) <=> H2O + O (+M)")
    assert [name for name, _ in reactor.named_parameters()] == [
        f"mechanism.arrhenius.{name}" for name in ("log_A", "b", "E")
    ]
    assert reactor.mechanism.expression_reactions.tolist() == [0, 1, 1]


def test_chemkin(tmp_path):
    """Cantera's converter reads it. An explicit reverse rate is a reaction of its own."""
    reactor = cantera(written(tmp_path, CHEMKIN, "mechanism.inp"))
    arrhenius = reactor.mechanism.arrhenius
    equations = ("H + O2 <=> O + OH", "H2 + O => H + OH", "H + OH => H2 + O")
    assert reactor.mechanism.equations == equations
    # mol, cm3 and cal -> mol, m3 and J
    expected = torch.tensor([2.65e10, 3.87e-2, 1.1e-2], dtype=torch.float64)
    torch.testing.assert_close(arrhenius.log_A.exp().detach(), expected, rtol=1e-12, atol=0)
    energies = 4.184 * torch.tensor([17041.0, 6260.0, 4000.0], dtype=torch.float64)
    torch.testing.assert_close(arrhenius.E.detach(), energies, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", REFUSED)
def test_a_rate_that_is_refused(name, tmp_path):
    text = mechanism().replace("reactions: []", f"reactions:{REFUSED[name]}")
    with pytest.raises(ValueError, match=name):
        cantera(written(tmp_path, text))


@pytest.mark.parametrize(
    ("file", "phase", "name"),
    [
        ("h2o2.yaml", "ohmech-RK", "Redlich-Kwong"),
        ("ptcombust.yaml", "Pt_surf", "ideal-surface"),
        ("liquidvapor.yaml", "water", "pure-fluid"),
        ("water.yaml", "ice", "fixed-stoichiometry"),
    ],
)
def test_a_phase_that_is_refused(file, phase, name):
    with pytest.raises(ValueError, match=name):
        cantera(file, phase=phase)


def test_thermodynamics_that_are_refused(tmp_path):
    shomate = """
  thermo:
    model: Shomate
    temperature-ranges: [298.0, 1300.0]
    data:
    - [25.6, 6.1, 4.1, -2.7, 0.13, -118.0, 227.4]
"""
    text = mechanism()
    before, _, rest = text.partition("- name: N2")
    composition = rest.partition("  thermo:")[0]
    after = rest.partition("reactions:")[2]
    changed = f"{before}- name: N2{composition}{shomate.lstrip(chr(10))}reactions:{after}"
    with pytest.raises(ValueError, match="Shomate"):
        cantera(written(tmp_path, changed))


def test_a_negative_limit_is_refused(tmp_path):
    text = mechanism("Lindemann").replace("{A: 2.2e+04, b: -2.0", "{A: -2.2e+04, b: -2.0")
    text = text.replace("type: falloff", "type: falloff\n  negative-A: true")
    text = text.replace("{A: 1.6e+09", "{A: -1.6e+09")
    with pytest.raises(ValueError, match="not positive"):
        cantera(written(tmp_path, text))


def test_mistakes_are_sentences(tmp_path):
    path = written(tmp_path, mechanism("Arrhenius"))
    with pytest.raises(ValueError, match="'constant volume' or 'constant pressure'"):
        cantera(path, "batch")
    with pytest.raises(ValueError, match="adiabatic"):
        cantera(path, energy="off")
    with pytest.raises(ValueError, match="prescribed pressure"):
        cantera(path, pressure=lambda t: 1e5 + 0 * t)
    with pytest.raises(ValueError, match="leave out energy"):
        cantera(path, energy="isothermal", temperature=lambda t: 1000.0 + 0 * t)
    with pytest.raises(ValueError, match="residence_time"):
        cantera(path, inflow={"T": 300.0, "X": "H2:1"})
    with pytest.raises(ValueError, match="'T', and 'X' or 'Y'"):
        cantera(path, inflow={"X": "H2:1"}, residence_time=1.0)
    with pytest.raises(FileNotFoundError, match="neither at this path"):
        cantera(tmp_path / "missing.yaml")
    reactor = cantera(path)
    with pytest.raises(ValueError, match="mole fractions X or"):
        reactor.initial(1000.0, 1e5)
    with pytest.raises(ValueError, match="XE"):
        reactor.initial(1000.0, 1e5, X="XE:1")
    with pytest.raises(ValueError, match="no name with a number"):
        reactor.initial(1000.0, 1e5, X="H2 O2:1")
    with pytest.raises(ValueError, match="one number for each"):
        reactor.initial(1000.0, 1e5, X=[1.0, 2.0])
    with pytest.raises(ValueError, match="positive, finite sum"):
        reactor.initial(1000.0, 1e5, X={"H2": 0.0})


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"no mechanism file gri3.yaml.*gri30.yaml"):
        cantera("gri3.yaml")
    with pytest.raises(FileNotFoundError, match=r"no mechanism file missing.inp"):
        cantera("missing.inp")


def test_an_error_of_cantera_without_its_frame(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("phases: 3\n")
    with pytest.raises(ValueError, match="Cantera cannot read") as caught:
        cantera(path)
    assert "***" not in str(caught.value)
    assert "\n" not in str(caught.value)
