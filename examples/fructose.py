"""A kinetic model of examples/data/fructose.csv, for pynode fit.

pynode fit examples/fructose.py:reactor examples/data/fructose.csv --out out/kinetics
"""

import torch


def reactor(t, y, k1=0.1, k2=0.1, k3=0.1):
    # Concentrations in mol/L, rates in mol/(L min): fructose to HMF (k1), HMF to levulinic acid
    # (k2), and fructose to humins, by two molecules (k3).
    fructose, hmf, _ = y
    made = k1 * fructose
    used = k2 * hmf
    lost = k3 * fructose**2
    return torch.stack((-made - lost, made - used, used))
