"""predict by the real command: the same as detect-align and eval say, every face of a picture, videos, rubbish."""

import csv
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from films import write_film, write_sound
from PIL import Image
from typer.testing import CliRunner

from fertool import artefact, cli
from fertool.datasets import open_dataset
from fertool.faces.images import UnreadableImage
from fertool.faces.media import named, pictures
from fertool.figures.annotate import Framed, _free, annotate
from fertool.training import checkpoint
from fertool.videos import read_frame

SMALL = ["train.model.backbone=tiny", "train.model.size=24", "train.global_batch=4", "train.iterations=2"]
MODES = ("fixed", "random", "landmark")


def call(*words, space):
    return CliRunner().invoke(cli.app, [*map(str, words), "--workspace", str(space)])


def tell(*words, space) -> dict:
    result = call(*words, "--json", space=space)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refusal(*words, space, code=3) -> str:
    """The message of an error: one line, and at most one with a hint."""
    result = call(*words, "--gpus", 0, space=space)
    assert result.exit_code == code, result.output
    assert result.stderr.count("error: ") == 1
    return next(line for line in result.stderr.splitlines() if line.startswith("error: "))


@pytest.fixture(scope="module")
def photos(rendered, tmp_path_factory):
    """A folder dataset: eight rendered images to train on, six to test, and one without a face."""
    folder = tmp_path_factory.mktemp("photos")
    with open(rendered / "rendered.csv", newline="") as f:
        rows = [row for row in csv.DictReader(f) if row["label"] in ("happiness", "surprise") and not row["occlusion"]]
    rows = [row for row in rows if abs(float(row["yaw"])) < 25][:14]
    for i, row in enumerate(rows):
        place = folder / ("train" if i < 8 else "test") / row["label"] / f"Müller, {i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(rendered / row["path"], place)
    Image.new("RGB", (128, 128), "teal").save(folder / "test" / rows[-1]["label"] / "wall.png")
    return folder


@pytest.fixture(scope="module")
def space(photos, tmp_path_factory):
    """A run for each kind of regions, evaluated."""
    folder = tmp_path_factory.mktemp("space")
    tell("detect-align", photos, "--detector", "dlib-hog", "--size", 48, "--grey", "--name", "fixed", space=folder)
    for mode in MODES:
        if mode != "fixed":
            (folder / mode).mkdir()
            shutil.copy(folder / "fixed/faces.h5", folder / mode)
        tell("crop-regions", "--data", mode, "--mode", mode, space=folder)
        sets = [word for s in SMALL for word in ("--set", s)]
        tell("train", "ran", "--data", mode, "--gpus", 0, *sets, space=folder)
        tell("eval", "--run", folder / mode / "runs/ran-1", "--gpus", 0, space=folder)
    return folder


@pytest.fixture(scope="module")
def alone(space, tmp_path_factory):
    """A run without the files it was made from."""
    folder = tmp_path_factory.mktemp("alone")
    shutil.copytree(space / "fixed/runs/ran-1", folder / "ran-1")
    return folder / "ran-1"


@pytest.fixture(scope="module")
def faces(photos):
    """Three faces that are found, as pixels."""
    found = [np.asarray(Image.open(p)) for p in sorted((photos / "train/happiness").glob("*.png"))]
    return found[:3]


@pytest.fixture(scope="module")
def film(faces, tmp_path_factory):
    """A film of 12 frames: 6 of one face, 6 of another."""
    path = tmp_path_factory.mktemp("film") / "a video.avi"
    write_avi(path, [faces[0]] * 6 + [faces[1]] * 6)
    return path


