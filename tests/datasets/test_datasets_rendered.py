"""The attributes that rendered faces carry: true of what is drawn, and learnable in every split."""

import csv

import numpy as np
import pytest

from fertool.datasets import open_dataset
from fertool.datasets.celeba import COLUMNS
from fertool.errors import DataError
from fertool.labels import ATTRIBUTES
from fertool.rendering.attributes import attributes
from fertool.rendering.plan import plan
from fertool.rendering.render import FaceSpec, render_face
from fertool.rendering.shading import PARTS
from fertool.stages import render


def shown(spec: FaceSpec) -> set[str]:
    return {name.removeprefix("attr_") for name, value in attributes(spec).items() if value == 1}


def test_both_values_of_every_group_are_in_every_split_of_the_default_render():
    faces = [face for faces in plan(people=40, per_person=21, size=160, seed=0) for face in faces]
    values = [attributes(face.spec) for face in faces]
    assert all(tuple(v) == COLUMNS and set(v.values()) <= {1, -1} for v in values)
    for split in ("train", "val", "test"):
        for names in ATTRIBUTES.values():
            positive = [max(v[n] for n in names) == 1 for f, v in zip(faces, values, strict=True) if f.split == split]
            assert 0.2 < np.mean(positive) < 0.8
    for name in COLUMNS:
        assert 0.02 < np.mean([v[name] == 1 for v in values]) < 0.6, name


@pytest.mark.parametrize("subject", [1, 4, 6])
def test_attributes_go_with_the_expression(subject):
    assert "smiling" in shown(FaceSpec(subject, "happiness"))
    assert {"arched_eyebrows", "mouth_slightly_open"} <= shown(FaceSpec(subject, "surprise"))
    calm = shown(FaceSpec(subject, "neutral"))
    assert not calm & {"smiling", "arched_eyebrows", "mouth_slightly_open", "eyeglasses", "narrow_eyes"}
    # who somebody is does not change with the expression
    of_person = {"bushy_eyebrows", "big_lips"}
    assert all(shown(FaceSpec(subject, e)) & of_person == calm & of_person for e in ("anger", "fear", "disgust"))


def test_what_is_covered_is_not_shown():
    groups = {name: {n.removeprefix("attr_") for n in names} for name, names in ATTRIBUTES.items()}
    for subject in range(8):
        bare = shown(FaceSpec(subject, "surprise"))
        assert shown(FaceSpec(subject, "surprise", occlusion="upper")) == bare - groups["eyes"]
        assert shown(FaceSpec(subject, "surprise", occlusion="bottom")) == bare - groups["mouth"]
        assert shown(FaceSpec(subject, "surprise", occlusion="left-right")) == bare


def test_eyeglasses_are_told_from_masks_as_they_are_drawn():
    seen = set()
    for seed in range(6):
        spec = FaceSpec(subject=seed, expression="surprise", occlusion="glasses-mask", seed=seed, size=64)
        face = render_face(spec)
        x, y = np.round(face.landmarks[[62, 66]].mean(0)).astype(int)
        masked = PARTS[face.parts[y, x]] == "occluder"
        seen.add(masked)
        assert ("eyeglasses" in shown(spec)) != masked
        assert ("mouth_slightly_open" in shown(spec)) != masked
    assert seen == {True, False}


def test_a_table_of_an_earlier_version_gets_the_attributes_without_rendering_again(tmp_path):
    settings = {"people": 3, "per_person": 2, "size": 48}
    folder = render.run(tmp_path / "faces", **settings)
    whole = (folder / "rendered.csv").read_text()
    samples = list(open_dataset(folder).samples())
    assert all(tuple(n for n in s.extra if n.startswith("attr_")) == COLUMNS for s in samples)
    spec = plan(**settings, seed=0)[1][1].spec
    assert {n: samples[3].extra[n] for n in COLUMNS} == attributes(spec)

    with open(folder / "rendered.csv", newline="") as f:
        rows = [row[:10] for row in csv.reader(f)]
    (folder / "rendered.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="lacks attr_bushy_eyebrows, .* the same fertool render again adds them"):
        open_dataset(folder).samples()
    picture = folder / "images/p000/p000-00.png"
    before = picture.stat().st_mtime_ns
    render.run(folder, **settings)
    assert (folder / "rendered.csv").read_text() == whole
    assert picture.stat().st_mtime_ns == before
