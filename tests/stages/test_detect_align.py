"""detect-align from the command line: images of every kind in, one row for each out, whatever happens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from image_files import damaged_images
from PIL import Image

from fertool import artefact
from fertool.datasets import open_dataset
from fertool.errors import ArtefactError, DataError, UsageError
from fertool.faces import align, illumination
from fertool.faces.images import read_image
from fertool.faces.status import KEPT, NO_FACE, OK, PENDING, SEVERAL, UNREADABLE
from fertool.settings import CropRegions, DetectAlign, MakeMasks
from fertool.stages import crop_regions, detect_align, make_masks

FERTOOL = (sys.executable, "-m", "fertool")
PLAIN = {"detector": "none", "landmarks": "none", "align": "none", "pose": "landmarks"}  # without torch
HOG = {**PLAIN, "detector": "dlib-hog"}
BOXES = ("--detector", "dlib-hog", "--landmarks", "none", "--align", "none", "--pose", "landmarks", "--size", "48")


def fertool(*arguments, code=0):
    """Run the command; gives its JSON and what it said on stderr."""
    done = subprocess.run([*FERTOOL, *map(str, arguments), "--json"], capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def made(data, out, **settings):
    return artefact.read(detect_align.run(open_dataset(data), settings=DetectAlign(**settings), out=out), "faces")


@pytest.fixture
def pictures(rendered, tmp_path):
    """A folder of nine pictures of three people: eight with a face, one without."""
    folder = tmp_path / "some photos, ä"
    for i, source in enumerate(sorted(rendered.glob("images/*/*.png"))[:72:9]):
        (folder / "happy").mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / "happy" / f"{i}.png")
    Image.fromarray(np.full((90, 70), 130, np.uint8)).save(folder / "happy" / "wall.png")
    return folder


# ---------------------------------------------------------------------------------------------------------- rows


def test_a_row_for_every_photograph(faces_h5, rendered):
    faces, source = artefact.read(faces_h5, "faces"), open_dataset(rendered).samples()
    assert faces.rows == len(source) == 84
    assert faces["id"].tolist() == [s.id for s in source]
    assert [faces.classes[i] for i in faces["label"]] == [s.label for s in source]
    assert set(faces["split"]) == {"train", "val", "test"}
    assert set(faces["subject"]) == {s.subject for s in source}
    assert faces["true_yaw"].tolist() == [s.extra["true_yaw"] for s in source]
    assert faces["images"].shape == (84, 64, 64, 3)
    found = np.asarray(faces["status"]) == OK
    assert found.sum() > 50
    assert np.isin(faces["status"], (OK, SEVERAL, KEPT)).all()
    missed = faces["status"] == KEPT
    assert np.isnan(faces["landmarks"][missed]).all()
    assert np.isnan(faces["pose"][missed]).all()
    assert np.isfinite(faces["pose"][found]).all()
    assert (faces["faces_found"][found] == 1).all()


def test_transform_landmarks_and_pixels_belong_together(faces_h5, rendered):
    """The true landmarks under the stored transform are the stored landmarks, and the pixels those of the photo."""
    faces, source = artefact.read(faces_h5), open_dataset(rendered).samples()
    template = np.array(faces.params["template_points"]) * 64 - 0.5
    errors = []
    for row in np.flatnonzero(faces["status"] == OK):
        marks, matrix = faces["landmarks"][row], faces["transform"][row]
        anchors = [marks[36:42].mean(0), marks[42:48].mean(0), marks[[48, 54]].mean(0)]
        assert np.abs(np.array(anchors) - template).max() < 9  # a similarity cannot reach all three
        again = align.warp(read_image(source[int(row)].path), matrix, 64)
        assert (again == faces["images"][row]).all()
        if not faces["true_occlusion"][row] and abs(faces["true_yaw"][row]) < 20:
            truth = align.apply(matrix, source[int(row)].landmarks.astype(float))
            errors.append(np.linalg.norm(truth - marks, axis=1)[17:].mean())
    assert len(errors) > 15
    assert np.median(errors) < 3  # pixels of 64


def test_shipped_landmarks_come_to_the_template(rendered, tmp_path):
    settings = {"detector": "none", "landmarks": "dataset", "template": "eyes", "size": 40, "grey": True}
    faces, source = made(rendered, tmp_path / "faces.h5", **settings), open_dataset(rendered).samples()
    assert faces["images"].shape == (84, 40, 40, 1)
    assert (faces["status"] == OK).all()
    marks = np.array(faces["landmarks"])
    eyes = np.stack([marks[:, 36:42].mean(axis=1), marks[:, 42:48].mean(axis=1)], axis=1)
    assert np.allclose(eyes, np.array(align.TEMPLATES["eyes"].points) * 40 - 0.5, atol=1e-3)
    assert np.allclose(marks[5], align.apply(faces["transform"][5], source[5].landmarks), atol=1e-3)
    true = np.stack([faces[f"true_{a}"] for a in ("pitch", "yaw", "roll")], axis=1)
    assert np.median(np.abs(faces["pose"] - true)) < 4


def test_the_whole_picture_as_it_is(rendered, tmp_path):
    faces = made(rendered, tmp_path / "faces.h5", **PLAIN, size=128)
    first = open_dataset(rendered).samples()[0]
    assert (faces["images"][0] == read_image(first.path)).all()
    assert "landmarks" not in faces
    assert np.allclose(faces["transform"], [[1, 0, 0], [0, 1, 0]])
    assert faces["bbox"][0].tolist() == [-0.5, -0.5, 127.5, 127.5]


def test_one_box_for_all_and_how_much_is_clipped(rendered, tmp_path):
    """A dataset without boxes, and light as somebody else may even it."""
    words = ("--detector", "dataset", "--landmarks", "none", "--align", "none", "--size", 40, "--grey")
    sets = ("margin=0", "illumination=isotropic", "box=[10, 20, 89.5, 99.5]", "clip_fraction=0.1")
    more = [word for s in sets for word in ("--set", f"detect-align.{s}")]
    fertool("detect-align", rendered, *words, *more, "--out", tmp_path / "faces.h5")
    faces = artefact.read(tmp_path / "faces.h5", "faces")
    assert (faces["bbox"] == [10, 20, 89.5, 99.5]).all()
    assert faces.params["clip_fraction"] == 0.1
    image = np.asarray(faces["images"][0])
    for end in (0, 255):
        assert 0.08 < (image == end).mean() < 0.2, "a tenth at each end"


def test_rectangular_faces_in_even_light(rendered, tmp_path):
    """As VA-CNN takes them: 125 x 160, without the light on them; also by the stages that follow."""
    options = {"detector": "none", "landmarks": "dataset", "size": 125, "height": 160, "grey": True}
    given = [word for name, value in options.items() for word in (f"--{name}", value) if value is not True]
    facts, _ = fertool(
        "detect-align", rendered, *given, "--grey", "--illumination", "isotropic", "--out", tmp_path / "faces.h5"
    )
    assert (facts["size"], facts["height"], facts["channels"]) == (125, 160, 1)
    before, after = made(rendered, tmp_path / "plain.h5", **options), artefact.read(tmp_path / "faces.h5")
    assert after["images"].shape == (84, 160, 125, 1)
    assert after.params["illumination"] == "isotropic"
    assert after.params["diffusion"] == 7
    for old, new in zip(before["images"], after["images"], strict=True):
        assert (illumination.normalise(old[..., 0], 7.0) == new[..., 0]).all()
    marks = np.array(after["landmarks"])
    eyes = np.stack([marks[:, 36:42].mean(axis=1), marks[:, 42:48].mean(axis=1)], axis=1)
    level = (eyes[:, 0] + eyes[:, 1]) / 2
    assert np.abs(level - (62, 0.35 * 125 + 17.5 - 0.5)).max() < 9
    boxes = crop_regions.run(after.path, settings=CropRegions(mode="landmark"), out=tmp_path / "regions.h5")
    around_eye = artefact.read(boxes)["boxes"][:, 1]
    assert np.allclose(around_eye[:, :2], np.clip((eyes[:, 0] + 0.5) / (125, 160) - 0.4, 0, 1), atol=1e-5)
    masks = artefact.read(make_masks.run(after.path, settings=MakeMasks(), out=tmp_path / "masks.h5"))
    middle = np.argwhere(masks["masks"][0, 1]).mean(axis=0)  # row and column of the region of the eyes
    assert np.abs(middle[::-1] + 0.5 - 14 * level[0] / (125, 160)).max() < 1


def test_square_faces_are_of_any_side_and_kept_whole_in_rectangles(pictures, tmp_path):
    whole = made(pictures, tmp_path / "square.h5", **PLAIN, size=284)
    assert whole["images"].shape == (9, 284, 284, 3)
    tall = made(pictures, tmp_path / "tall.h5", **PLAIN, size=125, height=160, grey=True, illumination="isotropic")
    assert tall["images"].shape == (9, 160, 125, 1)
    for row, box in enumerate(tall["bbox"]):  # the whole image lies in the picture
        corners = align.apply(tall["transform"][row], box.reshape(2, 2).astype(float))
        assert (corners > -0.6).all()
        assert (corners < np.array([125, 160]) - 0.4).all()
    wall = next(i for i, name in enumerate(tall["id"]) if "wall" in name)
    assert len(np.unique(tall["images"][wall])) == 1


@pytest.mark.parametrize(("missed", "status"), [("keep", KEPT), ("mark", NO_FACE)])
def test_missed_faces(pictures, tmp_path, missed, status):
    faces = made(pictures, tmp_path / "faces.h5", **HOG, on_no_face=missed, size=50)
    wall = faces["id"].tolist().index(next(i for i in faces["id"] if "wall" in i))
    assert faces["status"][wall] == status
    assert faces["faces_found"][wall] == 0
    assert (faces["images"][wall] == (130 if missed == "keep" else 0)).all()
    assert (np.asarray(faces["status"]) == OK).sum() >= 6
    facts = detect_align.summary(tmp_path / "faces.h5")
    assert facts["statuses"]["no face, whole image kept" if missed == "keep" else "no face"] >= 1


def test_missed_faces_refused(pictures, tmp_path):
    out = tmp_path / "faces.h5"
    with pytest.raises(DataError, match=r"no face in \d of 9 images: .*wall") as caught:
        made(pictures, out, **HOG, on_no_face="fail", size=50)
    assert "--on-no-face keep" in caught.value.hint
    assert not out.exists()


def test_of_several_faces_the_largest(rendered, tmp_path):
    source = open_dataset(rendered).samples()
    frontal = [s for s in source if abs(s.extra["true_yaw"]) < 12 and not s.extra["true_occlusion"]][:2]
    small, large = (read_image(s.path) for s in frontal)
    group = np.full((400, 700, 3), 128, np.uint8)
    group[100:228, 40:168] = small
    group[40:360, 300:620] = cv2.resize(large, (320, 320), interpolation=cv2.INTER_CUBIC)
    (tmp_path / "group").mkdir()
    Image.fromarray(group).save(tmp_path / "group" / "two.png")
    for detector in ("dlib-hog", "mtcnn"):
        faces = made(tmp_path / "group", tmp_path / f"{detector}.h5", detector=detector)
        assert faces["status"].tolist() == [SEVERAL]
        assert faces["faces_found"].tolist() == [2]
        x0, y0, x1, y1 = faces["bbox"][0]
        assert 300 < (x0 + x1) / 2 < 620
        assert x1 - x0 > 120


# ------------------------------------------------------------------------------------------------ good and bad files


def test_broken_files_among_good_ones(pictures, tmp_path):
    """Twenty kinds of files: every good face is aligned, every bad one named with its reason."""
    folder = pictures / "happy"
    good = read_image(folder / "0.png")
    names = damaged_images(folder)
    names.pop("folder.jpg")  # no dataset lists it
    for leftover in ("whole.jpg", "whole.png"):
        (folder / leftover).unlink()
    grey = cv2.cvtColor(good, cv2.COLOR_RGB2GRAY)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(good).save(folder / "png called.jpg", format="PNG")
    Image.fromarray(np.rot90(good)).save(folder / "turned.png", exif=turned)
    Image.fromarray(good).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    Image.fromarray(good).quantize(200).save(folder / "palette.png")
    Image.fromarray(np.dstack([good, np.full_like(grey, 255)])).save(folder / "rgba.png")
    Image.fromarray(good).save(folder / "film.gif", save_all=True, append_images=[Image.fromarray(good[::-1])])
    Image.fromarray(good).save(folder / "web, page.webp", quality=95)
    cv2.imwrite(str(folder / "16 bit.png"), good[..., ::-1].astype(np.uint16) * 257)
    good_names = ("png called.jpg", "turned.png", "cmyk.jpg", "palette.png", "rgba.png", "film.gif", "web, page.webp")
    good_names += ("16 bit.png",)

    facts, said = fertool("detect-align", pictures, "--detector", "dlib-hog", "--size", 64, "--out", tmp_path / "f.h5")
    faces = artefact.read(tmp_path / "f.h5")
    status = {Path(i).name: s for i, s in zip(faces["id"], faces["status"], strict=True)}
    bad = {n for n, s in status.items() if s == UNREADABLE}
    assert bad == set(names)
    assert len(bad) + len(good_names) >= 19
    reference = faces["images"][faces["id"].tolist().index(next(i for i in faces["id"] if i.endswith("/0.png")))]
    for name in good_names:
        assert status[name] == OK, name
        row = faces["id"].tolist().index(next(i for i in faces["id"] if i.endswith(name)))
        assert np.abs(faces["images"][row].astype(int) - reference).mean() < 12, name
    assert {Path(u["id"]).name for u in facts["unreadable"]} == bad
    reasons = {Path(u["id"]).name: u["problem"] for u in facts["unreadable"]}
    assert "truncated" in reasons["cut.jpg"]
    assert "too many" in reasons["bomb.png"]
    assert str(pictures) not in reasons["cut.jpg"]
    assert "Traceback" not in said


def test_what_does_not_fit_together_is_said_first(rendered, pictures, tmp_path):
    cases = (
        (rendered, {"landmarks": "none"}, "needs landmarks"),
        (rendered, {"detector": "dataset"}, "ships no boxes"),
        (pictures, {"landmarks": "dataset"}, "ships no landmarks"),
        (rendered, {"landmarks": "mtcnn5", "template": "dlib-chip"}, "needs 68 landmarks"),
        (rendered, {"align": "affine", "template": "eyes"}, "do not determine"),
        (rendered, {"illumination": "isotropic"}, "is for grey faces"),
    )
    for data, settings, message in cases:
        with pytest.raises(UsageError, match=message) as caught:
            made(data, tmp_path / "faces.h5", **settings)
        assert "--" in caught.value.hint
    assert list(tmp_path.glob("*.h5*")) == []


# --------------------------------------------------------------------------------------------------- again and again


def test_the_same_again_other_settings_and_another_listing(pictures, tmp_path):
    out = tmp_path / "faces.h5"
    first = made(pictures, out, **PLAIN, size=32)
    assert made(pictures, out, **PLAIN, size=32).uid == first.uid
    assert made(pictures, out, **PLAIN, size=32, height=32, diffusion=9).uid == first.uid  # nothing of the faces
    with pytest.raises(ArtefactError, match=r"size 32 → 40") as caught:
        made(pictures, out, **PLAIN, size=40)
    assert "--overwrite" in caught.value.hint
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(pictures / "happy" / "new.png")
    with pytest.raises(ArtefactError, match="another dataset"):
        made(pictures, out, **PLAIN, size=32)
    settings = DetectAlign(**PLAIN, size=32)
    detect_align.run(open_dataset(pictures), settings=settings, out=out, overwrite=True)
    assert artefact.read(out).rows == 10
    other = made(pictures, tmp_path / "copy.h5", **PLAIN, size=32)
    assert other.digest == artefact.read(out).digest
    assert other.uid != artefact.read(out).uid


def test_a_few_photographs_of_all_splits(rendered, tmp_path):
    facts, _ = fertool(
        "detect-align", rendered, "--limit", 12, "--detector", "none", "--landmarks", "none", "--align", "none",
        "--out", tmp_path / "faces.h5",
    )  # fmt: skip
    assert facts["rows"] == 12
    assert len(facts["splits"]) >= 2
    assert facts["images_per_second"] > 0
    assert sum(facts["classes"].values()) == 12


@pytest.fixture(scope="module")
def many(rendered, tmp_path_factory):
    """120 images, and the faces file that nobody interrupted."""
    folder = tmp_path_factory.mktemp("many")
    sources = sorted(rendered.glob("images/*/*.png"))
    (folder / "photos").mkdir()
    for i in range(120):
        (folder / "photos" / f"{i:03d}.png").symlink_to(sources[i % len(sources)])
    return folder / "photos", made(folder / "photos", folder / "whole.h5", **HOG, size=48)


def _begun(photos, out):
    """The command at work on a file of which at least twenty rows are done."""
    command = [*FERTOOL, "detect-align", photos, *BOXES, "--workers", "2", "--out", out]
    process = subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell that started the tests in the background has told them, and so their children, to ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    partial = Path(f"{out}.partial")
    for _ in range(3000):
        if partial.exists() and (artefact.read(partial, partial=True)["status"] != PENDING).sum() >= 20:
            return process, partial
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    raise AssertionError("nothing was done in a minute")


def _children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _workers(pid):
    """The processes that a process's only pool has forked."""
    return [w for p in _children(pid) if "spawn_main" in Path(f"/proc/{p}/cmdline").read_text() for w in _children(p)]


