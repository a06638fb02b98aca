"""Writing files: there is always a whole one, a byte that has changed is found, and a failure names
the file."""

import os

import pytest
import torch

from pynode.cli import main
from pynode.core.files import save_atomically, save_figure
from pynode.core.sealed_files import save_torch, unsealed
from pynode.train import ModelError, fit, load_model
from pynode.train.model import FORMAT, load_plain
from tests.support import ROOT
from tests.support.training import QUICK, stiff_linear


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, all of whose checkpoint and model are small."""
    out = tmp_path_factory.mktemp("run")
    fit(stiff_linear(), QUICK, out)
    return out


def test_atomic_writing(tmp_path):
    path = tmp_path / "file"
    assert save_atomically(path, b"one") == path
    save_atomically(path, b"two")
    assert path.read_bytes() == b"two" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="could not be written: no such file or directory"):
        save_atomically(tmp_path / "absent" / "file", b"")
    with pytest.raises(OSError, match="could not be written: is a directory"):
        save_atomically(tmp_path, b"")


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path):
    place, link = tmp_path / "place", tmp_path / "link"
    link.symlink_to(place)
    for content in (b"one", b"two"):
        save_atomically(link, content)
        assert link.is_symlink() and place.read_bytes() == content


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_what_is_no_regular_file_is_written_to_as_it_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    save_atomically(pipe, b"content")
    assert os.read(reader, 100) == b"content" and list(tmp_path.iterdir()) == [pipe]
    os.close(reader)


def test_a_figure_has_the_format_that_its_name_says(tmp_path):
    figure = pytest.importorskip("matplotlib.figure", reason="draws with matplotlib").Figure()
    assert save_figure(tmp_path / "plain", figure, 50) == tmp_path / "plain.png"
    assert (tmp_path / "plain.png").read_bytes().startswith(b"\x89PNG")
    assert save_figure(tmp_path / "drawn.svg", figure, 50).read_bytes().startswith(b"<?xml")


def test_the_seal_is_invisible_to_torch(tmp_path):
    path = tmp_path / "plain.pt"
    save_torch(path, {"x": torch.arange(3)})
    assert torch.load(path, weights_only=True)["x"].tolist() == [0, 1, 2]
    assert len(unsealed(path.read_bytes())) < len(path.read_bytes())


@pytest.mark.parametrize("name", ["checkpoint", "model"])
def test_a_flipped_byte_is_refused_wherever_it_is(name, run, tmp_path):
    content = (run / f"{name}.pt").read_bytes()
    path = tmp_path / f"{name}.pt"
    places = [*range(0, len(content), len(content) // 100), len(content) - 100, len(content) - 1]
    for place in places:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ModelError, match="damaged") as error:
            load_plain(path, name)
        assert str(path) in str(error.value)
    path.write_bytes(content)
    assert load_plain(path, name)["format"] == FORMAT


def test_a_flipped_weight_is_told_to_who_resumes_and_who_loads(run, tmp_path, capsys):
    for name in ("checkpoint", "model"):
        content = (run / f"{name}.pt").read_bytes()
        weight = load_plain(run / f"{name}.pt", name)[
            "weights" if name == "checkpoint" else "state_dict"
        ]["0.weight"]
        place = content.index(weight.numpy().tobytes())
        (tmp_path / f"{name}.pt").write_bytes(
            content[:place] + bytes([content[place] ^ 128]) + content[place + 1 :]
        )
    with pytest.raises(ModelError, match="its checksum does not match its content"):
        load_model(tmp_path / "model.pt")
    with pytest.raises(ModelError, match="its checksum does not match its content"):
        fit(stiff_linear(), QUICK, tmp_path, resume=True)
    data = str(ROOT / "examples" / "data" / "robertson.csv")
    assert main(["train", data, "--out", str(tmp_path), "--resume"]) == 2
    assert (
        "its checksum does not match its content. Restore it from a copy" in capsys.readouterr().err
    )


def test_files_of_the_format_before_are_read_and_their_damage_is_found(run, tmp_path):
    path = tmp_path / "model.pt"
    plain = load_plain(run / "model.pt", "model")
    torch.save(plain | {"format": 1}, path)
    y = load_model(run / "model.pt").y0
    assert torch.equal(load_model(path)(0.0, y), load_model(run / "model.pt")(0.0, y))
    content = path.read_bytes()
    place = content.index(plain["state_dict"]["0.weight"].numpy().tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 128]) + content[place + 1 :])
    with pytest.raises(ModelError, match="damaged"):
        load_model(path)
    # Nor does the number of the format before excuse a file that has lost its checksum.
    torch.save(plain, path)
    with pytest.raises(ModelError, match="its checksum does not match its content"):
        load_model(path)
