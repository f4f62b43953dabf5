"""Recipes: every one that comes with fertool is valid, and whatever a user gets wrong is said in one line."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fertool
from fertool import cli
from fertool import recipe as recipes
from fertool.errors import RecipeError
from fertool.evaluation import paper_results
from fertool.models.registry import build_model, model_class, model_settings
from fertool.recipe import Recipe
from fertool.settings import STAGES
from fertool.stages import run_recipe
from fertool.training.devices import Devices
from fertool.workspace import Workspace

FILES = sorted((Path(fertool.__file__).parent / "recipes").rglob("*.yaml"))


def refused(call, says: str, hint: str = "") -> None:
    with pytest.raises(RecipeError, match=says) as e:
        call()
    assert hint in (e.value.hint or "")
    assert "\n" not in e.value.message + (e.value.hint or "")


@pytest.fixture
def write(tmp_path):
    def made(text: str | bytes) -> str:
        path = tmp_path / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return made


# ------------------------------------------------------------------------------------------- those that come along


def test_no_recipe_is_forgotten():
    assert recipes.names() == sorted(f.stem for f in FILES)
    assert len(FILES) == 51


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_is_valid_to_its_last_key(name):
    import torch

    recipe = recipes.load(name)
    assert recipe.about
    assert recipe.sections
    for stage in STAGES:
        settings = recipe.settings(stage)
        for key, value in recipe.sections.get(stage, {}).items():
            if key != "model":
                written = tuple(value) if isinstance(value, list) else value
                assert getattr(settings, key) == written
    train = recipe.settings("train")
    for variant in ("", *recipe.variants):
        model = model_settings(train.model, variant)
        with torch.device("meta"):
            assert build_model(model, 7).Settings is type(model)
    if recipe.paper:
        assert paper_results.load(recipe.paper)
    assert set(recipe.stages) <= set(STAGES)
    for earlier in map(recipes.load, recipe.requires_recipes):
        assert earlier.settings("train").model["name"] in ("rasnet", "amg")
    alike = [r for r in (*recipe.requires_recipes, *recipe.fuse) if r in recipes.names()]
    for earlier in (e for e in map(recipes.load, alike) if e.dataset == recipe.dataset):
        for stage in set(earlier.stages) - {"train"}:
            assert earlier.settings(stage) == recipe.settings(stage), "both are made from the same faces"
    assert {f for f in recipe.fuse if f not in alike} <= set(recipe.variants)


@pytest.mark.parametrize("name", recipes.names())
def test_the_header_of_a_recipe_shows_its_command(name):
    recipe = recipes.load(name)
    command = "run" if recipe.stages else "train"  # what another recipe trains on its way is no walk of its own
    assert f"#   fertool {command} {name}" in recipe.text


def test_the_papers_numbers_are_in_its_recipe():
    """PAPERS: batch, schedule and losses of RAN, Section IV-B."""
    for name in ("ran-ferplus", "ran-rafdb"):
        s = recipes.load(name).settings("train")
        assert (s.lr, s.lr_milestones, s.lr_gamma, s.epochs, s.optimizer) == (0.01, (15, 30), 0.1, 40, "sgd")
        model = model_settings(s.model)
        assert (model.backbone, model.rank_margin, model.rank_weight, model.size) == ("resnet18", 0.02, 1.0, 224)
        assert (model.attn_norm, model.attn_bias) == ("none", False)


# ------------------------------------------------------------------------------------------------- precedence


def test_defaults_then_recipe_then_option_then_set(write):
    recipe = recipes.load(write("train: {lr: 0.2, epochs: 7, momentum: 0.5, model: {name: ran, size: 48}}"))
    options = {"lr": 0.3, "epochs": 8.0, "seed": None}
    s = recipe.settings("train", options, ["train.lr=0.4", "train.model.backbone=tiny"])
    assert (s.lr, s.epochs, s.momentum, s.seed, s.global_batch) == (0.4, 8, 0.5, 0, 128)
    assert s.model == {"name": "ran", "size": 48, "backbone": "tiny"}
    assert recipe.settings("train").lr == 0.2, "applying options leaves the recipe as it is"
    assert Recipe().settings("train", {"lr": 0.3}).lr == 0.3
    assert Recipe().settings("train").lr == 0.01


def test_the_last_of_two_sets_wins():
    assert Recipe().settings("train", {}, ["train.lr=1", "train.lr=2"]).lr == 2


@pytest.mark.parametrize(
    ("entry", "key", "value"),
    [
        ("train.lr=1e-3", "lr", 0.001),
        ("train.lr_milestones=[1, 2.5]", "lr_milestones", (1, 2.5)),
        ("train.iterations=null", "iterations", None),
        ("train.oversample=true", "oversample", True),
        ("train.init=weights=1.pth", "init", "weights=1.pth"),
        ("train.val_split= other ", "val_split", "other"),
    ],
)
def test_values_of_set_are_yaml(entry, key, value):
    assert getattr(Recipe().settings("train", {}, [entry]), key) == value


@pytest.mark.parametrize(
    ("entry", "says", "hint"),
    [
        ("train.lr", "not of the form section.key=value", "--set train.lr=0.005"),
        ("lr=1", "not of the form", ""),
        ("trian.lr=1", "no section 'trian'", "did you mean 'train'?"),
        ("train.lr=[", "not valid YAML", ""),
        ("train.learning=1", "unknown key 'learning'", "known: accumulate"),
        ("train.momentun=1", "unknown key 'momentun'", "did you mean 'momentum'?"),
        ("train.lr=fast", "train: lr: .*valid number.*'fast'", ""),
        ("eval.batch=3", "train does not use the settings of eval", "fertool eval"),
    ],
)
def test_a_set_that_cannot_be_meant(entry, says, hint):
    refused(lambda: Recipe().settings("train", {}, [entry]), says, hint)


# ------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("train: {lr_milestone: [3]}", "train of recipe mine: unknown key 'lr_milestone'", "'lr_milestones'?"),
        ("trian: {lr: 1}", "unknown section 'trian'", "did you mean 'train'?"),
        ("train: {lr: -1}", "lr: .*greater than 0.*-1", ""),
        ("train: {lr: 'x'}", "lr: .*valid number.*'x'", ""),
        ("train: {lr: .inf}", "lr: .*finite", ""),
        ("train: {momentum: 1}", "momentum: .*less than 1", ""),
        ("train: {global_batch: 12.5}", "global_batch: .*integer", ""),
        ("train: {select_on: tset}", "select_on: .*'last', 'val' or 'test' .*'tset'", ""),
        ("train: {train_splits: train}", "train_splits: ", ""),
        ("train: {iterations: 0}", "iterations: .*greater than 0", ""),
        ("train: {model: ran}", "model: .*dictionary", ""),
        ("detect-align: {size: 0, sise: 3}", "size: .*greater than 0.*; unknown key 'sise'", "did you mean 'size'?"),
        ("train: 5", "section train holds no settings", "train: {key: value}"),
        ("- train\n- eval", "does not consist of sections", "fertool recipes"),
        ("on: 1", "unknown section 'True'", ""),
        ("stages: train", "stages is not a list", ""),
        ("stages: [detct-align]", "no stage 'detct-align'", "did you mean 'detect-align'?"),
        ("train: {lr: [}", "not valid YAML", ""),
        ("\ttrain: 3", "not valid YAML", ""),
        (b"about: \xe4", "not valid YAML", ""),
    ],
)
def test_a_recipe_that_cannot_be_meant(write, text, says, hint):
    refused(lambda: recipes.load(write(text)), says, hint)


def test_a_recipe_that_is_not_there(tmp_path):
    refused(lambda: recipes.load("ran-ferpls"), "no recipe 'ran-ferpls'", "did you mean 'ran-ferplus'?")
    refused(lambda: recipes.load(str(tmp_path / "a.yaml")), "no recipe file")


def test_a_recipe_extends_another(write):
    recipe = recipes.load(
        write("extends: ran-sfew\nabout: mine\nvariants: [self]\ntrain: {lr: 0.5, model: {size: 48}}")
    )
    base = recipes.load("ran-sfew")
    assert (recipe.name, recipe.about, recipe.variants) == ("mine", "mine", ("self",))
    assert (recipe.paper, recipe.stages, recipe.dataset) == (base.paper, base.stages, base.dataset)
    train = recipe.settings("train")
    assert (train.lr, train.lr_milestones, train.model) == (0.5, (15, 30), base.settings("train").model | {"size": 48})
    assert recipe.settings("detect-align") == base.settings("detect-align")
    assert recipe.text.startswith("extends: ran-sfew")


def test_recipes_that_cannot_be_extended(write, tmp_path):
    refused(lambda: recipes.load(write("extends: ran-sfw")), "no recipe 'ran-sfw'", "'ran-sfew'?")
    refused(lambda: recipes.load(write(f"extends: {tmp_path}/mine.yaml")), "extends itself", "mine.yaml → ")


def test_every_half_of_the_papers_tables_has_a_recipe():
    unaligned = recipes.load("ran-affectnet-unaligned")
    aligned = recipes.load("ran-affectnet")
    assert unaligned.settings("train") == aligned.settings("train")
    assert unaligned.settings("detect-align") == replace(aligned.settings("detect-align"), align="none")
    for name in ("ran-ferplus-unaligned", "ran-affectnet-unaligned"):
        assert recipes.load(name).settings("detect-align").align == "none"
    vgg = recipes.load("ran-ferplus-vgg16").settings("train")
    assert (vgg.model["backbone"], vgg.labels) == ("vgg16", "distribution")
    assert recipes.load("va-cnn-fer2013").settings("detect-align").on_no_face == "keep", "the paper learns all 35,887"
    for name in ("amg-celeba", "ws-lgrn-fer2013", "ws-lgrn-ckplus", "ws-lgrn-rafdb"):
        train = recipes.load(name).settings("train")
        assert (len(train.rotation_angles), train.flip, train.expand) == (7, 0.5, True), (
            "fourteen versions of every face"
        )


def test_a_users_own_recipe(write):
    recipe = recipes.load(write("# mine\nabout: ümläut\nstages: [train]\ntrain: {lr: 1e-4}\neval:\n"))
    assert (recipe.name, recipe.about, recipe.stages) == ("mine", "ümläut", ("train",))
    assert recipe.settings("train").lr == 1e-4
    assert recipe.settings("eval").batch == 64
    assert recipe.text.startswith("# mine\n")
    assert recipes.load(write("")).settings("train") == Recipe().settings("train")


# ----------------------------------------------------------------------------------------------- networks


def test_a_model_section_that_cannot_be_meant():
    refused(lambda: model_settings({"name": "ran", "rank_margni": 1}), "model ran: unknown key", "'rank_margin'?")
    refused(
        lambda: model_settings({"name": "ran", "backbone": "resnet"}),
        "model ran: there is no backbone 'resnet'",
        "'resnet18'?",
    )
    refused(
        lambda: model_settings({"name": "ran", "fusion": "sum"}),
        "fusion: .*'attention', 'concat', 'average', 'none' or 'augment'",
    )
    refused(lambda: model_settings({"name": "ran"}, "bseline"), "ran has no variant 'bseline'", "'baseline'?")
    refused(lambda: model_settings({"name": "rna"}), "no network 'rna'", "did you mean 'ran'?")
    refused(
        lambda: model_settings({"size": 48}),
        "model section has no name",
        "known: amg, identity, lnlattennet, man, probe",
    )


def test_another_model_keeps_the_rest_of_a_recipe(write):
    recipe = recipes.load(write("train: {lr: 0.5}")).with_model("ran")
    assert recipe.settings("train").lr == 0.5
    assert model_settings(recipe.settings("train").model) == model_settings({"name": "ran"})


def test_another_model_has_its_own_defaults(write):
    """Of the settings of a recipe's network nothing is left, in whichever way another one is asked for."""
    recipe = recipes.load("lnlattennet-rafdb")
    expected = model_settings({"name": "va-cnn"})
    assert model_settings(recipe.with_model("va-cnn").settings("train").model) == expected
    assert model_settings(recipe.settings("train", {}, ["train.model.name=va-cnn"]).model) == expected
    extended = recipes.load(write("extends: lnlattennet-rafdb\ntrain: {model: {name: va-cnn}}")).settings("train")
    assert model_settings(extended.model) == expected
    assert extended.lr == recipe.settings("train").lr
    sets = ["train.model.size=96", "train.model.name=ran"]
    assert recipe.settings("train", {}, sets).model == {"name": "ran", "size": 96}
    assert recipe.with_model("lnlattennet").settings("train").model == recipe.settings("train").model


