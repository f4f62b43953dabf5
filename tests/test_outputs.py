"""No command writes over a file that fertool did not make, nor over one that it reads, --overwrite or not."""

import os

import pytest
import small_runs
import toy
from typer.testing import CliRunner

from fertool import artefact, cli, files
from fertool.errors import UsageError
from fertool.evaluation import tables

OWN = b"not one of fertool's files"


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """Two datasets of one size."""
    folder = tmp_path_factory.mktemp("space")
    toy.write_all(folder / "toy")
    toy.write_all(folder / "other")
    assert call(folder, "crop-regions", "--data", "other", "--overwrite").exit_code == 0
    return folder


def call(space, *words):
    return CliRunner().invoke(cli.app, [*map(str, words), "--workspace", str(space)])


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("crop-regions", "--data", "other", "--out"), "mine.h5"),
        (("crop-regions", "--data", "other", "--overwrite", "--out"), "mine.h5"),
        (("crop-regions", "--data", "other", "--overwrite", "--out"), "photo.jpg"),
        (("crop-regions", "--data", "other", "--preview"), "photo.png"),
        (("crop-regions", "--data", "other", "--preview"), "photo.pdf"),
        (("build-subsets", "--data", "other", "--overwrite", "--out"), "mine.h5"),
        (("combine", "toy", "other", "--overwrite", "--out"), "mine.h5"),
        (("suggest-occlusion", "--data", "toy", "--overwrite", "--out"), "table.csv"),
    ],
)
def test_a_file_of_somebody_elses_is_kept(space, tmp_path, words, name):
    (tmp_path / name).write_bytes(OWN)
    result = call(space, *words, tmp_path / name)
    assert result.exit_code == 2, result.output
    assert "fertool did not write it" in result.stderr
    assert (tmp_path / name).read_bytes() == OWN
    os.symlink(tmp_path / name, tmp_path / f"link-{name}")
    assert call(space, *words, tmp_path / f"link-{name}").exit_code == 2
    assert (tmp_path / name).read_bytes() == OWN


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("crop-regions", "--data", "other", "--overwrite", "--out"), "holds 'faces', not 'regions'"),
        (("combine", "toy", "other", "--overwrite", "--out"), "is what it would be made from"),
        (("suggest-occlusion", "--data", "toy", "--overwrite", "--out"), "is an HDF5 file"),
        (("crop-regions", "--data", "other", "--preview"), "cannot write|is an HDF5 file"),
    ],
)
def test_an_input_is_kept(space, words, said):
    faces = space / "other/faces.h5"
    before = artefact.read(faces).digest
    result = call(space, *words, faces)
    assert result.exit_code in (2, 3), result.output
    assert any(part in result.stderr for part in said.split("|")), result.stderr
    assert artefact.read(faces).digest == before


def test_what_fertool_made_is_replaced(space, tmp_path):
    for ending in ("png", "jpg", "pdf", "svg", "tif"):
        for _ in range(2):
            result = call(space, "crop-regions", "--data", "other", "--preview", tmp_path / f"p.{ending}")
            assert result.exit_code == 0, result.output


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    os.symlink("real.txt", tmp_path / "link.txt")
    files.write(tmp_path / "link.txt", "x")
    assert (tmp_path / "real.txt").read_text() == "x"
    assert (tmp_path / "link.txt").is_symlink()
    files.write("/dev/null", "x")
    assert not os.path.isfile("/dev/null")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write(tmp_path / "pipe", "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    with pytest.raises(UsageError, match="is a folder"):
        files.write(tmp_path, "x")


def test_cells_of_tables_are_no_formulas_and_are_read_as_they_were(tmp_path):
    names = ["=1+1.png", "'=2.png", "-3.png", "@4.png", "plain.png"]
    small_runs.make_faces(tmp_path / "x", [0, 1, 2, 3, 4], ids=names)
    table = tmp_path / "occlusion.csv"
    said = call(
        tmp_path, "suggest-occlusion", "--data", "x", "--set", "suggest-occlusion.min_probability=0", "--out", table
    )
    assert said.exit_code == 0, said.output
    header, *lines = table.read_text().splitlines()
    cells = {line.split(",")[0] for line in lines}
    assert cells == {"'=1+1.png", "''=2.png", "'-3.png", "'@4.png", "plain.png"}
    table.write_text("\n".join([header, *(line + "upper" for line in lines)]) + "\n")
    words = ("build-subsets", "--data", "x", "--occlusion-table", table, "--set", "build-subsets.pose_source=none")
    made = call(tmp_path, *words)
    assert made.exit_code == 0, made.output
    assert artefact.read(tmp_path / "x/subsets.h5")["occlusion"].all()
    rows = [{"run": "=run", "subset": "all", "value": -1.5}]
    assert tables.write_csv(tmp_path / "s.csv", rows).read_text().splitlines()[1] == "'=run,all,-1.5"
