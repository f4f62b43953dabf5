"""export by the real command: safetensors that start a training and predict, ONNX that says what the network says."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import made_faces
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner

from fertool import artefact, cli
from fertool.evaluation import card
from fertool.models.registry import build_model, model_settings
from fertool.pretrained.files import read_metadata, read_tensors
from fertool.settings import DetectAlign, Export
from fertool.stages import export
from fertool.training.checkpoint import Trained, of_file, of_run
from fertool.training.export_module import Portable

CLASSES = ("neutral", "anger", "fear")
TINY = {"blocks": (1, 1, 1), "growth": 4, "stem": 4}
NETWORKS = {
    "ran": {"backbone": "tiny", "size": 24},
    "ran of dlib": {"backbone": "dlib-resnet29", "size": 150},
    "lnlattennet": {"channels": 4, "size": 64, "hidden": (8, 8), "patches": 4},
    "ws-lgrn": {**TINY, "embedding": 8, "size": 32, "pretrained_part": {**TINY, "size": 32}},
    "va-cnn": {"width": 32, "height": 32},
    "man": {"channels": 4, "pretrained_part": {"channels": 4}},
    "rasnet": {"channels": 4},
    "identity": {"backbone": "tiny", "size": 24},
}


def call(*words, space):
    return CliRunner().invoke(cli.app, [*map(str, words), "--workspace", str(space)])


def tell(*words, space, code=0) -> dict:
    result = call(*words, "--json", space=space)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A run of RAN with random regions, of faces made as by detect-align."""
    folder = tmp_path_factory.mktemp("space")
    n = 24
    ids = [f"face {i}.png" for i in range(n)]
    split = ["train"] * 16 + ["test"] * 8
    faces = made_faces.make_faces(
        folder / "toy/faces.h5", ids, CLASSES, size=32, split=split, label=(np.arange(n) % 3).astype("i2")
    )
    made = artefact.read(faces)
    columns = {name: np.array(made[name]) for name in made.columns}
    params = {**DetectAlign(size=32, grey=True).as_dict(), "dataset": "ferplus"}
    artefact.save(faces, "faces", columns, params=params, classes=CLASSES)
    tell("crop-regions", "--mode", "random", "--set", "crop-regions.random_n=3", space=folder)
    sets = ["train.model.backbone=tiny", "train.model.size=24", "train.iterations=2", "train.global_batch=8"]
    tell("train", "ran", "--gpus", 0, *[w for s in sets for w in ("--set", s)], space=folder)
    return folder


@pytest.fixture(scope="module")
def exported(space):
    return tell("export", space=space)["files"]


def trained(name: str, variant: str | None = None, **more) -> Trained:
    """A network with fresh weights, of faces of 40 pixels."""
    settings, name = NETWORKS[name], name.partition(" ")[0]
    model = model_settings({"name": name, **settings, **more}, variant)
    torch.manual_seed(0)
    net = build_model(model, len(CLASSES), regions=6 if name == "ran" else 1)
    regions = {"mode": "fixed", "regions": ["face", *"abcde"]} if name == "ran" else None
    faces = {**DetectAlign(size=40, grey=name != "man").as_dict(), "dataset": "folder"}
    prepared = {"faces": faces, "regions": regions, "sdm": None}
    classes = CLASSES if net.classifies else ()
    return Trained(f"{name}-1", model, classes, prepared, {"init": "none"}, "", "0", "last", net.state_dict())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_says_the_same_in_onnxruntime(name, tmp_path):
    network = trained(name)
    (path,) = export.run(network, settings=Export(), formats=["onnx"], out=tmp_path)
    session = onnxruntime.InferenceSession(str(path))
    module = Portable(network)
    faces = torch.rand(3, *session.get_inputs()[0].shape[1:]) * 255
    expected = module(faces)
    got = session.run(None, {"faces": faces.numpy()})
    assert [o.name for o in session.get_outputs()] == list(module.outputs)
    assert {value.shape[0] for value in (*session.get_inputs(), *session.get_outputs())} == {"N"}
    for a, b in zip(expected, got, strict=True):
        assert b.shape[0] == 3
        assert np.abs(a.detach().numpy() - b).max() < 1e-4 * max(1, np.abs(b).max())


