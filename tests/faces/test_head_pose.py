"""Head pose: rendered heads of known pose, mirror images, and the networks behind it."""

import numpy as np
import pytest

from fertool import artefact
from fertool.datasets import open_dataset
from fertool.errors import DeviceError, UsageError
from fertool.faces import onet, pose, pose_net
from fertool.faces.mean_head import rotation
from fertool.settings import DetectAlign
from fertool.stages import detect_align

torch = pytest.importorskip("torch")

TURNS = (-70, -45, -20, 0, 20, 45, 70)
FLIP = np.array([1, -1, -1])


def framed(face):
    """A box around the points of a face, as MTCNN draws it."""
    low, high = face.landmarks.min(axis=0), face.landmarks.max(axis=0)
    return np.concatenate([low - 0.02 * (high - low), high])


@pytest.fixture(scope="module")
def heads():
    """(picture, box, pitch, yaw, roll) of people and expressions that are not in the training."""
    from fertool.rendering.render import FaceSpec, render_face

    found = []
    for i, (yaw, expression) in enumerate((y, e) for y in TURNS for e in ("anger", "fear")):
        spec = FaceSpec(70_000_000 + i, expression, 0.8, (-30, 20, 0, 30)[i % 4], yaw, (0, 12, -12)[i % 3], seed=i)
        face = render_face(spec)
        found.append((face.pixels, framed(face), np.array([spec.pitch, spec.yaw, spec.roll])))
    return found


def look(image, box):
    angles, errors = pose_net.estimate([image], [np.asarray(box, float)], "mtcnn")
    return angles[0], errors[0]


def test_pose_of_rendered_heads_over_the_whole_range(heads):
    found = np.array([look(image, box)[0] for image, box, _ in heads])
    off = np.abs(found - np.array([angles for _, _, angles in heads]))
    assert off[:, 1].mean() < 5, off.round(1)
    assert off[:, 0].mean() < 7, off.round(1)
    yaw = found[:, 1].reshape(len(TURNS), -1).mean(axis=1)
    assert (np.diff(yaw) > 0).all(), yaw
    assert abs(yaw[0]) > 55
    assert abs(yaw[-1]) > 55


def test_a_mirrored_photograph_has_the_mirrored_pose(heads):
    for image, (x0, y0, x1, y1), _ in heads[::5]:
        width = image.shape[1]
        there, error = look(image, (x0, y0, x1, y1))
        mirrored, same = look(np.ascontiguousarray(image[:, ::-1]), (width - 1 - x1, y0, width - 1 - x0, y1))
        assert np.allclose(mirrored, there * FLIP, atol=0.2)
        assert same == pytest.approx(error, rel=0.02)


def test_a_turned_photograph_has_another_roll_only(heads):
    import cv2

    image, (x0, y0, x1, y1), _ = heads[6]
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    turned = cv2.warpAffine(image, cv2.getRotationMatrix2D(middle, -15, 1), image.shape[1::-1], borderMode=1)
    before, after = look(image, (x0, y0, x1, y1))[0], look(turned, (x0, y0, x1, y1))[0]
    assert after[2] - before[2] == pytest.approx(15, abs=3)
    assert np.allclose(after[:2], before[:2], atol=5)


def test_the_box_may_be_off(heads):
    off = []
    for image, (x0, y0, x1, y1), angles in heads[2:12:3]:
        side = x1 - x0
        for grown, moved in ((0.2, 0), (-0.1, 0), (0, 0.12)):
            box = (x0 - (grown - moved) * side, y0 - grown * side, x1 + (grown + moved) * side, y1 + grown * side)
            off.append(np.abs(look(image, box)[0] - angles))
    assert np.mean(off, axis=0)[1] < 6, np.round(off, 1)


def test_many_heads_at_once_have_the_poses_of_each_alone(heads):
    """And the known pose of one, so that another way to compute it is seen to be the same."""
    images, boxes, _ = zip(*heads, strict=True)
    angles, errors = pose_net.estimate(images, [*boxes[:-1], np.array([5, 5, 5, 9.0])], "mtcnn")
    alone = [look(image, box) for image, box in zip(images[:-1], boxes[:-1], strict=True)]
    assert np.allclose(angles[:-1], [a for a, _ in alone], atol=1e-3)
    assert np.allclose(errors[:-1], [e for _, e in alone], atol=1e-3)
    assert np.isnan([*angles[-1], errors[-1]]).all()  # a box without an area
    none, nobody = pose_net.estimate([], [], "mtcnn")
    assert none.shape == (0, 3)
    assert nobody.shape == (0,)


