"""Landmarks by a supervised descent: trained by the real command, evaluated on people it has not seen."""

import json
import shutil
import subprocess
import sys

import cv2
import h5py
import numpy as np
import pytest

from fertool import artefact
from fertool.datasets import open_dataset, pts
from fertool.errors import ArtefactError, DataError, UsageError
from fertool.faces import sdm
from fertool.faces.align import apply, invert, similarity
from fertool.faces.mean_head import POINTS
from fertool.landmarks import Options
from fertool.landmarks.base import square_of
from fertool.landmarks.sdm import Sdm
from fertool.regions.points import five_points
from fertool.settings import DetectAlign, FitSdm
from fertool.stages import detect_align, fit_sdm, inspect

QUICK = FitSdm(cells=(0.3, 0.2), perturbations=2)


def fertool(*arguments, code=0):
    """Run the command; gives its JSON and what it said on stderr."""
    command = (sys.executable, "-m", "fertool", *map(str, arguments), "--json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def write_points(path, points, *, header=True):
    """A .pts file as iBUG writes it: pixels count from one."""
    lines = [f"{x:.3f} {y:.3f}" for x, y in points + (1 if header else 0)]
    if header:
        lines = ["version: 1", f"n_points:  {len(points)}", "{", *lines, "}"]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def photographs(rendered, tmp_path_factory):
    """The rendered training people as images with .pts files, in folders below one another."""
    folder = tmp_path_factory.mktemp("images")
    for i, sample in enumerate(s for s in open_dataset(rendered).samples() if s.split == "train"):
        place = folder / f"part {i % 2}" / sample.subject
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.path, place / f"{i}.png")
        write_points(place / f"{i}.pts", sample.landmarks)
    return folder


@pytest.fixture(scope="module")
def model(photographs, tmp_path_factory):
    """What fit-sdm wrote and said."""
    out = tmp_path_factory.mktemp("model") / "landmarks.h5"
    said, _ = fertool(
        "fit-sdm", photographs, "--out", out, "--perturbations", 3, "--set", "fit-sdm.cells=[0.35,0.25,0.17]"
    )
    return out, said


@pytest.fixture
def few(photographs, tmp_path):
    """A dozen of the images, to be spoilt."""
    for points in sorted(photographs.rglob("*.pts"))[:12]:
        for path in (points, points.with_suffix(".png")):
            shutil.copy(path, tmp_path / path.name)
    return tmp_path


def test_the_command_tells_how_well_it_learnt(model):
    out, said = model
    assert (said["points"], said["faces"], said["mirror"]) == (68, 56, True)
    errors = [said["start"], *(step["error"] for step in said["steps"])]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.4 * errors[0]
    stored = artefact.read(out, "landmarks")
    assert stored.params["cells"] == [0.35, 0.25, 0.17]
    assert [p.kind for p in stored.inputs] == ["images"]
    assert inspect.summary(out)["kind"] == "landmarks"


def test_people_it_has_not_seen(model, rendered):
    """Starts are as far off as a detector's box; the landmarks found are much nearer than the mean shape there."""
    placer, rng = Sdm(Options(sdm=model[0])), np.random.default_rng(0)
    cascade, start, found, truth = placer._cascade, [], [], []
    dataset = open_dataset(rendered)
    for sample in dataset.samples():
        turned = max(abs(sample.extra["true_yaw"]), abs(sample.extra["true_pitch"]))
        if sample.split == "train" or sample.extra["true_occlusion"] or turned > 30:
            continue
        marks = np.asarray(sample.landmarks, dtype=np.float64)
        middle, side = marks.mean(axis=0) + rng.normal(0, 2, 2), np.ptp(marks, axis=0).max() * rng.uniform(0.9, 1.1)
        box = np.array([*(middle - side / 2), *(middle + side / 2)])
        found.append(placer.place(dataset.read(sample), box, None, "dlib-hog"))
        laid = similarity(square_of(box, None, "dlib-hog"), placer._square)
        start.append(apply(invert(laid), cascade.mean))
        truth.append(marks)
    before, after = (sdm.error(np.array(p), np.array(truth)) for p in (start, found))
    assert len(truth) >= 12
    assert after.mean() < 0.5 * before.mean()
    assert np.median(after) < 0.07