def test_what_is_written_beside_the_weights(space, exported):
    safetensors, made = exported
    assert [safetensors["format"], made["format"]] == ["safetensors", "onnx"]
    assert made["outputs"][:2] == ["logits", "probabilities"]
    assert made["checked"]["largest_difference"] < 1e-3
    with safe_open(safetensors["path"], framework="pt") as file:
        first = file.metadata()
    second = {p.key: p.value for p in onnx.load(made["path"]).metadata_props}
    assert first.items() <= second.items()
    assert json.loads(first["classes"]) == list(CLASSES)
    assert json.loads(first["prepared"])["faces"]["template"] == "eyes-mouth"
    given = json.loads(first["input"])
    assert given["faces"]["shape"] == ["N", 1, 32, 32]
    assert given["network"]["mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert "no licence stated" in first["licence"]
    assert "iBUG 300-W" in first["licence"]


def test_regions_that_differ_from_face_to_face_are_an_input(space, exported):
    session = onnxruntime.InferenceSession(exported[1]["path"])
    assert [i.name for i in session.get_inputs()] == ["faces", "boxes"]
    made = artefact.read(space / "toy/faces.h5")
    boxes = np.array(artefact.read(space / "toy/regions.h5")["boxes"])[16:]
    faces = np.array(made["images"])[16:].transpose(0, 3, 1, 2).astype(np.float32)
    tell("eval", "--gpus", 0, space=space)
    predicted = artefact.read(space / "toy/runs/ran-1/predictions.h5")
    logits, *_ = session.run(None, {"faces": faces, "boxes": boxes})
    assert logits == pytest.approx(np.array(predicted["logits"]), abs=1e-4)


def test_predict_runs_the_onnx_file_as_it_runs_the_run(space, exported, tmp_path):
    source = artefact.read(space / "toy/faces.h5")
    for i in range(3):
        Image.fromarray(np.array(source["images"])[16 + i, ..., 0]).resize((96, 96)).save(tmp_path / f"{i}.png")
    words = ("predict", tmp_path, "--detector", "none", "--gpus", 0)
    expected, made = (tell(*words, "--run", run, space=space) for run in ("ran-1", exported[1]["path"]))
    assert made["classes"] == expected["classes"]
    assert len(made["rows"]) == 3
    for a, b in zip(expected["rows"], made["rows"], strict=True):
        assert b["expression"] == a["expression"]
        assert b["probabilities"] == pytest.approx(a["probabilities"], abs=1e-4)
        assert b["attention"]["weight"] == pytest.approx(a["attention"]["weight"], abs=1e-3)
    refused = tell(*words, "--run", exported[1]["path"], "--precision", "bf16", space=space, code=2)
    assert "its own precision" in refused["error"]


def test_an_onnx_file_of_others_is_to_be_adopted(space, exported, tmp_path):
    model = onnx.load(exported[1]["path"])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "theirs.onnx")
    refused = tell("predict", tmp_path, "--run", tmp_path / "theirs.onnx", space=space, code=5)
    assert "fertool adopt" in refused["hint"]
    refused = tell("eval", "--run", tmp_path / "theirs.onnx", space=space, code=2)
    assert "fertool adopt" in refused["hint"]


def test_small_attention_weights_survive_onnx(tmp_path):
    """onnxruntime's own sigmoid gives 0 or 1e-7 for weights of 1e-8, whose ratios decide."""
    network = trained("ran")
    network.tensors["q0.weight"].fill_(-1e-3)
    (faces,) = Portable(network).example(4)
    score = float(Portable(network)(faces)[2].detach().logit().mean())
    network.tensors["q0.weight"].mul_(-17 / score)
    (path,) = export.run(network, settings=Export(), formats=["onnx"], out=tmp_path)
    module, session = Portable(network), onnxruntime.InferenceSession(str(path))
    with torch.no_grad():
        expected = dict(zip(module.outputs, module(faces), strict=True))
    values = dict(zip(module.outputs, session.run(None, {"faces": faces.numpy()}), strict=True))
    assert float(expected["attention_mu"].max()) < 1e-5
    assert values["attention_mu"] == pytest.approx(expected["attention_mu"].numpy(), rel=1e-3)


def test_the_opset_can_be_chosen(tmp_path):
    (path,) = export.run(trained("man"), settings=Export(opset=21), formats=["onnx"], out=tmp_path)
    assert [o.version for o in onnx.load(path).opset_import if not o.domain] == [21]


