"""Views: one sampling step has to equal cropping, mirroring, turning and resizing one after the other."""

import math

import pytest
import torch
import torch.nn.functional as F

from fertool.backbones.base import InputSpec
from fertool.training.transforms import Augmentation, sample_views, view_transforms

RAW = InputSpec((24, 24), 3, std=(1 / 255,))  # bytes as they are
GREY = InputSpec((24, 24), 1, std=(1 / 255,))
WHOLE = [[0, 0, 1, 1]]


def picture(n: int = 1, height: int = 40, width: int = 40, channels: int = 3) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, channels, height, width), dtype=torch.uint8, generator=random)


def dot(x: int, y: int, side: int = 40) -> torch.Tensor:
    """A black picture with a white square of 8×8 pixels around the pixel (x, y)."""
    image = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    image[..., y - 4 : y + 4, x - 4 : x + 4] = 255
    return image


def where(view: torch.Tensor) -> tuple[float, float]:
    """Centre of the light in a (3, h, w) view, as fractions (x, y) of its sides."""
    light = view[0] / view[0].sum()
    y, x = ((torch.arange(n) + 0.5) / n for n in light.shape)
    return float((light.sum(0) * x).sum()), float((light.sum(1) * y).sum())


def cut(images: torch.Tensor, boxes, augment: torch.Tensor | None = None, spec: InputSpec = RAW) -> torch.Tensor:
    """Views (N, K, C, h, w) of the same boxes in every picture."""
    boxes = torch.as_tensor(boxes, dtype=torch.float32).expand(len(images), -1, 4)
    return sample_views(images, view_transforms(boxes, augment), spec)


def resized(crop: torch.Tensor, spec: InputSpec = RAW) -> torch.Tensor:
    return F.interpolate(crop.float(), spec.size, mode="bilinear", align_corners=False)


# -------------------------------------------------------------------------------------------------- boxes


@pytest.mark.parametrize(("height", "width"), [(24, 24), (40, 31), (17, 20)])
def test_the_whole_face_is_the_picture_resized(height, width):
    images = picture(2, height, width)
    assert torch.allclose(cut(images, WHOLE)[:, 0], resized(images), atol=1e-3)


def test_a_box_is_cropped_and_resized():
    images = picture(3)
    boxes = [[0.25, 0.5, 0.75, 1.0], [0.1, 0.2, 0.7, 0.6], [0, 0, 0.5, 0.5]]
    views = cut(images, boxes)
    assert views.shape == (3, 3, 3, 24, 24)
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        rows, columns = slice(round(40 * y0), round(40 * y1)), slice(round(40 * x0), round(40 * x1))
        crop = resized(images[:, :, rows, columns])
        inner = (..., slice(2, -2), slice(2, -2))  # at its border a view sees what lies beside the crop
        assert torch.allclose(views[:, k][inner], crop[inner], atol=1e-3)


def test_every_face_has_its_own_boxes():
    images = picture(2)
    boxes = torch.tensor([[[0, 0, 1, 1], [0, 0, 0.5, 0.5]], [[0.5, 0.5, 1, 1], [0, 0.5, 0.5, 1]]])
    views = sample_views(images, view_transforms(boxes, None), RAW)
    for i in range(2):
        for k in range(2):
            alone = sample_views(images[i : i + 1], view_transforms(boxes[i : i + 1, k : k + 1], None), RAW)
            assert torch.allclose(views[i, k], alone[0, 0], atol=1e-3)


def test_beyond_the_picture_the_border_is_repeated():
    images = picture()
    left = cut(images, [[-1, 0, 0, 1]])[0, 0]
    assert torch.allclose(left, left[..., :1].expand_as(left), atol=1e-3)
    edge = F.interpolate(images[:, :, :, 0].float(), 24, mode="linear")[0]
    assert torch.allclose(left[..., 0], edge, atol=1e-3)
    corner = cut(images, [[-1, -1, 0, 0]])[0, 0]
    assert torch.allclose(corner, images[0, :, :1, :1].float().expand_as(corner), atol=1e-3)


# ------------------------------------------------------------------------------------- mirror, turn, shift, zoom


