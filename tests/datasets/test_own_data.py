"""Data as people have them: each situation is read rightly, or one clear line says what is the matter."""

import json
import os
import unicodedata
import zipfile
from collections import Counter

import numpy as np
import pytest
from layouts import draw_face, write_image
from typer.testing import CliRunner

from fertool import artefact, cli
from fertool.datasets import open_dataset

PLAIN = ("--detector", "none", "--landmarks", "none", "--align", "none", "--size", 32, "--workers", 1)
FEAR, ANGER = draw_face("fear", 1), draw_face("anger", 2)


def call(*words):
    return CliRunner().invoke(cli.app, [*map(str, words)])


def check(path, *options, name="auto") -> dict:
    """The facts of `datasets check`; its exit code is 0 for usable data and 3 for others."""
    result = call("datasets", "check", name, path, "--json", *options)
    facts = json.loads(result.stdout)
    assert result.exit_code == (0 if facts.get("usable") else 3), result.output
    return facts


def told(facts, fatal=False) -> str:
    return "\n".join(p["message"] for p in facts["problems"] if p["fatal"] == fatal)


def write(folder, text, images=("a.png", "b.png"), name="list.csv", encoding="utf-8"):
    for image in images:
        write_image(folder / image, FEAR)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def rows(dataset) -> dict:
    return {s.id: (s.label, s.split) for s in dataset.samples()}


# ---------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    "header",
    [
        "filepath,emotion",
        "filename,expression",
        "img,class",
        "image_path,Emotion Label",
        "Image Name,labels",
        "file,class_name",
    ],
)
def test_columns_have_the_names_that_people_give_them(tmp_path, header):
    facts = check(write(tmp_path, f"{header}\na.png,Fear \nb.png,ANGRY\n"))
    assert facts["splits"][""]["classes"] == {"fear": 1, "anger": 1}
    path, label = header.split(",")
    assert f"{path} for path" in told(facts)
    assert label == "label" or f"{label} for label" in told(facts)


def test_the_column_that_is_understood_is_taken_and_the_others_are_named(tmp_path):
    table = write(tmp_path, "image,label,emotion,age\na.png,0,fear,3\nb.png,6,anger,4\n")
    facts = check(table)
    assert facts["splits"][""]["labelled"] == 2
    assert "emotion for label" in told(facts)
    assert "carried along as they are: age" in told(facts)
    assert "column 'label' is left out" in told(facts)


def test_an_unlabelled_table_says_so(tmp_path):
    facts = check(write(tmp_path, "path,feeling\na.png,fear\nb.png,fear\n"))
    assert "no column of labels was found: all images are unlabelled" in told(facts)
    assert "carried along as they are: feeling" in told(facts)
    facts = check(write(tmp_path, "path,label\na.png,fear\nb.png,NaN\n"))
    assert "1 of 2 rows have no label" in told(facts)


def test_numbers_as_labels_need_the_list_of_classes(tmp_path):
    table = write(tmp_path, "path,label\na.png,4\nb.png,0.0\n")
    assert "classes.txt" in told(check(table), fatal=True)
    (tmp_path / "classes.txt").write_text("Angry\nDisgust\n\nFear\nHappy\nSad\n")
    assert rows(open_dataset(table)) == {"a.png": ("sadness", ""), "b.png": ("anger", "")}
    (tmp_path / "classes.txt").write_text("4: Surprise\n0: Neutral\n")
    assert rows(open_dataset(table)) == {"a.png": ("surprise", ""), "b.png": ("neutral", "")}
    (tmp_path / "classes.txt").write_text("Angry\nBored\n")
    assert "'Bored' names no emotion" in told(check(table), fatal=True)


def test_known_and_unknown_class_names(tmp_path):
    assert "'boredom' (1 rows) should be names of emotions" in told(
        check(write(tmp_path, "path,label\na.png,fear\nb.png,boredom\n")), fatal=True
    )


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("path,label\r\na.png,fear\r\n", "utf-8-sig"),
        ("sep=;\npath;label\na.png;fear\n", "utf-8"),
        ('"sep=\t"\npath\tlabel\na.png\tfear\n', "utf-16"),
        ("path,label\na.png,fear\n", "utf-16-le"),
        ("path,label\na.png,fear\n", "utf-16-be"),
        ("path,label\ra.png,fear\r", "utf-8"),
        ("path,label,\na.png,fear,\n", "utf-8"),
        ('path,label\n"a.png","fear"\n', "utf-8"),
    ],
)
def test_tables_as_spreadsheets_write_them(tmp_path, text, encoding):
    assert rows(open_dataset(write(tmp_path, text, encoding=encoding))) == {"a.png": ("fear", "")}


