"""One small file per kind and schema, written once and kept in golden/: every later fertool has to read them.

`PYTHONPATH=tests python tests/artefact/test_golden.py` writes the files that are not there yet. A file that is there
is never written again: a new schema gets new files beside the old ones.
"""

from pathlib import Path

import h5py
import numpy as np
import pytest

from fertool import artefact
from fertool.artefact import SCHEMA, Parent
from fertool.faces import sdm
from fertool.stages import inspect

GOLDEN = Path(__file__).parent / "golden"
CLASSES = ("surprise", "fear", "happiness")
IDS = np.array(["train_00001.jpg", "Bild 2, ä.png", "写真3.bmp", "test_0004.jpg"])

#: (kind, schema) -> digest; the digest of equal work must never change, or nothing old is up to date any more
DIGESTS = {
    ("faces", 1): "284920f896c461a7cc90e1fd0a2c95fc",
    ("masks", 1): "e1326e76ca82345fa0b039ecb54cfb35",
    ("regions", 1): "f7064139ebdbab048b705472330e1fb3",
    ("subsets", 1): "2db84113fb4afd95432e649092fa8dad",
    ("run", 1): "364eac32e7dfc35106230960e8b44ae1",
    ("predictions", 1): "55704565f9b5897e78bcd205330713f3",
    ("figures", 1): "bfdfb455987dee8bfc5978969f5677b5",
    ("landmarks", 1): "f7ef79cf38b5e7c9cab6ca2fd206de13",
}


def numbers(*shape: int, dtype: str = "f4") -> np.ndarray:
    """Numbers that are exact in every format."""
    return (np.arange(np.prod(shape)) % 64).reshape(shape).astype(dtype)


def columns(kind: str) -> dict[str, np.ndarray]:
    """What the file of a kind holds."""
    nan = np.full((4, 3), np.nan, "f4")
    match kind:
        case "faces":
            return {
                "id": IDS,
                "split": np.array(["train", "train", "test", ""]),
                "label": np.array([0, 2, 1, -1], "i2"),
                "subject": np.array(["", "p1", "p2", "p2"]),
                "sequence": np.array([""] * 4),
                "frame": np.array([-1, 0, 7, -1], "i4"),
                "label_distribution": numbers(4, 3) / 64,
                "gender": np.array(["male", "female", "unsure", ""]),
                "images": numbers(4, 16, 16, 3, dtype="u1"),
                "status": np.array([1, 2, 3, 4], "u1"),
                "faces_found": np.array([1, 3, 0, 0], "u1"),
                "bbox": numbers(4, 4),
                "score": np.array([0.5, 0.25, np.nan, np.nan], "f4"),
                "landmarks": numbers(4, 5, 2),
                "transform": numbers(4, 2, 3, dtype="f8"),
                "pose": nan,
                "pose_error": nan[:, 0],
            }
        case "masks":
            return {
                "id": IDS,
                "masks": numbers(4, 8, 14, 14, dtype="u1") % 2,
                "valid": np.array([True, True, False, False]),
            }
        case "regions":
            return {"id": IDS, "boxes": numbers(4, 6, 4) / 64}
        case "subsets":
            return {
                "id": IDS,
                "pose30": np.array([True, False, True, False]),
                "occlusion": np.array([False, True, True, False]),
                "occlusion_type": np.array(["", "upper", "glasses-mask", ""]),
                "list_label": np.array([0, -1, 1, -1], "i2"),
                "list_split": np.array(["train", "", "test", ""]),
            }
        case "run":
            weights = {"backbone.conv1.weight": numbers(2, 1, 3, 3), "classifier.bias": numbers(3)}
            return {
                **{f"weights/{which}/{k}": v for which in ("last", "best") for k, v in weights.items()},
                "optimizer/classifier.bias/momentum_buffer": numbers(3),
                **{f"history/{k}": numbers(2, dtype="f8") for k in ("epoch", "loss", "val_accuracy")},
                "state/epoch": np.array(2),
                "state/step": np.array(0),
                "state/iteration": np.array(12),
                "state/best": np.array(0.75),
                "state/finished": np.array(True),
                "state/rng/cpu": numbers(8, dtype="u1"),
            }
        case "predictions":
            return {
                "id": IDS[:2],
                "row": np.array([0, 2], "i4"),
                "status": np.array([1, 3], "u1"),
                "label": np.array([0, -1], "i2"),
                "logits": numbers(2, 3) - 3,
                "attention_weight": numbers(2, 6) / 16,
            }
        case "landmarks":
            return {
                "mean": numbers(5, 2, dtype="f8"),
                "cells": np.array([0.25]),
                "error": np.array([0.125, 0.0625]),
                "faces": np.array(12),
                "steps/0/weights": numbers(360, 10, dtype="f2") / 64,
                "steps/0/bias": numbers(10) / 64,
            }
        case "figures":
            return {"confusion/matrix": numbers(3, 3, dtype="i8"), "confusion/classes": np.array(CLASSES)}