def test_the_face_is_mirrored_before_it_is_cropped():
    """The left crop of a mirrored face shows its right side, mirrored."""
    images, flip = picture(), Augmentation(flip=1.0).draw(1, seed=0)
    box = [[0.1, 0, 0.6, 0.5]]
    left = cut(images, box, flip)
    assert torch.allclose(left, cut(images.flip(3), box), atol=1e-2)
    assert torch.allclose(left, cut(images, [[0.4, 0, 0.9, 0.5]]).flip(4), atol=1e-2)
    assert not torch.allclose(left, cut(images, box).flip(4), atol=50)


def test_probability_of_a_mirror_image():
    drawn = Augmentation(flip=0.3).draw(4000, seed=1)
    assert abs((drawn[:, 0, 0] < 0).float().mean() - 0.3) < 0.03
    assert torch.equal(Augmentation().draw(2, 0), torch.tensor([[[1.0, 0, 0], [0, 1, 0]]] * 2))


def test_a_turn_keeps_the_centre_the_size_and_the_shape():
    """The angle that is drawn is the angle by which a dot moves around the centre, within the largest turn."""
    for seed in range(8):
        turn = Augmentation(rotate=40).draw(1, seed)
        angle = math.degrees(math.atan2(turn[0, 1, 0], turn[0, 0, 0]))
        assert abs(angle) <= 40
        x, y = where(cut(dot(32, 20), WHOLE, turn)[0, 0])  # 12 pixels = 0.3 sides right of the centre
        seen = math.degrees(math.atan2(y - 0.5, x - 0.5))
        assert seen == pytest.approx(-angle, abs=1.5), "sampling turns one way, so the picture turns the other"
        assert math.hypot(x - 0.5, y - 0.5) == pytest.approx(0.3, abs=0.01)


def test_turns_go_both_ways_equally_often():
    drawn = Augmentation(rotate=10).draw(4000, seed=3)
    angles = torch.rad2deg(torch.atan2(drawn[:, 1, 0], drawn[:, 0, 0]))
    assert angles.abs().max() <= 10.001
    assert angles.abs().max() > 9.9
    assert angles.mean().abs() < 0.4


def test_a_face_is_mirrored_before_it_is_turned():
    plain, mirrored = (Augmentation(flip=p, rotate=40, scale=0.1).draw(1, seed=4) for p in (0.0, 1.0))
    assert torch.allclose(cut(picture(), WHOLE, mirrored), cut(picture().flip(3), WHOLE, plain), atol=1e-2)


def test_shift_and_zoom_stay_within_their_bounds():
    shifted = Augmentation(shift=0.1).draw(500, seed=2)
    moved = torch.tensor([where(v[0]) for v in cut(dot(20, 20).expand(500, -1, -1, -1), WHOLE, shifted)])
    assert (moved - 0.5).abs().max() < 0.105
    assert (moved - 0.5).abs().amax(0).min() > 0.095
    zoomed = Augmentation(scale=0.2).draw(500, seed=2)
    distance = torch.tensor([where(v[0])[0] for v in cut(dot(32, 20).expand(500, -1, -1, -1), WHOLE, zoomed)]) - 0.5
    assert distance.min() > 0.3 / 1.2 - 0.01
    assert distance.max() < 0.3 / 0.8 + 0.01
    assert distance.max() - distance.min() > 0.1


def test_augmentation_of_a_face_depends_on_its_place_only():
    """The same epoch in one batch or in many, on one device or on four."""
    how = Augmentation(0.5, 10, 0.1, 0.1)
    whole = how.draw(1000, seed=7)
    assert torch.equal(whole, how.draw(1000, seed=7))
    assert torch.equal(whole[:37], how.draw(37, seed=7))
    assert not torch.equal(whole, how.draw(1000, seed=8))
    assert len(whole.unique(dim=0)) == 1000
    images, boxes = picture(8), torch.rand(8, 2, 4)
    transforms = view_transforms(boxes, whole[:8])
    together = sample_views(images, transforms, RAW)
    parts = [sample_views(images[i : i + 3], transforms[i : i + 3], RAW) for i in (0, 3, 6)]
    assert torch.allclose(together, torch.cat(parts), atol=1e-3)


