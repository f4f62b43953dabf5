import numpy as np
import pytest
from made_faces import make_faces

from fertool import artefact
from fertool.errors import ArtefactError, DataError, RecipeError, UsageError
from fertool.faces.status import NO_FACE, OK
from fertool.labels import PROTOCOLS
from fertool.settings import BuildSubsets
from fertool.stages import build_subsets
from fertool.subsets.duplicates import pixel_duplicates, subjects_across
from fertool.subsets.names import Ids
from fertool.subsets.ran_lists import LAYOUTS

FERPLUS, RAFDB, AFFECTNET = (PROTOCOLS[name] for name in ("ferplus8", "rafdb7", "affectnet8"))
HASHES = [f"{i:x}" * 56 for i in range(6)]


def write(folder, name, *lines, end="\n"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(end.join(lines).encode())
    return path


@pytest.fixture
def ferplus(tmp_path):
    """Faces and the authors' folder in the form of FERPlus."""
    ids = [f"fer003222{i}" for i in range(8)]
    label = np.array([0, 1, 2, 3, 4, 5, -1, 7], "i2")
    split = ["train", "val", *["test"] * 6]
    faces = make_faces(tmp_path / "faces.h5", ids, FERPLUS, label=label, split=split)
    folder = tmp_path / "lists" / "FERplus_dir"
    occlusion = [f"{k}_fer003222{k + 2}.png 8 {k}" for k in range(4)] + ["2_fer0032222.png 8 3", "0_fer0099999.png 8 0"]
    write(folder, "jianfei_occlusion_list.txt", *occlusion, end="\r\n")
    write(folder, "pose_30_ferplus_list.txt", "2/fer0032222.jpg", "3/fer0032223.jpg", "6/fer0032226.jpg", "")
    write(folder, "pose_45_ferplus_list.txt", "2/fer0032222.jpg", "2/fer0032222.jpg", "")
    train, test = "dlib_ferplus_train_center_crop_range", "dlib_ferplus_val_center_crop_range"
    write(folder, f"{train}_list.txt", "0/fer0032220 6", "6/fer0032221 6")
    write(folder, f"{train}_label.txt", "0", "6")
    write(folder, f"{test}_list.txt", "2/fer0032222 6", "7/fer0032226 6")
    write(folder, f"{test}_label.txt", "2", "7", "")
    return faces, folder


@pytest.fixture
def rafdb(tmp_path):
    ids = ["test_0001", "test_0002", "test_0003", "test_0004", "train_00001"]
    faces = make_faces(tmp_path / "raf.h5", ids, RAFDB, label=np.array([0, 1, 2, 3, 4], "i2"))
    folder = tmp_path / "lists" / "RAF_DB_dir"
    occlusion = ["test_0001_aligned 0 1", "test_0002_aligned 1 2", "test_0003_aligned 2 3", "test_0003_aligned 2 3"]
    write(folder, "rafdb_occlusion_list.txt", *occlusion, "test_0004_aligned 3 4", end="\r\n")
    write(folder, "val_raf_db_list.txt", "0/test_0001_aligned.jpg", "3/test_0004_aligned.jpg")
    write(folder, "val_raf_db_label.txt", "2 7", "0", "3")
    write(folder, "val_raf_db_list_45.txt", "3/test_0004_aligned.jpg")
    write(folder, "val_raf_db_label_45.txt", "1 7", "3")
    return faces, folder


@pytest.fixture
def affectnet(tmp_path):
    ids = [f"{n}/{name}.jpg" for n, name in enumerate(HASHES)]
    faces = make_faces(tmp_path / "affectnet.h5", ids, AFFECTNET, label=np.arange(6, dtype="i2"))
    folder = tmp_path / "lists" / "AffectNet_dir"
    write(folder, "occlusion_affectnet_list.txt", f"val/0/{HASHES[0]}/", f"val/1/{HASHES[1]}/")
    write(folder, "pose_30_affectnet_list.txt", f"1/{HASHES[1]}.jpg", f"2/{HASHES[2]}.jpg", f"2/{HASHES[2]}.jpg")
    write(folder, "pose_45_affectnet_list.txt", f"2/{HASHES[2]}/8.jpg")
    write(folder, "simple_sample/val_affectnet8part_list.txt", *(f"{i}/{name} 1" for i, name in enumerate(HASHES)))
    write(folder, "simple_sample/val_affectnet8part_label.txt", *map(str, range(6)))
    return faces, folder


def build(faces, out=None, *, lists=None, occlusion_table=None, overwrite=False, **settings):
    out = out or faces.with_name("subsets.h5")
    build_subsets.run(
        faces,
        settings=BuildSubsets(**settings),
        out=out,
        lists=lists,
        occlusion_table=occlusion_table,
        overwrite=overwrite,
    )
    return artefact.read(out, "subsets")


def members(made, name):
    return made.ids[np.asarray(made[name])].tolist()


def listed(made, role):
    return next(f for f in made.info["report"]["lists"]["files"] if f["list"] == role)


def test_ferplus_lists_become_subsets(ferplus):
    faces, folder = ferplus
    made = build(faces, lists=folder)
    occluded = [f"fer003222{i}" for i in (2, 3, 4, 5)]
    assert members(made, "occlusion") == occluded
    for kind, name in zip(("upper", "bottom", "left-right"), occluded, strict=False):
        assert members(made, f"occlusion-{kind}") == [name]
    assert members(made, "occlusion-glasses-mask") == ["fer0032222", "fer0032225"]
    assert made["occlusion_type"].tolist()[2:5] == ["upper,glasses-mask", "bottom", "left-right"]
    assert members(made, "pose30") == ["fer0032222", "fer0032223", "fer0032226"]
    assert members(made, "pose45") == ["fer0032222"]
    assert made["list_split"].tolist() == ["train", "train", "test", "", "", "", "test", ""]
    assert made["list_label"].tolist() == [0, 6, 2, -1, -1, -1, 7, -1]


def test_report_counts_list_entries(ferplus, capsys):
    faces, folder = ferplus
    made = build(faces, lists=folder)
    occlusion, pose45, train, test = (listed(made, role) for role in ("occlusion", "pose45", "train", "test"))
    assert (occlusion["entries"], occlusion["unique"], occlusion["found"], occlusion["paper"]) == (6, 5, 4, 605)
    assert occlusion["not_found"] == {"count": 1, "examples": ["fer0099999"], "ambiguous": 0}
    assert occlusion["types"] == {"upper": 2, "bottom": 1, "left-right": 1, "glasses-mask": 2}
    assert occlusion["label_differs"] == 4  # all but "2_fer0032222"
    assert (pose45["entries"], pose45["unique"], pose45["repeated"]["examples"]) == (2, 1, ["fer0032222"])
    assert train["splits"] == {"train": 1, "val": 1}
    assert (train["label_differs"], test["label_only_in_list"]) == (1, 1)
    assert made.info["report"]["overlaps"] == {
        "occlusion and pose30": 2,
        "occlusion and pose45": 1,
        "pose30 and pose45": 1,
    }
    build_subsets.report(build_subsets.summary(made.path))
    told = capsys.readouterr().err
    assert "4 of 605" in told
    assert "1 (fer0099999)" in told
    assert "fer0032222" in told


def test_rafdb_lists_become_subsets(rafdb, capsys):
    faces, folder = rafdb
    made = build(faces, lists=folder)
    for kind, name in zip(("upper", "bottom", "left-right", "glasses-mask"), made.ids, strict=False):
        assert members(made, f"occlusion-{kind}") == [name]
    assert members(made, "pose30") == ["test_0001", "test_0004"]
    assert members(made, "pose45") == ["test_0004"]
    assert (listed(made, "occlusion")["entries"], listed(made, "occlusion")["unique"]) == (5, 4)
    assert all(f["label_differs"] == 0 for f in made.info["report"]["lists"]["files"])
    assert (made["list_label"] == -1).all()
    build_subsets.report(build_subsets.summary(made.path))
    assert "the authors do not define types 1 to 4" in capsys.readouterr().err


def test_affectnet_lists_become_subsets(affectnet, capsys):
    faces, folder = affectnet
    made = build(faces, lists=folder)
    assert members(made, "occlusion") == made.ids[:2].tolist()
    assert members(made, "pose30") == made.ids[1:3].tolist()
    assert members(made, "pose45") == [made.ids[2]]
    assert not any(name.startswith("occlusion-") for name in made.columns)  # the list has no types
    assert made["list_label"].tolist() == list(range(6))
    build_subsets.report(build_subsets.summary(made.path))
    assert "not in the folder: simple_sample/train_affectnet8part_list.txt" in capsys.readouterr().err


def test_list_labels_are_joined_by_name(ferplus):
    faces, folder = ferplus
    classes = ("surprise", "happiness", "neutral", "contempt")
    ids = artefact.read(faces).ids.tolist()
    other = make_faces(faces.with_name("renamed.h5"), ids, classes, label=np.full(8, -1, "i2"))
    made = build(other, lists=folder)
    assert made["list_label"].tolist() == [2, -1, 0, -1, -1, -1, 3, -1]
    assert made.classes == classes
    assert listed(made, "train")["no_such_class"] == 1


@pytest.mark.parametrize("data", ["ferplus", "rafdb", "affectnet"])
def test_lists_are_found_below_the_parent_folder(data, request, ferplus, rafdb, affectnet):
    faces, folder = request.getfixturevalue(data)
    made = build(faces, lists=folder.parent, out=faces.with_name("from-parent.h5"))
    assert made.info["report"]["lists"]["folder"] == str(folder)
    alone = build(faces, lists=folder, out=faces.with_name("alone.h5"))
    assert made.digest == alone.digest


def test_lists_of_another_dataset_are_refused(ferplus, rafdb):
    faces, _ = ferplus
    _, folder = rafdb
    with pytest.raises(DataError, match=r"RAF-DB \(.*RAF_DB_dir\).*faces\.h5.*'test_0001_aligned'.*'fer0032220'"):
        build(faces, lists=folder)
    assert not faces.with_name("subsets.h5").exists()


def test_folders_without_lists_are_refused(ferplus, tmp_path):
    faces, _ = ferplus
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds none of the RAN authors' lists") as e:
        build(faces, lists=tmp_path / "empty")
    assert "FERplus_dir/jianfei_occlusion_list.txt" in e.value.hint
    with pytest.raises(DataError, match="is not a folder"):
        build(faces, lists=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("jianfei_occlusion_list.txt", "1_fer0032223.png 8 4"),
        ("jianfei_occlusion_list.txt", "1_fer0032223.png 8"),
        ("pose_30_ferplus_list.txt", "8/fer0032223.jpg"),
        ("pose_30_ferplus_list.txt", "fer0032223"),
        ("pose_30_ferplus_list.txt", "\0\1\2"),
        ("dlib_ferplus_val_center_crop_range_list.txt", "2/fer0032222 six"),
    ],
)
def test_malformed_lines_are_reported_with_file_and_line(ferplus, name, line):
    faces, folder = ferplus
    with open(folder / name, "a", newline="") as f:
        f.write(f"\n{line}\n")
    number = len((folder / name).read_text().splitlines())
    with pytest.raises(DataError, match=rf"{name}, line {number}: .* is not an entry") as e:
        build(faces, lists=folder)
    assert "a line looks like" in e.value.hint


