"""Small mechanisms, with one reaction of each kind, as Cantera's YAML. Their numbers are invented;
they keep all terms of a formula in sight."""

UNITS = "units: {length: m, quantity: mol, activation-energy: J/mol}\n"
PHASE = """
phases:
- name: gas
  thermo: ideal-gas
  elements: [H, O, N]
  species: [H2, O2, H, O, OH, H2O, HO2, N2]
  kinetics: gas
  state: {T: 300.0, P: 1 atm}
"""
COMPOSITIONS = {
    "H2": "{H: 2}",
    "O2": "{O: 2}",
    "H": "{H: 1}",
    "O": "{O: 1}",
    "OH": "{O: 1, H: 1}",
    "H2O": "{H: 2, O: 1}",
    "HO2": "{H: 1, O: 2}",
    "N2": "{N: 2}",
}
SEVEN = """
  thermo:
    model: NASA7
    temperature-ranges: [200.0, {middle}, 4000.0]
    data:
    - [{a}, 1.1e-3, -2.0e-7, 3.0e-11, -1.0e-15, {h}, {s}]
    - [{a}, 1.3e-3, -2.5e-7, 3.1e-11, -1.2e-15, {h}, {s}]
"""
NINE = """
  thermo:
    model: NASA9
    temperature-ranges: [200.0, 900.0, 2000.0, 6000.0]
    data:
    - [2.2e+03, -3.8e+01, 3.1, 8.5e-04, 1.3e-07, -9.6e-11, 2.5e-14, 7.1e+02, 4.1]
    - [5.8e+04, -1.2e+02, 3.3, 6.1e-04, -1.5e-08, 2.0e-12, -1.0e-16, 1.5e+03, 3.0]
    - [8.3e+04, -6.4e+02, 3.6, 4.2e-04, -2.0e-08, 6.0e-13, -1.0e-17, 4.9e+03, 1.2]
"""
CONSTANT = """
  thermo:
    model: constant-cp
    T0: 300.0 K
    h0: 2.49e+05 J/mol
    s0: 161.0 J/mol/K
    cp0: 21.9 J/mol/K
"""
# Enthalpies over R in K, entropies over R, heat capacities over R, and where the ranges meet.
NUMBERS = {
    "H2": (-900.0, -1.2, 3.1, 1000.0),
    "O2": (-1000.0, 5.8, 3.3, 1000.0),
    "H": (25500.0, -0.4, 2.5, 1000.0),
    "OH": (3700.0, 2.1, 3.4, 1200.0),
    "H2O": (-30100.0, 0.7, 3.8, 1000.0),
    "HO2": (200.0, 4.9, 3.9, 1400.0),
}

