"""The page of a run or of several, as text and in a real browser."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import chrome
import numpy as np
import pytest
import toy
from small_runs import CLASSES, make_faces, make_predictions, make_regions, make_run, make_subsets
from typer.testing import CliRunner

from fertool import artefact, cli
from fertool.errors import DataError
from fertool.evaluation import charts, metrics
from fertool.evaluation.units import percent
from fertool.figures import thumbnails
from fertool.stages import report as report_stage
from fertool.stages.evaluate import scores

HOSTILE = (
    "<script>window.hit=1</script>.png",
    '"><img src="https://example.org/x.png" onerror="window.hit=1">',
    "</style>&amp;{{7*7}}.png",
)
LABELS = [*range(8), *range(8), *range(8), -1, *[0] * 9]  # twelve neutral faces, three of every other class


def call(*words, space=None):
    more = ["--workspace", str(space)] if space else []
    return CliRunner().invoke(cli.app, [*map(str, words), *more])


def facts(*words, space) -> dict:
    result = call(*words, "--json", space=space)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """Faces with hostile names, RAN with the weights of its regions, its baseline without, and va-cnn with a map."""
    root = tmp_path_factory.mktemp("space")
    names = [*HOSTILE, *(f"face{i:03d}.png" for i in range(len(HOSTILE), len(LABELS)))]
    faces = make_faces(root / "toy", LABELS, ids=names)
    regions = make_regions(faces)
    n = faces.rows
    make_subsets(
        faces,
        occlusion=np.arange(n) % 2 == 0,
        pose45=np.arange(n) % 3 == 0,
        duplicate=np.arange(n) < 4,
        empty=np.zeros(n),
    )
    weights = np.full((n, 6), 0.1)
    weights[:, 3] = 0.5
    right = np.where(np.array(LABELS) < 0, 0, LABELS)
    for name, variant, wrong, more in (
        ("ran-1", "ran", 5, {"attention": weights, "parents": [regions.as_parent()]}),
        ("ran-baseline-1", "baseline", 9, {}),
    ):
        said = right.copy()
        said[:wrong] = (said[:wrong] + 1) % 8
        run = make_run(faces, name, variant=variant, recipe="ran-ferplus", parents=more.get("parents", ()))
        make_predictions(run, faces, said, sure=2.0, **more)
    make_run(faces, "ran-2")
    return root


@pytest.fixture(scope="module")
def page(space) -> Path:
    return Path(facts("report", "--run", "ran-1", space=space)["report"])


@pytest.fixture(scope="module")
def several(space) -> Path:
    return Path(facts("report", "--run", "ran-baseline-1", "--run", "ran-1", space=space)["report"])


def evaluated(space, *runs: str) -> dict:
    """What eval says of these predictions, as JSON."""
    found = scores.run(
        {r: space / f"toy/runs/{r}/predictions.h5" for r in runs},
        names=("all",),
        confidence=0.95,
        fuse=(),
        csv=None,
    )
    return json.loads(json.dumps(found))


class Seen(HTMLParser):
    """What a page is made of: its elements, and the words in it."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements, self.words, self._within = [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._within.append(tag)

    def handle_endtag(self, tag):
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._within):
            self.words.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


# ------------------------------------------------------------------------------------------------ what it says


def test_one_run(space, page):
    assert page == space / "toy/runs/ran-1/report.html"
    told = facts("report", "--run", "ran-1", space=space)
    found = evaluated(space, "ran-1")["runs"]["ran-1"]
    assert told["runs"]["ran-1"]["scores"] == found, "the numbers are those of eval"
    assert told["bytes"] == page.stat().st_size
    seen = Seen(page)
    assert f"{percent(found['subsets']['all']['accuracy'])} %" in seen.text
    assert "28 of 33 faces right" in seen.text
    assert "The paper: 88.55 % (Table IV). Not to be compared" in seen.text
    assert all(line[0].upper() + line[1:] in seen.text for line in found["paper"]["says"]), "as eval says it"
    for words in ("occlusion", "pose45", "no face found", "precision", "recall", "F1", "macro"):
        assert words in seen.text
    assert "4 of the 33 faces scored have an exact pixel duplicate" in seen.text
    assert "1 of 34 faces, which have no label" in seen.text