def test_label_file_must_agree_with_its_list(ferplus):
    faces, folder = ferplus
    labels = folder / "dlib_ferplus_val_center_crop_range_label.txt"
    labels.write_text("2\n6\n")
    with pytest.raises(DataError, match=r"_label\.txt, line 2: label '6'.*fer0032226 the label 7"):
        build(faces, lists=folder)
    labels.write_text("2\n")
    with pytest.raises(DataError, match="has 1 labels and .* 2 faces"):
        build(faces, lists=folder)


def test_ambiguous_names_match_no_face(ferplus):
    _, folder = ferplus
    ids = ["a/fer0032222.png", "b/fer0032222.png", "a/fer0032223.png"]
    faces = make_faces(folder.with_name("double.h5"), ids, FERPLUS)
    made = build(faces, lists=folder)
    assert members(made, "pose30") == ["a/fer0032223.png"]
    assert listed(made, "pose30")["not_found"]["ambiguous"] == 1


def test_exact_ids_precede_bare_names():
    ids = Ids(["x/1.png", "y/1.png", "test_0007_aligned.jpg", "Fer1"])
    assert ids.rows(["y/1.png", "1", "test_0007", "FER1.jpg", "fer2"]).tolist() == [1, -1, 2, 3, -1]
    assert ids.is_ambiguous("1")
    assert not ids.is_ambiguous("fer2")


