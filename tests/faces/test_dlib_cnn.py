"""dlib's CNN face detector in PyTorch against dlib's own run of it."""

import cv2
import numpy as np
import pytest
import torch

from fertool.detectors import Options
from fertool.detectors.base import Faces, view
from fertool.detectors.dlib_cnn import FILE, DlibCnn
from fertool.errors import OutOfMemoryError
from fertool.faces.images import read_image
from fertool.faces.pipeline import Finder
from fertool.pretrained.dlib_dat import model_file
from fertool.settings import DetectAlign


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images(rendered):
    """Six rendered faces of six people, 128 pixels."""
    return [read_image(min(folder.glob("*.png"))) for folder in sorted(rendered.glob("images/*"))]


@pytest.fixture(scope="module")
def group(images):
    """Six faces in one image, of three sizes."""
    small = [cv2.resize(image, (96, 96)) for image in images[:2]] + [cv2.resize(images[2], (64, 64))]
    canvas = np.full((260, 400, 3), 90, np.uint8)
    corners = ((3, 5), (10, 150), (30, 300), (131, 2), (129, 135), (120, 266))
    for image, (y, x) in zip((*small, *images[3:]), corners, strict=True):
        canvas[y : y + len(image), x : x + len(image)] = image
    return canvas


@pytest.fixture(scope="module")
def dlibs_own():
    import dlib

    return dlib.cnn_face_detection_model_v1(str(model_file(FILE)))


def assert_same(found: Faces, expected) -> None:
    """The faces of an image that is shown as it is, as dlib gives them: rectangles with first and last pixel."""
    corners = [(f.rect.left(), f.rect.top(), f.rect.right(), f.rect.bottom()) for f in expected]
    assert len(found) == len(expected) > 0
    for edges, score, box in zip(corners, [f.confidence for f in expected], found.boxes, strict=True):
        assert np.abs(box + (0.5, 0.5, -0.5, -0.5) - edges).max() <= 1
        assert found.scores[list(map(tuple, found.boxes)).index(tuple(box))] == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize("upsample", [0, 1])
def test_faces_are_those_of_dlib(group, dlibs_own, upsample):
    (found,) = DlibCnn(Options(upsample=upsample)).detect([group])
    assert len(found) >= 3
    assert_same(found, dlibs_own(group, upsample))


@pytest.mark.parametrize("shape", [(112, 113), (259, 128), (131, 398), (143, 301)])
def test_faces_are_those_of_dlib_in_images_of_any_shape(images, dlibs_own, shape):
    """The levels of a pyramid lie elsewhere in each."""
    image = cv2.copyMakeBorder(images[4], 0, 300, 0, 300, cv2.BORDER_REPLICATE)[: shape[0], : shape[1]]
    (found,) = DlibCnn(Options(upsample=0)).detect([image])
    assert_same(found, dlibs_own(np.ascontiguousarray(image), 0))


def test_a_batch_gives_what_its_images_give_alone(images):
    detector = DlibCnn(Options(upsample=0))
    for together, image in zip(detector.detect(images), images, strict=True):
        (alone,) = detector.detect([image])
        assert (alone.boxes == together.boxes).all()
        assert alone.scores == pytest.approx(together.scores, abs=1e-5)


def test_small_images_are_enlarged(images, dlibs_own):
    small = [cv2.resize(image, (60, 60), interpolation=cv2.INTER_AREA) for image in images]
    found = 0
    for image, faces in zip(small, DlibCnn().detect(small), strict=True):
        shown = view(image, DlibCnn.smallest)
        expected = [(f.rect.left() - 0.5, f.rect.top() - 0.5) for f in dlibs_own(shown.pixels, 0)]
        assert len(faces) == len(expected)
        assert np.abs(faces.boxes[:, :2] - shown.back(np.reshape(expected, (-1, 2)))).max(initial=0) < 1 / 2
        found += len(faces)
    assert found >= 3


def test_too_little_memory_for_a_batch_halves_it(images):
    detector = DlibCnn(Options(upsample=0))
    expected = [faces.boxes for faces in detector.detect(images[:5])]
    sizes, room = [], 2

    def run_out(_, given):
        sizes.append(len(given[0]))
        if len(given[0]) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    hook = detector._net.register_forward_pre_hook(run_out)
    for boxes, faces in zip(expected, detector.detect(images[:5]), strict=True):
        assert (boxes == faces.boxes).all()
    assert sizes == [5, 2, 3, 1, 2]
    room = 0
    with pytest.raises(OutOfMemoryError, match="the memory of the GPU does not suffice") as e:
        list(detector.detect(images[:2]))
    assert "--set detect-align.upsample=0" in e.value.hint
    hook.remove()


@pytest.mark.parametrize(("name", "low"), [("dlib-cnn", -1.5), ("dlib-hog", -0.6)])
def test_a_threshold_below_0_finds_more(group, name, low):
    usual, more = (
        next(iter(Finder(DetectAlign(detector=name, landmarks="none", min_score=score, upsample=0)).find([group])))
        for score in (0.0, low)
    )
    assert len(more) > len(usual) > 0
    assert (usual.scores > 0).all()
    assert (more.scores >= low).all()
    kept = {tuple(box) for box in more.boxes}
    assert all(tuple(box) in kept for box in usual.boxes)
