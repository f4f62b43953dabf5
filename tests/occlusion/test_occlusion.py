"""Things drawn over faces, what they cost a run, and guesses what covers a face."""

import csv
import html
import json
import re

import chrome
import numpy as np
import pytest
import toy
from typer.testing import CliRunner

from fertool import artefact, cli
from fertool.errors import ArtefactError, DataError, RecipeError, UsageError
from fertool.executors import LocalExecutor
from fertool.faces.mean_head import POINTS, rotation
from fertool.occlusion import classifier
from fertool.occlusion.draw import cover
from fertool.occlusion.geometry import face_of
from fertool.occlusion.training_samples import lesson
from fertool.settings import BuildSubsets, SuggestOcclusion, Synthesise, Visualize
from fertool.stages import build_subsets, suggest_occlusion, synthesise_occlusion
from fertool.stages.visualize.inputs import named
from fertool.stages.visualize.robustness import draw_robustness
from fertool.subsets import OCCLUSIONS

SIDE = 64
BROWS_AND_EYES, MOUTH = [*range(17, 27), *range(36, 48)], [*range(48, 68)]


def head(pitch=0.0, yaw=0.0, roll=0.0, *, side=SIDE, unit=0.27) -> np.ndarray:
    """(68, 2) landmarks of the mean head in a pose, in the middle of a picture."""
    turned = (POINTS - POINTS.mean(axis=0)) @ rotation(pitch, yaw, roll).T
    return turned[:, :2] * unit * side + [0.5 * side, 0.56 * side]


def blank(side=SIDE, channels=1) -> np.ndarray:
    return np.full((side, side, channels), 140, np.uint8)


def drawn(kind, severity, *, key="a", landmarks=None, image=None):
    image = blank() if image is None else image
    return next(cover(image, head() if landmarks is None else landmarks, kind, [severity], key=key))


def hidden(kind, severity, points, *, key, **pose) -> float:
    """Which share of these landmarks lies under what was drawn: where a flat face is no longer as it was."""
    marks = head(**pose)
    made = drawn(kind, severity, key=key, landmarks=marks).image[..., 0].astype(int)
    x, y = np.clip(marks[points].round().astype(int), 0, SIDE - 1).T
    return float((np.abs(made - 140) > 4)[y, x].mean())


# ------------------------------------------------------------------------------------------------------ drawing


@pytest.mark.parametrize("kind", OCCLUSIONS)
def test_the_same_key_draws_the_same_and_another_something_else(kind):
    severity = 0.3
    first, again, other = (drawn(kind, severity, key=k) for k in ("a", "a", "b"))
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("kind", OCCLUSIONS)
@pytest.mark.parametrize("pose", [{}, {"yaw": 35}, {"yaw": -50, "roll": 10}, {"pitch": 20, "roll": -25}])
def test_severity_is_reached(kind, pose):
    asked = np.array([0.05, 0.15, 0.3, 0.4] if kind == "glasses-mask" else [0.1, 0.25, 0.4, 0.6])
    for key in "abcdef":
        made = list(cover(blank(), head(**pose), kind, asked, key=key))
        reached = np.array([c.covered for c in made])
        assert np.abs(reached - asked).max() < 0.06
        assert np.median(np.abs(reached - asked)) < 0.02
        assert (np.diff(reached) > 0).all()


def test_what_is_covered_at_a_small_degree_is_at_a_larger():
    for kind in ("upper", "bottom", "left-right"):
        for key in "abcd":
            some, more = cover(blank(), head(), kind, [0.2, 0.4], key=key)
            clean = lambda c: (c.image.astype(int) - 140)[..., 0] != 0  # noqa: E731
            assert some.thing == more.thing
            assert (clean(some) & ~clean(more)).mean() < 0.02