def test_without_augmentation_is_the_identity():
    boxes = torch.rand(3, 2, 4)
    identity = Augmentation().draw(3, 0)
    assert torch.allclose(view_transforms(boxes, None), view_transforms(boxes, identity))


# ------------------------------------------------------------------------------------- size, colour, normalisation


@pytest.mark.parametrize("side", [48, 72, 75, 100, 119])
def test_a_large_face_is_averaged_not_skipped(side):
    """Fine stripes become grey, and nothing moves, whether or not the sides divide."""
    stripes = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    stripes[..., ::2] = 255
    view = cut(stripes, WHOLE)
    assert view.std() < 45, "sampling alone gives 127"
    slope = torch.arange(side, dtype=torch.uint8).expand(1, 3, side, side)
    expected = (torch.arange(24) + 0.5) * side / 24 - 0.5
    inner = slice(1, -1)
    assert torch.allclose(cut(slope, WHOLE)[0, 0, 0, 12][inner], expected[inner], atol=0.6)


def test_grey_and_colour():
    colour, grey = picture(2), picture(2, channels=1)
    luma = (colour.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    assert torch.allclose(cut(colour, WHOLE, spec=GREY)[:, 0], resized(luma), atol=1e-2)
    assert torch.allclose(cut(grey, WHOLE, spec=GREY)[:, 0], resized(grey), atol=1e-2)
    assert torch.allclose(cut(grey, WHOLE)[:, 0], resized(grey).expand(-1, 3, -1, -1), atol=1e-2)


def test_normalisation():
    spec = InputSpec((24, 24), 3, mean=(0.5, 0.25, 0.0), std=(0.5, 0.2, 1.0))
    expected = (resized(picture()) / 255 - torch.tensor(spec.mean)[:, None, None]) / torch.tensor(spec.std)[
        :, None, None
    ]
    assert torch.allclose(cut(picture(), WHOLE, spec=spec)[:, 0], expected, atol=1e-4)


def test_views_need_not_be_square():
    spec = InputSpec((16, 24), 3, std=(1 / 255,))
    assert torch.allclose(cut(picture(), WHOLE, spec=spec)[:, 0], resized(picture(), spec), atol=1e-3)


# ------------------------------------------------------------------------------------ turns, versions, cuts


def turned_by(transform: torch.Tensor, width: int = 40, height: int = 40) -> float:
    """Degrees by which a (2, 3) transform turns pixels."""
    x, y = transform[0, 0] * width, transform[1, 0] * height
    return math.degrees(math.atan2(y, x))


def test_every_version_is_a_turn_and_perhaps_a_mirror_image():
    augment = Augmentation(flip=0.5, rotation_angles=(-15.0, 0.0, 10.0))
    assert augment.versions == 6
    drawn = augment.draw(6, 0, torch.arange(6))
    assert [round(turned_by(t)) for t in drawn[:3]] == [-15, 0, 10]
    assert drawn[:, 0, 0].sign().tolist() == [1, 1, 1, -1, -1, -1]
    some = augment.draw(3000, 0)
    angles = torch.rad2deg(torch.atan2(some[:, 1, 0], some[:, 1, 1])).round()
    assert [round((angles == a).float().mean().item(), 1) for a in (-15, 0, 10)] == [0.3, 0.3, 0.3]
    assert Augmentation(rotation_angles=(5.0,)).versions == 1


def test_a_turn_does_not_shear_a_rectangular_face():
    images = torch.zeros(1, 3, 80, 40, dtype=torch.uint8)
    images[0, :, 36:44, 26:34] = 255  # ten pixels right of the centre
    augment = Augmentation(rotation_angles=(90.0,)).draw(1, 0, aspect=40 / 80)
    view = sample_views(images, view_transforms(torch.tensor([WHOLE]).float(), augment), InputSpec((80, 40), 3))
    x, y = where(view[0, 0])
    assert (round(40 * x), round(80 * y)) == (20, 30), "ten pixels above it"
