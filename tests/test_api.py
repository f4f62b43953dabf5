"""The Python API: stages as functions, faces and networks for torch code, nothing imported before it is used."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import toy
from PIL import Image
from torch.utils.data import DataLoader

import fertool
from fertool import artefact

SMALL = {**toy.SMALL, "epochs": 1}


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A workspace with toy faces, their regions and a run of RAN."""
    root = tmp_path_factory.mktemp("api")
    faces = toy.write_faces(root / "toy")
    fertool.crop_regions(faces.path)
    fertool.train("ran", faces.path, workspace=root, gpus=0, **SMALL)
    return root


def test_import_is_lazy():
    program = (
        "import fertool, sys; dir(fertool); print(sorted(m for m in ('torch', 'h5py', 'numpy') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_listed_name_exists():
    assert all(callable(getattr(fertool, name)) for name in fertool.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fertool.nothing


def test_columns_become_a_table(space):
    faces = fertool.open(space / "toy/faces.h5")
    table = faces.to_pandas()
    assert table.index.tolist() == faces.ids.tolist()
    assert {"label", "split", "status"} <= set(table.columns)
    assert "images" not in table
    assert isinstance(faces["images"], np.memmap)


def test_settings_by_name_are_checked(space):
    with pytest.raises(fertool.FertoolError, match="mod") as e:
        fertool.crop_regions(space / "toy/faces.h5", mod="random")
    assert e.value.exit_code == 4


def test_evaluate_scores_runs(space):
    scores = fertool.evaluate(space / "toy/runs/ran-1", workspace=space, gpus=0)["runs"]["ran-1"]
    assert scores["subsets"]["all"]["n_total"] == 24


def test_faces_dataset_feeds_a_data_loader(space):
    faces = artefact.read(space / "toy/faces.h5")
    data = fertool.FacesDataset(faces.path, split="train", transform=lambda image: image.float() / 255)
    assert (len(data), data.classes) == (48, toy.CLASSES)
    batches = list(DataLoader(fertool.FacesDataset(faces.path, "train"), batch_size=16, num_workers=1))
    images = torch.cat([images for images, _ in batches]).numpy()
    assert (images.transpose(0, 2, 3, 1) == np.asarray(faces["images"])[faces["split"] == "train"]).all()
    assert torch.cat([labels for _, labels in batches]).tolist() == data.labels.tolist()
    with pytest.raises(fertool.FertoolError, match="no labelled faces in split val"):
        fertool.FacesDataset(faces.path, "val")


@pytest.fixture(scope="module")
def rendered_run(rendered, tmp_path_factory):
    """A run of RAN on rendered faces."""
    root = tmp_path_factory.mktemp("rendered")
    how = {"detector": "none", "landmarks": "none", "align": "none", "size": 32}
    faces = fertool.detect_align(rendered, workspace=root, name="r", limit=40, **how)
    fertool.crop_regions(faces)
    return fertool.train("ran", faces, workspace=root, gpus=0, **SMALL)


def test_loaded_model_gives_the_logits_of_eval(rendered_run):
    scores = fertool.evaluate(rendered_run, gpus=0)["runs"]["ran-1"]
    predictions = artefact.read(rendered_run / "predictions.h5")
    model, _ = fertool.load_model(rendered_run)
    data = fertool.FacesDataset(rendered_run.parents[1] / "faces.h5", "test")
    with torch.inference_mode():
        logits = model(torch.stack([image for image, _ in data]))
    assert model.classes == data.classes
    assert data.ids.tolist() == predictions.ids.tolist()
    assert np.allclose(logits.numpy(), predictions["logits"], atol=1e-4)
    right = int((logits.argmax(1).numpy() == data.labels).sum())
    assert right == scores["subsets"]["all"]["n_correct"]


def test_predict_returns_a_table(rendered, rendered_run, tmp_path):
    image = Image.open(next(rendered.rglob("*.png")))
    image.save(tmp_path / "one.png")
    table = fertool.predict(tmp_path / "one.png", run=rendered_run, gpus=0)
    assert isinstance(table, pd.DataFrame)
    assert table["file"].tolist() == [str(tmp_path / "one.png")]
    assert table.filter(like="p_").sum(axis=1).round(4).tolist() == [1.0]
    model, preprocess = fertool.load_model(rendered_run)
    with torch.inference_mode():
        probabilities = model(preprocess(np.asarray(image.convert("RGB")))[None]).softmax(1)[0]
    assert table["expression"][0] == model.classes[int(probabilities.argmax())]
    assert table["probability"][0] == pytest.approx(float(probabilities.max()), abs=1e-3)