def write_avi(path, frames):
    """Write a video whose frames lie in it one by one, ten a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


@pytest.mark.parametrize("mode", MODES)
def test_the_same_as_detect_align_and_eval(space, photos, tmp_path, mode):
    """With nothing but the run's folder; an image without a face kept whole, as detect-align keeps it."""
    predicted = artefact.read(space / mode / "runs/ran-1/predictions.h5", "predictions")
    made = artefact.read(space / mode / "faces.h5", "faces")
    shutil.copytree(space / mode / "runs/ran-1", tmp_path / "ran-1")
    facts = tell("predict", photos, "--run", tmp_path / "ran-1", "--on-no-face", "keep", "--gpus", 0, space=tmp_path)
    said = {row["file"].removeprefix(f"{photos}/"): row for row in facts["rows"] if row["face"] == 1}
    assert len(predicted.ids) == 7
    assert set(predicted.ids) <= set(said)
    for i, name in enumerate(predicted.ids):
        row = said[name]
        assert row["logits"] == pytest.approx(predicted["logits"][i], abs=1e-4)
        assert row["attention"]["weight"] == pytest.approx(predicted["attention_weight"][i], abs=1e-3)
        if not name.endswith("wall.png"):
            assert row["box"] == pytest.approx(made["bbox"][predicted["row"][i]], abs=0.06)
    assert sum(made["status"][predicted["row"][i]] == 3 for i in range(7)) == 1


def test_every_face_of_a_picture_the_largest_first(alone, faces, tmp_path):
    large = np.asarray(Image.fromarray(faces[1]).resize((192, 192)))
    picture = np.full((192, 500, 3), 90, np.uint8)
    picture[:128, :128], picture[:, 150:342], picture[:128, 360:488] = faces[0], large, faces[2]
    Image.fromarray(picture).save(tmp_path / "group.jpg", quality=95)
    facts = tell("predict", tmp_path / "group.jpg", "--run", alone, "--gpus", 0, space=tmp_path)
    centres = [np.mean(row["box"][::2]) for row in facts["rows"]]
    assert [row["face"] for row in facts["rows"]] == [1, 2, 3]
    assert facts["faces"] == 3
    assert 150 < centres[0] < 342
    assert sorted(centres)[0] < 128
    assert sorted(centres)[2] > 360
    for row in facts["rows"]:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert row["probability"] == pytest.approx(row["probabilities"][row["expression"]], abs=1e-4)


def test_rows_on_stdout_are_csv_and_nothing_else(alone, photos, tmp_path):
    result = call("predict", photos / "test", "--run", alone, "--gpus", 0, space=tmp_path)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert result.exit_code == 0
    assert len(rows) == 7
    assert [row["problem"] for row in rows if row["face"] == "0"] == ["no face"]
    rows = [row for row in rows if row["face"] != "0"]
    assert rows[0]["file"].startswith(str(photos))
    assert rows[0]["frame"] == ""
    assert "Müller, " in rows[0]["file"]
    assert {"p_happiness", "p_surprise", "weight_face", "weight_top-left", "x0", "score"} <= rows[0].keys()
    assert "warning" in result.stderr
    assert "wall.png: no face" in result.stderr


def test_pictures_are_drawn_where_they_lie_in_the_folder(alone, photos, tmp_path):
    facts = tell(
        "predict", photos, photos / "test", "--run", alone, "--out", tmp_path, "--draw", "--gpus", 0, space=tmp_path
    )
    drawn = sorted(tmp_path.rglob("*.jpg"))
    assert len(drawn) == 15 + 7 == len(facts["drawn"])
    assert facts["out"] == str(tmp_path / "predictions.csv")
    one = next(p for p in drawn if p.parts[-3] == "train")
    original = photos / one.relative_to(tmp_path).with_suffix(".png")
    assert Image.open(one).size == tuple(5 * side for side in Image.open(original).size)
    assert "is already there" in refusal("predict", photos, "--run", alone, "--out", tmp_path, space=tmp_path)
    assert call("predict", photos, "--run", alone, "--out", tmp_path, "--overwrite", space=tmp_path).exit_code == 0