def test_layouts_hold_the_sizes_of_table_1():
    for layout in LAYOUTS:
        assert {"occlusion", "pose30", "pose45"} <= layout.paper.keys() & layout.lists.keys()
        parts = [n for name, n in layout.paper.items() if name.startswith("occlusion-")]
        assert not parts or sum(parts) == layout.paper["occlusion"]


# ---------------------------------------------------------------------------------------------- occlusion table


def test_a_table_of_occlusion_types_takes_precedence(ferplus, tmp_path):
    faces, folder = ferplus
    rows = ["id,type", "fer0032220,upper", '"fer0032221.png",glasses-mask', "fer0032220,Bottom", "fer0032222,none", ""]
    table = write(tmp_path, "occlusion.csv", *rows, end="\r\n")
    made = build(faces, lists=folder, occlusion_table=table)
    assert members(made, "occlusion") == ["fer0032220", "fer0032221"]
    assert made["occlusion_type"].tolist()[:3] == ["upper,bottom", "glasses-mask", ""]
    assert members(made, "occlusion-left-right") == []
    assert members(made, "pose45") == ["fer0032222"]  # still from the list
    assert made.parent("occlusion_table").name == "occlusion.csv"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["fer0032220,upper"], "header id,type"),
        (["id,type", "fer0032220,uper"], "line 2: 'uper' is not an occlusion type"),
        (["id,type", "fer0032220,upper", "fer0032221"], "line 3: 'fer0032221' is not id,type"),
        (["id,type", "test_0001,upper"], "no id of .*occlusion.csv is an id of .*faces.h5"),
    ],
)
def test_malformed_tables_are_refused(ferplus, tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        build(ferplus[0], occlusion_table=write(tmp_path, "occlusion.csv", *rows))


def test_missing_and_binary_tables_are_refused(ferplus, tmp_path):
    with pytest.raises(DataError, match="cannot read the table"):
        build(ferplus[0], occlusion_table=tmp_path / "none.csv")
    (tmp_path / "picture.csv").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DataError, match="is not a CSV file"):
        build(ferplus[0], occlusion_table=tmp_path / "picture.csv")