@pytest.mark.parametrize("dataset", ["affectnet", "rafdb", "sfew", "ckplus", "mmi"])
def test_lnlattennets_baseline_is_trained_on_the_same_faces(dataset):
    ours, baseline = recipes.load(f"lnlattennet-{dataset}"), recipes.load(f"lnlattennet-vgg16-{dataset}")
    for stage in ("detect-align", "build-subsets", "eval"):
        assert baseline.settings(stage) == ours.settings(stage)
    assert (baseline.paper, baseline.stages) == (ours.paper, ours.stages)
    train = baseline.settings("train")
    assert (train.epochs, train.lr, train.val_split) == tuple(
        getattr(ours.settings("train"), k) for k in ("epochs", "lr", "val_split")
    )
    assert model_settings(train.model, "vgg").block == "none"


def test_every_setting_has_help_or_a_name_that_says_it():
    plain = {"optimizer", "momentum", "weight_decay", "lr_gamma", "channels_last", "name", "backbone"}
    for cls in (*STAGES.values(), model_class("ran").Settings):
        for f in fields(cls):
            words = [m for m in getattr(f.type, "__metadata__", ()) if isinstance(m, str)]
            assert words or f.name in plain, f"{cls.__name__}.{f.name} has no help"


# ------------------------------------------------------------------------------- fertool run checks everything first


