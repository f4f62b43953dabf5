"""Every dataset read from a small tree of its true layout, whole and broken."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections import Counter

import cv2
import layouts
import numpy as np
import pytest

from fertool.datasets import check, get, open_dataset, recognise
from fertool.datasets import layouts as known
from fertool.datasets.base import Sample
from fertool.datasets.ferplus import CLASSES, VOTES, distribution, majority
from fertool.errors import DataError, RecipeError, UsageError

WRITERS = {
    "ferplus": layouts.write_ferplus,
    "fer2013": layouts.write_fer2013_csv,
    "rafdb": layouts.write_rafdb,
    "celeba": layouts.write_celeba,
    "ckplus": layouts.write_ckplus,
    "oulu-casia": layouts.write_oulu_casia,
    "mmi": layouts.write_mmi,
    "rafd": layouts.write_rafd,
    "sfew": layouts.write_sfew,
    "affectnet": layouts.write_affectnet,
    "fedro": layouts.write_fedro,
    "happei": layouts.write_happei,
    "csv": layouts.write_csv,
    "folder": layouts.write_folder,
}
#: further layouts of them
LAYOUTS = (
    ("ferplus", "labels"),
    ("ferplus", "pixels"),
    ("celeba", "flat"),
    ("celeba", "csv"),
    ("ckplus", "archives"),
    ("oulu-casia", "top"),
    ("oulu-casia", "B_OriginalImg/OriginalImg"),
    ("mmi", "pictures"),
    ("rafd", "sorted"),
    ("sfew", "original"),
    ("sfew", "aligned"),
    ("sfew", "nested"),
    ("affectnet", "npy"),
    ("fedro", "table"),
)


def messages(dataset, fatal=None) -> list[str]:
    return [str(p) for p in dataset.problems() if fatal is None or p.fatal == fatal]


# The registry


@pytest.mark.parametrize(
    ("name", "layout"), [*((name, "") for name in WRITERS), *LAYOUTS], ids=lambda value: value or "default"
)
def test_recognised_from_its_tree_as_nothing_else(tmp_path, name, layout):
    root = WRITERS[name](tmp_path / "data", **({"layout": layout} if layout else {}))
    cls, why = recognise(root)
    assert cls is get(name)
    assert f"taken for {name}: " in why
    others = [c.name for c in known() if c.name not in (name, "csv", "folder") and c.matches(root)]
    assert others == (["fer2013"] if layout == "pixels" else [])  # FER+ has the pixels of FER2013 in it


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "csv"])
def test_a_folder_on_top_changes_nothing(tmp_path, name):
    WRITERS[name](tmp_path / "a" / "inner")
    (tmp_path / "a" / ".DS_Store").write_bytes(b"\0")
    outer, inner = open_dataset(tmp_path / "a"), open_dataset(tmp_path / "a" / "inner")
    assert outer.name == name
    assert [s.id for s in outer.samples()] == [s.id for s in inner.samples()]


@pytest.mark.parametrize("name", WRITERS)
def test_samples_are_sound(tmp_path, name):
    dataset = open_dataset(WRITERS[name](tmp_path / "data"), name)
    samples = list(dataset.samples())
    assert len({s.id for s in samples}) == len(samples) > 0
    assert not any(s.id.startswith("/") or str(tmp_path) in s.id for s in samples)
    assert {s.label for s in samples} - {None} == set(dataset.classes)
    assert {s.split for s in samples} <= {"train", "val", "test"} or {s.split for s in samples} == {""}
    assert len({tuple(s.extra) for s in samples}) == 1
    assert not messages(dataset, fatal=True)
    assert list(dataset.samples())[-1].id == samples[-1].id == dataset.samples()[-1].id


@pytest.mark.parametrize("name", WRITERS)
def test_read_gives_pixels_after_a_trip_to_another_process(tmp_path, name):
    dataset = open_dataset(WRITERS[name](tmp_path / "data"), name)
    dataset.samples()
    packed = pickle.dumps(dataset)
    assert len(packed) < 3000  # the list of samples stays at home
    sample = pickle.loads(pickle.dumps(dataset.samples()[0]))
    picture = pickle.loads(packed).read(sample)
    assert picture.dtype == np.uint8
    assert picture.ndim in (2, 3)
    assert picture.std() > 10


def test_a_sample_without_a_file_says_who_has_to_read_it(tmp_path):
    dataset = open_dataset(layouts.write_folder(tmp_path / "data"), "folder")
    with pytest.raises(DataError, match="'drawn' has no path") as caught:
        dataset.read(Sample("drawn"))
    assert "override the dataset's read" in caught.value.hint


def test_every_data_set_says_what_it_is():
    names = [cls.name for cls in known()]
    assert {"ferplus", "fer2013", "rafdb", "folder", "csv"} <= set(names)
    assert len(set(names)) == len(names)
    for cls in known():
        assert cls.about
        assert cls.layout
        assert cls.marks


def test_unknown_name_and_options_are_usage_errors(tmp_path):
    root = layouts.write_folder(tmp_path / "data")
    with pytest.raises(UsageError) as e:
        open_dataset(root, "ferpluss")
    assert "ferplus" in e.value.hint
    with pytest.raises(UsageError, match="no option 'images'"):
        open_dataset(root, images="original")
    with pytest.raises(RecipeError, match="dataset ferplus: label_rule: .*'majority' or 'distribution'"):
        open_dataset(layouts.write_ferplus(tmp_path / "f"), label_rule="most")


def test_option_of_another_dataset_is_refused_unless_a_recipe_says_it(tmp_path):
    root = layouts.write_folder(tmp_path / "data")
    with pytest.raises(UsageError, match="no option 'label_rule'") as e:
        open_dataset(root, label_rule="distribution")
    assert e.value.hint == "that is an option of ferplus"
    usual = {"label_rule": "distribution"}
    assert len(open_dataset(root, usual=usual, label_rule="distribution").samples()) == 16
    with pytest.raises(UsageError, match="no option 'label_rule'"):
        open_dataset(root, usual=usual, label_rule="majority")


def test_nothing_there_empty_and_unknown_each_say_so(tmp_path):
    with pytest.raises(DataError, match="there is nothing at"):
        recognise(tmp_path / "none")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    with pytest.raises(DataError, match="is empty"):
        recognise(tmp_path)
    (tmp_path / "letters").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError) as e:
        recognise(tmp_path)
    assert "letters, notes.txt" in e.value.message
    for cls in known():
        assert cls.marks in e.value.message
    with pytest.raises(DataError, match="neither an image nor a table"):
        recognise(tmp_path / "notes.txt")


def test_a_file_as_root(tmp_path):
    layouts.write_folder(tmp_path / "f")
    layouts.write_ferplus(tmp_path / "p", layout="pixels")
    picture = next((tmp_path / "f" / "train" / "sad").glob("*.jpg"))
    assert [s.id for s in open_dataset(picture).samples()] == [picture.name]
    assert open_dataset(layouts.write_csv(tmp_path / "c")).name == "csv"
    assert open_dataset(tmp_path / "p" / "fer2013.csv").name == "fer2013"
    assert open_dataset(tmp_path / "p" / "fer2013new.csv").name == "ferplus"


def test_check_counts_and_is_json(tmp_path):
    found = check("ferplus", layouts.write_ferplus(tmp_path))
    assert json.loads(json.dumps(found)) == found
    assert found["usable"]
    assert found["samples"] == 32
    assert found["splits"]["train"] == {"samples": 16, "labelled": 16, "classes": dict.fromkeys(CLASSES, 2)}
    assert list(found["splits"]) == ["train", "val", "test"]
    assert any("16 samples, the complete dataset has 28,558" in p["message"] for p in found["problems"])


def test_check_lists_what_is_missing_instead_of_raising(tmp_path):
    (tmp_path / "Image").mkdir()
    found = check("rafdb", tmp_path)
    assert not found["usable"]
    assert found["samples"] == 0
    paths = [p["path"] for p in found["problems"] if p["fatal"]]
    assert [p.removeprefix(str(tmp_path)) for p in paths] == [
        "/EmoLabel/list_patition_label.txt",
        "/Image/aligned/*.jpg",
        "/Image/original/*.jpg",
    ]


def test_samples_raise_with_the_whole_list(tmp_path):
    (tmp_path / "Image").mkdir()
    with pytest.raises(DataError) as e:
        open_dataset(tmp_path, "rafdb").samples()
    assert e.value.message.count("missing") == 3
    assert "fertool datasets check rafdb" in e.value.hint


def test_importing_the_data_sets_imports_nothing_heavy():
    code = (
        "import sys, fertool.datasets; "
        "print([m for m in ('torch', 'cv2', 'h5py', 'pandas', 'dlib', 'trimesh') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# FER+


def votes(**counts: int) -> np.ndarray:
    return np.array([[counts.get(name, 0) for name in VOTES]])


@pytest.mark.parametrize(
    ("counts", "label"),
    [
        ({"neutral": 8, "fear": 2}, "neutral"),
        ({"happiness": 5, "neutral": 5}, None),  # half is not more than half
        ({"happiness": 5, "neutral": 4, "fear": 1}, "happiness"),  # a single vote does not count
        ({"sadness": 4, "neutral": 3, "fear": 3}, None),
        ({"unknown": 6, "anger": 4}, None),
        ({"NF": 10}, None),
        ({name: 1 for name in VOTES}, None),
        ({"contempt": 2, **{name: 1 for name in VOTES if name != "contempt"}}, "contempt"),
    ],
)
def test_majority(counts, label):
    index = majority(votes(**counts))[0]
    assert (CLASSES[index] if index >= 0 else None) == label


@pytest.mark.parametrize(
    ("counts", "shares"),
    [
        ({"neutral": 8, "fear": 2}, {"neutral": 1}),  # 8 of 10 are enough
        ({"neutral": 6, "fear": 4}, {"neutral": 0.6, "fear": 0.4}),
        ({"happiness": 7, "anger": 2, "fear": 1}, {"happiness": 1}),  # 7 of the 9 that count
        ({"anger": 4, "disgust": 3, "fear": 3}, {"anger": 0.4, "disgust": 0.3, "fear": 0.3}),
        ({"anger": 4, "disgust": 2, "fear": 2, "sadness": 2}, None),  # the last three are equal: four are too many
        ({"anger": 6, "unknown": 4}, {"anger": 1}),
        ({"anger": 4, "unknown": 4, "fear": 2}, None),  # no more than half
        ({"unknown": 5, "anger": 5}, None),
        ({"unknown": 6, "anger": 4}, None),
        ({"anger": 4, "neutral": 3, "unknown": 3}, {"anger": 4 / 7, "neutral": 3 / 7}),
        ({"NF": 10}, None),
        ({name: 1 for name in VOTES}, None),
    ],
)
def test_distribution(counts, shares):
    row = distribution(votes(**counts))[0]
    if shares is None:
        assert np.isnan(row).all()
    else:
        assert row == pytest.approx([shares.get(name, 0) for name in CLASSES])


@pytest.mark.parametrize("layout", ["folders", "labels", "pixels"])
def test_ferplus_layouts_tell_the_same(tmp_path, layout):
    dataset = open_dataset(layouts.write_ferplus(tmp_path, layout=layout))
    samples = list(dataset.samples())
    assert dataset.name == "ferplus"
    assert Counter(s.split for s in samples) == {"train": 16, "val": 8, "test": 8}
    assert sum("used twice" in note and "fer0000000.png" in note for note in messages(dataset)) == 1
    face = next(s for s in samples if s.id == "fer0000000")
    assert face.label == "neutral"  # the last of its two rows
    assert face.extra == {f"vote_{v}": n for v, n in zip(VOTES, layouts.votes_for("neutral"), strict=True)}
    assert face.distribution == (1, 0, 0, 0, 0, 0, 0, 0)
    assert [s.label for s in samples if s.split == "test"] == list(CLASSES)
    assert np.array_equal(dataset.read(face).reshape(48, 48, -1)[..., 0], layouts.draw_face("neutral", 0))


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_ferplus_label_rule_and_votes(tmp_path):
    layouts.write_ferplus(tmp_path)
    layouts.write_ferplus(tmp_path / "other", layout="labels")
    for folder in layouts.FERPLUS_FOLDERS.values():
        shutil.copy(tmp_path / "other" / folder / "label.csv", tmp_path / folder)
    shutil.rmtree(tmp_path / "other")
    edit(tmp_path / "fer2013new.csv", "fer0000001.png,1,8,0,0,0,0,0,0,1,0", "fer0000001.png,0,5,0,5,0,0,0,0,0,0")

    def face(**options):
        return next(s for s in open_dataset(tmp_path, **options).samples() if s.id == "fer0000001")

    assert face().label is None
    assert face().distribution == (0, 0.5, 0, 0.5, 0, 0, 0, 0)
    assert face(label_rule="distribution").label == "happiness"
    assert face(votes="label").label == "happiness"
    assert face(votes="label").extra["vote_happiness"] == 8


@pytest.mark.parametrize("layout", ["new", "labels"])
def test_ferplus_stores_which_votes_it_took(tmp_path, layout):
    layouts.write_ferplus(tmp_path, **({"layout": layout} if layout != "new" else {}))
    dataset = open_dataset(tmp_path)
    dataset.samples()
    assert dataset.chosen["votes"] == ("label" if layout == "labels" else "fer2013new")
    if layout == "labels":
        with pytest.raises(DataError, match=r"the table of votes is missing \(.*fer2013new.csv\)"):
            open_dataset(tmp_path, votes="fer2013new").samples()


def test_ferplus_reports_missing_and_unlisted_photographs(tmp_path):
    layouts.write_ferplus(tmp_path)
    (tmp_path / "FER2013Train" / "fer0000003.png").rename(tmp_path / "FER2013Train" / "fer0009999.png")
    shutil.rmtree(tmp_path / "FER2013Valid")
    dataset = open_dataset(tmp_path)
    notes = "\n".join(messages(dataset, fatal=False))
    assert "1 of 16 images are missing: fer0000003.png" in notes
    assert "1 images have no votes and are left out: fer0009999.png" in notes
    assert f"the folder of 8 images is missing ({tmp_path}/FER2013Valid)" in notes
    ids = [s.id for s in dataset.samples()]
    assert "fer0000003" in ids  # a row, to be marked unreadable
    assert "fer0009999" not in ids
    assert len(ids) == 24


def test_ferplus_without_any_photograph_is_no_data_set(tmp_path):
    layouts.write_ferplus(tmp_path)
    for folder in layouts.FERPLUS_FOLDERS.values():
        shutil.rmtree(tmp_path / folder)
    with pytest.raises(DataError, match="all of the 32 images are missing"):
        open_dataset(tmp_path, "ferplus").samples()


def test_ferplus_without_votes_is_no_data_set(tmp_path):
    layouts.write_ferplus(tmp_path)
    (tmp_path / "fer2013new.csv").unlink()
    with pytest.raises(DataError, match=r"the tables of votes are missing \(.*fer2013new.csv\)"):
        open_dataset(tmp_path, "ferplus").samples()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Image name", "Name", "lacks the columns image name"),
        ("Training,fer0000004.png,1,", "Training,fer0000004.png,x,", "row 8 is not usage, image name and ten votes"),
        ("PublicTest,fer0028638", "Public,fer0028638", "row 20 is not"),
    ],
)
def test_ferplus_table_that_does_not_fit(tmp_path, old, new, said):
    layouts.write_ferplus(tmp_path)
    edit(tmp_path / "fer2013new.csv", old, new)
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path).samples()


def test_ferplus_tables_must_go_together(tmp_path):
    layouts.write_ferplus(tmp_path, layout="pixels")
    lines = (tmp_path / "fer2013.csv").read_text().splitlines(keepends=True)
    (tmp_path / "fer2013.csv").write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match="has 34 rows, .* 33: they must go together"):
        open_dataset(tmp_path).samples()
    (tmp_path / "fer2013.csv").write_text("".join([lines[0], lines[-1], *lines[2:-1], lines[1]]))
    with pytest.raises(DataError, match="row 2 of .* have different Usage"):
        open_dataset(tmp_path).samples()


# FER2013


@pytest.mark.parametrize("name", ["fer2013.csv", "icml_face_data.csv"])
def test_fer2013_in_both_spellings(tmp_path, name):
    dataset = open_dataset(layouts.write_fer2013_csv(tmp_path, name=name))
    samples = list(dataset.samples())
    assert Counter(s.split for s in samples) == {"train": 14, "val": 7, "test": 7}
    assert [s.label for s in samples[:7]] == list(dataset.classes)
    assert samples[3].id == "row00003"
    assert np.array_equal(dataset.read(samples[3]), layouts.draw_face("happiness", 503))


def test_fer2013_with_quotes_and_windows_line_ends(tmp_path):
    layouts.write_fer2013_csv(tmp_path)
    path = tmp_path / "fer2013.csv"
    head, *rows = path.read_text().splitlines()
    rows = [f'"{e}","{pixels}","{usage}"' for e, pixels, usage in (row.split(",") for row in rows)]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(['"emotion","pixels","Usage"', *rows, ""]).encode())
    dataset = open_dataset(tmp_path)
    assert not messages(dataset, fatal=True)
    assert np.array_equal(dataset.read(dataset.samples()[9]), layouts.draw_face("fear", 509))


def test_fer2013_damaged_pixels_are_an_unreadable_image(tmp_path):
    from fertool.faces.images import UnreadableImage

    layouts.write_fer2013_csv(tmp_path, {"train": 4})
    path = tmp_path / "fer2013.csv"
    head, *rows = [line.split(",") for line in path.read_text().splitlines()]
    numbers = rows[0][1].split()
    rows[0][1] = " ".join(numbers[:-1])
    rows[1][1] = " ".join([*numbers[:-1], "256"])
    rows[2][1] = " ".join([*numbers[:-1], "red"])
    path.write_text("\n".join(",".join(row) for row in [head, *rows]))
    dataset = open_dataset(tmp_path)
    for sample, said in zip(dataset.samples(), ("2,303 pixels", "outside 0..255", "not all numbers"), strict=False):
        with pytest.raises(UnreadableImage, match=said):
            dataset.read(sample)
    assert dataset.read(dataset.samples()[3]).shape == (48, 48)


def test_fer2013_codes_and_usages_it_does_not_know(tmp_path):
    layouts.write_fer2013_csv(tmp_path)
    edit(tmp_path / "fer2013.csv", "PublicTest\n6,", "Public\n7,")
    with pytest.raises(DataError, match=r"emotion codes that are not 0..6: '7' \(\d rows\).*unknown Usage: Public"):
        open_dataset(tmp_path).samples()


def test_fer2013_empty_table(tmp_path):
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n")
    with pytest.raises(DataError, match="the table has no rows"):
        open_dataset(tmp_path).samples()
    (tmp_path / "fer2013.csv").write_bytes(b"")
    with pytest.raises(DataError, match="no column 'pixels'"):
        open_dataset(tmp_path).samples()


# RAF-DB


def test_rafdb_takes_aligned_faces_when_they_are_there(tmp_path):
    layouts.write_rafdb(tmp_path)
    aligned, original = open_dataset(tmp_path), open_dataset(tmp_path, images="original")
    face, photograph = aligned.samples()[1], original.samples()[1]
    assert (aligned.chosen["images"], original.chosen["images"]) == ("aligned", "original")
    assert face.id == photograph.id == "train_00002"
    assert face.path.name == "train_00002_aligned.jpg"
    assert face.landmarks is None  # the shipped coordinates are those of the original image
    assert face.box is None
    assert photograph.path.name == "train_00002.jpg"
    assert photograph.box == (45, 35.5, 135, 125.5)
    assert photograph.landmarks.tolist()[0] == [74.5, 69]
    assert photograph.landmarks.shape == (5, 2)
    assert face.extra == photograph.extra == {"gender": "female", "race": "African-American", "age": "4-19"}
    assert (face.label, face.split) == ("fear", "train")
    assert open_dataset(tmp_path, images="original", landmarks="auto").samples()[0].landmarks.shape == (37, 2)
    (tmp_path / "Annotation/auto/train_00002_auto_attri.txt").unlink()
    both = open_dataset(tmp_path, images="original", landmarks="both").samples()
    assert both[0].landmarks.shape == (42, 2)
    assert np.isfinite(both[0].landmarks).all()
    assert both[1].landmarks[0].tolist() == [74.5, 69]
    assert np.isnan(both[1].landmarks[5:]).all(), "without automatic ones the five by hand are left"
    shutil.rmtree(tmp_path / "Image" / "aligned")
    assert open_dataset(tmp_path).samples()[0].path.name == "train_00001.jpg"


def test_rafdb_in_other_letter_case_and_spelling_without_annotations(tmp_path):
    layouts.write_rafdb(tmp_path / "basic")
    base = tmp_path / "basic"
    shutil.rmtree(base / "Annotation")
    (base / "EmoLabel" / "list_patition_label.txt").rename(base / "EmoLabel" / "List_Partition_Label.txt")
    (base / "EmoLabel").rename(base / "emolabel")
    (base / "Image" / "aligned").rename(base / "Image" / "Aligned")
    for path in (base / "Image" / "Aligned").glob("*.jpg"):
        path.rename(path.with_suffix(".JPG"))
    dataset = open_dataset(tmp_path)
    assert dataset.name == "rafdb"
    assert Counter(s.split for s in dataset.samples()) == {"train": 14, "test": 7}
    assert all(s.path.is_file() and s.extra == {} for s in dataset.samples())
    assert any("there are no manual annotations" in note for note in messages(dataset))


def test_rafdb_damaged_annotations_cost_only_themselves(tmp_path):
    layouts.write_rafdb(tmp_path)
    (tmp_path / "Annotation/manual/train_00003_manu_attri.txt").write_text("1 2\n")
    (tmp_path / "Annotation/boundingbox/train_00001_boundingbox.txt").write_text("135 35 45 125")
    (tmp_path / "Annotation/boundingbox/train_00002_boundingbox.txt").unlink()
    (tmp_path / "Image/original/test_0001.jpg").unlink()
    dataset = open_dataset(tmp_path, images="original")
    samples = list(dataset.samples())
    assert [s.box is None for s in samples[:4]] == [True, True, False, False]
    assert [s.landmarks is None for s in samples[:4]] == [False, False, True, False]
    assert samples[2].extra == {"gender": "", "race": "", "age": ""}
    notes = "\n".join(messages(dataset, fatal=False))
    assert "1 manual annotations are missing or incomplete: train_00003" in notes
    assert "1 boundingbox annotations are missing or incomplete: train_00002" in notes
    assert "1 boxes have no area and are left out: train_00001" in notes
    assert "1 of 21 images are missing: test_0001" in notes


def test_rafdb_box_is_the_first_four_numbers_of_its_file(tmp_path):
    layouts.write_rafdb(tmp_path)
    (tmp_path / "Annotation/boundingbox/train_00001_boundingbox.txt").write_text("45 35 135 125 0.98\n")
    assert open_dataset(tmp_path, images="original").samples()[0].box == (45, 35, 135, 125)


def test_rafdb_list_that_does_not_fit(tmp_path):
    layouts.write_rafdb(tmp_path)
    edit(tmp_path / "EmoLabel/list_patition_label.txt", "train_00002.jpg 2", "train_00002.jpg 8")
    with pytest.raises(DataError, match=r"codes 1 to 7: line 2 \('train_00002.jpg 8'\)"):
        open_dataset(tmp_path).samples()


def test_rafdb_of_the_whole_size_would_be_complete(tmp_path):
    layouts.write_rafdb(tmp_path)
    lines = [f"train_{i:05d}.jpg {i % 7 + 1}\n" for i in range(1, 12_272)]
    lines += [f"test_{i:04d}.jpg {i % 7 + 1}\n" for i in range(1, 3_069)]
    (tmp_path / "EmoLabel/list_patition_label.txt").write_text("".join(lines))
    notes = "\n".join(messages(open_dataset(tmp_path)))
    assert "the complete dataset" not in notes
    assert "15,318 of 15,339 images are missing" in notes


# Folders


def test_folder_with_splits_and_classes(tmp_path):
    dataset = open_dataset(layouts.write_folder(tmp_path))
    assert dataset.classes == ("happiness", "sadness", "surprise", "anger")
    counts = Counter((s.split, s.label) for s in dataset.samples())
    assert counts == {(split, label): 2 for split in ("train", "test") for label in dataset.classes}
    assert "train/Happy/näh, 1-0.jpg" in [s.id for s in dataset.samples()]
    assert messages(dataset) == []


@pytest.mark.parametrize(
    ("name", "split"),
    [("Training", "train"), ("VALID", "val"), ("validation", "val"), ("PrivateTest", "test"), ("", "")],
)
def test_folder_names_of_splits(tmp_path, name, split):
    dataset = open_dataset(layouts.write_folder(tmp_path, splits=(name,)))
    assert {s.split for s in dataset.samples()} == {split}
    assert len(dataset.samples()) == 8


def test_folder_of_pictures_without_labels(tmp_path):
    dataset = open_dataset(layouts.write_folder(tmp_path, 4, splits=("",), classes=("",)))
    assert dataset.classes == ()
    assert {(s.label, s.split) for s in dataset.samples()} == {(None, "")}
    assert {s.id for s in dataset.samples()} == {"näh, 1-0.jpg", "bild 2-1.PNG", "写真3-2.bmp", "d-3.jpeg"}


def test_folder_reads_below_class_folders_and_follows_links_once(tmp_path):
    root = layouts.write_folder(tmp_path / "data", splits=("",), classes=("happy", "sad"))
    layouts.write_folder(tmp_path / "elsewhere", splits=("",), classes=("fear",))
    (root / "happy").rename(root / "h")
    (root / "happy").mkdir()
    (root / "h").rename(root / "happy" / "person 1")
    os.symlink(tmp_path / "elsewhere" / "fear", root / "afraid")
    os.symlink(root, root / "sad" / "loop")
    dataset = open_dataset(root)
    assert Counter(s.label for s in dataset.samples()) == {"happiness": 2, "sadness": 2, "fear": 2}
    assert "happy/person 1/bild 2-1.PNG" in [s.id for s in dataset.samples()]


def test_folder_named_by_no_emotion_is_an_error_that_lists_them(tmp_path):
    root = layouts.write_folder(tmp_path, 1, splits=("train",), classes=("happy", "sad"))
    for name in ("boredom", "7"):
        layouts.write_image(root / "train" / name / "x.png", layouts.draw_face("fear", 1))
    (root / "train" / "papers").mkdir()  # holds no picture
    with pytest.raises(DataError, match=r"named by no emotion: 7 \(1 images\), boredom \(1 images\); rename"):
        open_dataset(root).samples()


def test_folder_of_numbers_is_an_error(tmp_path):
    for name in ("1", "2"):
        layouts.write_image(tmp_path / name / "x.png", layouts.draw_face("fear", 1))
    with pytest.raises(DataError, match="named by no emotion: 1"):
        open_dataset(tmp_path, "folder").samples()


def test_folder_of_other_folders_is_unlabelled_only_when_asked(tmp_path):
    for name in ("anna", "ben"):
        layouts.write_image(tmp_path / name / "x.png", layouts.draw_face("fear", 1))
    with pytest.raises(DataError) as e:
        open_dataset(tmp_path)
    assert "--dataset folder" in e.value.hint
    assert [(s.id, s.label) for s in open_dataset(tmp_path, "folder").samples()] == [
        ("anna/x.png", None),
        ("ben/x.png", None),
    ]


def test_folder_notes_pictures_outside_the_classes(tmp_path):
    root = layouts.write_folder(tmp_path)
    layouts.write_image(root / "train" / "loose.png", layouts.draw_face("fear", 1))
    dataset = open_dataset(root)
    assert "1 images lie outside the class folders" in messages(dataset, fatal=False)[0]
    assert Counter(s.label for s in dataset.samples())[None] == 1


def test_folder_without_a_picture(tmp_path):
    (tmp_path / "happy").mkdir()
    (tmp_path / "happy" / "x.txt").write_text("")
    with pytest.raises(DataError, match="there is no image"):
        open_dataset(tmp_path, "folder").samples()


def test_folder_with_a_name_that_is_no_utf8(tmp_path):
    layouts.write_folder(tmp_path, 1, splits=("",), classes=("happy",))
    raw = os.fsencode(tmp_path / "happy") + b"/caf\xe9.png"
    try:
        with open(raw, "wb") as f:
            f.write(cv2.imencode(".png", layouts.draw_face("happiness", 5))[1].tobytes())
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    dataset = open_dataset(tmp_path)
    sample = next(s for s in dataset.samples() if "caf" in s.id)
    assert sample.id == "happy/caf\\xe9.png"
    assert dataset.read(sample).shape[:2] == (48, 48)


# Tables


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_table_in_each_separator(tmp_path, separator):
    dataset = open_dataset(layouts.write_csv(tmp_path, separator=separator))
    assert dataset.name == "csv"
    assert dataset.classes == ("happiness", "sadness", "surprise", "anger")
    first, *_, last = dataset.samples()
    assert (first.id, first.label, first.split, first.subject) == (
        "pictures/gesicht 0, ä.png",
        "happiness",
        "train",
        "p0",
    )
    assert (last.label, last.split) == ("surprise", "val")
    assert last.extra == {"age": 27, "light": "dark", "quality": 3.5}
    assert isinstance(last.extra["age"], int)
    assert np.isnan(first.extra["quality"])
    assert messages(dataset) == []


def table(folder, text, pictures=("a.png", "b.png")):
    for name in pictures:
        layouts.write_image(folder / name, layouts.draw_face("fear", 1))
    (folder / "list.csv").write_text(text, encoding="utf-8")
    return open_dataset(folder / "list.csv")


def test_table_of_paths_only(tmp_path):
    dataset = table(tmp_path, "image\na.png\n\nb.png\n")
    assert [(s.id, s.label, s.extra) for s in dataset.samples()] == [("a.png", None, {}), ("b.png", None, {})]
    assert dataset.classes == ()


def test_table_further_columns(tmp_path):
    text = f",path,frame,sequence,code,pose,Eye colour,story\n0,a.png,3,s1,007,1,blue,{'x' * 65}\n1,b.png,4,s1,12,2,,\n"
    dataset = table(tmp_path, text)
    first = dataset.samples()[0]
    assert (first.frame, first.sequence) == (3, "s1")
    assert first.extra == {"code": "007", "eye_colour": "blue"}  # a code with zeros in front is no number
    notes = "\n".join(messages(dataset, fatal=False))
    assert "'pose' is left out" in notes
    assert "'story' holds texts of more than 64 characters" in notes


def test_table_paths_of_every_kind(tmp_path):
    away = tmp_path / "away"
    layouts.write_image(away / "deep" / "c.png", layouts.draw_face("fear", 1))
    (tmp_path / "sub").mkdir()
    layouts.write_image(tmp_path / "sub" / "pics" / "a.png", layouts.draw_face("fear", 1))
    dataset = table(tmp_path / "sub", f"path\npics\\a.png\n{away}/deep/c.png\n", pictures=())
    assert [s.id for s in dataset.samples()] == ["sub/pics/a.png", "away/deep/c.png"]
    assert all(dataset.read(s).shape[0] == 48 for s in dataset.samples())


def test_table_missing_pictures(tmp_path):
    dataset = table(tmp_path, "path,label\na.png,fear\nz.png,fear\n")
    assert len(dataset.samples()) == 2
    assert "1 of 2 files are missing: z.png" in messages(dataset, fatal=False)[0]
    with pytest.raises(DataError, match=f"2 of 2 files are missing: y.png, z.png; looked for {tmp_path}/y.png"):
        table(tmp_path, "path\ny.png\nz.png\n").samples()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label\na.png,3\n", r"column label: '3' \(1 rows\) should be names of emotions"),
        ("path,label\na.png,happyness\nb.png,fear\n", "'happyness'"),
        ("path,split\na.png,left\n", "'left' .* should be train, val or test"),
        ("path,frame\na.png,x\n", "'x' .* should be whole numbers"),
        ("path,label\na,b.png,fear\n", "more cells than columns .*need quotes"),
        ("path,label,Label\na.png,fear,fear\n", "several columns of the same name: label"),
        ("path,label\n,fear\n", "1 rows without a path"),
        ("path,label\n", "has no rows"),
        ('path,label\n"a.png,fear\n', "not a readable table"),
    ],
)
def test_table_that_does_not_fit(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        table(tmp_path, text).samples()


def test_table_in_another_encoding(tmp_path):
    (tmp_path / "list.csv").write_bytes("path,label\nä.png,fear\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        open_dataset(tmp_path / "list.csv").samples()


def test_table_must_be_named_when_there_are_several(tmp_path):
    layouts.write_csv(tmp_path, name="a.csv")
    layouts.write_csv(tmp_path, name="b.csv")
    with pytest.raises(DataError, match="there are several, a.csv, b.csv: name one"):
        open_dataset(tmp_path, "csv").samples()
    assert len(open_dataset(tmp_path / "a.csv").samples()) == 8
