"""FSDP: a model that is sharded around its solves learns as ever; a field that is sharded by itself
is refused."""

import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn

from pynode import odeint_adjoint
from pynode.nn import NeuralODE
from tests.support.gradients import agree

pytestmark = pytest.mark.skipif(
    not dist.is_available(), reason="this torch has no torch.distributed"
)
every_method = pytest.mark.parametrize("method", ["Tsit5", "FBDF", "Rodas5P"])
LOOSE = {"rtol": 1e-4, "atol": 1e-6}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """One process is a group, too."""
    store = tmp_path_factory.mktemp("store") / "file"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield torch.distributed.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def made(**options):
    torch.manual_seed(0)
    field = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
    return nn.Sequential(nn.Linear(3, 3), NeuralODE(field, **options, **LOOSE)).double()


def sharded(model, mesh, *modules, **options):
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("this torch has no fully_shard")
    for module in modules:
        fsdp.fully_shard(module, mesh=mesh, **options)
    return model


def gradients(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of FSDP, about views
        model(torch.ones(4, 3, dtype=torch.float64)).square().sum().backward()
    return [
        g.full_tensor() if hasattr(g, "full_tensor") else g
        for g in (p.grad for p in model.parameters())
    ]


@pytest.mark.parametrize("where", ["model", "NeuralODE", "both"])
@pytest.mark.parametrize("reshard", [True, False])
@every_method
def test_around_the_solve(method, where, reshard, mesh):
    model = made(method=method)
    modules = {"model": [model], "NeuralODE": [model[1]], "both": [model[1], model]}[where]
    agree(
        gradients(sharded(model, mesh, *modules, reshard_after_forward=reshard)),
        gradients(made(method=method)),
        1e-9,
    )


@pytest.mark.parametrize("where", ["field", "layers"])
@pytest.mark.parametrize("options", [{}, {"batched": True}, {"adjoint": "gauss"}])
@every_method
def test_inside_the_field(method, where, options, mesh):
    """Its gradient is refused, and right with adjoint='direct' of other methods than Rosenbrock's;
    without one it solves."""

    def make(**more):
        model = made(method=method, **more)
        field = model[1].field
        return sharded(model, mesh, *([field] if where == "field" else [field[0], field[2]]))

    model = make(**options)
    with pytest.raises(ValueError, match=r"FSDP.*fully_shard"):
        gradients(model)
    with torch.no_grad():
        x = torch.ones(4, 3, dtype=torch.float64)
        torch.testing.assert_close(model(x), made(method=method, **options)(x))
    # Whose steps hold derivatives of f, of parameters that are gone by then.
    if not options and method != "Rodas5P":
        agree(
            gradients(make(adjoint="direct")),
            gradients(made(method=method, adjoint="direct")),
            1e-9,
        )


def test_odeint_adjoint_refuses_as_well(mesh):
    class Field(nn.Linear):
        def forward(self, t, y):
            return super().forward(y)

    field = Field(3, 3)
    sharded(field, mesh, field)
    with pytest.raises(ValueError, match="FSDP"):
        odeint_adjoint(field, torch.ones(3), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("keep", [True, False])
@every_method
def test_the_first_fsdp(method, keep, mesh):
    """use_orig_params=True makes attributes of parameters between the passes."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one process shards nothing
        model = FullyShardedDataParallel(
            made(method=method), use_orig_params=keep, device_id=torch.device("cpu")
        )
    found, wanted = gradients(model), gradients(made(method=method))
    joined = [torch.cat([g.flatten() for g in grads]) for grads in (found, wanted)]
    agree(joined[:1], joined[1:], 1e-9)