def test_a_turned_and_enlarged_photograph_makes_no_difference(model, rendered):
    placer, dataset = Sdm(Options(sdm=model[0])), open_dataset(rendered)
    easy = [s for s in dataset.samples() if abs(s.extra["true_yaw"]) < 15 and not s.extra["true_occlusion"]][:6]
    apart = []
    for sample in easy:
        image, marks = dataset.read(sample), np.asarray(sample.landmarks, dtype=np.float64)
        placed = placer.place(image, np.zeros(4), five_points(marks[None])[0], "mtcnn")
        matrix = cv2.getRotationMatrix2D((64, 64), 25, 1.8) + [[0, 0, 60], [0, 0, 60]]
        turned = cv2.warpAffine(image, matrix, (250, 250), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        again = placer.place(turned, np.zeros(4), five_points(apply(matrix, marks)[None])[0], "mtcnn")
        apart.append(sdm.error(apply(invert(matrix), again)[None], placed[None])[0])
    assert np.median(apart) < 0.015


def test_the_mirror_exchanges_left_and_right():
    for count, order in sdm.MIRRORED.items():
        assert (order[order] == np.arange(count)).all()
    assert np.allclose(POINTS[sdm.MIRRORED[68]] * (-1, 1, 1), POINTS, atol=1e-3)
    five = five_points(POINTS[None, :, :2])
    assert np.allclose(five[:, sdm.MIRRORED[5]] * (-1, 1), five, atol=1e-3)


def test_the_same_work_is_done_once_and_gives_the_same_file(photographs, tmp_path):
    made = [fit_sdm.run([photographs], settings=QUICK, out=tmp_path / name) for name in ("a.h5", "b.h5")]
    first, second = (artefact.read(p, "landmarks") for p in made)
    assert first.digest == second.digest
    assert artefact.read(fit_sdm.run([photographs], settings=QUICK, out=made[0])).uid == first.uid
    with pytest.raises(ArtefactError, match="other settings"):
        fit_sdm.run([photographs], settings=FitSdm(cells=(0.2,)), out=made[0])
    copy = shutil.copytree(photographs, tmp_path / "copy")
    assert artefact.read(fit_sdm.run([copy], settings=QUICK, out=made[0])).uid == first.uid
    with open(next(copy.rglob("*.png")), "r+b") as image:  # another picture of equal size
        image.seek(-1, 2)
        image.write(b"\0")
    with pytest.raises(ArtefactError, match="another faces-1"):
        fit_sdm.run([copy], settings=QUICK, out=made[0])


def test_detect_align_uses_it_and_names_it_as_an_input(model, rendered, tmp_path):
    file = model[0]
    how = ("--landmarks", "sdm", "--sdm", file, "--detector", "dlib-hog", "--size", "64", "--limit", "20")
    out = tmp_path / "faces.h5"
    fertool("detect-align", rendered, *how, "--workers", "2", "--out", out)
    faces, fit = artefact.read(out, "faces"), artefact.read(file, "landmarks")
    assert faces.parent("sdm").digest == fit.digest
    assert "sdm" not in faces.params
    found = np.asarray(faces["status"]) <= 2
    assert found.sum() > 12
    assert np.isfinite(faces["landmarks"][found]).all()
    assert np.isfinite(faces["pose"][found]).all()
    truth = {s.id: s.landmarks for s in open_dataset(rendered).samples()}
    near = []
    for i in np.flatnonzero(found):
        marks = apply(np.asarray(faces["transform"][i]), truth[faces.ids[i]])
        near.append(sdm.error(np.asarray(faces["landmarks"][i])[None], marks[None])[0])
    assert np.median(near) < 0.08

    moved = tmp_path / "elsewhere.h5"
    shutil.copy(file, moved)
    settings = DetectAlign(landmarks="sdm", sdm=str(moved), detector="dlib-hog", size=64)
    assert detect_align.run(open_dataset(rendered), settings=settings, out=out, limit=20) == out  # up to date
    with h5py.File(moved, "r+") as h5:
        h5.attrs["digest"] = "0" * 32  # another fit
        del h5.attrs["seal"]
    with pytest.raises(ArtefactError, match="another sdm"):
        detect_align.run(open_dataset(rendered), settings=settings, out=out, limit=20)


def test_without_its_file_the_error_names_the_command_that_makes_one(rendered, model, tmp_path):
    source = open_dataset(rendered)
    with pytest.raises(UsageError) as e:
        detect_align.run(source, settings=DetectAlign(landmarks="sdm"), out=tmp_path / "faces.h5")
    assert "fertool fit-sdm" in e.value.hint
    with pytest.raises(UsageError, match="of no use with --landmarks ert68"):
        detect_align.run(source, settings=DetectAlign(sdm=str(model[0])), out=tmp_path / "faces.h5")


def test_files_that_are_no_descent_are_refused(model, faces_h5, tmp_path):
    with pytest.raises(ArtefactError, match="holds 'faces'; 'landmarks' is needed"):
        sdm.load(faces_h5)
    whole = artefact.read(model[0], "landmarks")
    arrays = {name: np.array(whole[name]) for name in whole.stored}
    for spoilt in (
        {"mean": arrays["mean"][:67]},
        {"steps/1/bias": arrays["steps/1/bias"][:-1]},
        {"steps/0/weights": np.full_like(arrays["steps/0/weights"], np.nan)},
    ):
        path = tmp_path / "spoilt.h5"
        artefact.save(path, "landmarks", arrays | spoilt, params={})
        with pytest.raises(ArtefactError, match="do not fit its mean shape"):
            sdm.load(path)


def test_from_a_faces_file_only_its_training_split_is_learnt(faces_h5, tmp_path, capsys):
    made = fit_sdm.run([faces_h5], settings=QUICK, out=tmp_path / "landmarks.h5")
    faces = artefact.read(faces_h5, "faces")
    with_marks = np.isfinite(np.asarray(faces["landmarks"])).all(axis=(1, 2))
    assert fit_sdm.summary(made)["faces"] == (with_marks & (faces["split"] == "train")).sum()
    assert "placed by ert68" in capsys.readouterr().err
    assert artefact.read(made).inputs[0].digest == faces.digest
    with pytest.raises(DataError, match="no face with landmarks in other"):
        fit_sdm.run([faces_h5], settings=FitSdm(splits=("other",)), out=tmp_path / "none.h5")


# ---------------------------------------------------------------------------------------------------- what is refused


def refuse(folder, error, words, **settings):
    with pytest.raises(error, match=words):
        fit_sdm.run([folder], settings=FitSdm(cells=(0.3,), perturbations=1, **settings), out=folder / "out.h5")
    assert not (folder / "out.h5").exists()


def test_folders_without_points_are_refused(tmp_path, few):
    bare = tmp_path / "bare"
    bare.mkdir()
    refuse(bare, DataError, "no .pts files")
    (few / "alone.pts").write_text("1 2\n")
    refuse(few, DataError, "without an image")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2\n3 four\n", "line 2: two numbers are expected, not '3 four'"),
        ("1 2\n3\n", "line 2"),
        ("1 2\nnan 3\n", "line 2"),
        ("version: 1\nn_points: 3\n{\n1 2\n3 4\n}\n", "holds 2 points and says 3"),
        ("version: 1\nn_points: many\n{\n1 2\n}\n", "line 2"),
        ("", "holds no points"),
        ("1 2\n3 4\n5 6\n", "different numbers of landmarks: 3 in .*, 68 in"),
    ],
)
def test_points_that_make_no_sense_are_refused(few, text, words):
    sorted(few.glob("*.pts"))[0].write_text(text)
    refuse(few, DataError, words)