def test_grey_and_colour_are_seen_alike(heads):
    import cv2

    image, box, _ = heads[0]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert np.allclose(look(grey, box)[0], look(image, box)[0])


def test_the_fit_mirrors_exactly():
    marks = _marks(12, 25, 8)
    flipped = marks[_OTHER_SIDE] * (-1, 1)
    (angles, error), (mirrored, same) = pose.estimate(marks), pose.estimate(flipped)
    assert np.allclose(mirrored, angles * FLIP, atol=0.05)
    assert same == pytest.approx(error, abs=1e-3)


def test_only_68_landmarks_can_be_fitted():
    fit = pose.make("landmarks")
    picture, box = np.zeros((8, 8, 3), np.uint8), np.array([0, 0, 7, 7.0])
    for marks in (None, np.ones((5, 2)), np.full((68, 2), np.nan)):
        angles, errors = fit([picture], [box], [marks], "mtcnn")
        assert np.isnan([*angles[0], *errors]).all()


def test_features_are_those_of_mtcnn():
    from facenet_pytorch.models.mtcnn import ONet

    net = ONet().eval()
    faces = np.random.default_rng(0).integers(0, 256, (2, onet.SIDE, onet.SIDE)).astype(np.uint8)
    x = (torch.from_numpy(faces)[:, None].float().expand(-1, 3, -1, -1) - 127.5) / 128
    with torch.no_grad():
        for i in "123":
            x = getattr(net, f"pool{i}")(getattr(net, f"prelu{i}")(getattr(net, f"conv{i}")(x)))
        x = net.prelu4(net.conv4(x)).flatten(1).numpy()
    assert np.abs(onet.features(torch.from_numpy(faces)).numpy() - x).max() < 1e-4


def test_faces_without_landmarks_have_a_pose(rendered, tmp_path):
    settings = DetectAlign(detector="none", landmarks="none", align="none", size=32)
    made = detect_align.run(open_dataset(rendered), settings=settings, out=tmp_path / "faces.h5", limit=12)
    faces = artefact.read(made)
    true = np.stack([faces[f"true_{a}"] for a in ("pitch", "yaw", "roll")], axis=1)
    assert np.median(np.abs(faces["pose"] - true), axis=0)[1] < 6
    assert ((faces["pose_error"] > 1) & (faces["pose_error"] < 20)).all()


# ------------------------------------------------------------------------------------------------------- 6DRepNet


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file of the layout in which 6DRepNet's weights are published, filled at random."""
    from fertool.faces.sixd import Network

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sixd") / "6DRepNet.pth"
    torch.save({"model_state_dict": Network().state_dict()}, path)
    return path


def test_sixd_runs_with_weights_of_the_published_layout(published):
    net = pose.make("sixd", str(published))
    picture = np.random.default_rng(0).integers(0, 256, (60, 50, 3)).astype(np.uint8)
    angles, errors = net([picture], [np.array([10, 10, 40, 50.0])], [None], "mtcnn")
    assert angles.shape == (1, 3)
    assert np.isfinite(angles).all()
    assert np.isnan(errors).all()
    assert sum(p.numel() for p in net._net.parameters()) == 41_360_104 - 2048 * 1000 - 1000 + 2048 * 6 + 6


def test_sixd_angles_have_our_signs():
    """Their matrices are products about the same axes with yaw the other way round."""
    from fertool.faces.sixd import angles

    about = {"x": lambda a: rotation(-a, 0, 0), "y": lambda a: rotation(0, -a, 0), "z": lambda a: rotation(0, 0, a)}
    theirs = about["z"](-7.0) @ about["y"](-30.0) @ about["x"](12.0)  # roll -7, yaw -30 (to the right), pitch 12
    assert angles(theirs) == pytest.approx((12, 30, -7))


def test_weights_of_another_network_are_refused(tmp_path, published):
    torch.save({"fc.weight": torch.zeros(3, 4)}, tmp_path / "other.pth")
    with pytest.raises(DeviceError, match="does not hold 6DRepNet's weights"):
        pose.make("sixd", str(tmp_path / "other.pth"))
    with pytest.raises(UsageError, match="takes no weights"):
        pose.make("learned", str(published))
    with pytest.raises(UsageError, match="needs 6DRepNet's"):
        pose.make("sixd")


def _marks(*angles):
    from fertool.faces.mean_head import POINTS

    turned = POINTS @ rotation(*angles).T
    return 40 * 16 / (16 + turned[:, 2:]) * turned[:, :2]


_OTHER_SIDE = [
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
    41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
]  # fmt: skip