# --------------------------------------------------------------------------------------------------------- pose


def posed(tmp_path, *angles, **columns):
    pose = np.array(angles, "f4")
    return make_faces(tmp_path / "posed.h5", [f"p{i}" for i in range(len(pose))], FERPLUS, pose=pose, **columns)


ANGLES = [(0, 31, 0), (0, -31, 0), (-46, 0, 0), (30, 30, 90), (10, 46, 0), (np.nan,) * 3]


def test_pose_subsets_hold_pitch_or_yaw_above_the_threshold(tmp_path, capsys):
    made = build(posed(tmp_path, *ANGLES))
    assert members(made, "pose30") == ["p0", "p1", "p2", "p4"]
    assert members(made, "pose45") == ["p2", "p4"]
    assert made.info["report"]["without_pose"] == 1
    build_subsets.report(build_subsets.summary(made.path))
    assert "1 of 6 faces have no pose" in capsys.readouterr().err


def test_thresholds_name_their_subsets(tmp_path):
    made = build(posed(tmp_path, *ANGLES), pose_thresholds=(15.0, 22.5))
    assert [c for c in made.columns if c.startswith("pose")] == ["pose15", "pose22.5"]


def test_lists_precede_estimates_unless_estimates_are_requested(ferplus):
    faces, folder = ferplus
    pose = np.zeros((8, 3), "f4")
    pose[7, 1] = -60
    ids = artefact.read(faces).ids.tolist()
    faces = make_faces(faces.with_name("posed.h5"), ids, FERPLUS, pose=pose)
    by_list = build(faces, lists=folder)
    assert "fer0032222" in members(by_list, "pose45")
    by_angle = build(faces, lists=folder, pose_source="estimate", overwrite=True)
    assert members(by_angle, "pose45") == ["fer0032227"]
    assert by_angle.info["report"]["subsets"][-1]["source"] == "estimate"
    assert by_angle.info["report"]["subsets"][-1]["paper"] is None
    third = build(faces, lists=folder, pose_thresholds=(45.0, 50.0), overwrite=True)
    assert [s["source"] for s in third.info["report"]["subsets"][-2:]] == ["list", "estimate"]
    assert "pose45" not in build(faces, lists=folder, pose_source="none", overwrite=True)