def test_other_sets_of_landmarks_are_refused(few):
    for path in few.glob("*.pts"):
        write_points(path, pts.read_points(path)[:29])
    refuse(few, DataError, "29 landmarks are no known set")
    for path in few.glob("*.pts"):
        write_points(path, np.resize(pts.read_points(path), (37, 2)))
    refuse(few, UsageError, "how 37 landmarks lie in the mirror is not known")


def test_photographs_that_cannot_be_read_and_too_few_are_refused(few):
    names = sorted(few.glob("*.png"))
    names[0].write_bytes(b"")
    names[1].write_bytes(b"no picture")
    refuse(few, DataError, "empty file, and 1 other images")
    for name in names[:5]:
        name.unlink()
        name.with_suffix(".pts").unlink()
    refuse(few, DataError, "7 faces are too few")


def test_points_of_ibug_count_from_one_and_plain_ones_from_zero(tmp_path):
    points = np.array([(0.0, 0.0), (10.25, 3.5)])
    write_points(tmp_path / "a.pts", points)
    (tmp_path / "b.pts").write_bytes(b"\xef\xbb\xbf0 0\r\n10.25 3.5\r\n")
    assert np.allclose(pts.read_points(tmp_path / "a.pts"), points)
    assert np.allclose(pts.read_points(tmp_path / "b.pts"), points)


def test_five_points_are_learnt_as_well(photographs, tmp_path):
    for path in sorted(photographs.rglob("*.pts"))[:24]:
        name = path.parent.name + path.name
        shutil.copy(path.with_suffix(".png"), (tmp_path / name).with_suffix(".png"))
        write_points(tmp_path / name, five_points(pts.read_points(path)[None])[0])
    said = fit_sdm.summary(fit_sdm.run([tmp_path], settings=QUICK, out=tmp_path / "five.h5"))
    assert said["points"] == 5
    assert said["steps"][-1]["error"] < 0.5 * said["start"]
    assert len(sdm.load(tmp_path / "five.h5").mean) == 5


def test_images_without_any_structure_are_refused(faces_h5, tmp_path):
    whole = artefact.read(faces_h5, "faces")
    columns = {name: np.array(whole[name]) for name in whole.columns}
    columns["images"] = np.full_like(columns["images"], 90)
    flat = artefact.save(tmp_path / "faces.h5", "faces", columns, params=whole.params, classes=whole.classes)
    with pytest.raises(DataError, match="the same around all landmarks"):
        fit_sdm.run([flat.path], settings=QUICK, out=tmp_path / "landmarks.h5")