def test_twice_is_the_same_page(space, page):
    before = page.read_bytes()
    facts("report", "--run", "ran-1", space=space)
    assert page.read_bytes() == before


def test_where_it_looked_stands_beside_every_face(page):
    seen = Seen(page)
    assert "most: crop-3 (0.50)" in seen.text
    pictures = seen.all("img")
    assert len(pictures) == 2 * (5 + 8), "five mistakes, and of each class one recognised face"
    assert all(p["alt"] and p["src"].startswith("data:image/jpeg;base64,") for p in pictures)
    assert sum("most: crop-3" in p["alt"] for p in pictures) == 5 + 8


def test_without_attention(space):
    made = facts("report", "--run", "ran-baseline-1", space=space)
    seen = Seen(Path(made["report"]))
    assert "keeps no attention that could be shown" in seen.text
    assert len(seen.all("img")) == 9 + 8


def test_mistakes_come_surest_first_and_as_many_as_asked_for(space, tmp_path):
    made = facts("report", "--run", "ran-1", "--mistakes", 2, "--out", tmp_path / "two.html", space=space)
    seen = Seen(Path(made["report"]))
    assert "The 2 surest of its 5 mistakes" in seen.text


def test_names_from_data_are_words(page, several):
    for made in (page, several):
        text = made.read_text(encoding="utf-8")
        assert not any(name in text for name in HOSTILE)
        seen = Seen(made)
        assert all(name in seen.text for name in HOSTILE), "but the reader sees them"
        assert len(seen.all("script")) == 2


