"""What estimation says of models of files that it cannot use as asked."""

import pytest

from pynode.fit import TableProblem
from tests.support.estimation import chain_data

pytest.importorskip("antimony", reason="antimony reads the model")
pytest.importorskip("libsbml", reason="libsbml reads the model")


def model():
    from pynode.models import antimony

    return antimony("A -> B; k1*A; B -> ; k2*B; A = 1; B = 0; k1 = 1; k2 = 0.5;")


def test_without_a_parameter_there_is_nothing_to_estimate():
    with pytest.raises(ValueError, match=r"nothing to estimate.*k1.*--estimate"):
        TableProblem(model(), chain_data(sigma=0.05))


def test_an_unknown_name_is_answered_with_the_names_of_the_model():
    with pytest.raises(ValueError, match=r"no parameter 'k9'.*the model also has .*k1, k2"):
        TableProblem(model(), chain_data(sigma=0.05), bounds={"k9": (1.0, 2.0)})
    problem = TableProblem(model(), chain_data(sigma=0.05), bounds={"k1": (1e-2, 1e2)})
    assert "k1" in [info.name for info in problem.parameters]
