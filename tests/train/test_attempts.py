"""Several runs on the same data: the best is kept, with its files."""

from dataclasses import replace

import torch

from pynode.train import fit_best, load_model
from pynode.train.checkpoint import saved_options
from tests.support.training import QUICK, stiff_linear, weights

SHORT = replace(QUICK, warm_start=0, epochs=1)


def test_the_best_seed_is_kept_with_its_files(tmp_path):
    data = stiff_linear()
    runs = [fit_best(data, [replace(SHORT, seed=seed)]) for seed in (0, 1, 2)]
    worst = [max(state.error for state in run.verdict.states) for run in runs]
    best = fit_best(data, [SHORT], seeds=3, out=tmp_path)
    assert best.options.seed == worst.index(min(worst))
    assert saved_options(tmp_path / "checkpoint.pt")["seed"] == best.options.seed
    stored = load_model(tmp_path / "model.pt")
    assert torch.equal(
        torch.cat([p.detach().reshape(-1) for p in stored.parameters()]), weights(best)
    )
    assert not (tmp_path / "attempt").exists()


def test_another_choice_is_tried_where_the_first_has_not_learned():
    data = stiff_linear()
    good = replace(QUICK, warm_start=250, epochs=5, polish=25, rtol=1e-4)
    tried = fit_best(data, [SHORT, good])
    assert tried.options.polish == 25 and tried.verdict.word == "learned"
    kept = fit_best(data, [good, SHORT])
    assert kept.options.polish == 25