def test_the_card_is_read_by_the_hub_and_says_what_was_measured(space, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    files = tell("export", "--card", "--by", "status", "--out", tmp_path, space=space)["files"]
    assert [f["format"] for f in files] == ["safetensors", "onnx", "card"]
    text = (tmp_path / "README.md").read_text()
    data = hub.ModelCard.load(tmp_path / "README.md").data
    assert data.license == "other"
    assert {"facial-expression-recognition", "ran", "ferplus"} <= set(data.tags)
    scored = tell("eval", "--gpus", 0, space=space)["runs"]["ran-1"]["subsets"]["all"]
    assert f"| whole split \\* | 8 | {100 * scored['accuracy']:.2f} |" in text
    assert not data.eval_results, "fewer than 30 faces are no result"
    for line in ("no licence stated", "iBUG 300-W", "## Intended use", "| status | faces |", '"boxes": boxes'):
        assert line in text
    for file in files[:2]:
        assert hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest() in text
    assert "up to date" in call("export", "--card", "--by", "status", "--out", tmp_path, space=space).stderr
    (tmp_path / "README.md").write_text(text + "edited\n")
    assert "edited" in tell("export", "--card", "--by", "status", "--out", tmp_path, space=space, code=3)["error"]
    assert "add --card" in tell("export", "--by", "status", space=space, code=2)["hint"]


def test_results_of_the_card_are_results_of_the_hub():
    hub = pytest.importorskip("huggingface_hub")
    subset = {"n_total": 40, "accuracy": 0.5, "low": 0.35, "high": 0.65, "macro_accuracy": 0.45}
    facts = {"name": "ran-1", "model": "ran", "dataset": "ferplus", "data": "fer", "split": "test"}
    facts["scores"] = {"confidence": 0.95, "subsets": {"all": subset, "pose45": subset, "few": subset | {"n_total": 9}}}
    results = hub.ModelCard(f"---\n{card._front_matter(facts)}\n---\n").data.eval_results
    accuracies = [r for r in results if r.metric_type == "accuracy"]
    assert [(r.dataset_config, r.metric_value) for r in accuracies] == [(None, 0.5), ("pose45", 0.5)]
    assert accuracies[0].metric_args == {"faces": 40, "confidence": 0.95, "low": 0.35, "high": 0.65}


def test_twice_is_once_and_another_state_is_not_overwritten(space, exported, tmp_path):
    before = [json.dumps(f) for f in exported]
    result = call("export", space=space)
    assert result.stderr.count("is up to date") == 2
    assert [json.dumps(f) for f in tell("export", space=space)["files"]] == before
    (tmp_path / "ran-1.onnx").write_bytes(b"rubbish")
    refused = tell("export", "--format", "onnx", "--out", tmp_path, space=space, code=3)
    assert "holds another network" in refused["error"]
    assert (tmp_path / "ran-1.onnx").read_bytes() == b"rubbish"


def test_exported_weights_start_a_training(space, exported):
    sets = ["train.model.backbone=tiny", "train.model.size=24", "train.iterations=1", "train.lr=1e-9"]
    words = [w for s in sets for w in ("--set", s)]
    result = call("train", "ran", "--init", exported[0]["path"], "--gpus", 0, *words, space=space)
    assert result.exit_code == 0, result.output
    assert "32 of 32 tensors filled" in result.stderr
    old, new = (of_run(space / f"toy/runs/ran-{i}").tensors for i in (1, 2))
    assert torch.allclose(old["q0.weight"], new["q0.weight"], atol=1e-6)
    assert not torch.allclose(old["classifier.weight"], new["classifier.weight"], atol=1e-6)


def test_an_exported_file_is_the_run(space, exported):
    run, file = of_run(space / "toy/runs/ran-1"), of_file(space / "toy/runs/ran-1/ran-1.safetensors")
    assert (run.model, run.classes, run.prepared, run.digest) == (file.model, file.classes, file.prepared, file.digest)
    assert all(torch.equal(run.tensors[k], file.tensors[k]) for k in run.tensors)
    assert file.network().regions_used is None


def test_files_that_are_no_network(space, tmp_path, exported):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "bare.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "odd.safetensors", metadata={"model": "[1]", "classes": "{"})
    (tmp_path / "x.png").touch()
    for name in ("bare", "odd"):
        words = ("predict", tmp_path / "x.png", "--run", tmp_path / f"{name}.safetensors")
        assert "does not say of which network" in tell(*words, space=space, code=5)["error"]
    assert "there is no format 'onyx'" in tell("export", "--format", "onyx", space=space, code=2)["error"]


def test_a_missing_package_names_what_to_install(space, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_PACKAGES", ("onnx", "no_such_package"))
    refused = tell("export", "--out", tmp_path, space=space, code=5)
    assert refused["error"] == "ONNX needs no_such_package"
    assert "fertool[export]" in refused["hint"]
    assert not list(tmp_path.iterdir())


def test_what_onnx_says_differently_is_refused(space, exported):
    run = of_run(space / "toy/runs/ran-1")
    other = replace(run, tensors={**run.tensors, "classifier.bias": run.tensors["classifier.bias"] + 0.01})
    path = Path(exported[1]["path"])
    assert export._compare(Portable(run), path, run.name, 1e-3) < 1e-3
    with pytest.raises(export.DeviceError, match="ONNX says something else than ran-1: logits of 1 faces"):
        export._compare(Portable(other), path, run.name, 1e-3)


def test_faces_that_do_not_say_how_they_were_made(tmp_path):
    network = trained("va-cnn")
    network.prepared["faces"].pop("detector")
    with pytest.raises(export.ArtefactError, match="do not say how they were made"):
        export.run(network, settings=Export(), formats=["safetensors"], out=tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prepared", '{"faces": {"detector": "none"}}'),
        ("prepared", '{"faces": 5, "regions": null, "sdm": null}'),
        ("prepared", "[]"),
        ("prepared", "[" * 5000),
        ("model", "5"),
        ("model", '{"name": "nope"}'),
        ("train", "null"),
        ("classes", '{"a": 1}'),
        ("classes", "nonsense"),
    ],
)
def test_an_exported_file_that_says_too_little(space, tmp_path, exported, field, value):
    from safetensors.torch import save_file

    source = Path(exported[0]["path"])
    save_file(read_tensors(source), tmp_path / "a.safetensors", read_metadata(source) | {field: value})
    words = ("predict", source, "--run", tmp_path / "a.safetensors")
    error = tell(*words, space=space, code=5)["error"]
    assert "a.safetensors does not say of which network its weights are" in error
