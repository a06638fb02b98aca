"""AMICI (C++) in a process and an environment of its own, for benchmarks.petab.

It reads one line of JSON a request from standard input, and answers with one line of JSON.
It imports nothing of pynode: AMICI brings packages that need not stand beside torch.
"""

import json
import logging
import statistics
import sys
import time
import warnings

import petab.v1 as petab
from amici.importers.petab.v1 import import_petab_problem
from amici.sim.sundials import SensitivityMethod, SensitivityOrder
from amici.sim.sundials.petab.v1 import create_edatas, simulate_petab
from amici.sim.sundials.petab.v1._parameter_mapping import create_parameter_mapping


class Worker:
    """One problem of the collection, compiled, at its nominal parameters."""

    def __init__(self, path: str, rtol: float, atol: float) -> None:
        self.problem = petab.Problem.from_yaml(path)
        begun = time.perf_counter()
        self.model = import_petab_problem(self.problem, verbose=False)
        self.compiled_s = time.perf_counter() - begun
        self.solver = self.model.create_solver()
        self.solver.set_relative_tolerance(rtol)
        self.solver.set_absolute_tolerance(atol)
        self.solver.set_max_steps(100_000)
        self.solver.set_sensitivity_method(SensitivityMethod.forward)
        self.theta = dict(
            zip(self.problem.x_ids, map(float, self.problem.x_nominal_scaled), strict=True)
        )
        conditions = petab.get_simulation_conditions(self.problem.measurement_df)
        mapping = create_parameter_mapping(
            petab_problem=self.problem,
            simulation_conditions=conditions,
            scaled_parameters=True,
            amici_model=self.model,
        )
        edatas = create_edatas(
            amici_model=self.model, petab_problem=self.problem, simulation_conditions=conditions
        )
        self.prepared = {
            "edatas": edatas,
            "parameter_mapping": mapping,
            "simulation_conditions": conditions,
        }

    def simulate(self, gradient: bool) -> dict:
        """The results of AMICI for the log-likelihood, and for its gradient if asked."""
        order = SensitivityOrder.first if gradient else SensitivityOrder.none
        self.solver.set_sensitivity_order(order)
        return simulate_petab(
            self.problem,
            amici_model=self.model,
            solver=self.solver,
            problem_parameters=self.theta,
            scaled_parameters=True,
            scaled_gradients=True,
            num_threads=1,
            **self.prepared,
        )

    def timed(self, gradient: bool, repeats: int) -> dict:
        """Median seconds of the processor of one evaluation, the objective and its gradient."""
        times = []
        for _ in range(repeats):
            begun = time.process_time()
            found = self.simulate(gradient)
            times.append(time.process_time() - begun)
        slopes = {}
        if gradient:
            slopes = {name: -float(slope) for name, slope in found["sllh"].items()}
        return {
            "seconds": statistics.median(times),
            "objective": -float(found["llh"]),
            "gradient": slopes,
        }


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    # What AMICI and its compiler print must not stand between the answers.
    answers = sys.stdout
    sys.stdout = sys.stderr
    worker = None
    for line in sys.stdin:
        request = json.loads(line)
        if "path" in request:
            worker = Worker(request["path"], request["rtol"], request["atol"])
            answer = {"compiled_s": worker.compiled_s}
        else:
            answer = worker.timed(request["gradient"], request["repeats"])
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
