"""Starts of numbers, lists and arrays, and answers in kind."""

import numpy as np
import pytest
import torch

from pynode import Event, problems, solve

T = [0.0, 1.0, 2.0]


def decay(t, y):
    return -y


def test_a_list_of_numbers_is_a_vector():
    solution = solve(decay, [1.0, 2.0], T)
    assert solution.y.dtype == torch.float64
    assert torch.allclose(solution.y[-1], torch.tensor([1.0, 2.0]).double() * np.exp(-2), rtol=1e-5)


def test_a_list_takes_the_dtype_of_the_parameters():
    net = torch.nn.Linear(2, 2)
    field = torch.nn.Module()
    field.net = net
    field.forward = lambda t, y: net(y)
    assert solve(field, [1, 2], T, method="tsit5").y.dtype == torch.float32


def test_numbers_in_a_dict_are_tensors():
    solution = solve(lambda t, y: {"S": -y["S"]}, {"S": 2}, T)
    assert solution.y["S"].shape == (3,)


def test_gradients_reach_parameters_from_a_list():
    rate = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    solve(lambda t, y: -rate * y, [1.0], T).y[-1].sum().backward()
    assert rate.grad.item() == pytest.approx(-2 * np.exp(-1.0), rel=1e-5)


def test_arrays_are_answered_with_arrays():
    rate = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    solution = solve(
        lambda t, y: -rate * y,
        np.array([1.0, 2.0]),
        np.array(T),
        dense=True,
        events=Event(lambda t, y: y[0] - 0.5, name="half"),
    )
    assert isinstance(solution.t, np.ndarray)
    assert isinstance(solution.y, np.ndarray)
    assert np.allclose(solution.y[-1], np.exp(-2) * np.array([1.0, 2.0]), rtol=1e-5)
    assert isinstance(solution(0.5), np.ndarray)
    assert isinstance(solution.derivative(0.5), np.ndarray)
    assert isinstance(solution.resample(3).t, np.ndarray)
    assert float(solution.events[0].t) == pytest.approx(np.log(2), rel=1e-5)


def test_rows_of_arrays():
    solution = solve(decay, np.ones((3, 2)), T, batched=True)
    assert isinstance(solution.y, np.ndarray)
    assert solution.y.shape == (3, 3, 2)


def test_the_array_of_the_user_stays():
    start = np.array([1.0, 2.0])
    solution = solve(decay, start, T)
    start[:] = 7.0
    assert solution.y[0].tolist() == [1.0, 2.0]


def test_a_list_of_tensors_is_still_a_structure():
    parts = [torch.ones(1), torch.ones(2)]
    solution = solve(lambda t, y: [-y[0], -y[1]], parts, T)
    assert solution.y[1].shape == (3, 2)


def test_a_problem_brings_its_times_and_tolerances():
    problem = problems.get("robertson")
    solution = solve(problem, method="rodas5p")
    assert solution.t.tolist() == [0.0, *problem.t_eval.tolist()]
    tight = solve(problem, method="rodas5p", rtol=1e-9)
    assert tight.stats.accepted > solution.stats.accepted
    later = solve(problem, [0.5, 0.0, 0.5], [0.0, 1.0], method="rodas5p")
    assert later.y[0].tolist() == [0.5, 0.0, 0.5]