@pytest.mark.parametrize("roll", [0, 30])
@pytest.mark.parametrize(
    ("kind", "severity", "covered", "free"),
    [
        ("upper", 0.45, BROWS_AND_EYES, MOUTH),
        ("bottom", 0.45, MOUTH, BROWS_AND_EYES),
        ("glasses-mask", 0.15, [*range(36, 48)], MOUTH),
        ("glasses-mask", 0.4, MOUTH, [*range(36, 48)]),
    ],
)
def test_a_type_covers_what_its_name_says(kind, severity, covered, free, roll):
    inside = [hidden(kind, severity, covered, key=k, roll=roll) for k in "abcdefgh"]
    outside = [hidden(kind, severity, free, key=k, roll=roll) for k in "abcdefgh"]
    assert np.mean(inside) > 0.65  # there are gaps between fingers
    assert np.mean(outside) < 0.3


def test_left_right_covers_one_side_or_both_but_not_the_middle():
    left, right, middle = [1, 2, 3, 4, 17, 36], [15, 14, 13, 12, 26, 45], [27, 28, 29, 30]
    sides = np.array([[hidden("left-right", 0.3, p, key=k) for p in (left, right)] for k in "abcdefghijkl"])
    assert (sides.max(axis=1) > 0.6).mean() > 0.8
    assert {tuple(row > 0.5) for row in sides} >= {(True, False), (False, True)}
    assert np.mean([hidden("left-right", 0.2, middle, key=k) for k in "abcdefghijkl"]) < 0.3


def test_masks_follow_a_turned_head():
    for yaw in (-40, 40):
        marks = head(yaw=yaw)
        made = drawn("glasses-mask", 0.35, landmarks=marks).image[..., 0]
        changed = np.flatnonzero((made != 140).any(axis=0)).mean()
        assert abs(changed - marks[MOUTH, 0].mean()) < abs(changed - SIDE / 2) + 4
        assert abs(changed - marks[:17, 0].mean()) < 0.12 * SIDE


def test_grey_faces_stay_grey_and_coloured_ones_take_colour():
    assert drawn("bottom", 0.3).image.shape == (SIDE, SIDE, 1)
    coloured = [drawn("bottom", 0.3, key=k, image=blank(channels=3)).image for k in "abcdef"]
    assert {c.shape for c in coloured} == {(SIDE, SIDE, 3)}
    assert any(np.ptp(c.astype(int), axis=-1).max() > 20 for c in coloured)


def test_five_points_are_given_the_outline_of_a_frontal_head():
    marks = head(roll=20)
    five = np.stack([marks[36:42].mean(0), marks[42:48].mean(0), marks[30], marks[48], marks[54]])
    assert np.abs(face_of(five, (SIDE, SIDE)).points - marks).max() < 0.5
    assert abs(drawn("bottom", 0.3, landmarks=five).covered - 0.3) < 0.02


def test_landmarks_beyond_the_picture_or_all_in_one_place_do_no_harm():
    for marks in (head() + 500, np.full((68, 2), 30.0), head() * 40):
        for kind in OCCLUSIONS:
            made = drawn(kind, 0.3, landmarks=marks)
            assert made.image.shape == (SIDE, SIDE, 1)
            assert 0 <= made.covered <= 1


# -------------------------------------------------------------------------------------------------------- stage


def write(folder, n=7, order=None, **columns):
    """Toy faces, every third of them for training, with landmarks of heads in different poses."""
    rng = np.random.default_rng(1)
    poses = rng.uniform([-15, -35, -15], [15, 35, 15], (3 * n, 3))
    marks = np.stack([head(*pose, side=32) for pose in poses]).astype("f4")
    usual = {"landmarks": marks, "pose": poses.astype("f4")} | columns
    faces = toy.write_faces(folder, train=n, test=2 * n, **usual)
    if order is not None:
        arrays = {name: np.asarray(faces[name])[order] for name in faces.columns}
        faces = artefact.save(folder / "faces.h5", "faces", arrays, params=faces.params, classes=faces.classes)
    return faces