@pytest.mark.parametrize(
    ("cell", "frame"), [("1.0", 1), ("7", 7), ("0", 0), ("", -1), ("nan", -1), ("2147483647", 2**31 - 1)]
)
def test_numbers_of_frames(tmp_path, cell, frame):
    table = write(tmp_path, f"path,label,frame\na.png,fear,{cell}\n")
    assert open_dataset(table).samples()[0].frame == frame


@pytest.mark.parametrize("cell", ["99999999999", "2147483648", "1.5", "-1", "1e3", "²", "x"])
def test_numbers_that_are_no_frame(tmp_path, cell):
    facts = check(write(tmp_path, f"path,label,frame\na.png,fear,{cell}\n"))
    assert f"column frame: {cell!r} (1 rows) should be whole numbers" in told(facts, fatal=True)


def test_any_column_of_a_table_can_be_carried_or_is_left_out(tmp_path):
    """A column called as one of fertool's own, or as nothing, harms no stage."""
    taken = ["problem", "status", "images", "pose", "severity", "fold", "Landmarks", "transform", "bbox", "digest"]
    names = [*taken, "age", "a b", "äge", "%"]
    text = f"path,label,{','.join(names)},\n" + "".join(
        f"{p},fear,{','.join('1' * len(names))},\n" for p in ("a.png", "b.png")
    )
    table = write(tmp_path, text)
    out = tmp_path / "faces.h5"
    result = call("detect-align", table, *PLAIN, "--out", out)
    assert result.exit_code == 0, result.output
    faces = artefact.read(out, "faces")
    assert {"age", "a_b", "äge"} <= set(faces.columns)
    for name in taken:
        assert f"column '{name}' is left out" in result.stderr
    assert call("inspect", out).exit_code == 0


def test_ids_that_are_people_are_an_error_that_says_so(tmp_path):
    images = [f"{i}.png" for i in range(12)]
    text = "id,path,label\n" + "".join(f"p{i % 3},{name},fear\n" for i, name in enumerate(images))
    table = write(tmp_path, text, images)
    said = told(check(table), fatal=True)
    assert "3 ids stand for several files: p0 (0.png, 3.png, 6.png and 1 more)" in said
    assert "call the column subject" in said
    result = call("detect-align", table, "--out", tmp_path / "faces.h5")
    assert result.exit_code == 3
    assert "3 ids stand for several files" in result.stderr
    assert not (tmp_path / "faces.h5").exists()


def test_one_file_with_two_labels_or_splits_is_an_error(tmp_path):
    said = told(check(write(tmp_path, "path,label\na.png,fear\nb.png,fear\n./a.png,anger\n")), fatal=True)
    assert "1 files have several labels: a.png (anger, fear)" in said
    said = told(check(write(tmp_path, "path,split,id\na.png,train,1\na.png,test,2\n")), fatal=True)
    assert "1 files have several splits: a.png (test, train)" in said


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_under_two_names_with_two_labels_is_an_error(tmp_path, link):
    table = write(tmp_path, "path,label,split\na.png,fear,train\nlink.png,anger,test\nb.png,fear,test\n")
    link(tmp_path / "a.png", tmp_path / "link.png")
    said = told(check(table), fatal=True)
    assert "1 files have several labels: link.png (anger, fear)" in said
    assert "1 files have several splits: link.png (test, train)" in said


def test_an_empty_id_is_the_path_and_a_repeated_row_is_noted(tmp_path):
    table = write(tmp_path, "id,path,label\n,a.png,fear\nx,b.png,fear\nx,b.png,fear\n")
    assert rows(open_dataset(table)).keys() == {"a.png", "x"}
    assert "1 rows repeat a row of the same file and are left out: x" in told(check(table))


