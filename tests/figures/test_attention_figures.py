"""Attention maps and traces as pictures, and the arrays behind them, by the real command."""

from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from commands import tell
from made_faces import FIVE, make_faces
from PIL import Image
from typer.testing import CliRunner

from fertool import artefact, cli
from fertool.faces.illumination import normalise
from fertool.models.registry import build_model_meta, model_settings
from fertool.stages.visualize.attention import view_of
from fertool.stages.visualize.inputs import Run
from fertool.stages.visualize.network import open_network
from fertool.training.gradcam import explain


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attention")
    toy.write_faces(folder / "toy")
    common = ("--gpus", 0, "--epochs", 1, "--batch", 24)
    sets = {
        "va-cnn": ["train.model.width=16", "train.model.height=32"],
        "lnlattennet": ["train.model.channels=4", "train.model.size=64", "train.track=[face 1.png, face 60.png]"],
    }
    for name, chosen in sets.items():
        entries = [w for entry in (*chosen, "train.track_every=1") for w in ("--set", entry)]
        tell("train", name, *common, *entries, space=folder)
        tell("eval", "--run", f"{name}-1", space=folder)
    return folder


def network(name, **settings):
    return build_model_meta(model_settings({"name": name, **settings}), 7)


@pytest.mark.parametrize(
    ("run", "names", "shape"), [("va-cnn-1", {"map"}, (2, 1)), ("lnlattennet-1", {"global", "local"}, (64, 64))]
)
def test_attention_over_faces(space, run, names, shape):
    files = tell("visualize", "attention", "--run", run, "--faces", 3, "--dpi", 80, space=space)["files"]
    picture = np.asarray(Image.open(files[0]).convert("RGB"))
    assert picture.std() > 10
    arrays = artefact.read(Path(files[1]), "figures").group("attention")
    assert arrays["images"].shape[0] == 3
    predictions = artefact.read(space / f"toy/runs/{run}/predictions.h5")
    place = predictions.ids.tolist().index(arrays["id"][0])
    for name in names:
        assert arrays[name].shape == (3, *shape)
    if run == "va-cnn-1":
        assert np.allclose(arrays["map"][0], predictions["attention_map"][place])


def test_patches_are_laid_over_the_face():
    weights = np.arange(16, dtype="f4")[None]
    laid = network("lnlattennet").attention_maps({"global": weights})["global"][0]
    assert laid[5, 5] == 0
    assert laid[5, 40] == 0.5, "where the first two overlap, their mean"
    assert laid[143, 143] == 15
    masks = np.zeros((1, 8, 2, 2), "f4")
    masks[0, 3, 0, 1] = 1
    found = network("man").attention_maps({"regions": np.full((1, 8), 1 / 8), "masks": masks})["regions"]
    assert found[0].tolist() == [[0, 1 / 8], [0, 0]]


def test_traces_of_tracked_faces(space):
    files = tell("visualize", "trace", "--run", "lnlattennet-1", "--dpi", 80, space=space)["files"]
    assert np.asarray(Image.open(files[0]).convert("RGB")).std() > 10
    arrays = artefact.read(Path(files[1]), "figures").group("trace")
    assert arrays["iteration"].tolist() == [0, 1, 2]
    assert arrays["global"].shape == (3, 2, 16)
    assert arrays["id"].tolist() == ["face 1.png", "face 60.png"]


def test_what_cannot_be_drawn(space):
    told = tell("visualize", "trace", "--run", "va-cnn-1", space=space, ok=False)
    assert told["code"] == 2
    assert "kept no weights" in told["error"]
    told = tell("visualize", "attention", "--run", "va-cnn-1", "--run", "lnlattennet-1", space=space, ok=False)
    assert "attention shows one run" in told["error"]


def arrays_of(files: list[str]) -> dict:
    assert np.asarray(Image.open(files[0]).convert("RGB")).std() > 10
    return artefact.read(Path(files[1]), "figures").group(Path(files[0]).stem)


def predictions_of(space, run):
    return artefact.read(space / f"toy/runs/{run}/predictions.h5")


def test_attention_by_class(space):
    said = tell("visualize", "attention", "--by", "class", "--run", "va-cnn-1", "--dpi", 80, space=space)
    arrays = arrays_of(said["files"])
    assert arrays["label"].tolist() == [name for name in toy.CLASSES for _ in range(2)]