def walked(recipe: Recipe, tmp_path: Path, **options) -> None:
    run_recipe.run(recipe, tmp_path / "nothing", workspace=Workspace(tmp_path), devices=Devices("cpu"), **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sets": ("train.lrr=1",)}, "unknown key 'lrr'"),
        ({"sets": ("make-masks.grid=7",)}, "recipe ran-ferplus has no stage make-masks"),
        ({"variants": ("ran", "bseline")}, "no variant 'bseline'"),
    ],
)
def test_run_checks_all_stages_before_the_first(tmp_path, options, says):
    with pytest.raises(RecipeError, match=says):
        walked(recipes.load("ran-ferplus"), tmp_path, **options)


def test_run_without_stages(tmp_path, write):
    with pytest.raises(RecipeError, match="no list of stages"):
        walked(recipes.load(write("train: {lr: 1}")), tmp_path)


# --------------------------------------------------------------------------------------- no text takes for ever

_LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
_MERGED = "m0: &m0 {x: 1}\n" + "".join(f"m{i}: &m{i}\n  <<: [{', '.join([f'*m{i - 1}'] * 9)}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_LAUGHS, "with its aliases"),
        (_MERGED, "with its aliases"),
        ("train: " + "[" * 5000 + "]" * 5000, "levels deep"),
        ("train: " + "{a: " * 40 + "1" + "}" * 40, "levels deep"),
        ("train: &a {model: *a}", "levels deep"),
        ("train: {seed: " + "9" * 5000 + "}", "a number of 5,000 digits"),
        ("train: {seed: 1" + ":59" * 5000 + "}", "a number of 15,001 digits"),
        ("train: {seed: 99999999999999999999}", "seed is beyond 64 bits"),
        ("train: {model: {name: ran, size: 99999999999999999999}}", "size is beyond 64 bits"),
        ("train: {lr: 2001-99-99}", "valid number"),
        ("train: {lr: 2001-09-09}", "valid number"),
        ("train: {? [1] : 2}", "not valid YAML"),
        ("train: {lr: !!python/object:os.system x}", "not valid YAML"),
        ("about: [1]", "about is no text"),
        ("pretraining: [amg-celeba]", "pretraining is no text"),
        ("stages: [[train]]", "stages is not a list of names"),
        ("combine: {rafdb: {splits: [train], recipe: [1]}}", "combine does not say which splits join"),
        ("#" * 2_000_000, "2,000,000 bytes"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_recipes_of_any_text_end_in_one_line(tmp_path, text, says):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    result = CliRunner().invoke(cli.app, ["recipes", str(path)])
    assert result.exit_code == 4, result.output
    assert says in result.stderr
    assert len(result.stderr) < 1000


@pytest.mark.parametrize("value", ["2001-99-99", "[" * 3000, "9" * 5000, "9" * 30, "!!binary %"])
def test_values_of_any_text_end_in_one_line(tmp_path, value):
    words = ["make-masks", "--set", f"make-masks.grid={value}", "--workspace", str(tmp_path)]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 4, result.output


def test_recipes_that_extend_one_another_without_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(2000):
        Path(f"{i}.yaml").write_text(f"extends: {i + 1}.yaml\n")
    refused(lambda: recipes.load("0.yaml"), "extends itself")
