"""torch's fused cell of a GRU, which accelerators have and the CPU has not.

KERNELS: what stands for each operation on a pretended device. Cho et al. (2014), with the gates in
torch's order: reset r, update z, new n.
"""

import torch

aten = torch.ops.aten


def forward(inputs, hidden, state, input_bias=None, hidden_bias=None):
    """(state after, workspace). inputs, hidden: (b, 3 h), the products with the weights; state:
    (b, h)."""
    if input_bias is not None:
        inputs = inputs + input_bias
        hidden = hidden + hidden_bias
    input_r, input_z, input_n = inputs.chunk(3, 1)
    hidden_r, hidden_z, hidden_n = hidden.chunk(3, 1)
    r = torch.sigmoid(input_r + hidden_r)
    z = torch.sigmoid(input_z + hidden_z)
    n = torch.tanh(input_n + r * hidden_n)
    return n + z * (state - n), torch.cat((r, z, n, state, hidden_n), 1)


def backward(grad, workspace, has_bias):
    """The cotangents of all arguments of ``forward``."""
    if grad is None:
        return (None,) * 5
    r, z, n, state, hidden_n = workspace.chunk(5, 1)
    of_n = grad * (1 - z) * (1 - n * n)
    of_z = grad * (state - n) * z * (1 - z)
    of_r = of_n * hidden_n * r * (1 - r)
    inputs = torch.cat((of_r, of_z, of_n), 1)
    hidden = torch.cat((of_r, of_z, of_n * r), 1)
    biases = (inputs.sum(0), hidden.sum(0)) if has_bias else (None, None)
    return (inputs, hidden, grad * z, *biases)


KERNELS = {
    aten._thnn_fused_gru_cell.default: forward,
    aten._thnn_fused_gru_cell_backward.default: backward,
}