def settings(kind: str) -> dict:
    if kind == "run":
        return {
            "recipe": "ran-rafdb",
            "variant": "",
            "train": {"select_on": "last"},
            "model": {"name": "ran", "size": 224},
        }
    return {"kind": kind, "size": 16, "nested": {"list": [1, 2.5, None, "ü"]}}


def parents(kind: str) -> list[Parent]:
    return [] if kind == "faces" else [Parent("faces", "faces", "raf/faces.h5", "u" * 32, "d" * 32)]


def write(path: Path, kind: str):
    info = {"versions": {"fertool": "0.1.0"}, "command": ["fertool"], "seed": 0, "created": "2025-01-01T00:00:00Z"}
    info |= {"seconds": [1.5, 2.0], "waited": [0.0, 0.5]} if kind == "run" else {}
    arrays = columns(kind)
    return artefact.save(path, kind, arrays, params=settings(kind), inputs=parents(kind), classes=CLASSES, info=info)


def golden(kind: str, schema: int) -> Path:
    return GOLDEN / f"{kind}-{schema}.h5"


@pytest.mark.parametrize(("kind", "schema"), DIGESTS)
def test_old_files_stay_readable(kind, schema):
    a = artefact.read(golden(kind, schema), kind)
    assert (a.schema, a.complete) == (schema, True)
    assert a.digest == DIGESTS[kind, schema]
    assert a.params == settings(kind)
    assert list(a.inputs) == parents(kind)
    assert a.classes == CLASSES
    expected = columns(kind)
    assert set(a.stored) == set(expected)
    for name, array in expected.items():
        if array.dtype.kind == "U":
            assert a[name].tolist() == array.tolist()
        else:
            assert (a[name].dtype, a[name].shape) == (array.dtype, array.shape)
            assert np.array_equal(a[name], array, equal_nan=array.dtype.kind == "f")


@pytest.mark.parametrize("kind", artefact.KINDS)
def test_the_same_work_done_today_has_the_old_digest(tmp_path, kind):
    assert write(tmp_path / "new.h5", kind).digest == DIGESTS[kind, SCHEMA]


@pytest.mark.parametrize(("kind", "schema"), DIGESTS)
def test_inspect_tells_about_old_files(kind, schema, capsys):
    facts = inspect.summary(golden(kind, schema))
    inspect.report(facts)
    said = capsys.readouterr().err
    assert f"{kind} (schema {schema}), complete" in said
    assert DIGESTS[kind, schema] in said
    for name in columns(kind):
        assert name in facts["arrays"]


def test_every_kind_and_schema_is_kept_and_small():
    assert set(DIGESTS) == {(kind, schema) for kind in artefact.KINDS for schema in range(1, SCHEMA + 1)}
    assert {f.name for f in GOLDEN.iterdir()} == {f"{kind}-{schema}.h5" for kind, schema in DIGESTS}
    assert max(f.stat().st_size for f in GOLDEN.iterdir()) <= 20 * 1024


def test_an_old_descent_still_places_landmarks():
    cascade = sdm.load(golden("landmarks", 1))
    assert cascade.descend(np.zeros((sdm.SIZE, sdm.SIZE), np.uint8)).shape == (5, 2)


def test_columns_lie_in_one_piece():
    """Other programs map them: the README promises contiguous columns."""
    with h5py.File(golden("faces", 1)) as h5:
        assert all(h5[name].chunks is None for name in h5)
        assert all(h5[name].id.get_offset() is not None for name in h5)


if __name__ == "__main__":
    for kind in artefact.KINDS:
        if not golden(kind, SCHEMA).exists():
            print(f'    ("{kind}", {SCHEMA}): "{write(golden(kind, SCHEMA), kind).digest}",')
