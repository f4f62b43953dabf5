"""mixup, cutmix, random erasing and colour jitter."""

import commands
import numpy as np
import pytest
import torch
import toy
from torch.nn import functional as F

from fertool import artefact
from fertool.models.base import Targets
from fertool.models.registry import build_model, model_settings
from fertool.requirements.rows import select
from fertool.training.data import Pixels, region_boxes
from fertool.training.loader import Data, Loader
from fertool.training.mixing import Variation, inside, jittered, mix_targets

WHOLE = torch.tensor([[[0.0, 0, 1, 1]]])


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return toy.write_all(tmp_path_factory.mktemp("space") / "toy")


def variation(n=1000, epoch=0, **settings):
    return Variation.draw(n, toy.settings(**settings), epoch)


def test_rectangles_lie_in_the_frame_of_the_face():
    """The lower right quarter of a face fills a crop of that quarter, and a quarter of the whole face."""
    boxes = torch.tensor([[[0.0, 0, 1, 1], [0.5, 0.5, 1, 1], [0, 0, 0.5, 0.5]]])
    part = inside(torch.tensor([[0.5, 0.5, 1, 1]]), boxes, (4, 8))
    assert part.shape == (1, 3, 1, 4, 8)
    assert part.mean(dim=(0, 2, 3, 4)).tolist() == [0.25, 1, 0]
    assert part[0, 0, 0, 2:, 4:].all()


def test_mixed_faces_and_labels_have_the_same_shares():
    views, others = torch.ones(500, 1, 3, 50, 50), torch.zeros(500, 1, 3, 50, 50)
    mine, theirs = (Targets(torch.full((500,), k), F.one_hot(torch.full((500,), k), 3).float()) for k in (0, 2))
    for settings in ({"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}):
        v = variation(500, **settings)
        mixed, targets = v.apply(views, mine, WHOLE.expand(500, 1, 4), (others, theirs))
        share = targets.distributions[:, 0]
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3, 4)), share)
        torch.testing.assert_close(targets.distributions.sum(1), torch.ones(500))
        assert (targets.labels == torch.where(share >= 0.5, 0, 2)).all()
        assert 0.1 < share.std() < 0.5


def test_pixels_of_cutmix_come_from_one_face_or_the_other():
    v = variation(50, cutmix=1.0)
    own = 1 - (1 - v.keep.view(-1, 1, 1, 1, 1)) * inside(v.mixed, WHOLE.expand(50, 1, 4), (20, 20))
    assert set(own.unique().tolist()) == {0, 1}


def test_weights_are_mixed_with_the_labels():
    one, two = (
        Targets(torch.tensor([k]), torch.eye(2)[[k]], weights=torch.tensor([w])) for k, w in ((0, 1.0), (1, 3.0))
    )
    mixed = mix_targets(one, two, torch.tensor([0.25]))
    assert mixed.weights.tolist() == [2.5]
    assert mixed.labels.tolist() == [1]


def test_partners_are_others_of_the_same_batch():
    v = variation(100, mixup=1.0)
    for batch in (range(32, 64), range(96, 100)):
        at = torch.arange(batch.start, batch.stop)
        mates = v.partners(at, batch)
        assert (mates != at).all()
        assert mates.min() >= batch.start
        assert mates.max() < batch.stop
    assert v.partners(torch.tensor([5]), range(5, 6)).tolist() == [5]


def test_erased_share_and_area():
    v = variation(4000, erase=0.25)
    side = v.erased[:, 2:] - v.erased[:, :2]
    area = side.prod(1)
    assert (area > 0).float().mean() == pytest.approx(0.25, abs=0.03)
    assert area[area > 0].max() <= 0.2 + 1e-6
    views, _ = v.apply(torch.ones(4000, 1, 1, 40, 40), Targets(torch.zeros(4000)), WHOLE.expand(4000, 1, 4), None)
    torch.testing.assert_close(1 - views.mean(dim=(1, 2, 3, 4)), area, atol=0.03, rtol=0)


def test_jitter_of_each_colour():
    image = torch.tensor([[200.0, 100], [100, 100]]).expand(1, 3, 2, 2) * torch.tensor([1.0, 0.5, 0.5])[:, None, None]
    grey = (image * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    for factors, wanted in (
        ([0.5, 1, 1], image / 2),
        ([1, 0, 1], grey.mean() + image * 0),
        ([1, 1, 0], grey.expand(1, 3, 2, 2)),
        ([2, 1, 1], (2 * image).clamp(0, 255)),
    ):
        torch.testing.assert_close(jittered(image, torch.tensor([factors]).float()), wanted)


def test_epochs_differ_and_a_face_depends_on_its_position_alone():
    settings = {"mixup": 0.2, "cutmix": 1.0, "erase": 0.5, "jitter": 0.3}
    first, again, later = variation(20, **settings), variation(20, **settings), variation(20, 1, **settings)
    for name in ("jitter", "erased", "mixed", "keep", "partner"):
        torch.testing.assert_close(getattr(first, name), getattr(again, name), rtol=0, atol=0)
        assert not torch.equal(getattr(first, name), getattr(later, name))


def test_processes_share_the_faces_of_one(faces):
    """Of every face the same views and targets, whether one process shows the batch or three do."""
    settings = toy.settings(mixup=0.4, cutmix=1.0, erase=0.5, jitter=0.3, label_smoothing=0.1)
    net = build_model(model_settings(settings.model), 3, regions=3)
    regions = artefact.read(faces.path.with_name("regions.h5"), "regions")
    pixels = Pixels(faces["images"], torch.arange(faces.rows), torch.device("cpu"))
    data = Data(select(faces, ["train"]), select(faces, ["test"]), pixels, region_boxes(faces, regions), classes=3)

    def shown(rank: int, processes: int) -> list:
        batches = Loader(net, data, settings, rank, processes).batches(1, 1, 3)
        return [part[:2] for batch in batches for part in batch.views(net)]

    split = zip(shown(0, 3), shown(1, 3), shown(2, 3), strict=True)
    for (views, targets), parts in zip(shown(0, 1), split, strict=True):
        torch.testing.assert_close(torch.cat([v for v, _ in parts]), views)
        torch.testing.assert_close(torch.cat([t.distributions for _, t in parts]), targets.distributions)


@pytest.mark.parametrize("key", ["mixup=0.2", "cutmix=1"])
def test_networks_whose_loss_has_no_soft_labels_are_refused(faces, key):
    name = key.split("=")[0]
    for network, reason in (("identity", "is for classes"), ("ws-lgrn", "pairs of one class")):
        words = ("train", network, "--variant", "gfnet") if network == "ws-lgrn" else ("train", network)
        result = commands.call(*words, "--set", f"train.{key}", space=faces.path.parent.parent)
        assert result.exit_code != 0
        assert name in result.stdout
        assert reason in result.stdout


def test_off_they_are_in_no_digest(faces):
    run = toy.train_toy(faces, epochs=1)
    assert not {"mixup", "cutmix", "erase", "jitter"} & run.params["train"].keys()
    mixed = toy.train_toy(faces, epochs=1, mixup=0.4)
    assert mixed.params["train"]["mixup"] == 0.4
    assert not np.array_equal(mixed["history/loss"], run["history/loss"])
