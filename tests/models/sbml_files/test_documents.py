"""SBML documents: levels, files, and what is refused by its name."""

import pytest
import torch

from pynode.models.reactions.refusal import UnsupportedFeature
from tests.support.sbml_texts import antimony, changed, converted, libsbml, sbml

TEXT = (
    "compartment C = 2; species S in C, R in C; J: S -> 2 R; k*S*C; S = 3; R = 1; k = 0.5;"
    " x := S + R"
)
EMPTY = """<?xml version="1.0" encoding="UTF-8"?>
<sbml xmlns="http://www.sbml.org/sbml/level3/version1/core"
      xmlns:{name}="http://www.sbml.org/sbml/level3/version1/{name}/version1"
      level="3" version="1" {name}:required="{required}">
  <model id="m">
    <listOfParameters><parameter id="k" value="1" constant="true"/></listOfParameters>
  </model>
</sbml>"""


@pytest.mark.parametrize(
    "level, version",
    [(1, 2), (2, 1), (2, 2), (2, 3), (2, 4), (2, 5), (3, 1), (3, 2)],
)
def test_levels(level, version):
    """The same model in every level has the same course."""
    text = converted(TEXT, level, version)
    assert f'level="{level}" version="{version}"' in text
    times = [0.0, 0.3, 2.0]
    found = sbml(text).simulate(times, rtol=1e-9, atol=1e-12)
    expected = 3 * torch.exp(-0.5 * torch.tensor(times, dtype=torch.float64))
    torch.testing.assert_close(found["S"], expected, rtol=1e-7, atol=0)
    torch.testing.assert_close(found["x"], 7 - expected, rtol=1e-7, atol=0)


def test_files(tmp_path):
    path = tmp_path / "model.xml"
    path.write_text(converted(TEXT, 3, 1), encoding="utf-8")
    assert sbml(path).states == ("S", "R")
    written = tmp_path / "model.ant"
    written.write_text(f"model m; {TEXT}; end", encoding="utf-8")
    assert antimony(written).states == ("S", "R")
    with pytest.raises(FileNotFoundError):
        sbml(tmp_path / "absent.xml")


def test_what_is_no_model():
    with pytest.raises(ValueError, match="no valid SBML"):
        sbml("<sbml>")
    with pytest.raises(ValueError, match="no Antimony"):
        antimony("model m; S -> ; = 2; end")


def test_names_that_nothing_defines():
    def change(model):
        model.getRule(0).setMath(libsbml.parseL3Formula("S + lost"))

    with pytest.raises(ValueError, match="name lost, which it does not define"):
        sbml(changed("S' = -S; S = 1", change))


def test_delay_is_refused_by_name():
    with pytest.raises(UnsupportedFeature, match=r"delay\(\) is not supported") as caught:
        antimony("model m; S' = delay(S, 1); S = 1; end")
    assert caught.value.feature == "delay()"


@pytest.mark.parametrize("name", ["qual", "multi", "spatial", "distrib"])
def test_packages_that_change_the_mathematics_are_refused(name):
    with pytest.raises(UnsupportedFeature, match=f"the package '{name}'"):
        sbml(EMPTY.format(name=name, required="true"))


@pytest.mark.parametrize("name", ["layout", "groups"])
def test_packages_without_mathematics_are_read(name):
    assert sbml(EMPTY.format(name=name, required="false")).constants == ("k",)


def test_models_of_optimal_fluxes_are_refused():
    """fbc: reactions without rate laws and an objective are no differential equations."""
    document = libsbml.readSBMLFromString(EMPTY.format(name="fbc", required="false"))
    plugin = document.getModel().getPlugin("fbc")
    plugin.setActiveObjectiveId("best")
    objective = plugin.createObjective()
    objective.setId("best")
    objective.setType("maximize")
    flux = objective.createFluxObjective()
    flux.setReaction("J")
    flux.setCoefficient(1.0)
    with pytest.raises(UnsupportedFeature, match="flux balance"):
        sbml(libsbml.writeSBMLToString(document))


def test_files_that_are_not_there(tmp_path):
    pytest.importorskip("antimony", reason="antimony reads its language")
    from pynode.models import antimony

    for missing in ("model.ant", tmp_path / "model"):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            antimony(missing)