def test_rendered_faces_use_their_ground_truth(tmp_path):
    truth = {
        "true_occlusion": ["", "upper", "none", "glasses-mask", "", "left-right"],
        "true_yaw": np.array([0, -50, 0, 0, 0, 0], "f4"),
        "true_pitch": np.array([0, 0, 33, 0, 0, 0], "f4"),
    }
    faces = posed(tmp_path, *ANGLES, **truth)
    made = build(faces)
    assert members(made, "occlusion") == ["p1", "p3", "p5"]
    assert members(made, "occlusion-left-right") == ["p5"]
    assert members(made, "pose30") == ["p1", "p2"]
    assert {s["source"] for s in made.info["report"]["subsets"]} == {"truth"}
    assert members(build(faces, pose_source="estimate", overwrite=True), "pose45") == ["p2", "p4"]


def test_unknown_occlusion_types_are_refused(tmp_path):
    with pytest.raises(ArtefactError, match="unknown types hat"):
        build(posed(tmp_path, *ANGLES, true_occlusion=["hat"] * 6))


def test_missing_pose_source_is_refused(ferplus, tmp_path):
    faces, folder = ferplus
    with pytest.raises(UsageError, match="pose_source: list requires lists"):
        build(faces, pose_source="list")
    with pytest.raises(ArtefactError, match="no face in .* has an estimated pose"):
        build(faces, pose_source="estimate")
    (folder / "pose_45_ferplus_list.txt").unlink()
    with pytest.raises(DataError, match="has no list of pose45"):
        build(faces, lists=folder, pose_source="list")


@pytest.mark.parametrize("thresholds", [(30.0, 30.0), (-5.0,), (0.0,), (200.0,)])
def test_invalid_thresholds_are_refused(tmp_path, thresholds):
    with pytest.raises(RecipeError, match="pose_thresholds"):
        build(posed(tmp_path, *ANGLES), pose_thresholds=thresholds)


def test_faces_without_sources_have_no_subsets(ferplus, capsys):
    made = build(ferplus[0])
    assert made.columns == ["duplicate", "id", "list_label", "list_split", "occlusion_type"]
    build_subsets.report(build_subsets.summary(made.path))
    assert "--lists DIR" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------- duplicates and people


def test_pixel_duplicates_across_splits_are_marked(tmp_path, capsys):
    ids = ["a", "b", "c", "d", "e", "f", "g"]
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 1), dtype=np.uint8)
    images[3] = images[0]  # train and test
    images[4] = images[1]  # both in train
    images[5] = images[6] = 0  # no faces
    images[2, 0, 0] = images[0, 0, 0]
    status = np.array([OK] * 5 + [NO_FACE] * 2, "u1")
    split = ["train", "train", "test", "test", "train", "train", "test"]
    label = np.array([0, 1, 2, 3, 4, 5, 6], "i2")
    faces = make_faces(tmp_path / "faces.h5", ids, FERPLUS, images=images, split=split, label=label, status=status)
    made = build(faces)
    assert members(made, "duplicate") == ["a", "d"]
    duplicates = made.info["report"]["duplicates"]
    assert duplicates["examples"] == [["a", "d"]]
    assert (duplicates["images"], duplicates["faces"], duplicates["labelled_differently"]) == (1, 2, 1)
    assert duplicates["splits"] == {"train": 1, "test": 1}
    build_subsets.report(build_subsets.summary(made.path))
    assert "1 exact pixel duplicates across splits" in capsys.readouterr().err
    assert "duplicate" not in build(faces, duplicates=False, overwrite=True)


