"""Which faces an epoch shows, which of them a device gets, and the learning rate of every step."""

import itertools

import pytest
import torch

from fertool.recipe import Recipe
from fertool.training.sampling import Epochs, device_slice, draw_partners, mixed_seed, steps_per_epoch
from fertool.training.schedule import learning_rate

LABELS = torch.tensor([0] * 800 + [1] * 150 + [3] * 50)


def order(epoch: int = 0, seed: int = 0, *, oversample: bool = False) -> torch.Tensor:
    return Epochs(LABELS, seed, oversample).draw(epoch)[0].flatten()


# ------------------------------------------------------------------------------------------------- order


def test_an_epoch_shows_every_face_once():
    assert order().sort().values.tolist() == list(range(1000))


def test_the_order_follows_from_seed_and_epoch():
    assert torch.equal(order(3, 5), order(3, 5))
    torch.manual_seed(99)
    assert torch.equal(order(3, 5), order(3, 5)), "whatever else has drawn random numbers"
    orders = [tuple(order(e, s).tolist()) for e, s in itertools.product(range(4), range(4))]
    assert len(set(orders)) == 16


def test_oversampling_shows_every_class_equally_often():
    drawn = torch.cat([order(e, oversample=True) for e in range(20)])
    assert len(order(oversample=True)) == 1000
    counts = torch.bincount(LABELS[drawn], minlength=4) / len(drawn)
    assert counts[2] == 0
    assert (counts[[0, 1, 3]] - 1 / 3).abs().max() < 0.02
    assert len(drawn[LABELS[drawn] == 3].unique()) == 50, "every face of a small class has its turn"
    assert not torch.equal(order(0, oversample=True), order(1, oversample=True))


def test_every_version_of_every_face_once():
    epochs = Epochs(LABELS, 1, versions=14)
    places, versions = epochs.draw(0)
    assert len(epochs) == len(places) == 14_000
    assert len({(p, v) for p, v in zip(places.flatten().tolist(), versions.flatten().tolist(), strict=True)}) == 14_000


@pytest.mark.parametrize("same", [0.5, 0.2, 1.0])
def test_pairs(same):
    epochs = Epochs(LABELS, 3, pairs=same)
    places, _ = epochs.draw(0)
    assert epochs.faces == 2
    assert places.shape == (1000, 2)
    assert places[:, 0].sort().values.tolist() == list(range(1000)), "every face once, with a partner"
    first, second = LABELS[places].T
    assert abs((first == second).float().mean() - same) < 0.04
    assert (places[:, 0] != places[:, 1]).all(), "nobody is its own partner"


def test_partners_are_drawn_evenly():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    alike = draw_partners(labels, torch.full((6000,), 2), 1.0, generator)
    assert (torch.bincount(alike, minlength=6) / 6000 - torch.tensor([0.5, 0, 0, 0, 0, 0.5])).abs().max() < 0.03
    unlike = draw_partners(labels, torch.full((6000,), 2), 0.0, generator)
    assert (torch.bincount(unlike, minlength=6) / 6000 - torch.tensor([0, 1, 0, 1, 1, 0]) / 3).abs().max() < 0.03
    assert draw_partners(labels, torch.tensor([3]), 1.0, generator).item() == 3, "the only one of its class"


def test_branches_each_see_their_own_draw():
    branches = (torch.arange(10), torch.arange(20, 44))
    epochs = Epochs(torch.full((50,), -1), 0, branches=branches, versions=2)
    places, versions = epochs.draw(0)
    assert places.shape == (48, 2)
    assert set(places[:, 0].tolist()) == set(range(10)), "the smaller draw is shown again"
    longer = sorted(zip(places[:, 1].tolist(), versions[:, 1].tolist(), strict=True))
    assert longer == list(itertools.product(range(20, 44), range(2)))


def test_seeds_of_neighbours_are_far_apart():
    seeds = [mixed_seed(a, b, c) for a, b, c in itertools.product(range(20), range(20), range(3))]
    assert len(set(seeds)) == 1200
    assert min(abs(a - b) for a, b in itertools.pairwise(sorted(seeds))) > 1000
    assert mixed_seed(1, 2) != mixed_seed(2, 1)
    assert all(0 <= s < 2**63 for s in seeds)


# ----------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize(
    ("n", "batch", "devices", "steps"),
    [(128, 32, 1, 4), (130, 32, 1, 5), (129, 32, 1, 4), (131, 32, 2, 4), (132, 32, 2, 5), (3, 32, 1, 1), (1, 32, 1, 0)],
)
def test_the_last_batch_is_taken_if_every_device_gets_two_faces(n, batch, devices, steps):
    assert steps_per_epoch(n, batch, devices) == steps


@pytest.mark.parametrize("devices", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [8, 9, 37, 128])
def test_slices_of_the_devices_cover_a_batch(n, devices):
    batch = range(100, 100 + n)
    slices = [device_slice(batch, rank, devices) for rank in range(devices)]
    assert [i for part in slices for i in part] == list(batch)
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


# -------------------------------------------------------------------------------------------- learning rate


def rates(steps: int, per_epoch: int, **settings) -> list[float]:
    s = Recipe().settings("train", {"lr": 1.0, **settings})
    return [learning_rate(s, step, per_epoch, steps) for step in range(steps)]


def test_the_papers_schedule():
    """0.01, divided by ten after epochs 15 and 30: the first step of epoch 16 is the first at 0.001."""
    s = Recipe().settings("train", {"lr": 0.01, "lr_milestones": [15, 30]})
    for step, rate in [(0, 0.01), (149, 0.01), (150, 1e-3), (299, 1e-3), (300, 1e-4), (399, 1e-4)]:
        assert learning_rate(s, step, 10, 400) == pytest.approx(rate)


def test_milestones_in_any_order_and_inside_epochs():
    assert rates(8, 4, lr_milestones=[1.5, 0.5]) == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert rates(4, 4) == [1.0] * 4


def test_multiplied_after_every_so_many():
    decay = rates(12, 4, lr_every=1, lr_gamma=0.95)
    assert decay == pytest.approx([0.95 ** (i // 4) for i in range(12)])
    assert rates(6, 4, lr_every=2, lr_unit="iteration", lr_gamma=0.5) == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])
    assert rates(4, 2, lr_every=1, lr_milestones=[0]) == pytest.approx([1, 1, 0.1, 0.1]), "instead of milestones"


def test_fractions_of_an_epoch_that_no_computer_writes_exactly():
    """0.3 / 0.1 is a little less than 3."""
    s = Recipe().settings("train", {"lr_every": 0.1, "lr": 1.0, "lr_gamma": 0.5})
    for step in range(100):
        assert learning_rate(s, step, 10, 100) == pytest.approx(0.5**step)


def test_milestones_in_steps_and_in_fractions_of_the_whole():
    assert rates(4, 100, lr_unit="iteration", lr_milestones=[1, 3]) == pytest.approx([1, 0.1, 0.1, 0.01])
    assert rates(10, 3, lr_unit="fraction", lr_milestones=[0.6, 0.85]) == pytest.approx([1] * 6 + [0.1] * 3 + [0.01])