def test_grad_cam_of_runs_side_by_side(space):
    both = ("--run", "va-cnn-1", "--run", "lnlattennet-1")
    arrays = arrays_of(tell("visualize", "gradcam", *both, "--dpi", 80, space=space)["files"])
    assert arrays["label"].tolist() == list(toy.CLASSES)
    faces = artefact.read(space / "toy/faces.h5")
    rows = [faces.ids.tolist().index(i) for i in arrays["id"]]
    for run in ("va-cnn-1", "lnlattennet-1"):
        network = open_network(Run(run, space / "toy/runs" / run), faces)
        found = explain(network.net, network.images(rows), network.boxes[rows], torch.arange(3))
        assert np.allclose(arrays[f"{run}/cam"], found.cam, atol=1e-6)
        assert arrays[f"{run}/guided"].shape == (3, 32, 32, 1)
    layer = tell("visualize", "gradcam", "--run", "va-cnn-1", "--layer", "features.1", "--dpi", 60, space=space)
    assert not np.allclose(arrays_of(layer["files"])["va-cnn-1/cam"], arrays["va-cnn-1/cam"])
    told = tell("visualize", "gradcam", "--run", "va-cnn-1", "--layer", "conv9", space=space, ok=False)
    assert "no layer 'conv9'" in told["error"]
    told = tell("visualize", "gradcam", "--run", "va-cnn-1", "--by", "subject", space=space, ok=False)
    assert "no subjects" in told["error"]


def test_mean_attention_is_the_mean(space):
    arrays = arrays_of(tell("visualize", "mean-attention", "--run", "va-cnn-1", "--dpi", 80, space=space)["files"])
    faces, predictions = artefact.read(space / "toy/faces.h5"), predictions_of(space, "va-cnn-1")
    label, rows = np.asarray(predictions["label"]), np.asarray(predictions["row"])
    for k in range(3):
        of_class = label == k
        assert arrays["va-cnn-1/count"][k] == of_class.sum() > 0
        assert np.allclose(arrays["va-cnn-1/map"][k], predictions["attention_map"][of_class].mean(0), atol=1e-6)
        seen = faces["images"][rows[of_class]][:, :, 8:24].mean(0)  # the network cuts its 16 columns out of the middle
        assert np.allclose(arrays["va-cnn-1/faces"][k], seen)
    told = tell("visualize", "mean-attention", "--by", "pose", "--run", "va-cnn-1", space=space, ok=False)
    assert "no head poses" in told["error"]


def test_maps_cover_whole_multiples_of_sixteen_pixels(space):
    faces = artefact.read(space / "toy/faces.h5")  # 32×32
    assert view_of(network("va-cnn", width=24, height=32), faces) == [4 / 32, 0, 20 / 32, 1]
    assert view_of(network("ws-lgrn", use_local=False), faces) == [0, 0, 1, 1]


def test_grids_of_weights(space):
    files = tell("visualize", "grid", "--run", "lnlattennet-1", "--weights", "local", "--dpi", 80, space=space)["files"]
    arrays, predictions = arrays_of(files), predictions_of(space, "lnlattennet-1")
    at = [predictions.ids.tolist().index(i) for i in arrays["id"]]
    assert np.allclose(arrays["lnlattennet-1/local"], predictions["attention_local"][at])
    told = tell("visualize", "grid", "--run", "lnlattennet-1", "--weights", "locl", space=space, ok=False)
    assert "no weights 'locl'" in told["error"]
    assert "weighs no parts" in tell("visualize", "grid", "--run", "va-cnn-1", space=space, ok=False)["error"]


def test_occlusion_sensitivity_of_patches(space):
    few = ("--set", "visualize.statistics_faces=5", "--patch", 2, "--patch", 16, "--faces", 4, "--dpi", 80)
    arrays = arrays_of(tell("visualize", "occlusion-sensitivity", "--run", "lnlattennet-1", *few, space=space)["files"])
    predictions = predictions_of(space, "lnlattennet-1")
    at = [predictions.ids.tolist().index(i) for i in arrays["id"]]
    assert arrays["covered"].shape == (2, 2, 32, 32, 1)
    assert np.allclose(arrays["weights"][:, 0], predictions["attention_local"][at], atol=1e-5)
    differs = (arrays["covered"][:, 1] != arrays["images"]).any(axis=(0, 3))
    y, x = np.nonzero(differs)
    assert (arrays["covered"][:, 1, differs] == 0).all()
    assert (y.max(), x.max()) == (31, 31)
    assert y.min() == x.min() > 16, "patch 16 lies in the lower right corner"
    assert arrays["checked/after"].shape == (5, 16, 16)
    told = tell("visualize", "occlusion-sensitivity", "--run", "lnlattennet-1", "--patch", 17, space=space, ok=False)
    assert "no part 17" in told["error"]
    assert "1 to 16" in told["hint"]


def test_traces_at_chosen_iterations(space):
    told = ("visualize", "trace", "--run", "lnlattennet-1", "--dpi", 60, "--set")
    assert tell(*told, "visualize.iterations=[0, 2]", space=space)["files"]
    assert "no weights at iteration 3" in tell(*told, "visualize.iterations=[3]", space=space, ok=False)["error"]