def _gone(pids):
    for _ in range(500):
        alive = [
            p for p in pids if Path(f"/proc/{p}/stat").exists() and " Z " not in Path(f"/proc/{p}/stat").read_text()
        ]
        if not alive:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("how", ["kill", "terminate", "interrupt"])
def test_stopped_at_any_moment_the_same_command_goes_on(many, tmp_path, how):
    photos, whole = many
    out = tmp_path / "faces.h5"
    process, partial = _begun(photos, out)
    workers = _workers(process.pid)
    assert workers
    if how == "kill":
        process.kill()
    elif how == "terminate":
        process.terminate()
    else:
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: everybody hears it
    _, said = process.communicate(timeout=60)
    assert _gone(workers)
    assert not out.exists()
    done = (artefact.read(partial, partial=True)["status"] != PENDING).sum()
    assert 20 <= done < 120
    if how != "kill":
        assert process.returncode == 130
        assert f"stopped after {done} of 120 images" in said
        assert "goes on" in said
        assert "Traceback" not in said
    with pytest.raises(ArtefactError, match="no file") as caught:
        artefact.read(out)
    assert "unfinished" in caught.value.hint
    _, said = fertool("detect-align", photos, *BOXES, "--workers", 1, "--out", out)
    again = artefact.read(out)
    assert again.digest == whole.digest
    assert again.info["created"] <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert not partial.exists()


def test_a_worker_that_dies_names_its_photographs(many, tmp_path):
    photos, whole = many
    out = tmp_path / "faces.h5"
    process, partial = _begun(photos, out)
    os.kill(_workers(process.pid)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3
    first, second = said.strip().splitlines()[-2:]
    named = first.partition(" at ")[2].partition(" and ")[0].split(", ")
    assert "signal 9, SIGKILL" in first
    assert set(named) <= set(whole["id"])
    ids = whole["id"].tolist()
    undone = artefact.read(partial, partial=True)["status"] == PENDING
    assert all(undone[ids.index(name)] for name in named)
    assert "goes on" in second
    fertool("detect-align", photos, *BOXES, "--workers", 1, "--out", out)
    assert artefact.read(out).digest == whole.digest


def test_the_report_reads_well(pictures, tmp_path):
    done = subprocess.run(
        [*FERTOOL, "detect-align", pictures, "--detector", "dlib-hog", "--size", "48", "--out", tmp_path / "f.h5"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for part in ("9 images of folder", "dlib-hog, ert68, similarity to eyes-mouth", "images per second"):
        assert part in done.stderr
    assert "happiness" in done.stderr
    assert done.stdout == ""