def test_every_command_prints_the_notes(tmp_path):
    table = write(tmp_path, "filename,emotion\na.png,fear\nb.png,\nc.png,fear\n")
    for words in (("datasets", "check", "auto", table), ("detect-align", table, *PLAIN, "--out", tmp_path / "f.h5")):
        said = call(*words).stderr
        for note in ("emotion for label", "1 of 3 rows have no label", "1 of 3 files are missing: c.png; looked for"):
            assert note in said, said
    facts = json.loads(call("detect-align", table, *PLAIN, "--out", tmp_path / "f.h5", "--json").stdout)
    assert any("1 of 3 rows have no label" in note for note in facts["notes"])


def test_images_that_lie_elsewhere(tmp_path):
    for name in ("1.png", "2.png"):
        write_image(tmp_path / "pool/deep" / name, FEAR)
    table = write(tmp_path / "lists", "path,label\ndeep/1.png,fear\ndeep\\2.png,fear\n", images=())
    assert "--images DIR" in told(check(table), fatal=True)
    facts = check(table, "--images", tmp_path / "pool")
    assert facts["usable"]
    assert told(facts) == ""
    assert rows(open_dataset(table, image_folder=tmp_path / "pool")).keys() == {"deep/1.png", "deep/2.png"}
    assert call("datasets", "check", "auto", table, "--images", tmp_path / "none").exit_code == 3
    assert call("datasets", "check", "auto", tmp_path / "pool/deep", "--images", tmp_path / "pool").exit_code == 2


@pytest.mark.parametrize("written", ["../images/{}.png", "{root}/images/{}.png"])
def test_ids_hold_no_absolute_paths_and_stay_when_the_folder_moves(tmp_path, written):
    ids = []
    for place in ("here", "there"):
        root = tmp_path / place
        for i in (1, 2):
            write_image(root / "images" / f"{i}.png", FEAR)
        lines = "".join(f"{written.format(i, root=root)},fear\n" for i in (1, 2))
        ids.append(rows(open_dataset(write(root / "lists", f"path,label\n{lines}", images=()))).keys())
    assert ids[0] == ids[1] == {"1.png", "2.png"}
    table = write(tmp_path, f"path,label,id\na.png,fear,{tmp_path}/a.png\nb.png,fear,C:\\x\\b.png\n")
    assert rows(open_dataset(table)).keys() == {"a.png", "b.png"}


@pytest.mark.parametrize("written", ["C:\\Users\\me\\fer\\train\\{}.png", "/home/me/fer/train/{}.png", "TRAIN/{}.PNG"])
def test_paths_of_another_machine(tmp_path, written):
    for i in (1, 2):
        write_image(tmp_path / "train" / f"{i}.png", FEAR)
    table = write(tmp_path, "path,label\n" + "".join(f"{written.format(i)},fear\n" for i in (1, 2)), images=())
    assert rows(open_dataset(table)).keys() == {"train/1.png", "train/2.png"}
    assert "2 " in told(check(table))