KINDS = {
    "Arrhenius": """
  equation: H + O2 <=> O + OH
  rate-constant: {A: 2.6e+10, b: -0.67, Ea: 71300.0}""",
    "irreversible": """
  equation: H2 + OH => H + H2O
  rate-constant: {A: 38.7, b: 2.7, Ea: 26200.0}""",
    "three bodies": """
  equation: 2 O + M <=> O2 + M
  rate-constant: {A: 1.2e+05, b: -1.0, Ea: 0.0}
  efficiencies: {H2: 2.4, H2O: 15.4, N2: 0.0}""",
    "one collider": """
  equation: H + O2 + N2 <=> HO2 + N2
  rate-constant: {A: 11.3, b: -0.7, Ea: 5.0}""",
    "negative": """
  equation: OH + HO2 <=> H2O + O2
  duplicate: true
  rate-constant: {A: 1.45e+07, b: 0.0, Ea: -2090.0}
- equation: OH + HO2 <=> H2O + O2
  duplicate: true
  negative-A: true
  rate-constant: {A: -2.0e+06, b: 0.1, Ea: 900.0}""",
    "orders": """
  equation: H2 + 0.5 O2 => H2O
  orders: {H2: -0.3, O2: 1.4}
  negative-orders: true
  rate-constant: {A: 3.0e+03, b: 0.0, Ea: 50000.0}""",
    "order of a stranger": """
  equation: O + H2 => OH + H
  orders: {O: 1.0, H2: 0.0, N2: 0.5}
  nonreactant-orders: true
  rate-constant: {A: 3.0e+03, b: 0.0, Ea: 20000.0}""",
    "Lindemann": """
  equation: H + OH (+M) <=> H2O (+M)
  type: falloff
  low-P-rate-constant: {A: 2.2e+04, b: -2.0, Ea: 0.0}
  high-P-rate-constant: {A: 1.6e+09, b: 0.1, Ea: 100.0}
  efficiencies: {H2: 0.73, H2O: 3.65}""",
    "Troe": """
  equation: 2 OH (+M) <=> H2O + O (+M)
  type: falloff
  low-P-rate-constant: {A: 2.3e+06, b: -0.9, Ea: -7100.0}
  high-P-rate-constant: {A: 7.4e+07, b: -0.37, Ea: 0.0}
  Troe: {A: 0.73, T3: 94.0, T1: 1756.0, T2: 5182.0}""",
    "Troe of three": """
  equation: H + O2 (+M) <=> HO2 (+M)
  type: falloff
  low-P-rate-constant: {A: 6.4e+08, b: -1.7, Ea: 2200.0}
  high-P-rate-constant: {A: 1.5e+06, b: 0.6, Ea: 0.0}
  Troe: {A: 0.8, T3: 0.0, T1: 1.0e+30}""",
    "SRI": """
  equation: O + OH (+M) <=> HO2 (+M)
  type: falloff
  low-P-rate-constant: {A: 1.2e+04, b: -1.1, Ea: 300.0}
  high-P-rate-constant: {A: 2.0e+07, b: 0.0, Ea: 0.0}
  SRI: {A: 0.54, B: 201.0, C: 1024.0, D: 1.1, E: 0.02}""",
    "SRI of three": """
  equation: H + OH (+N2) <=> H2O (+N2)
  type: falloff
  low-P-rate-constant: {A: 1.2e+04, b: -1.1, Ea: 300.0}
  high-P-rate-constant: {A: 2.0e+07, b: 0.0, Ea: 0.0}
  SRI: {A: 0.54, B: 201.0, C: 1024.0}""",
    "Tsang": """
  equation: O + H2 (+M) <=> H2O (+M)
  type: falloff
  low-P-rate-constant: {A: 1.2e+04, b: -1.1, Ea: 300.0}
  high-P-rate-constant: {A: 2.0e+07, b: 0.0, Ea: 0.0}
  Tsang: {A: 0.95, B: -1.0e-04}""",
    "chemically activated": """
  equation: HO2 + H (+M) <=> H2O + O (+M)
  type: chemically-activated
  low-P-rate-constant: {A: 2.8e+04, b: 0.3, Ea: 1000.0}
  high-P-rate-constant: {A: 2.6e+02, b: 0.1, Ea: 1200.0}
  Troe: {A: 0.6, T3: 100.0, T1: 2000.0}""",
    "PLOG": """
  equation: H2 + HO2 <=> H2O + OH
  type: pressure-dependent-Arrhenius
  rate-constants:
  - {P: 0.01 atm, A: 1.2e+03, b: 0.9, Ea: 30000.0}
  - {P: 1.0 atm, A: 4.9e+04, b: 0.7, Ea: 31000.0}
  - {P: 10.0 atm, A: 1.3e+06, b: 0.5, Ea: 36000.0}""",
    "PLOG of sums": """
  equation: O + HO2 <=> OH + O2
  type: pressure-dependent-Arrhenius
  rate-constants:
  - {P: 0.1 atm, A: 1.2e+05, b: 0.3, Ea: 3000.0}
  - {P: 0.1 atm, A: 3.0e+06, b: 0.1, Ea: 6000.0}
  - {P: 5.0 atm, A: 4.9e+06, b: 0.1, Ea: 9000.0}""",
    "Chebyshev": """
  equation: H + HO2 <=> 2 OH
  type: Chebyshev
  temperature-range: [290.0, 3000.0]
  pressure-range: [0.01 atm, 100 atm]
  data:
  - [7.2, -0.11, -0.03]
  - [0.9, 0.08, 0.01]
  - [-0.1, 0.02, 0.002]
  - [0.03, 0.001, -0.004]""",
    "small Chebyshev": """
  equation: H2 + O2 <=> H + HO2
  type: Chebyshev
  temperature-range: [300.0, 2500.0]
  pressure-range: [0.1 atm, 10 atm]
  data:
  - [3.1, 0.2]
  - [2.4, -0.1]""",
}


def mechanism(*kinds: str) -> str:
    """The YAML of a gas of eight species with the reactions of these KINDS."""
    species = "species:\n"
    for name, composition in COMPOSITIONS.items():
        thermo = {"N2": NINE, "O": CONSTANT}.get(name)
        if thermo is None:
            h, s, a, middle = NUMBERS[name]
            thermo = SEVEN.format(a=a, h=h, s=s, middle=middle)
        species += f"- name: {name}\n  composition: {composition}{thermo}"
    reactions = "reactions:\n" if kinds else "reactions: []\n"
    for kind in kinds:
        reactions += f"- {KINDS[kind].strip()}\n"
    return UNITS + PHASE + species + reactions