def test_one_changed_pixel_is_no_duplicate():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    splits = np.array(["train", "test"], object)
    assert [g.tolist() for g in pixel_duplicates(images, np.arange(2), splits)] == [[0, 1]]
    images[1, 3, 3, 2] = 1
    assert pixel_duplicates(images, np.arange(2), splits) == []


def test_subjects_in_several_splits_are_a_warning(tmp_path, capsys):
    subject, split = ["S1", "S1", "S2", "", ""], ["train", "test", "train", "train", "test"]
    assert subjects_across(np.array(subject, object), np.array(split, object)) == ["S1"]
    made = build(make_faces(tmp_path / "faces.h5", list("abcde"), FERPLUS, subject=subject, split=split))
    build_subsets.report(build_subsets.summary(made.path))
    assert "warning: subjects with faces in several splits: 1 (S1)" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------- provenance


def test_same_inputs_are_up_to_date_and_other_lists_are_not(ferplus, tmp_path, capsys):
    faces, folder = ferplus
    made = build(faces, lists=folder)
    assert build(faces, lists=folder).uid == made.uid
    assert "up to date" in capsys.readouterr().err
    again = build(faces, lists=folder, out=tmp_path / "again.h5")
    assert again.digest == made.digest
    write(folder, "pose_45_ferplus_list.txt", "3/fer0032223.jpg")
    with pytest.raises(ArtefactError, match="another lists"):
        build(faces, lists=folder)
    with pytest.raises(ArtefactError, match="lists no longer given"):
        build(faces)
    assert members(build(faces, lists=folder, overwrite=True), "pose45") == ["fer0032223"]


def test_subsets_of_other_faces_are_refused(ferplus, rafdb):
    faces, folder = ferplus
    made = build(faces, lists=folder)
    made.require_parent(artefact.read(faces))
    with pytest.raises(ArtefactError, match="another faces file"):
        made.require_parent(artefact.read(rafdb[0]))
    with pytest.raises(ArtefactError, match="holds 'subsets'"):
        build(made.path, out=faces.with_name("other.h5"))


def test_lists_and_estimated_pose_are_compared(ferplus, tmp_path, capsys):
    faces, folder = ferplus
    turned = artefact.read(faces, "faces")
    pose = np.full((8, 3), np.nan, "f4")
    pose[2:7, 1] = (50, -20, 5, -40, 10)  # of faces 2 to 6, all of split test; 2, 3 and 6 are listed as pose30
    pose[2:7, 0] = 0
    seen = make_faces(
        tmp_path / "posed.h5",
        turned.ids.tolist(),
        FERPLUS,
        label=turned["label"],
        split=list(turned["split"]),
        pose=pose,
    )
    made = build_subsets.run(
        seen, settings=BuildSubsets(), out=tmp_path / "s.h5", lists=folder, preview=tmp_path / "sheet.png"
    )
    thirty, forty_five = build_subsets.summary(made)["agreement"]
    assert {k: thirty[k] for k in ("faces", "listed", "estimated", "both")} == {
        "faces": 5, "listed": 3, "estimated": 2, "both": 1,
    }  # fmt: skip
    assert (thirty["precision"], thirty["recall"]) == (1 / 2, 1 / 3)
    assert thirty["auc"] == pytest.approx(4 / 6)  # 50 and 20 and 10 against 5 and 40
    assert (forty_five["precision"], forty_five["recall"], forty_five["auc"]) == (1, 1, 1)
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    build_subsets.report(build_subsets.summary(made))
    assert "area under ROC" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no disagreement"):
        build_subsets.run(seen, settings=BuildSubsets(), out=tmp_path / "t.h5", preview=tmp_path / "none.png")
