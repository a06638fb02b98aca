"""Models among the tools that people train with: loaders, optimisers, hooks, several processes,
Lightning, files."""

import copy
import io
import os
import pickle
import subprocess
import sys
from datetime import timedelta
from functools import partial

import pytest
import torch
from torch import multiprocessing, nn
from torch.utils.data import DataLoader, TensorDataset

from pynode.nn import CNF, AugmentedODE, NeuralODE
from tests.support import ROOT
from tests.support import gradients as comparisons
from tests.support.cases import tensor
from tests.support.gradients import model_gradients
from tests.support.modules import replica

agree = partial(comparisons.agree, vanishing="2.bias")  # CNF: the trace does not depend on it
LOOSE = {"method": "tsit5", "rtol": 1e-3, "atol": 1e-4}
TURN = tensor([0.0, 1.0], [-1.0, 0.0])


class Network(nn.Module):
    """A field for states (..., n)."""

    def __init__(self, n=2):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n, 8), nn.Tanh(), nn.Linear(8, n)).double()

    def forward(self, t, y):
        return self.net(y) * torch.cos(t)


# (a model, what is asked of it) of every class; all for points (3, 2).
MODELS = {
    "NeuralODE": lambda: (NeuralODE(Network(), **LOOSE), NeuralODE.forward),
    "NeuralODE, stiff": lambda: (NeuralODE(Network(), method="fbdf", rtol=1e-3), NeuralODE.forward),
    "AugmentedODE": lambda: (AugmentedODE(Network(4), 2, **LOOSE), AugmentedODE.forward),
    "CNF": lambda: (CNF(Network(), 2, **LOOSE), CNF.log_prob),
}
every_model = pytest.mark.parametrize("name", MODELS)


def points(n=3):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


# Copies and files.


@every_model
def test_state_dicts_go_through_files(name):
    torch.manual_seed(1)
    (trained, ask), (fresh, _) = MODELS[name](), MODELS[name]()
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    assert not torch.equal(ask(fresh, points()), ask(trained, points()))
    assert fresh.load_state_dict(torch.load(file, weights_only=True)) == ([], [])
    assert torch.equal(ask(fresh, points()), ask(trained, points()))


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
@every_model
def test_copies(name, copied):
    """Of a model that has solved and gone back; independent of it."""
    model, ask = MODELS[name]()
    before = model_gradients(model, points(), ask)
    twin = copied(model)
    agree(model_gradients(twin, points(), ask), before)
    with torch.no_grad():
        twin.field.net[0].weight.mul_(2)
    agree(model_gradients(model, points(), ask), before)


@every_model
def test_whole_models_go_through_files(name, tmp_path):
    model, ask = MODELS[name]()
    torch.save(model, tmp_path / "model.pt")
    again = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(ask(again, points()), ask(model, points()))


@every_model
def test_casts_keep_the_times(name):
    model, ask = MODELS[name]()
    wanted = ask(model, points())
    found = ask(model.to(torch.float32), points().float())
    assert found.dtype == torch.float32 and model.t.dtype == torch.float64
    torch.testing.assert_close(found.double(), wanted, rtol=1e-2, atol=1e-3)


@every_model
def test_replicas_of_data_parallel(name):
    """Without parameters of their own, each on its part of the batch: the gradients add up in the
    module."""
    model, ask = MODELS[name]()
    wanted = model_gradients(
        model, points(4), lambda m, y: torch.cat([ask(m, part) for part in y.split(2)])
    )
    assert not list(replica(model).parameters())
    agree(
        model_gradients(
            model, points(4), lambda m, y: torch.cat([ask(replica(m), part) for part in y.split(2)])
        ),
        wanted,
    )
    agree(
        model_gradients(nn.DataParallel(model).module, points(4), ask),
        model_gradients(model, points(4), ask),
    )


# Loops of training.


def learn(model, optimizer, batches, accumulate=1):
    """The losses of a plain loop over (y0, target)."""
    losses = []
    for i, (y0, target) in enumerate(batches, 1):
        loss = nn.functional.mse_loss(model(y0), target)
        (loss / accumulate).backward()
        losses.append(loss.item())
        if i % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return losses


def test_a_loader_with_workers():
    """Whose batches come from other processes."""
    data = TensorDataset(points(16), points(16) @ TURN)
    model = NeuralODE(Network(), **LOOSE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    losses = []
    with_workers = DataLoader(
        data, batch_size=8, num_workers=2, persistent_workers=True, timeout=60
    )
    for _ in range(8):
        losses += learn(model, optimizer, with_workers)
    assert sum(losses[-2:]) < 0.4 * sum(losses[:2])


def test_accumulated_gradients_are_those_of_the_whole_batch():
    """Of a model with tight tolerances: the parts have steps of their own."""
    model, y0 = NeuralODE(Network(), method="tsit5", rtol=1e-9, atol=1e-11), points(8)
    wanted = model_gradients(model, y0)
    model.zero_grad()
    for part in y0.split(2):
        model(part).square().sum().backward()
    agree({name: p.grad for name, p in model.named_parameters()}, wanted, 1e-7)


def test_lbfgs_with_its_closure():
    model, y0 = NeuralODE(Network(), **LOOSE), points(8)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=20, line_search_fn="strong_wolfe")
    losses = []

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(y0), y0 @ TURN)
        loss.backward()
        losses.append(loss.item())
        return loss

    optimizer.step(closure)
    assert losses[-1] < 0.02 * losses[0]


