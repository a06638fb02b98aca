"""A kinetic model of examples/data/fructose.csv, for pynode fit.

pynode fit examples/fructose.py:reactor examples/data/fructose.csv --out out/kinetics
"""

import torch


def reactor(t, y, k1=0.1, k2=0.1, k3=0.1):
    fructose, hmf, _ = y
    dehydration = k1 * fructose
    rehydration = k2 * hmf
    loss = k3 * fructose**2
    return torch.stack((-dehydration - loss, dehydration - rehydration, rehydration))