@pytest.mark.parametrize(("disk", "table"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_either_unicode_form(tmp_path, disk, table):
    name = "Zoë é.png"
    write_image(tmp_path / "x" / unicodedata.normalize(disk, name), FEAR)
    listed = write(tmp_path / "x", f"path,label\n{unicodedata.normalize(table, name)},fear\n", images=())
    assert list(rows(open_dataset(listed))) == [unicodedata.normalize("NFC", name)]
    write_image(tmp_path / "y/fear" / unicodedata.normalize(disk, name), FEAR)
    assert list(rows(open_dataset(tmp_path / "y"))) == [unicodedata.normalize("NFC", f"fear/{name}")]


def test_what_is_missing_and_what_no_row_names(tmp_path):
    facts = check(write(tmp_path, "path,label\na.png,fear\ngone.png,fear\n", ("a.png", "A2.JPG", ".hidden.png")))
    assert f"1 of 2 files are missing: gone.png; looked for {tmp_path}/gone.png" in told(facts)
    assert "1 images beside those listed are in no row: A2.JPG" in told(facts)
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as packed:
        packed.write(tmp_path / "a.png", "1.png")
    for path in ("faces/1.png", "faces.zip/1.png"):
        said = told(check(write(tmp_path, f"path,label\n{path},fear\n")), fatal=True)
        assert f"unpack {tmp_path}/faces.zip" in said


def test_two_images_that_differ_only_in_their_ending(tmp_path):
    assert rows(open_dataset(write(tmp_path, "path\na.png\na.jpg\n", ("a.png", "a.jpg")))).keys() == {"a.png", "a.jpg"}


def test_several_columns_of_one_name_and_rows_without_a_path(tmp_path):
    assert "several columns of the same name: label" in told(
        check(write(tmp_path, "path,label,Label\na.png,1,1\n")), True
    )
    assert "1 rows without a path" in told(check(write(tmp_path, "path,label\n,fear\n")), fatal=True)
    assert "1 rows have fewer cells" in told(check(write(tmp_path, "path,label\na.png\nb.png,fear\n")))


def test_cells_that_begin_like_a_formula_are_read_as_they_were(tmp_path):
    facts = open_dataset(write(tmp_path, "path,label\n'=a.png,fear\n", ("=a.png",)))
    assert list(rows(facts)) == ["=a.png"]


def test_a_table_that_names_no_images_and_several_tables(tmp_path):
    table = write(tmp_path, "what,label\na.png,fear\n", images=())
    assert "its columns are: what, label" in call("detect-align", table).stderr
    write_image(tmp_path / "a.png", FEAR)
    assert "tables beside the folders are not read: list.csv" in told(check(tmp_path))
    for name in ("train.csv", "test.csv"):
        write(tmp_path / "two", "path,label\na.png,fear\n", name=name)
    assert "several tables of images: test.csv, train.csv" in call("detect-align", tmp_path / "two").stderr


# --------------------------------------------------------------------------------------------------- folders


def test_what_is_no_image_is_counted_and_every_image_is_listed(tmp_path):
    for name in ("a.HEIC", "b.avif", "c.MPO", "d.jpg", "e.jfif", "f.cr2", "g.mp4", "h"):
        (tmp_path / "happy").mkdir(exist_ok=True)
        (tmp_path / "happy" / name).write_bytes(b"")
    for name in (".DS_Store", "._d.jpg", "Thumbs.db", "thumbs.DB", "desktop.ini", "readme.txt"):
        (tmp_path / "happy" / name).write_bytes(b"x")
    facts = check(tmp_path)
    assert facts["samples"] == 5
    assert "3 files are left out, their names do not end like an image's: 1 .cr2, 1 .mp4, 1 without" in told(facts)


def test_a_split_that_links_to_another_keeps_both(tmp_path):
    for split in ("train", "test"):
        write_image(tmp_path / split / "happy/a.png", FEAR)
    os.symlink("test", tmp_path / "val")
    facts = check(tmp_path)
    assert {split: s["samples"] for split, s in facts["splits"].items()} == {"train": 1, "val": 1, "test": 1}
    assert "val is the same folder as test: both splits hold the same images" in told(facts)


def test_links_that_lead_back_end(tmp_path):
    write_image(tmp_path / "happy/a.png", FEAR)
    os.symlink("..", tmp_path / "happy/up")
    os.symlink("happy", tmp_path / "joy")
    os.symlink("itself", tmp_path / "itself")
    os.symlink("gone.png", tmp_path / "happy/broken.png")
    facts = check(tmp_path)
    assert facts["samples"] == 2  # a.png, and the broken link, which is unreadable
    assert "joy is left out, it is a link to happy" in told(facts)
    assert "happy/up is left out" in told(facts)


@pytest.mark.parametrize("layout", ["{split}/{label}", "{label}/{split}", "{label}/{split}/person 1"])
def test_class_above_split_and_below(tmp_path, layout):
    for split, label in (("train", "happy"), ("Test", "happy"), ("train", "sad")):
        write_image(tmp_path / layout.format(split=split, label=label) / "a.png", FEAR)
    found = Counter((s.split, s.label) for s in open_dataset(tmp_path).samples())
    assert found == {("train", "happiness"): 1, ("test", "happiness"): 1, ("train", "sadness"): 1}


def test_numbered_folders_say_what_to_do(tmp_path):
    for split in ("train", "test"):
        for code in (1, 2):
            write_image(tmp_path / split / str(code) / "a.png", FEAR)
    assert "name them in classes.txt" in told(check(tmp_path, name="folder"), fatal=True)
    (tmp_path / "classes.txt").write_text("1 Surprise\n2 Fear\n")
    found = Counter((s.split, s.label) for s in open_dataset(tmp_path).samples())
    assert found == {(s, label): 1 for s in ("train", "test") for label in ("surprise", "fear")}


def test_names_that_begin_with_an_at_sign_are_read(tmp_path):
    for name in ("@anna.png", "@fear/b.png", "@eaDir/c.png"):
        write_image(tmp_path / "fear" / name, FEAR)
    assert set(rows(open_dataset(tmp_path))) == {"fear/@anna.png", "fear/@fear/b.png"}


@pytest.mark.parametrize("name", ["data.zip", "data.tar.gz", "data.7z"])
def test_an_archive_in_place_of_a_folder(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    for path, words in ((tmp_path / name, "is an archive"), (tmp_path, "holds archives")):
        result = call("detect-align", path)
        assert result.exit_code == 3
        assert words in result.stderr
        assert "hint: unpack it first" in result.stderr


def rafdb(folder, other=False):
    classes = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
    for split, n in (("train", 14), ("test", 7)):
        lines = ["image,label"]
        for i in range(n):
            stem = f"{split}_{i + 1:05d}_aligned.jpg"
            write_image(folder / "DATASET" / split / str(i % 7 + 1) / stem, draw_face(classes[i % 7], i))
            lines.append(f"{stem},{i % 7 + 1 if not other or i else 7}")
        (folder / f"{split}_labels.csv").write_text("\n".join(lines) + "\n")
    return classes


@pytest.mark.parametrize("below", ["", "DATASET"])
def test_rafdb_in_numbered_folders(tmp_path, below):
    classes = rafdb(tmp_path)
    dataset = open_dataset(tmp_path / below)
    assert dataset.name == "rafdb"
    found = {s.id: (s.label, s.split) for s in dataset.samples()}
    assert len(found) == 21
    assert found["train_00012"] == (classes[4], "train")
    assert dataset.read(dataset.samples()[0]).shape[:2] == (48, 48)


def test_rafdb_whose_table_contradicts_its_folders(tmp_path):
    rafdb(tmp_path, other=True)
    assert "1 images lie in the folder of another class than the table says: train_00001" in told(check(tmp_path), True)


def test_names_of_any_length_and_images_of_no_bytes_are_rows(tmp_path):
    long = "ä" * 120 + ".png"
    write_image(tmp_path / "happy" / long, FEAR)
    (tmp_path / "happy/empty.png").touch()
    out = tmp_path / "faces.h5"
    assert call("detect-align", tmp_path, *PLAIN, "--out", out).exit_code == 0
    faces = artefact.read(out, "faces")
    assert sorted(faces.ids) == ["happy/empty.png", f"happy/{long}"]
    assert Counter(faces["problem"]) == {"": 1, "empty file": 1}


def test_the_workspace_is_no_data(tmp_path, monkeypatch):
    """The same call once more is up to date, whatever lies in the workspace by then."""
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "photos/happy/a.png", FEAR)
    assert call("detect-align", ".", *PLAIN, "--name", "x").exit_code == 0
    write_image(tmp_path / "artefacts/x/figures/b.png", np.dstack([ANGER] * 3))
    again = call("detect-align", ".", *PLAIN, "--name", "x")
    assert again.exit_code == 0, again.output
    assert "up to date" in again.stderr


def test_two_images_by_one_id_are_an_error(tmp_path):
    """Whatever data set lists them: here two frames of AffectNet that differ in their ending."""
    from layouts import write_affectnet

    root = write_affectnet(tmp_path, layout="folders")
    image = next((root / "train_set/images").glob("*.jpg"))
    image.with_suffix(".png").write_bytes(image.read_bytes())
    result = call("detect-align", root, *PLAIN, "--out", tmp_path / "f.h5")
    assert result.exit_code == 3
    assert "several images by one id" in result.stderr