def test_nothing_is_fetched(page, several):
    for made in (page, several):
        seen = Seen(made)
        links = [a.get("src") or a.get("href") or "" for _, a in seen.elements]
        assert all(link.startswith(("data:", "#")) or not link for link in links)
        assert "@import" not in made.read_text(encoding="utf-8")
        policy = next(m["content"] for m in seen.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
        assert "default-src 'none'" in policy


def test_several_runs(space, several):
    assert several == space / "toy/report.html"
    told = facts("report", "--run", "ran-baseline-1", "--run", "ran-1", space=space)
    compared = evaluated(space, "ran-baseline-1", "ran-1")
    assert told["comparison"] == compared["comparison"]
    seen = Seen(several)
    assert "2 runs on toy" in seen.text
    assert "against ran-baseline-1" in seen.text
    p = compared["comparison"]["subsets"]["all"]["runs"]["ran-1"]["p_exact"]
    assert f"{p:.3f}" in seen.text
    assert seen.text.count("Not to be compared") == 2


def test_runs_on_other_faces_stand_beside_one_another_but_are_not_compared(space, tmp_path):
    other = make_faces(tmp_path / "other", [0, 1, 2, 3])
    make_predictions(make_run(other, "ran-1"), other, [0, 1, 2, 2])
    words = ["report", "--run", space / "toy/runs/ran-1", "--run", tmp_path / "other/runs/ran-1"]
    told = facts(*words, "--out", tmp_path / "both.html", space=tmp_path)
    assert set(told["runs"]) == {"toy-ran-1", "other-ran-1"}
    seen = Seen(tmp_path / "both.html")
    assert "cannot be compared face by face" in seen.text
    assert "not about the same faces" in seen.text


def test_where_it_comes_from(space, page):
    seen = Seen(page)
    digests = [
        artefact.read(space / f"toy/{name}.h5").digest
        for name in ("faces", "regions", "runs/ran-1/run", "runs/ran-1/predictions")
    ]
    places = [seen.text.index(d) for d in digests]
    assert places == sorted(places), "parents before children"
    run = artefact.read(space / "toy/runs/ran-1/run.h5")
    assert run.uid in seen.text
    assert "train.select_on last" in seen.text
    assert f"fertool report --run {space}/toy/runs/ran-1" in seen.text


def test_commands_to_repeat_it_come_in_the_order_of_their_needs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FERTOOL_WORKSPACE", raising=False)
    toy.write_all(tmp_path / "artefacts/toy", train=12, test=6)
    small = [w for e in ("model.backbone=tiny", "model.size=24", "global_batch=12") for w in ("--set", f"train.{e}")]
    given = [
        ["train", "ran", "--epochs", "1", *small],
        ["train", "ran", "--variant", "baseline", "--epochs", "1", *small],
        ["eval", "--run", "toy/ran-1", "--run", "toy/ran-baseline-1"],
        ["build-subsets"],
        ["report", "--run", "toy/ran-1", "--run", "toy/ran-baseline-1"],
    ]
    for words in given:
        monkeypatch.setattr("sys.argv", ["fertool", *words])
        assert call(*words).exit_code == 0
    text = Seen(tmp_path / "artefacts/toy/report.html").text
    text = text[text.index("To do it again") :]
    places = {" ".join(words[:3]): text.index(" ".join(["fertool", *words])) for words in given}
    order = sorted(places, key=places.get)
    assert order[-1].startswith("report")
    assert places["eval --run toy/ran-1"] > max(places["train ran --epochs"], places["train ran --variant"])
    assert "build-subsets" in places, "whose subsets are scored on the page"


def test_only_a_significant_difference_is_bold_and_few_faces_are_grey(tmp_path):
    labels = [i % 8 for i in range(80)]
    faces = make_faces(tmp_path / "toy", labels)
    make_subsets(faces, three=np.arange(80) < 3, even=np.arange(80) % 2 == 0, third=np.arange(80) % 3 == 0)
    wrong_of = {"good-1": [1], "close-1": [3, 5], "bad-1": [*range(0, 30, 2), *range(30, 40)]}
    for name, wrong in wrong_of.items():
        said = np.array(labels)
        said[wrong] = (said[wrong] + 1) % 8
        make_predictions(make_run(faces, name), faces, said)

    def rows(*names):
        words = [w for n in names for w in ("--run", n)]
        told = facts("report", *words, "--out", tmp_path / "page.html", space=tmp_path)
        text = (tmp_path / "page.html").read_text()
        table = re.findall(r'<tr class="(few)?"><th scope="row">(.*?)</th>(.*?)</tr>', text, re.DOTALL)
        found = {name: (few, re.findall(r'class="(best)?">([\d.]+)<', cells)) for few, name, cells in table}
        assert "the grey mark is chance" in text
        assert 'class="chance" style="--chance-at' in text
        assert "Guessing: 12.50 %; always the most frequent class: 12.50 %" in " ".join(text.split())
        return told["comparison"]["subsets"], found

    compared, found = rows("good-1", "bad-1")
    assert compared["all"]["best"] == "good-1"
    assert [bold for bold, _ in found["all faces"][1]] == ["best", ""]
    assert compared["three"]["runs"]["bad-1"]["accuracy"] == pytest.approx(1 / 3)
    assert compared["three"]["best"] is None
    assert found["three *"] == ("few", [("", "66.67"), ("", "33.33")])
    compared, found = rows("good-1", "close-1")
    assert {s["best"] for s in compared.values()} == {None}, "one face more is no difference"
    assert not any(bold for _, cells in found.values() for bold, _ in cells)
    compared, _ = rows("bad-1", "close-1", "good-1")
    assert compared["all"]["best"] is None, "better than the reference, but not than each of the others"


def test_a_parent_that_is_gone_is_said_to_be(tmp_path):
    faces = make_faces(tmp_path / "toy", [0, 1, 2, 3])
    regions = make_regions(faces)
    run = make_run(faces, "ran-1", parents=[regions.as_parent()])
    make_predictions(run, faces, [0, 1, 2, 2], attention=np.full((4, 6), 1 / 6), parents=[regions.as_parent()])
    regions.path.unlink()
    seen = Seen(Path(facts("report", space=tmp_path)["report"]))
    assert "How toy/regions.h5 was made: it is no longer in the workspace" in seen.text
    assert "Where it looks: the regions it was given are no longer beside its faces" in seen.text
    assert "there are no subsets" in seen.text or "has no subsets" in seen.text


def test_a_checkpoint_chosen_on_the_test_split_is_warned_of(tmp_path):
    faces = make_faces(tmp_path / "toy", [0, 1, 2, 3])
    run = make_run(faces, "ran-1")
    params = {**run.params, "train": {**run.params["train"], "select_on": "test"}}
    arrays = {name: np.array(run[name]) for name in run.stored}
    run = artefact.save(run.path, "run", arrays, params=params, inputs=run.inputs, classes=run.classes)
    make_predictions(run, faces, [0, 1, 2, 2])
    seen = Seen(Path(facts("report", space=tmp_path)["report"]))
    assert "The checkpoint was chosen on the test split" in seen.text


def test_faces_without_labels_have_no_accuracy(tmp_path):
    faces = make_faces(tmp_path / "toy", [-1, -1, -1])
    make_predictions(make_run(faces, "ran-1"), faces, [0, 1, 2])
    seen = Seen(Path(facts("report", space=tmp_path)["report"]))
    assert "none of the faces has a label" in seen.text


def test_other_predictions_of_the_run_are_listed(tmp_path):
    faces = make_faces(tmp_path / "toy", [0, 1, 2, 3])
    run = make_run(faces, "ran-1")
    made = make_predictions(run, faces, [0, 1, 2, 3])
    made.path.rename(made.path.with_name("predictions-elsewhere.h5"))
    make_predictions(run, faces, [0, 1, 2, 2])
    seen = Seen(Path(facts("report", space=tmp_path)["report"]))
    assert "75.00 %" in seen.text
    assert "predictions-elsewhere.h5 toy/faces.h5 test 4 100.00" in seen.text


# ---------------------------------------------------------------------------------------------- other networks


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A part that recognises nobody, and the folds of a small RAN."""
    root = tmp_path_factory.mktemp("trained")
    marks = np.array([[9.1, 10.7], [21.9, 10.7], [15.5, 18], [11, 24], [20, 24]], "f4")
    columns = {"subject": np.repeat([f"S{i}" for i in range(8)], 3).astype(object), "split": np.full(24, "", object)}
    faces = toy.write_faces(root / "toy", train=24, test=0, landmarks=np.repeat(marks[None], 24, axis=0), **columns)
    toy.write_regions(faces)
    facts("make-masks", space=root)
    facts("build-subsets", "--folds", 2, space=root)
    small = ("--gpus", 0, "--epochs", 1, "--batch", 12, "--lr", 0.001)
    facts(
        "train", "rasnet", *small, "--folds", 0, "--set", "train.flip=0", "--set", "train.model.channels=4", space=root
    )
    tiny = ("--set", "train.model.backbone=tiny", "--set", "train.model.size=24")
    facts("train", "ran", *small, *tiny, "--folds", "all", "--set", "train.track=[face 3.png]", space=root)
    return root


def test_a_network_that_predicts_no_expressions(trained):
    seen = Seen(Path(facts("report", "--run", "rasnet-fold0-1", space=trained)["report"]))
    assert "% IoU" in seen.text
    assert "the best output that is the same for every face reaches 100.00 %" in seen.text
    assert "rasnet predicts no expressions" in seen.text
    assert "How did it learn?" in seen.text
    assert "On whom?" not in seen.text
    assert "fertool" in seen.text


def test_folds_are_added_up_once_all_are_predicted(trained):
    assert not list((trained / "toy/runs/ran-fold0-1").glob("predictions*.h5"))
    first = facts("report", "--run", "toy/ran-fold0-1", "--gpus", 0, space=trained)
    assert first["runs"]["ran-fold0-1"]["scores"]["subsets"]["all"]["n_total"] == 12, "it is evaluated for the page"
    assert "ran-fold1-1" in first["cross_validations"][0]["missing"]
    assert "cannot be added up yet" in Seen(Path(first["report"])).text
    total = facts("eval", "--folds", "--run", "ran-fold0-1", space=trained)["systems"]["ran"]
    told = facts("report", "--run", "ran-fold0-1", space=trained)
    crossed = told["cross_validations"][0]
    assert crossed["result"]["pooled"] == total["pooled"]
    seen = Seen(Path(told["report"]))
    assert f"{percent(total['pooled']['accuracy'])} % of the 24 faces of all folds" in seen.text
    assert "which is fold 0 of its cross-validation" in seen.text
    assert "How it moved in training" in seen.text
    both = facts(
        "report", "--run", "ran-fold0-1", "--run", "ran-fold1-1", "--out", trained / "both.html", space=trained
    )
    assert len(both["cross_validations"]) == 1, "one system, however many of its folds are named"


def test_the_machine_is_recorded(trained):
    seen = Seen(Path(facts("report", "--run", "rasnet-fold0-1", space=trained)["report"]))
    assert re.search(r"CPU, \d+ threads?", seen.text)
    assert "which machine" not in seen.text


def test_maps_are_shown_over_faces(tmp_path):
    faces = make_faces(tmp_path / "toy", [0, 1, 2, 3], side=16)
    model = {"height": 16, "width": 16, "crop": False}
    run = make_run(faces, "va-cnn-1", variant="va-cnn")
    params = {**run.params, "model": {"name": "va-cnn", **model}}
    arrays = {name: np.array(run[name]) for name in run.stored}
    run = artefact.save(run.path, "run", arrays, params=params, inputs=run.inputs, classes=run.classes)
    made = make_predictions(run, faces, [0, 1, 2, 2])
    maps = np.zeros((4, 3, 3), "f4")
    maps[:, 2, 0] = 1
    columns = {name: np.array(made[name]) for name in made.columns} | {"attention_map": maps}
    artefact.save(made.path, "predictions", columns, params=made.params, inputs=made.inputs, classes=made.classes)
    seen = Seen(Path(facts("report", space=tmp_path)["report"]))
    assert seen.text.count("most at the lower left") == 4 + 5, "each face, all of them, and each class"
    assert "attention 4 0.0 0.0 100.0" in seen.text, "all of it lies in the lower third"


def test_a_recipe_may_end_with_the_page(tmp_path):
    toy.write_all(tmp_path / "artefacts/toy", train=12, test=6)
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "stages: [train, eval, report]\nvariants: [ran, baseline]\n"
        "train: {model: {name: ran, backbone: tiny, size: 24}, epochs: 1, global_batch: 12}\n"
    )
    told = facts("run", recipe, tmp_path / "toy", "--gpus", 0, space=tmp_path / "artefacts")["report"]
    assert Path(told["report"]) == tmp_path / "artefacts/toy/report.html"
    assert set(told["runs"]) == {"ran-1", "ran-baseline-1"}


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--run", "ran-2"), 3, "has no last weights"),
        (("--run", "ran-1", "--run", "ran-1"), 2, "the same run is named twice"),
        (("--run", "ran-7"), 3, "there is no run 'ran-7'"),
        (("--run", "ran-1", "--out", "{mine}"), 2, "no page of fertool's"),
        (("--run", "ran-1", "--out", "{mine}/x/report.html"), 3, "cannot write"),
        (("--run", "ran-1", "--set", "report.mistaks=3"), 4, "unknown key 'mistaks'"),
    ],
)
def test_refusals(space, tmp_path, words, code, message):
    mine = tmp_path / "notes.html"
    mine.write_text("<p>mine</p>")
    told = json.loads(call("report", *(w.format(mine=mine) for w in words), "--json", space=space).stdout)
    assert told["code"] == code, told
    assert message in told["error"]
    assert told["hint"]
    assert mine.read_text() == "<p>mine</p>"
    assert len(list(tmp_path.iterdir())) == 1, "nothing is left lying about"


def test_predictions_of_an_older_state_are_refused(tmp_path):
    faces = make_faces(tmp_path / "toy", [0, 1, 2, 3])
    make_predictions(make_run(faces, "ran-1"), faces, [0, 1, 2, 2])
    make_run(faces, "ran-1", epochs=4)
    told = json.loads(call("report", "--json", space=tmp_path).stdout)
    assert told["code"] == 3
    assert "was made from another run file" in told["error"]


# -------------------------------------------------------------------------------------------------- its parts


def test_calibration():
    sure = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55, 1.0])
    right = np.array([1, 1, 1, 0, 1, 0, 1], bool)
    c = metrics.calibration(sure, right)
    assert c.n.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 5]
    assert c.accuracy[5] == 0.5
    assert c.accuracy[9] == pytest.approx(0.8)
    assert c.confidence[9] == pytest.approx(0.96)
    assert c.error == pytest.approx((2 * 0.05 + 5 * 0.16) / 7)
    assert np.isnan(metrics.calibration(sure[:0], right[:0]).error)


def test_charts_break_lines_where_nothing_was_measured():
    line = charts.Line("loss", [1, 2, 3, 4, 5], [1.0, 2.0, np.nan, 4.0, 0.0])
    plot = charts.plot([line], "x", "y", x_range=(0, 5), y_range=(0, 4))
    assert [len(p.split()) for p in plot["lines"][0]["paths"]] == [2, 2]
    assert plot["lines"][0]["paths"][1].endswith(f"{plot['right']:.1f},{plot['bottom']:.1f}")
    assert [t for _, t in plot["y_ticks"]] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("low", "high", "least", "wanted"),
    [
        (0, 1, 0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (40, 100, 0, [40, 60, 80, 100]),
        (0, 3, 1, [0, 1, 2, 3]),
        (0, 1, 1, [0, 1]),
    ],
)
def test_ticks_are_round(low, high, least, wanted):
    assert charts.ticks(low, high, least=least) == wanted


def test_heat_lies_where_the_map_is_high_and_only_within_the_view():
    image = np.full((20, 10, 1), 128, "u1")
    values = np.zeros((4, 2))
    values[3, 1] = 1
    made = np.asarray(thumbnails.heat(image, values, (0.25, 0, 1, 1))).astype(int)
    height, width = made.shape[:2]
    assert (height, width) == (288, 144), "the shape of the face is kept"
    assert made[-1, -1].sum() > made[0, -1].sum() + 200
    assert np.ptp(made[:, : width // 4 - 1], axis=2).max() == 0, "grey where the network does not see"


def test_the_heaviest_region_is_framed_in_red():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    made = np.asarray(thumbnails.framed(np.zeros((16, 16, 3), "u1"), boxes, np.array([0.3, 0.1, 0.6]))).astype(int)
    r, g, b = made[74, 100]
    assert r > 2 * max(g, b)
    r, g, b = made[6, 30]
    assert b > 2 * max(r, g)


# --------------------------------------------------------------------------------------------------- contrast


def _colours(text: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", text))


def _themes() -> dict[str, dict[str, str]]:
    css = (Path(charts.__file__).parent / "templates/report.css").read_text()
    light = _colours(css.split("@media")[0])
    dark = light | _colours(css.split("@media (prefers-color-scheme: dark)")[1].split("* { box-sizing")[0])
    return {"light": light, "dark": dark, "print": light | _colours(css.split("@media print")[1])}


def _rgb(colour: str) -> np.ndarray:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * d for d in colour[1:])
    return np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255


def _contrast(a: np.ndarray, b: np.ndarray) -> float:
    """WCAG 2.2's contrast ratio."""
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(rgb: np.ndarray) -> float:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_words_and_lines_can_be_told_from_what_they_stand_on(theme):
    c = {name: _rgb(value) for name, value in _themes()[theme].items()}
    for words, ground in (
        *(("text", g) for g in ("page", "plate")), ("quiet", "page"), ("quiet", "plate"), ("link", "page"),
        ("wrong", "page"), ("warn", "warn-plate"),
    ):  # fmt: skip
        assert _contrast(c[words], c[ground]) >= 4.5, (theme, words, ground)
    for share in np.linspace(0, 1, 21):
        assert _contrast(c["text"], share * c["heat"] + (1 - share) * c["plate"]) >= 4.5, (theme, share)
    for line in ("edge", "paper", *(f"run-{i}" for i in range(6))):
        assert _contrast(c[line], c["page"]) >= 3, (theme, line)


# -------------------------------------------------------------------------------------------------- in a browser


def in_browser(test):
    """Mark a test that needs Chromium."""
    return pytest.mark.browser(pytest.mark.skipif(not chrome.PROGRAM, reason=chrome.WHY_NOT)(test))


@pytest.fixture(scope="module")
def browser(several):
    with chrome.Page() as opened:
        opened.open(several)
        yield opened


@in_browser
def test_the_browser_has_nothing_to_complain_of(browser, several):
    assert browser.said == []
    assert [a for a in browser.asked if not a.startswith("data:")] == [several.as_uri()]
    assert browser.run("window.hit") is None
    assert browser.run("[...document.images].every(i => i.loading === 'lazy' || (i.complete && i.naturalWidth))")


@in_browser
def test_the_page_would_not_run_or_fetch_what_is_put_into_it(several, tmp_path):
    spoilt = tmp_path / "spoilt.html"
    extra = '<script>window.hit=1</script><img src="https://example.org/x.png" onerror="window.hit=1">'
    spoilt.write_text(several.read_text(encoding="utf-8").replace("</main>", extra + "</main>"), encoding="utf-8")
    with chrome.Page() as opened:
        opened.open(spoilt)
        assert opened.run("window.hit") is None
        assert sum("Content Security Policy" in line for line in opened.said) >= 2


COLUMN = """[...document.querySelectorAll('#whom table')[1].tBodies[0].rows].map(r => r.cells[{}].textContent)"""
HEAD = "document.querySelectorAll('#whom table')[1].querySelectorAll('button.sort')[{}]"


@in_browser
def test_tables_sort_by_their_heads(browser):
    assert browser.run(COLUMN.format(0)) == list(CLASSES)
    browser.run(HEAD.format(0) + ".click()")
    assert browser.run(COLUMN.format(0)) == sorted(CLASSES)
    assert browser.run(HEAD.format(0) + ".parentElement.getAttribute('aria-sort')") == "ascending"
    browser.run(HEAD.format(0) + ".click()")
    assert browser.run(COLUMN.format(0)) == sorted(CLASSES, reverse=True)
    assert browser.run(HEAD.format(0) + ".parentElement.getAttribute('aria-sort')") == "descending"
    assert browser.run("document.querySelectorAll('#whom [aria-sort]').length") == 1


@in_browser
def test_tables_sort_by_number_and_from_the_keyboard(browser):
    browser.run(HEAD.format(1) + ".focus()")
    browser.press("Enter", 13)
    assert browser.run(COLUMN.format(1)) == ["3"] * 7 + ["12"], "as numbers: among words, 12 comes before 3"
    browser.press("Enter", 13)
    assert browser.run(COLUMN.format(1)) == ["12"] + ["3"] * 7


@in_browser
def test_a_phone_never_scrolls_the_page_sideways(page, several):
    with chrome.Page() as opened:
        for made in (page, several):
            for width in (320, 390, 768):
                opened.resize(width, 800)
                opened.open(made)
                assert opened.run("document.documentElement.scrollWidth") <= width, (made, width)
                assert opened.run("innerWidth") == width


@in_browser
def test_a_table_that_is_cut_off_says_so(several):
    state = """(() => {{ const box = document.querySelector('#whom .wide'); {}
        return [box.classList.contains('cut'), box.previousElementSibling.hidden,
                box.previousElementSibling.textContent] }})()"""
    with chrome.Page() as opened:
        for width, cut in ((500, True), (1200, False)):
            opened.resize(width, 800)
            opened.open(several)
            assert opened.run(state.format("")) == [cut, not cut, "scroll for more columns →"], width
        opened.resize(500, 800)
        opened.open(several)
        opened.run("document.querySelector('#whom .wide').scrollLeft = 10000")
        opened.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert opened.run(state.format(""))[0] is False, "nothing is left at that side"


@in_browser
def test_dark_where_the_reader_wants_it_dark(browser):
    grounds = {}
    for scheme in ("dark", "light"):
        browser.prefer(scheme)
        grounds[scheme] = browser.run("getComputedStyle(document.body).backgroundColor")
    for scheme, said in grounds.items():
        shown = [int(v) / 255 for v in re.findall(r"\d+", said)]
        assert np.allclose(shown, _rgb(_themes()[scheme]["page"]), atol=0.01)


@in_browser
def test_it_prints(browser):
    made = browser.pdf()
    assert made.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", made)) <= 30
    assert browser.run("[...document.querySelectorAll('details.printed')].some(d => d.open)") is False, "closed again"


@in_browser
def test_headings_landmarks_and_labels(browser):
    levels = browser.run("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False)), "no level is left out"
    assert browser.run("['header','nav','main','footer'].every(n => document.querySelectorAll(n).length === 1)")
    every = "[...document.querySelectorAll('{}')].every(e => {})"
    for what, holds in (
        ("section", "document.getElementById(e.getAttribute('aria-labelledby'))"),
        ("nav a", "document.querySelector(e.getAttribute('href'))"),
        ("svg", "e.getAttribute('aria-label') || e.getAttribute('aria-hidden')"),
        ("table", "e.querySelector('th[scope]')"),
        ("img", "e.alt"),
        ("button", "e.textContent.trim()"),
    ):
        assert browser.run(every.format(what, holds)), what
    ids = browser.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_summary_of_a_page_without_numbers_is_an_error(tmp_path):
    (tmp_path / "report.html").write_text("<html></html>")
    with pytest.raises(DataError, match="holds no numbers of a report"):
        report_stage.summary(tmp_path / "report.html")