def test_a_film_is_read_and_drawn_frame_by_frame(alone, film, tmp_path):
    facts = tell(
        "predict", film, "--run", alone, "--frame-step", 3, "--out", tmp_path, "--draw", "--gpus", 0, space=tmp_path
    )
    with open(tmp_path / "predictions.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["frame"] for row in rows] == ["1", "4", "7", "10"]
    assert facts["pictures"] == 4
    assert [float(row["seconds"]) for row in rows] == pytest.approx([0, 0.3, 0.6, 0.9])
    assert rows[0]["probability"] == rows[1]["probability"] != rows[2]["probability"]
    drawn = cv2.VideoCapture(str(tmp_path / "a video.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert drawn.get(cv2.CAP_PROP_FPS) == pytest.approx(10 / 3, abs=0.01)
    assert drawn.read()[1].shape == (640, 640, 3)


def test_a_film_that_ends_too_early(alone, film, tmp_path):
    whole = film.read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    facts = tell("predict", tmp_path / "cut.avi", "--run", alone, "--gpus", 0, space=tmp_path)
    assert 3 <= facts["faces"] < 12
    assert facts["unreadable"][0]["problem"].startswith("damaged: it ends after ")


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(alone, photos, tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.mp4").write_text("no film" * 100)
    good = next((photos / "train/happiness").iterdir())
    words = [tmp_path / "empty.jpg", good, tmp_path / "text.png", tmp_path / "text.mp4", tmp_path / "gone.jpg"]
    facts = tell("predict", *words, "--run", alone, "--gpus", 0, space=tmp_path)
    assert facts["faces"] == 1
    assert [u["problem"] for u in facts["unreadable"]] == [
        "empty file",
        "not an image, or of a format not known here",
        "not a video, or damaged",
        "no such file or directory",
    ]


def test_refusals(alone, photos, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    (tmp_path / "nothing").mkdir()
    Image.fromarray(noise).save(tmp_path / "noise.png")
    (tmp_path / "text.mp4").write_text("no film")
    run = ("--run", alone)
    for word, message in (
        (tmp_path / "nothing", "there is no image or video in"),
        (tmp_path / "noise.png", "no face was found in 1 picture"),
        (tmp_path / "text.mp4", "nothing could be read: "),
        (tmp_path / "gone.png", "nothing could be read: "),
        (97, "nothing could be read: camera 97: there is no such camera"),
    ):
        assert message in refusal("predict", word, *run, space=tmp_path)
    assert "--draw needs a folder" in refusal("predict", photos, *run, "--draw", space=tmp_path, code=2)
    assert "no file of fit-sdm" in refusal("predict", photos, *run, "--sdm", "x.h5", space=tmp_path, code=2)
    (tmp_path / "w.safetensors").write_bytes(b"rubbish")
    message = refusal("predict", photos, "--run", tmp_path / "w.safetensors", space=tmp_path, code=5)
    assert "no safetensors file" in message


def test_a_network_that_predicts_no_expressions(space, photos, tmp_path):
    tell("make-masks", "--data", "fixed", space=space)
    sets = ("--set", "train.model.channels=4", "--set", "train.flip=0", "--set", "train.global_batch=4")
    tell("train", "rasnet", "--data", "fixed", "--epochs", 1, "--gpus", 0, *sets, "--out", tmp_path / "r", space=space)
    message = refusal("predict", photos, "--run", tmp_path / "r", space=space, code=2)
    assert "predicts no expressions" in message


def test_a_run_of_an_earlier_fertool_asks_the_faces_beside_it(space, photos, tmp_path):
    folder = tmp_path / "data/runs/ran-1"
    shutil.copytree(space / "fixed/runs/ran-1", folder)
    with h5py.File(folder / "run.h5", "r+") as h5:
        info = json.loads(h5.attrs["info"])
        del info["prepared"]
        h5.attrs["info"] = json.dumps(info)
        del h5.attrs["seal"], h5.attrs["digests"]  # which came later, too
    photo = next((photos / "train/happiness").iterdir())
    assert "does not tell how its faces were made" in refusal("predict", photo, "--run", folder, space=tmp_path)
    for kind in ("faces", "regions"):
        shutil.copy(space / f"fixed/{kind}.h5", tmp_path / "data")
    mine = tell("predict", photo, "--run", folder, "--gpus", 0, space=tmp_path)
    other = tell("predict", photo, "--run", space / "fixed/runs/ran-1", "--gpus", 0, space=tmp_path)
    assert mine["rows"] == other["rows"]


def test_boxes_and_landmarks_that_a_data_set_shipped_are_found_here(alone):
    from dataclasses import replace

    from fertool.settings import Predict
    from fertool.stages.predict.inference import faces_settings

    run = checkpoint.of_run(alone)
    faces = {**run.prepared["faces"], "detector": "dataset", "landmarks": "dataset", "min_score": 0.9}
    shipped = replace(run, prepared={**run.prepared, "faces": faces})
    found = faces_settings(shipped, Predict())
    assert (found.detector, found.landmarks, found.min_score, found.size) == ("mtcnn", "ert68", 0.0, 48)
    assert faces_settings(run, Predict(detector="none")).detector == "none"
    assert faces_settings(run, Predict(min_score=0.5)).min_score == 0.5


def test_ctrl_c_keeps_the_rows(alone, faces, tmp_path):
    write_avi(tmp_path / "long.avi", [faces[0]] * 800)
    command = ["predict", tmp_path / "long.avi", "--run", alone, "--out", tmp_path / "out", "--batch", 4, "--gpus", 0]
    process = subprocess.Popen(
        [sys.executable, "-m", "fertool", *map(str, command)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # also in a shell's background
    )
    table = tmp_path / "out/predictions.csv.partial"
    while process.poll() is None and not (table.exists() and table.read_text().count("\n") > 3):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert process.returncode == 130
    assert "stopped after" in told
    assert 3 <= len(rows) < 800
    assert rows[-1]["weight_centre-85"]
    assert not (tmp_path / "out/predictions.csv").exists()


def test_a_full_disk_names_the_table(alone, faces, tmp_path):
    Image.fromarray(faces[0]).save(tmp_path / "0.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/predictions.csv.partial").symlink_to("/dev/full")
    said = refusal("predict", tmp_path / "0.png", "--run", alone, "--out", tmp_path / "out", space=tmp_path)
    assert said == f"error: cannot write {tmp_path / 'out/predictions.csv'}: No space left on device"


def test_a_killed_call_is_repeated_as_if_nothing_had_happened(alone, faces, tmp_path):
    for i in range(3):
        Image.fromarray(faces[i]).save(tmp_path / f"{i}.png")
    words = ("predict", *(tmp_path / f"{i}.png" for i in range(3)), "--run", alone, "--gpus", 0, "--draw")
    tell(*words, "--out", tmp_path / "whole", space=tmp_path)
    shutil.copytree(tmp_path / "whole", tmp_path / "out")
    whole = (tmp_path / "out/predictions.csv").read_text()
    (tmp_path / "out/predictions.csv").unlink()
    (tmp_path / "out/predictions.csv.partial").write_text(whole[: len(whole) // 2])  # killed inside a row
    (tmp_path / "out/2.jpg").unlink()
    tell(*words, "--out", tmp_path / "out", space=tmp_path)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()
    }


def test_only_a_few_pictures_are_in_memory(film, tmp_path):
    stream = pictures(named([str(film)] * 2))
    assert [next(stream).frame for _ in range(3)] == [1, 2, 3]
    assert [p.frame for p in stream] == [*range(4, 13), *range(1, 13)]


def digests(folder) -> dict:
    """Every file below a folder that the user put there, by its content."""
    return {p: hashlib.blake2b(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("way", ["file", "link", "source"])
def test_an_unfinished_table_of_somebody_elses_is_kept(alone, faces, tmp_path, way):
    Image.fromarray(faces[0]).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    partial = tmp_path / "out/predictions.csv.partial"
    if way == "file":
        partial.write_text("mine")
    else:
        partial.symlink_to(tmp_path / ("a.png" if way == "source" else "notes.txt"))
    before = digests(tmp_path)
    said = refusal("predict", tmp_path / "a.png", "--run", alone, "--out", tmp_path / "out", space=tmp_path, code=2)
    assert "predictions.csv.partial is" in said
    assert digests(tmp_path) == before


def test_numbers_that_no_camera_has_are_names_of_files(alone, tmp_path):
    for word in ("9" * 20, "9" * 200, "٣"):
        assert "no such file" in refusal("predict", word, "--run", alone, space=tmp_path)


def _onto(folder, way, image, film):
    """Sources in a folder, and an --out whose drawings would land on one of them, or on another file of the user's."""
    words = [folder / "party.jpg"]
    if way != "film":
        Image.open(image).save(folder / "party.jpg", quality=95)
    match way:
        case "folder":
            return [folder], folder
        case "link to the folder":
            os.symlink(folder, folder.parent / "linked")
            return words, folder.parent / "linked"
        case "link to the file":
            (folder.parent / "out").mkdir()
            os.symlink(folder / "party.jpg", folder.parent / "out/party.jpg")
            return words, folder.parent / "out"
        case "hard link":
            (folder.parent / "out").mkdir()
            os.link(folder / "party.jpg", folder.parent / "out/party.jpg")
            return words, folder.parent / "out"
        case "another file":
            shutil.copy(image, folder / "party.png")
            return [folder / "party.png"], folder
        case "film":
            shutil.copy(film, folder / "party.avi")
            write_film(folder / "party.mp4", [np.zeros((32, 32, 3), np.uint8)])
            return [folder / "party.avi"], folder
        case "table":
            (folder / "predictions.csv").write_text("my,own\n1,2\n")
            return words, folder


@pytest.mark.parametrize(
    "way", ["folder", "link to the folder", "link to the file", "hard link", "another file", "film", "table"]
)
def test_nothing_of_the_users_is_written_over(alone, photos, film, tmp_path, way):
    folder = tmp_path / "p"
    folder.mkdir()
    words, out = _onto(folder, way, next((photos / "train/happiness").glob("*.png")), film)
    before = digests(tmp_path)
    for options in ((), ("--overwrite",)):
        said = refusal("predict", *words, "--run", alone, "--out", out, "--draw", *options, space=tmp_path, code=2)
        assert "files that are read" in said or "fertool did not write it" in said
    assert digests(tmp_path) == before


def test_own_drawings_are_no_sources_and_can_be_drawn_again(alone, faces, tmp_path):
    """Two images that differ only in their ending are both drawn; the same call once more reads what it read."""
    for name in ("a.png", "a.jpg", "b.bmp"):
        Image.fromarray(faces[0]).save(tmp_path / name)
    words = ("predict", tmp_path, "--run", alone, "--out", tmp_path / "out", "--draw", "--gpus", 0)
    first = tell(*words, space=tmp_path)
    assert sorted(os.path.basename(p) for p in first["drawn"]) == ["a.jpg", "a.png.jpg", "b.jpg"]
    assert "is already there" in refusal(*words[:-2], space=tmp_path)
    again = tell(*words, "--overwrite", space=tmp_path)
    assert [row["file"] for row in again["rows"]] == [row["file"] for row in first["rows"]]
    assert "3 images and videos" in call(*words, "--overwrite", space=tmp_path).stderr


def test_a_folder_gives_its_videos_and_linked_folders_and_counts_the_rest(alone, faces, film, tmp_path):
    folder = tmp_path / "p"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(faces[0]).save(folder / "sub/a.PNG")
    shutil.copy(film, folder / "film.MTS")
    (tmp_path / "elsewhere").mkdir()
    Image.fromarray(faces[1]).save(tmp_path / "elsewhere/b.png")
    os.symlink("../elsewhere", folder / "link")
    os.symlink("..", folder / "sub/up")
    (folder / "c.cr2").touch()
    (folder / "empty.heic").touch()
    result = call("predict", folder, "--run", alone, "--frame-step", 6, "--gpus", 0, space=tmp_path)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    names = [(row["file"].removeprefix(f"{folder}/"), row["frame"]) for row in rows]
    assert names == [("empty.heic", ""), ("film.MTS", "1"), ("film.MTS", "7"), ("link/b.png", ""), ("sub/a.PNG", "")]
    assert rows[0]["problem"] == "empty file"
    assert "1 files in" in result.stderr
    assert "1 .cr2" in result.stderr
    assert "sub/up is left out, it is a link" in result.stderr


def test_without_a_face_there_is_a_row_and_a_header(alone, photos, faces, tmp_path):
    wall = next(photos.rglob("wall.png"))
    assert "no face was found" in refusal("predict", wall, "--run", alone, "--out", tmp_path / "one", space=tmp_path)
    teal = np.full_like(faces[0], 90)
    write_avi(tmp_path / "film.avi", [faces[0], teal, faces[0]])
    tell("predict", tmp_path / "film.avi", "--run", alone, "--out", tmp_path / "two", "--gpus", 0, space=tmp_path)
    headers, found = [], []
    for name in ("one", "two"):
        with open(tmp_path / name / "predictions.csv", newline="") as f:
            rows = csv.DictReader(f)
            headers.append(rows.fieldnames)
            found.append([(row["frame"], row["face"], row["problem"]) for row in rows])
    assert headers[0] == headers[1]
    assert "weight_face" in headers[0]
    assert found == [[("", "0", "no face")], [("1", "1", ""), ("2", "0", "no face"), ("3", "1", "")]]


def damage(path, frames):
    """Fill frames of an AVI film, numbers from 0, with zeros."""
    data = bytearray(path.read_bytes())
    first, end = data.index(b"movi"), data.rindex(b"idx1")
    at = [found.start() for found in re.finditer(b"00dc", data[:end]) if found.start() > first]
    for frame in frames:
        size = int.from_bytes(data[at[frame] + 4 : at[frame] + 8], "little")
        data[at[frame] + 8 : at[frame] + 8 + size] = bytes(size)
    path.write_bytes(data)


def test_destroyed_frames_are_told_and_shift_no_numbers(alone, faces, tmp_path):
    write_avi(tmp_path / "film.avi", [faces[0]] * 4 + [faces[1]] * 6 + [faces[0]] * 2)
    damage(tmp_path / "film.avi", (5, 6))
    facts = tell("predict", tmp_path / "film.avi", "--run", alone, "--gpus", 0, space=tmp_path)
    assert [row["frame"] for row in facts["rows"] if row["face"]] == [1, 2, 3, 4, 5, 8, 9, 10, 11, 12]
    assert "damaged: frames 6 to 7 cannot be read" in [u["problem"] for u in facts["unreadable"]]
    told = {row["frame"]: row["probability"] for row in facts["rows"] if row["face"]}
    assert told[10] == told[5] != told[11]
    assert read_frame(tmp_path / "film.avi", 11).mean() == pytest.approx(read_frame(tmp_path / "film.avi", 1).mean())
    with pytest.raises(UnreadableImage, match="no frame 6, or it is damaged"):
        read_frame(tmp_path / "film.avi", 6)


def test_names_steer_no_terminal_and_are_no_formulas(alone, faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(faces[0]).save("=1+1.png")
    (tmp_path / "\x1b[31mred\x07.png").touch()
    result = call("predict", "=1+1.png", "\x1b[31mred\x07.png", "--run", alone, "--gpus", 0, space=tmp_path)
    assert "\x1b" not in result.stderr
    assert "\\x1b[31mred\\x07.png: empty file" in result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert rows[0]["file"] == "'=1+1.png"
    table = tmp_path / "list.csv"
    table.write_text(f"path,label\n{rows[0]['file']},fear\n")
    assert [s.id for s in open_dataset(table).samples()] == ["=1+1.png"]


def test_labels_lie_in_the_picture_and_not_on_one_another():
    picture, size = (640, 480), (120.0, 20.0)
    boxes = [
        (0.0, 0.0, 60.0, 80.0),
        (600.0, 0.0, 700.0, 90.0),
        (300.0, 440.0, 360.0, 500.0),
        (310.0, 200.0, 350.0, 250.0),
    ]
    boxes += [(355.0, 200.0, 395.0, 250.0), (-20.0, -20.0, 660.0, 500.0)]
    areas = []
    for i, box in enumerate(boxes):
        areas.append(_free(size, box, boxes[:i] + boxes[i + 1 : -1], areas, picture))
    for i, (x0, y0, x1, y1) in enumerate(areas):
        assert x0 >= 0
        assert y0 >= 0
        assert x1 < 640
        assert y1 < 480
        assert all(x1 <= a or c <= x0 or y1 <= b or d <= y0 for a, b, c, d in areas[i + 1 :])


def test_a_face_is_framed_and_its_map_lies_where_the_network_looked():
    picture = np.full((200, 300), 128, np.uint8)
    heat = np.zeros((4, 4))
    heat[0, 3] = 1
    place = np.array([[20.0, 0, 110], [0, 20.0, 60]])  # cells of 20 pixels, the first one centred at (110, 60)
    drawn = annotate(picture, [Framed(np.array([100, 50, 180, 130]), "fear", 0.5, heat, place)])
    assert drawn.shape == (600, 900, 3)
    changed = np.abs(drawn.astype(int) - 128).sum(axis=2) > 30
    assert changed[60 * 3, 170 * 3]
    assert not changed[120 * 3, 110 * 3]
    assert not changed[10, 10]
    assert changed[: 50 * 3].any()  # the label above its box
    plain = annotate(picture, [Framed(np.array([100, 50, 180, 130]), "fear", 0.5)])
    assert not (np.abs(plain.astype(int) - 128).sum(axis=2) > 30)[60 * 3, 170 * 3]


def test_predicting_imports_nothing_that_only_training_needs():
    code = (
        "import fertool.stages.predict, fertool.stages.evaluate, fertool.training.devices, sys\n"
        "print([m for m in ('lightning', 'torchvision', 'matplotlib', 'pandas', 'scipy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def people(rendered):
    """Faces of two people, as pixels."""
    with open(rendered / "rendered.csv", newline="") as f:
        rows = [row for row in csv.DictReader(f) if not row["occlusion"] and abs(float(row["yaw"])) < 20]
    first = {row["subject"]: rendered / row["path"] for row in reversed(rows)}
    return [np.asarray(Image.open(first[name]).convert("RGB")) for name in ("p000", "p003")]


def stage(*faces):
    """A frame with some faces [(pixels, x)]; the later ones are in front."""
    frame = np.full((160, 440, 3), (90, 110, 100), np.uint8)
    for pixels, x in faces:
        frame[16:144, x : x + 128] = pixels
    return frame


def tracks(path):
    """Of every frame of a table the tracks from left to right, numbered anew in the order in which they are read."""
    with open(path, newline="") as f:
        rows = [row for row in csv.DictReader(f) if row["face"] != "0"]
    rows.sort(key=lambda row: (int(row["frame"]), float(row["x0"])))
    numbers = {track: i for i, track in enumerate(dict.fromkeys(row["track"] for row in rows), start=1)}
    return [[numbers[row["track"]] for row in of] for _, of in itertools.groupby(rows, lambda row: row["frame"])]


@pytest.fixture(scope="module")
def crossing(people, tmp_path_factory):
    """A video in which two people cross; the times between its frames differ."""
    path = tmp_path_factory.mktemp("crossing") / "crossing.mp4"
    frames = [stage((people[0], 10 + 22 * i), (people[1], 296 - 22 * i)) for i in range(14)]
    write_film(path, frames, np.cumsum([0.1, 0.3] * 7) - 0.1)
    return path


def test_two_people_who_cross_keep_their_tracks(alone, crossing, tmp_path):
    words = ("predict", crossing, "--run", alone, "--gpus", 0, "--draw", "--out", tmp_path)
    facts = tell(*words, space=tmp_path)
    found = tracks(tmp_path / "predictions.csv")
    assert facts["people"] == {str(crossing): 2}
    assert found[0] == found[1] == [1, 2]
    assert found[-1] == found[-2] == [2, 1]
    with open(tmp_path / "predictions.csv", newline="") as f:
        seconds = sorted({float(row["seconds"]) for row in csv.DictReader(f)})
    assert seconds[:4] == pytest.approx([0, 0.3, 0.4, 0.7])
    drawn = [p.seconds for p in pictures(named([str(tmp_path / "crossing.mp4")]))]
    assert drawn == pytest.approx(seconds, abs=0.002)


def test_workers_change_nothing(alone, crossing, photos, tmp_path):
    words = ("predict", crossing, photos / "test", "--run", alone, "--gpus", 0, "--pose", "--draw")
    one = tell(*words, "--workers", 1, "--out", tmp_path / "one", space=tmp_path)
    two = tell(*words, "--workers", 2, "--out", tmp_path / "two", space=tmp_path)
    assert one["rows"] == two["rows"]
    assert len(one["drawn"]) == len(two["drawn"]) == 8
    assert (tmp_path / "one/predictions.csv").read_bytes() == (tmp_path / "two/predictions.csv").read_bytes()


def test_somebody_who_comes_back_has_the_same_track(alone, people, tmp_path):
    a, b = people
    frames = [stage((a, 0), (b, 300))] * 2 + [stage((b, 300))] * 2 + [stage()] + [stage((a, 150), (b, 300))] * 2
    write_film(tmp_path / "back.mp4", frames, np.arange(len(frames)) * 2.0)
    tell("predict", tmp_path / "back.mp4", "--run", alone, "--gpus", 0, "--out", tmp_path, space=tmp_path)
    assert tracks(tmp_path / "predictions.csv") == [[1, 2]] * 2 + [[2]] * 2 + [[1, 2]] * 2


def test_probabilities_are_averaged_over_a_track_and_no_longer(alone, people, tmp_path):
    a, b = people
    frames = [stage((a, 10 + 4 * i), (b, 300)) for i in range(6)]
    write_film(tmp_path / "a.mp4", frames, [0, 0.1, 0.4, 0.5, 2, 2.1])
    words = ("predict", tmp_path / "a.mp4", "--run", alone, "--gpus", 0)
    raw, soft = tell(*words, space=tmp_path)["rows"], tell(*words, "--smooth", 0.8, space=tmp_path)["rows"]
    near = {1: (1, 2, 3), 2: (1, 2, 3, 4), 3: (1, 2, 3, 4), 4: (2, 3, 4), 5: (5, 6), 6: (5, 6)}
    assert len(soft) == 12
    for row in soft:
        of = [r["probabilities"] for r in raw if r["track"] == row["track"] and r["frame"] in near[row["frame"]]]
        assert row["probabilities"] == pytest.approx({k: np.mean([p[k] for p in of]) for k in of[0]}, abs=1e-5)
        assert row["expression"] == max(row["probabilities"], key=row["probabilities"].get)
    assert [r["logits"] for r in soft] == [r["logits"] for r in raw]


def test_pose_landmarks_and_parquet(alone, crossing, faces, tmp_path):
    Image.fromarray(faces[0]).save(tmp_path / "=a.png")
    words = ("predict", tmp_path / "=a.png", crossing, "--run", alone, "--gpus", 0, "--frame-step", 5)
    facts = tell(*words, "--pose", "--landmarks", "--parquet", "--out", tmp_path / "out", space=tmp_path)
    table = pd.read_parquet(facts["parquet"])
    plain = pd.read_csv(facts["out"])
    assert list(table.columns) == list(plain.columns)
    assert table["track"].dtype.kind in "if"
    assert np.isnan(table["track"][0])
    assert table["file"][0] == str(tmp_path / "=a.png")
    numbers = [c for c in table.columns if c not in ("file", "expression", "problem")]
    assert np.allclose(table[numbers].astype(float), plain[numbers].astype(float), equal_nan=True)
    marks = np.stack([table[[f"{axis}_{i}" for i in range(68)]].to_numpy() for axis in "xy"], axis=2)
    middle = table[["x0", "x1"]].mean(axis=1), table[["y0", "y1"]].mean(axis=1)
    assert np.abs(marks.mean(axis=1) - np.stack(middle, axis=1)).max() < 25
    assert table[["pitch", "yaw", "roll"]].abs().max().max() < 45
    assert facts["rows"][0]["landmarks"][0] == [table["x_0"][0], table["y_0"][0]]
    again = call(*words, "--parquet", "--out", tmp_path / "out", "--overwrite", space=tmp_path)
    assert again.exit_code == 0, again.output


def test_videos_without_tracks_faces_or_pictures(alone, film, monkeypatch, tmp_path):
    write_sound(tmp_path / "sound.mp4")
    write_film(tmp_path / "empty.mp4", [stage()] * 3)
    run = ("--run", alone)
    assert "sound.mp4: there is only sound in it" in refusal("predict", tmp_path / "sound.mp4", *run, space=tmp_path)
    assert "no face was found in 3 pictures" in refusal("predict", tmp_path / "empty.mp4", *run, space=tmp_path)
    for options, message in (
        (("--smooth", 1, "--no-track"), "--smooth averages over tracks"),
        (("--frame-step", 2, "--time-step", 1), "exclude one another"),
        (("--parquet",), "--parquet needs a folder"),
    ):
        assert message in refusal("predict", film, *run, *options, space=tmp_path, code=2)
    facts = tell("predict", film, *run, "--no-track", "--time-step", 0.5, "--gpus", 0, space=tmp_path)
    assert [(row["frame"], row["track"]) for row in facts["rows"]] == [(1, None), (6, None), (11, None)]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = call("predict", film, *run, "--parquet", "--out", tmp_path / "out", space=tmp_path)
    assert said.exit_code == 5
    assert "pip install 'fertool[parquet]'" in said.stderr