def synthesise(faces, **settings):
    settings = {"types": ("upper", "glasses-mask"), **settings}
    out = faces.path.parent.with_name(f"{faces.path.parent.name}-occluded") / "faces.h5"
    synthesise_occlusion.run(faces.path, settings=Synthesise(**settings), out=out)
    return artefact.read(out, "faces")


def test_every_test_face_in_every_way_and_degree(tmp_path):
    faces = write(tmp_path / "toy")
    toy.write_regions(faces)
    made = synthesise(faces, severities=(0.2, 0.4), types=OCCLUSIONS)
    assert made.rows == 14 * (1 + 4 * 2)
    assert set(made["split"]) == {"test"}
    assert made.parent("faces").digest == faces.digest
    subsets = artefact.read(made.path.with_name("subsets.h5"), "subsets")
    subsets.require_parent(made)
    names = [c for c in subsets.columns if subsets.stored[c].dtype == bool]
    assert sorted(names) == sorted(["uncovered", *(f"{k}-{s}" for k in OCCLUSIONS for s in (0.2, 0.4))])
    for name in names:
        members = np.asarray(subsets[name])
        assert members.sum() == 14
        assert all(i.endswith(f"@{name}") for i in made.ids[members])
    assert np.sum([subsets[name] for name in names], axis=0).tolist() == [1] * made.rows
    uncovered, rows = np.asarray(subsets["uncovered"]), np.asarray(made["source_row"])
    assert np.array_equal(np.asarray(made["images"])[uncovered], np.asarray(faces["images"])[rows[uncovered]])
    for column in ("label", "landmarks", "pose"):
        assert np.array_equal(np.asarray(made[column]), np.asarray(faces[column])[rows])
    artefact.read(made.path.with_name("regions.h5"), "regions").require_parent(made)
    stored, asked = np.asarray(made["covered"]), np.asarray(made["severity"])
    fronts = np.isin(made["true_occlusion"], ("upper", "bottom", "left-right"))
    assert np.abs(stored - asked)[fronts].max() < 0.03


def test_pixels_depend_on_id_and_seed_only(tmp_path):
    first = synthesise(write(tmp_path / "a"), severities=(0.3,))
    shuffled = synthesise(write(tmp_path / "b", order=np.random.default_rng(3).permutation(21)), severities=(0.3,))
    other = synthesise(write(tmp_path / "c"), severities=(0.3,), seed=1)
    fewer = synthesise(write(tmp_path / "d"), severities=(0.3,), limit=6)
    place = {name: i for i, name in enumerate(shuffled.ids)}
    assert sorted(first.ids) == sorted(shuffled.ids)
    assert np.array_equal(first["images"], np.asarray(shuffled["images"])[[place[i] for i in first.ids]])
    drawn_on = np.asarray(first["severity"]) > 0
    assert (np.asarray(first["images"]) != np.asarray(other["images"]))[drawn_on].any(axis=(1, 2, 3)).all()
    assert len(set(fewer["source_id"])) == 6
    place = {name: i for i, name in enumerate(first.ids)}
    assert np.array_equal(fewer["images"], np.asarray(first["images"])[[place[i] for i in fewer.ids]])


def test_faces_that_cannot_be_drawn_on_are_left_out_and_counted(tmp_path, capsys):
    faces = write(tmp_path / "toy")
    marks, label = np.array(faces["landmarks"]), np.array(faces["label"])
    marks[11], label[12] = np.nan, -1
    faces = write(tmp_path / "toy", landmarks=marks, label=label, id=np.array([f"f{i}" for i in range(21)]))
    toy.write_subsets(faces, occlusion=np.arange(21) == 13)
    made = synthesise(faces, severities=(0.3,), limit=9)
    facts = synthesise_occlusion.summary(made.path)
    assert facts["drawn_on"] == 9
    assert [facts[k] for k in ("without_landmarks", "unlabelled", "covered_already", "beyond_limit")] == [1, 1, 1, 2]
    assert not {"f11", "f12", "f13"} & set(made["source_id"])
    synthesise_occlusion.report(facts)
    told = capsys.readouterr().err
    assert "1 without a label, 1 without landmarks, 1 covered already, 2 beyond --limit" in told


