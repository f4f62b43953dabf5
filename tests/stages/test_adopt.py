"""adopt by the real command: files of others become runs that are evaluated, reported and predicted with like ours."""

import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import small_runs
import torch
import torchvision
import toy
from commands import call, tell
from torch import nn

import fertool
from fertool import artefact
from fertool.adopted import classes as class_names
from fertool.errors import UsageError
from fertool.models.adopted import Adopted, AdoptedSettings
from fertool.settings import DetectAlign

PAGE = Path(fertool.__file__).parent / "adopted/README.md"
CLASSES = ("--classes", "neutral,angry,fearful")
SMALL = ("--size", 16, "--colour", "grey", "--pixels", "0-1")


@pytest.fixture
def space(tmp_path, monkeypatch):
    """A workspace with toy faces that say how they were made, and the function of the documentation beside it."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    (tmp_path / "mine.py").write_text(code)
    write_faces(tmp_path / "ws/toy")
    monkeypatch.chdir(tmp_path)
    for variable in ("FERTOOL_PLUGINS", "FERTOOL_PLUGINS_MENTIONED"):
        monkeypatch.setenv(variable, "")
    return tmp_path / "ws"


def write_faces(folder: Path, **more):
    faces = toy.write_faces(folder, **more)
    made = {"detector": "none", "landmarks": "none", "align": "none", "size": 32, "grey": True}
    columns = {name: np.array(faces[name]) for name in faces.columns}
    params = {**DetectAlign(**made).as_dict(), "dataset": "folder"}
    return artefact.save(faces.path, "faces", columns, params=params, classes=faces.classes)


class Bars(nn.Module):
    """Mean brightness of three thirds of a grey face, as logits; further classes are always least likely."""

    def __init__(self, classes: int = 3):
        super().__init__()
        self.classes = classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        thirds = nn.functional.adaptive_avg_pool2d(x, (3, 1)).flatten(1)
        return nn.functional.pad(20 * thirds, (0, self.classes - 3), value=-50.0)


def write_onnx(path: Path, module: nn.Module, *sizes: int, **options) -> Path:
    torch.onnx.export(module.eval(), (torch.zeros(sizes),), path, input_names=["input"], dynamo=True, verbose=False)
    return path


def write_script(path: Path, module: nn.Module, *sizes: int) -> Path:
    with warnings.catch_warnings(action="ignore"):  # newer torch would rather have programs of another kind
        torch.jit.trace(module, torch.zeros(sizes), check_trace=False).save(path)
    return path


def adopt(*words, space, ok=True) -> dict:
    return tell("adopt", *words, space=space, ok=ok)


def accuracy(name: str, space: Path, *words) -> float:
    return tell("eval", "--gpus", 0, "--run", name, *words, space=space)["runs"][name]["subsets"]["all"]["accuracy"]


def logits(name: str, space: Path) -> np.ndarray:
    return np.array(artefact.read(space / f"toy/runs/{name}/predictions.h5")["logits"])


def refused(*words, space) -> str:
    facts = adopt(*words, space=space, ok=False)
    assert not list(space.glob("*/runs/*"))
    return f"{facts['error']} | {facts['hint']}"


# ------------------------------------------------------------------------------------------------- what is adopted


def test_export_of_a_run_scores_as_the_run_itself(space):
    sets = [w for k in ("backbone=tiny", "size=24") for w in ("--set", f"train.model.{k}")]
    tell("train", "ran", "--variant", "baseline", "--gpus", 0, "--epochs", 2, "--batch", 16, *sets, space=space)
    (file,) = tell("export", "--run", "ran-baseline-1", "--format", "onnx", space=space)["files"]
    facts = adopt(file["path"], space=space)
    assert (facts["name"], facts["kind"], facts["classes"]) == ("toy/adopted-ran-baseline-1", "onnx", list(toy.CLASSES))
    result = tell("eval", "--gpus", 0, "--run", "ran-baseline-1", "--run", "adopted-ran-baseline-1", space=space)
    ours, theirs = (result["runs"][name]["subsets"]["all"] for name in ("ran-baseline-1", "adopted-ran-baseline-1"))
    assert 0 < ours["accuracy"] == theirs["accuracy"]
    assert ours["confusion"] == theirs["confusion"]
    assert result["comparison"]["subsets"]["all"]["runs"]["adopted-ran-baseline-1"]["only_this"] == 0
    assert logits("adopted-ran-baseline-1", space) == pytest.approx(logits("ran-baseline-1", space), abs=1e-4)


def test_function_is_scored_reported_and_predicts(space, monkeypatch):
    facts = adopt("mine.py:predict", *CLASSES, space=space)
    assert facts["settings"]["outputs"] == "probabilities"
    assert adopt("mine.py:predict", *CLASSES, space=space)["run"] == facts["run"]
    monkeypatch.setenv("FERTOOL_PLUGINS_MENTIONED", "")
    outside = call("eval", "--gpus", 0, space=space)
    assert outside.exit_code == 2
    assert "runs only if you name it" in outside.stdout
    monkeypatch.setenv("FERTOOL_PLUGINS", "mine.py:predict")
    assert accuracy("adopted-predict", space) == 1
    page = Path(tell("report", space=space)["report"]).read_text()
    assert "mine.py:predict was trained elsewhere" in page
    image = space.parent / "face.png"
    face = artefact.read(space / "toy/faces.h5")["images"][0]
    from PIL import Image

    Image.fromarray(face[:, :, 0]).save(image)
    (row,) = tell("predict", image, space=space)["rows"]
    label = toy.CLASSES[artefact.read(space / "toy/faces.h5")["label"][0]]
    assert row["expression"] == label
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_changed_or_missing_function_is_refused(space):
    adopt("mine.py:predict", *CLASSES, space=space)
    with open("mine.py", "a") as file:
        file.write("\n# another line\n")
    error = tell("eval", "--gpus", 0, space=space, ok=False)
    assert error["error"] == "mine.py:predict has changed since it was adopted"
    Path("mine.py").unlink()
    assert "there is no file" in tell("eval", "--gpus", 0, space=space, ok=False)["error"]


def test_torchscript_is_run_with_its_preprocessing(space):
    write_script(Path("bars.pt"), Bars(), 1, 1, 16, 16)
    facts = adopt("bars.pt", *CLASSES, *SMALL, space=space)
    assert (facts["kind"], facts["settings"]["outputs"]) == ("torchscript", "logits")
    assert accuracy("adopted-bars", space) == 1
    Path("bars.pt").unlink()  # the run holds all of it
    assert accuracy("adopted-bars", space, "--overwrite") == 1
    for words in (("visualize", "gradcam"), ("export",)):
        assert "bars.pt is a TorchScript program" in tell(*words, space=space, ok=False)["error"]
    for words in ((), ("--resume",)):
        assert "not trained" in tell("train", "adopted", *words, space=space, ok=False)["error"]
    assert call("visualize", "confusion", space=space).exit_code == 0


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_of_an_architecture_are_run_explained_and_exported(space, prefix):
    torch.manual_seed(0)
    net = torchvision.models.squeezenet1_1(num_classes=3).eval()
    torch.save({"state_dict": {prefix + k: v for k, v in net.state_dict().items()}}, "weights.pth")
    shape = ("--architecture", "squeezenet1_1", "--size", 32, "--pixels", "imagenet")
    facts = adopt("weights.pth", *CLASSES, *shape, "--name", "theirs", space=space)
    assert facts["kind"] == "architecture"
    accuracy("theirs", space)
    faces = artefact.read(space / "toy/faces.h5")
    test = np.array(faces["images"])[np.asarray(faces["split"]) == "test"]
    pixels = torch.from_numpy(test).permute(0, 3, 1, 2).expand(-1, 3, -1, -1) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        assert logits("theirs", space) == pytest.approx(net((pixels - mean) / std).numpy(), abs=1e-4)
    if not prefix:
        assert call("visualize", "gradcam", space=space).exit_code == 0
        (file,) = tell("export", "--format", "safetensors", space=space)["files"]
        rows = tell("predict", write_image(faces), "--run", file["path"], space=space)["rows"]
        assert rows[0]["face"] == 1


def write_image(faces) -> Path:
    from PIL import Image

    Image.fromarray(faces["images"][0][:, :, 0]).save("face.png")
    return Path("face.png")


def test_graph_of_a_fixed_batch_and_probabilities_of_more_classes(space):
    module = nn.Sequential(Bars(5), nn.Softmax(1))
    write_onnx(Path("net.onnx"), module, 2, 1, 16, 16)
    words = ("net.onnx", "--classes", "neutral,angry,fear,sad,other", "--colour", "grey", "--pixels", "0-1")
    facts = adopt(*words, space=space)
    assert facts["settings"]["outputs"] == "probabilities"
    assert (facts["classes"], facts["extra"]) == ([*toy.CLASSES, "sadness", "other"], ["sadness", "other"])
    assert accuracy("adopted-net", space) == 1
    sums = np.exp(logits("adopted-net", space).astype(float)).sum(1)
    assert sums == pytest.approx(1, abs=1e-5)


# ---------------------------------------------------------------------------------------------------------- classes


def test_missing_class_is_always_wrong_and_extra_one_counts(space):
    """Of three classes in equal numbers the function knows two; it calls the bright middle sadness."""
    tell("build-subsets", space=space)
    adopt("mine.py:predict", *CLASSES, "--name", "whole", space=space)
    facts = adopt("mine.py:predict", "--classes", "neutral,sad,fear", "--name", "other", space=space)
    assert (facts["missing"], facts["extra"]) == (["anger"], ["sadness"])
    result = tell("eval", "--gpus", 0, "--run", "whole", "--run", "other", "--subset", "all", space=space)
    scores = result["runs"]["other"]["subsets"]["all"]
    anger = list(toy.CLASSES).index("anger")
    support = sum(scores["confusion"][anger])
    assert support > 0
    assert (scores["n_total"], scores["n_correct"]) == (24, 24 - support)
    assert scores["confusion"][anger] == [0, 0, 0, support]
    assert any("no output for anger: always wrong" in line for line in result["runs"]["other"]["remarks"])
    pair = result["comparison"]["subsets"]["all"]["runs"]["other"]
    assert (pair["only_reference"], pair["only_this"]) == (support, 0)
    facts = adopt("mine.py:predict", "--classes", "neutral,sad,fear", "--extra", "renormalise", "--overwrite",
                  "--name", "other", space=space)  # fmt: skip
    assert facts["classes"] == list(toy.CLASSES)
    scores = tell("eval", "--gpus", 0, "--run", "other", space=space)["runs"]["other"]["subsets"]["all"]
    assert scores["confusion"][anger][anger] == 0
    assert sum(scores["confusion"][anger]) == support


def test_classes_without_output_have_no_probability():
    s = AdoptedSettings(kind="torchscript", classes=("fear", "sadness"), columns=(-1, 0, 1), size=2, outputs="logits")
    net = Adopted(s)
    net.raw = lambda views: torch.tensor([[3.0, -900.0]])
    probabilities = net(torch.zeros(1, 1, 3, 2, 2)).logits.softmax(1)
    assert probabilities.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("neutral,feer,anger", "names 'feer'.*did you mean 'fear'"),
        ("angry,anger,fear", "names anger twice"),
        ("fear", "fewer than two"),
        ("sad,happy,disgust", "none of the faces' classes"),
    ],
)
def test_class_names_that_cannot_be_meant(names, says):
    with pytest.raises(UsageError) as e:
        class_names.match(class_names.checked(names.split(","), toy.CLASSES), toy.CLASSES)
    assert re.search(says, f"{e.value.message} {e.value.hint}")


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return faces.mean((1, 2, 3))", "array of shape (24,)|array of shape (4,)"),
        ("return np.ones((len(faces), 4)) / 4", "4 numbers per face, and 3 classes"),
        ("return np.full((len(faces), 3), np.nan)", "outputs of 4 of 4 faces are NaN"),
        ("return np.ones((len(faces), 3))", "no probabilities: their sums go from 3 to 3"),
        ("return 'happy'", "gives no numbers but str"),
        ("raise KeyError('weights')", "fails on a batch of 4 × 32 × 32 × 3: KeyError: 'weights'"),
        ("return np.eye(3)[np.arange(len(faces)) % 3]", "other outputs alone than among others"),
    ],
)
def test_functions_that_give_something_else_are_one_line(space, body, says):
    name = f"f{abs(hash(body))}"
    Path(f"{name}.py").write_text(f"import numpy as np\n\ndef predict(faces):\n    {body}\n")
    problem = refused(f"{name}.py:predict", *CLASSES, space=space)
    assert any(part in problem for part in says.split("|")), problem


def test_what_is_no_model_is_one_line(space):
    write_script(Path("bars.pt"), Bars(), 1, 1, 16, 16)
    torch.save(torchvision.models.squeezenet1_1(num_classes=3).state_dict(), "weights.pth")
    Path("keras.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    Path("bad.onnx").write_bytes(b"no graph at all")
    Path("some.txt").write_text("text")
    named = ("weights.pth", *CLASSES, "--size", 32, "--pixels", "0-1")
    for words, says in (
        (("nowhere.onnx", *CLASSES), "there is no file"),
        (("bad.onnx", *CLASSES), "onnxruntime does not load"),
        (("keras.hdf5", *CLASSES), "file of Keras"),
        (("some.txt", *CLASSES), "no PyTorch file"),
        (named, "holds weights without their network"),
        ((*named, "--architecture", "squeeznet1_1"), "did you mean 'squeezenet1_1'"),
        ((*named, "--architecture", "resnet18"), "are not those of resnet18: it lacks"),
        ((*named, "--architecture", "timm:resnet18x"), "timm"),
        ((*named, "--architecture", "squeezenet1_1", "--colour", "grey"), "--colour grey-3"),
        (
            ("weights.pth", "--classes", "anger,fear", *named[3:], "--architecture", "squeezenet1_1"),
            "as --classes says",
        ),
        (("bars.pt", *SMALL), "does not say which classes"),
        (("bars.pt", *CLASSES, "--pixels", "0-1"), "does not say the size"),
        (("bars.pt", *CLASSES, "--size", 16), "does not say which range"),
        (("bars.pt", *CLASSES, *SMALL, "--mean", "1,2"), "mean has 2 values for 1 channels"),
        (("bars.pt", *CLASSES, *SMALL, "--std", "x"), "no list of numbers"),
        (("bars.pt", *CLASSES, *SMALL, "--std", "0"), "divides by zero"),
        (("bars.pt", *CLASSES, *SMALL, "--outputs", "probabilities"), "no probabilities"),
        (("mine.py:predict", *CLASSES, "--pixels", "0-1"), "leave out --pixels"),
        (("mine.py:other", *CLASSES), "defines no other"),
    ):
        assert says in refused(*words, space=space), words


def test_graphs_that_do_not_fit_are_one_line(space, monkeypatch):
    write_onnx(Path("net.onnx"), Bars(), 1, 1, 16, 16)
    grey = ("net.onnx", *CLASSES, "--pixels", "0-1", "--colour", "grey")
    for words, says in (
        (("net.onnx", *CLASSES, "--pixels", "0-1"), "1 × 1 × 16 × 16, not 3 channels as nchw"),
        ((*grey, "--layout", "nhwc"), "not 1 channel as nhwc"),
        ((*grey, "--size", 48), "the input has 16 × 16 pixels"),
        ((*grey, "--output", "feature"), "has no output 'feature'"),
    ):
        assert says in refused(*words, space=space), words
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("fertool.adopted.predictors.find_spec", lambda name: None)
    assert "needs onnxruntime | run: pip install 'fertool[export]'" in refused(*grey, space=space)


def test_network_saved_in_training_mode_is_refused(space):
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 14 * 14, 3)).train()
    write_script(Path("net.pt"), module, 2, 1, 16, 16)
    assert "evaluation mode" in refused("net.pt", *CLASSES, *SMALL, space=space)


def test_trained_run_of_that_name_is_kept(space):
    run = small_runs.make_run(artefact.read(space / "toy/faces.h5"), "ran-1")
    error = adopt("mine.py:predict", *CLASSES, "--name", run.path.parent.name, "--overwrite", space=space, ok=False)
    assert "is a run of ran" in error["error"]
    adopt("mine.py:predict", *CLASSES, space=space)
    other = adopt("mine.py:predict", "--classes", "fear,anger,neutral", space=space, ok=False)
    assert "was made with other settings" in other["error"]


def test_other_colours_layouts_and_ranges_reach_the_network():
    views = torch.tensor([0.0, 0.2, 1.0]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 2, 2)
    seen = {}
    for key, options in {
        "bgr": {"colour": "bgr", "pixels": "0-255"},
        "signed": {"pixels": "-1-1"},
        "scaled": {"pixels": "0-1", "mean": (0.1, 0.2, 0.5), "std": (0.5,)},
        "last": {"pixels": "0-255", "layout": "nhwc"},
    }.items():
        net = Adopted(AdoptedSettings(kind="torchscript", classes=("anger", "fear"), size=2, **options))
        net._predictor = lambda batch, key=key: seen.setdefault(key, batch)[:, :2, 0, 0]
        net.raw(views)
    assert seen["bgr"][0, :, 0, 0].tolist() == [255, 51, 0]
    assert seen["signed"][0, :, 0, 0].tolist() == pytest.approx([-1, -0.6, 1])
    assert seen["scaled"][0, :, 0, 0].tolist() == pytest.approx([-0.2, 0, 1])
    assert seen["last"].shape == (1, 2, 2, 3)
    assert json.loads(json.dumps(net.settings.as_dict()))["layout"] == "nhwc"