def test_a_frozen_part_stays_and_the_rest_learns():
    model, y0 = NeuralODE(Network(), **LOOSE), points(8)
    model.field.net[0].requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    losses = learn(model, optimizer, [(y0, y0 @ TURN)] * 10)
    assert losses[-1] < 0.7 * losses[0]
    moved = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"field.net.2.weight", "field.net.2.bias"}


def test_layers_before_a_frozen_field_learn():
    """The gradient passes through the solve, whose own parameters get none."""
    model = nn.Sequential(nn.Linear(2, 2).double(), NeuralODE(Network(), **LOOSE))
    model[1].requires_grad_(False)
    losses = learn(
        model, torch.optim.SGD(model[0].parameters(), lr=0.1), [(points(8), points(8) @ TURN)] * 10
    )
    assert losses[-1] < 0.8 * losses[0] and all(p.grad is None for p in model[1].parameters())


def test_hooks_of_the_field_are_called():
    """At every evaluation; what a forward hook returns counts, in the gradient as well."""
    model, calls = NeuralODE(Network(), **LOOSE), []
    plain = model(points())
    handle = model.field.register_forward_hook(
        lambda module, inputs, output: calls.append(0) or 2 * output
    )
    changed = model(points())
    assert len(calls) >= model.stats.nfe and not torch.allclose(changed, plain)
    hooked = model_gradients(model, points())
    model.options["adjoint"] = "direct"
    agree(hooked, model_gradients(model, points()))
    handle.remove()
    assert torch.equal(model(points()), plain)


def test_hooks_of_parameters_and_clipping():
    """Tensor hooks see the gradient of the solve once, and change it once; what clip_grad_norm_
    bounds is that gradient."""
    model, seen = NeuralODE(Network(), **LOOSE), []
    wanted = model_gradients(model, points())
    model.zero_grad()
    weight = model.field.net[0].weight
    weight.register_hook(lambda grad: seen.append(grad) or 3 * grad)
    weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    model(points()).square().sum().backward()
    assert len(seen) == 2 and torch.equal(3 * seen[0], seen[1])
    torch.testing.assert_close(seen[0], wanted["field.net.0.weight"])
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    assert norm > 1e-3
    torch.testing.assert_close(
        torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]), norm.new_tensor(1e-3)
    )


# Several processes.


def _gradient_of_a_part(rank, folder, count):
    """One process of a group: the averaged gradient of its part of the batch, written by the
    first."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=60),
    )
    model = nn.parallel.DistributedDataParallel(
        torch.load(f"{folder}/model.pt", weights_only=False)
    )
    model(points(4)[rank::count]).square().sum().backward()
    if rank == 0:
        torch.save(
            {name: p.grad for name, p in model.module.named_parameters()}, f"{folder}/gradients.pt"
        )
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch was built without torch.distributed"
)
def test_distributed_data_parallel(tmp_path):
    """Two processes, each with half of the batch: the mean of the gradients of the halves alone."""
    model = NeuralODE(Network(), method="fbdf", rtol=1e-6)
    torch.save(model, tmp_path / "model.pt")
    command = [sys.executable, "-m", "tests.nn.test_interop", os.fspath(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    halves = [model_gradients(model, points(4)[rank::2]) for rank in range(2)]
    agree(
        torch.load(tmp_path / "gradients.pt"),
        {name: (halves[0][name] + halves[1][name]) / 2 for name in halves[0]},
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["64-true", "32-true", "bf16-mixed"])
def test_lightning(precision, tmp_path):
    """Its trainer comes to the same parameters as a plain loop; autocast leaves the solve alone."""
    lightning = pytest.importorskip("pytorch_lightning")

    class Fit(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = NeuralODE(Network(), **LOOSE)

        def training_step(self, batch, _):
            y0, target = batch
            return nn.functional.mse_loss(self.model(y0), target)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.03)

    dtype = torch.float64 if precision == "64-true" else torch.float32
    batches = DataLoader(
        TensorDataset(points(8).to(dtype), (points(8) @ TURN).to(dtype)), batch_size=4
    )
    fit, plain = Fit().to(dtype), NeuralODE(Network(), **LOOSE).to(dtype)
    plain.load_state_dict(fit.model.state_dict())
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        devices=1,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(fit, batches)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.03)
    for _ in range(3):
        learn(plain, optimizer, batches)
    for found, wanted in zip(fit.model.parameters(), plain.parameters(), strict=True):
        assert found.dtype == dtype
        torch.testing.assert_close(found, wanted)


if __name__ == "__main__":  # a fresh process that forks, because loading torch is what takes time
    multiprocessing.start_processes(
        _gradient_of_a_part, (sys.argv[1], 2), nprocs=2, start_method="fork"
    )