def test_it_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    whole = synthesise(write(tmp_path / "a"), severities=(0.3,))
    write_row, count = artefact.Writer.write, iter(range(10**6))

    def stopped(self, *args, **values):
        if next(count) == 37:
            raise KeyboardInterrupt
        write_row(self, *args, **values)

    faces = write(tmp_path / "b")
    monkeypatch.setattr(artefact.Writer, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        synthesise(faces, severities=(0.3,))
    assert (tmp_path / "b-occluded" / "faces.h5.partial").exists()
    monkeypatch.setattr(artefact.Writer, "write", write_row)
    assert synthesise(faces, severities=(0.3,)).digest == whole.digest


def test_done_once(tmp_path, capsys):
    faces = write(tmp_path / "toy")
    first = synthesise(faces, severities=(0.3,))
    assert synthesise(faces, severities=(0.3,)).uid == first.uid
    assert "up to date" in capsys.readouterr().err
    with pytest.raises(ArtefactError, match="severities"):
        synthesise(faces, severities=(0.2,))


def test_five_landmarks_are_told(tmp_path, capsys):
    five = np.stack([head(side=32)[[36, 45, 30, 48, 54]]] * 21).astype("f4")
    made = synthesise(write(tmp_path / "toy", landmarks=five), severities=(0.3,))
    synthesise_occlusion.report(synthesise_occlusion.summary(made.path))
    assert "5 landmarks tell no outline" in capsys.readouterr().err


def test_rubbish_is_refused(tmp_path):
    faces = write(tmp_path / "toy")
    for wrong in (0.0, -0.1, 1.0):
        with pytest.raises(RecipeError, match="no fraction"):
            synthesise(faces, severities=(wrong,))
    with pytest.raises(DataError, match="in split 'tset'") as e:
        synthesise(faces, split="tset")
    assert e.value.hint == "its splits are: test, train"
    made = synthesise(faces, severities=(0.3,))
    with pytest.raises(ArtefactError, match="drawn on already"):
        synthesise(made)
    with pytest.raises(ArtefactError, match="need landmarks"):
        synthesise(toy.write_faces(tmp_path / "bare"))
    marks = np.full((21, 68, 2), np.nan, "f4")
    marks[:7] = head(side=32)
    half = write(tmp_path / "half", landmarks=marks)
    with pytest.raises(DataError, match="14 without landmarks"):
        synthesise(half)


# --------------------------------------------------------------------------------------------- commands and curve


def call(*words, code=0):
    done = CliRunner().invoke(cli.app, [*map(str, words)])
    assert done.exit_code == code, done.output + done.stderr
    return done


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A workspace with a trained toy run, scored on its own faces and on drawn ones; and what eval said."""
    space = tmp_path_factory.mktemp("space")
    faces = write(space / "toy", n=24)
    toy.write_regions(faces)
    toy.train_toy(faces, epochs=3)
    call("build-subsets", "--workspace", space, "--synthesise", "--severity", 0.2, "--severity", 0.5, "--limit", 24)
    call("eval", "--workspace", space)
    done = call("eval", "--workspace", space, "--data", "toy-occluded", "--subset", "all", "--json")
    return space, json.loads(done.stdout)


def test_a_run_is_scored_on_drawn_faces_by_the_usual_command(scored):
    _, facts = scored
    (result,) = facts["runs"].values()
    assert set(result["subsets"]) == {"all", "uncovered", *(f"{k}-{s}" for k in OCCLUSIONS for s in (0.2, 0.5))}
    assert {s["n_total"] for name, s in result["subsets"].items() if name != "all"} == {24}
    assert not any(s.get("paper") for s in result["subsets"].values()), "no paper has numbers on drawn faces"


def test_the_curve_shows_what_eval_says(scored):
    space, facts = scored
    call("visualize", "robustness", "--workspace", space)
    (run,) = (space / "toy" / "runs").iterdir()
    figures = artefact.read(run / "figures" / "figures.h5", "figures")
    assert (run / "figures" / "robustness.png").stat().st_size > 10_000
    (result,) = facts["runs"].values()
    for kind in OCCLUSIONS:
        curve = figures.group(f"robustness/{kind}/{run.name}")
        said = [result["subsets"][name] for name in ("uncovered", f"{kind}-0.2", f"{kind}-0.5")]
        assert np.allclose(curve["accuracy"], [s["accuracy"] for s in said])
        assert np.allclose(curve["low"], [s["low"] for s in said])
        assert curve["faces"].tolist() == [24] * 3
        assert curve["at"][0] == 0
        assert np.abs(curve["at"][1:] - [20, 50]).max() < 8
    yaw = figures.group(f"robustness/yaw/{run.name}")
    assert yaw["faces"].sum() <= 48
    assert (np.diff(yaw["at"]) > 0).all()
    assert ((yaw["low"] <= yaw["accuracy"]) & (yaw["accuracy"] <= yaw["high"])).all()


def test_seeds_of_a_system_are_one_curve(tmp_path):
    faces = write(tmp_path / "toy", n=24)
    toy.write_regions(faces)
    for seed in (0, 1):
        toy.train_toy(faces, epochs=2, seed=seed, out=tmp_path / "toy/runs" / f"seed{seed}")
    call("build-subsets", "--workspace", tmp_path, "--synthesise", "--severity", 0.5, "--limit", 24)
    runs = [word for seed in (0, 1) for word in ("--run", tmp_path / "toy/runs" / f"seed{seed}")]
    call("eval", "--workspace", tmp_path, *runs)
    done = call("eval", "--workspace", tmp_path, *runs, "--data", "toy-occluded", "--subset", "all", "--json")
    each = [r["subsets"]["upper-0.5"]["accuracy"] for r in json.loads(done.stdout)["runs"].values()]
    drawing = draw_robustness(named([tmp_path / "toy/runs" / f"seed{seed}" for seed in (0, 1)]), Visualize(), None)
    curves = {key for key in drawing.arrays if key.startswith("upper/")}
    assert {key.split("/")[1] for key in curves} == {"ran, 2 seeds"}
    assert np.isclose(drawing.arrays["upper/ran, 2 seeds/accuracy"][-1], np.mean(each))
    assert drawing.arrays["upper/ran, 2 seeds/faces"].tolist() == [24, 24]
    low, high = (drawing.arrays[f"upper/ran, 2 seeds/{end}"][-1] for end in ("low", "high"))
    assert low <= min(each) <= max(each) <= high


def test_a_curve_without_drawn_faces_shows_the_pose_and_says_what_is_missing(scored, tmp_path, capsys):
    space, _ = scored
    (run,) = (space / "toy" / "runs").iterdir()
    drawing = draw_robustness(named([run]), Visualize(), None)
    assert len(drawing.figure.axes) == 6
    lone = tmp_path / "toy"
    (lone / "runs" / "r").mkdir(parents=True)
    for source, target in ((space / "toy" / "faces.h5", lone / "faces.h5"),):
        target.write_bytes(source.read_bytes())
    for name in ("run.h5", "predictions.h5"):
        (lone / "runs" / "r" / name).write_bytes((run / name).read_bytes())
    capsys.readouterr()
    assert len(draw_robustness(named([lone / "runs" / "r"]), Visualize(), None).figure.axes) == 2
    assert "--synthesise" in capsys.readouterr().err
    (lone / "runs" / "r" / "predictions.h5").unlink()
    with pytest.raises(ArtefactError, match="no predictions"):
        draw_robustness(named([lone / "runs" / "r"]), Visualize(), None)
    with pytest.raises(UsageError, match="beside one another"):
        draw_robustness(named([run]), Visualize(), "uncovered")


def test_options_that_do_not_fit_together(scored):
    space, _ = scored
    assert "add --synthesise" in call("build-subsets", "--workspace", space, "--severity", 0.2, code=2).stderr
    for extra in (["--folds", 3], ["--lists", space], ["--pose-source", "list"]):
        words = ["build-subsets", "--workspace", space, "--data", "toy", "--synthesise", *extra]
        assert "by itself" in call(*words, code=2).stderr
    call("build-subsets", "--workspace", space, "--data", "toy", "--synthesise", "--severity", 3, code=4)
    call("build-subsets", "--workspace", space, "--data", "toy-occluded", "--synthesise", code=3)


# ----------------------------------------------------------------------------------------------------- guesses


def test_a_network_learns_where_things_are():
    rng = np.random.default_rng(0)
    types = np.arange(256) % 3
    images = rng.integers(90, 160, (256, 48, 48), dtype=np.uint8)
    images[types == 1, :20] = 20
    images[types == 2, 30:] = 20
    said = classifier.guess(classifier.learn(images, types, epochs=9, seed=0), images)
    assert said.shape == (256, 5)
    assert np.allclose(said.sum(axis=1), 1, atol=1e-5)
    assert (said.argmax(axis=1) == types).mean() > 0.9
    first, again, other = (
        classifier.guess(classifier.learn(images[:64], types[:64], epochs=1, seed=k), images[:9]) for k in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_lessons_hold_every_type_and_faces_as_they_are():
    made = [lesson(blank(), head(), key=str(i)) for i in range(60)]
    assert {kind for _, kind in made} == {0, 1, 2, 3, 4}
    for image, kind in made:
        assert (kind == 0) == np.array_equal(image, blank())


@pytest.fixture(scope="module")
def suggested(tmp_path_factory):
    """Faces with ugly names, and the table and page that suggest-occlusion wrote about them."""
    folder = tmp_path_factory.mktemp("suggest") / "<b>toy"
    ids = np.array([f'<img src="x">, "{i}" & é.png' for i in range(60)], object)
    faces = write(folder, n=20, id=ids)
    settings = ["--set", "suggest-occlusion.samples=120", "--set", "suggest-occlusion.epochs=1", "--min-probability", 0]
    done = call("suggest-occlusion", "--workspace", folder.parent, "--learn-from", folder.name, *settings)
    return faces, folder / "occlusion.csv", done


def test_suggestions_are_a_table_without_reviews(suggested):
    faces, path, done = suggested
    with open(path, newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert list(rows[0]) == ["id", "suggested", "confidence", "type"]
    assert {row["type"] for row in rows} == {""}
    assert sorted(row["id"] for row in rows) == sorted(faces.ids[faces["split"] == "test"])
    order = [(OCCLUSIONS.index(row["suggested"]), -float(row["confidence"])) for row in rows]
    assert order == sorted(order)
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    assert "guesses" in done.stderr


def test_the_page_needs_no_network_and_escapes_names(suggested):
    faces, path, _ = suggested
    page = path.with_suffix(".html").read_text("utf-8")
    assert page.count("data:image/") == 40
    assert not re.search(r"https?:|src=.?/|<img src=\"x\"|<b>toy", page)
    assert html.escape(faces.ids[40], quote=False).split(" ")[0] in page.replace("&#34;", '"')
    assert "default-src 'none'" in page


@pytest.mark.browser
@pytest.mark.skipif(not chrome.PROGRAM, reason=chrome.WHY_NOT)
def test_the_page_saves_the_table_with_reviews(suggested, tmp_path):
    _, path, _ = suggested
    page = path.with_suffix(".html")
    with chrome.Page() as opened:
        opened.open(page)
        opened.run("""{
            const make = URL.createObjectURL;
            URL.createObjectURL = blob => { window.saved = blob; return make(blob); };
            document.querySelector("figure button").click();
            document.querySelectorAll("select")[1].value = "none";
            document.getElementById("save").click();
        }""")
        saved = opened.run("window.saved.text()")
        asked, said = opened.asked, opened.said
    assert said == []
    assert [a for a in asked if not a.startswith(("data:", "blob:"))] == [page.resolve().as_uri()]
    rows, before = (list(csv.reader(text.splitlines())) for text in (saved, path.read_text("utf-8")))
    assert [row[:3] for row in rows] == [row[:3] for row in before]
    assert [row[3] for row in rows[1:4]] == [rows[1][1], "none", ""]


def test_reviewed_suggestions_become_subsets(suggested, tmp_path):
    faces, path, _ = suggested
    with open(path, newline="", encoding="utf-8") as f:
        header, *rows = csv.reader(f)

    def reviewed(decisions):
        out = tmp_path / "occlusion.csv"
        with open(out, "w", newline="", encoding="utf-8") as f:
            csv.writer(f).writerows([header, *([*row[:3], v] for row, v in zip(rows, decisions, strict=True))])
        return out

    def build(table):
        out = tmp_path / "subsets.h5"
        build_subsets.run(faces.path, settings=BuildSubsets(), out=out, occlusion_table=table, overwrite=True)
        return artefact.read(out, "subsets")

    made = build(reviewed(["upper", "none", "Glasses-Mask", *[""] * (len(rows) - 3)]))
    assert made.ids[np.asarray(made["occlusion"])].tolist() == sorted(
        [rows[0][0], rows[2][0]], key=faces.ids.tolist().index
    )
    assert made.ids[np.asarray(made["occlusion-upper"])].tolist() == [rows[0][0]]
    assert made.info["report"]["table"] == {
        "rows": 3,
        "ids": 3,
        "not_found": {"count": 0, "examples": [], "ambiguous": 0},
        "unreviewed": len(rows) - 3,
    }
    with pytest.raises(DataError, match="is not reviewed"):
        build(reviewed([""] * len(rows)))
    with pytest.raises(DataError, match="line 2: 'uper'"):
        build(reviewed(["uper", *[""] * (len(rows) - 1)]))


def test_a_reviewed_table_is_not_overwritten(suggested, tmp_path):
    faces, path, _ = suggested
    before = path.read_bytes()
    settings = SuggestOcclusion(samples=100, epochs=1)
    with pytest.raises(UsageError, match="may hold reviews"):
        suggest_occlusion.run(faces.path, settings=settings, out=path)
    assert path.read_bytes() == before
    with pytest.raises(DataError, match="in split 'x'"):
        suggest_occlusion.run(faces.path, settings=SuggestOcclusion(split="x"), out=tmp_path / "o.csv")
    few = write(tmp_path / "few", n=5)
    with pytest.raises(DataError, match="only 15 faces with landmarks"):
        suggest_occlusion.run(few.path, settings=settings, out=tmp_path / "o.csv", learn_from=few.path)
    assert not (tmp_path / "o.csv").exists()


def test_the_network_that_comes_along_tells_drawings_from_bare_rendered_faces(faces_h5, tmp_path):
    faces = artefact.read(faces_h5, "faces")
    rows = np.flatnonzero(np.isfinite(faces["landmarks"]).all(axis=(1, 2)) & (faces["true_occlusion"] == ""))
    images, types = suggest_occlusion.lessons(faces, rows, SuggestOcclusion(samples=200, seed=5), LocalExecutor())
    said = classifier.guess(classifier.shipped(), images).argmax(axis=1)
    assert (said == types).mean() > 0.75
    assert ((said > 0) == (types > 0)).mean() > 0.8
    suggest_occlusion.run(faces_h5, settings=SuggestOcclusion(), out=tmp_path / "o.csv")
    assert (tmp_path / "o.html").is_file()