def test_photographs(space, tmp_path):
    command = ("visualize", "group", "--run", "va-cnn-1", "--set", "visualize.face_width=24")
    assert "--images" in tell(*command, space=space, ok=False)["hint"]
    assert "nothing at" in tell(*command, "--images", tmp_path / "none", space=space, ok=False)["error"]
    Image.new("RGB", (64, 80), "grey").save(tmp_path / "a wall.png")
    assert "no face was found" in tell(*command, "--images", tmp_path, space=space, ok=False)["error"]
    told = tell("visualize", "group", "--run", "lnlattennet-1", "--images", tmp_path, space=space, ok=False)
    assert "cannot look at whole images" in told["error"]


def test_preprocessing_of_images_without_a_run(tmp_path):
    for name in ("fear/a.png", "fear/b.png", "anger/c.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(name)).integers(0, 256, (30, 40, 3), dtype="u1")
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    space = tmp_path / "space"
    plain = ("--detector", "none", "--landmarks", "none", "--align", "none", "--size", 24)
    even = ("--grey", "--set", "detect-align.illumination=isotropic")
    tell("detect-align", tmp_path / "photos", *plain, *even, space=space)
    told = tell("visualize", "preprocessing", "--images", tmp_path / "photos", "--faces", 2, "--dpi", 60, space=space)
    assert Path(told["files"][0]) == space / "photos/figures/preprocessing.png"
    arrays, faces = arrays_of(told["files"]), artefact.read(space / "photos/faces.h5")
    row = faces.ids.tolist().index(arrays["id"][0])
    assert np.array_equal(arrays["0/normalised"], faces["images"][row])
    assert arrays["0/aligned"].shape == (24, 24, 1)
    assert np.array_equal(normalise(arrays["0/aligned"][..., 0], 7.0), arrays["0/normalised"][..., 0])
    assert arrays["0/image"].shape == (30, 40, 3)
    (tmp_path / "photos/fear/notes.xyz").touch()
    words = [
        "visualize",
        "preprocessing",
        "--images",
        tmp_path / "photos",
        "--faces",
        1,
        "--dpi",
        60,
        "--workspace",
        space,
    ]
    said = CliRunner().invoke(cli.app, [*map(str, words)])
    assert "note: 1 files are left out, their names do not end like an image's: 1 .xyz" in said.stderr
    assert "--images" in tell("visualize", "preprocessing", space=space, ok=False)["hint"]
    assert "need landmarks" in tell("visualize", "landmarks", space=space, ok=False)["error"]
    told = tell("visualize", "curves", "--data", "photos", space=space, ok=False)
    assert "only a dataset is named" in told["error"]


def test_landmarks_regions_and_masks(tmp_path):
    path = make_faces(tmp_path / "toy/faces.h5", ["a", "b", "c"], ("fear", "anger"), size=56)
    told = tell("visualize", "landmarks", "--data", "toy", "--faces", 2, "--dpi", 60, space=tmp_path)
    arrays = arrays_of(told["files"])
    assert arrays["boxes"].shape == (2, 8, 4)
    assert np.allclose(arrays["eight"][0, 0], FIVE[2] * 56 - 0.5, atol=1e-4), "the nose comes first"
    assert "make-masks" in tell("visualize", "masks", "--data", path, space=tmp_path, ok=False)["hint"]
    tell("make-masks", "--data", "toy", space=tmp_path)
    told = tell("visualize", "masks", "--data", path, "--id", "b", "--dpi", 60, space=tmp_path)
    masks = artefact.read(tmp_path / "toy/masks.h5")["masks"]
    assert np.array_equal(arrays_of(told["files"])["masks"], masks[1:2] > 0)
    small = ("--set", "train.model.channels=4", "--set", "train.train_splits=[test]", "--set", "train.flip=0")
    tell("train", "rasnet", "--gpus", 0, "--epochs", 1, *small, space=tmp_path)
    arrays = arrays_of(tell("visualize", "masks", "--run", "rasnet-1", "--dpi", 60, space=tmp_path)["files"])
    both = ((arrays["predicted"] >= 0.5) & arrays["masks"]).sum((2, 3))
    either = ((arrays["predicted"] >= 0.5) | arrays["masks"]).sum((2, 3))
    assert np.allclose(arrays["iou"], both / either)
    alike = (arrays["constant"] & arrays["masks"]).sum((2, 3)) / (arrays["constant"] | arrays["masks"]).sum((2, 3))
    assert np.allclose(arrays["constant_iou"], alike)
    assert "Grad-CAM" in tell("visualize", "gradcam", "--run", "rasnet-1", space=tmp_path, ok=False)["error"]
