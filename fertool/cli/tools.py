"""Commands that look: files, data sets, networks, recipes, the machine."""

from pathlib import Path
from typing import Annotated

import typer

from fertool import console
from fertool import recipe as recipes
from fertool.cli.common import TOOLS, Images, RecipeName, Sets, Space, app, command
from fertool.errors import DataError
from fertool.workspace import Workspace

datasets_app = typer.Typer(
    help="The data sets fertool reads, and a check of one.", invoke_without_command=True, rich_markup_mode=None
)
app.add_typer(datasets_app, name="datasets", rich_help_panel=TOOLS)


@command("inspect", TOOLS)
def inspect(
    file: Annotated[Path, typer.Argument(help="an artefact (.h5)")],
    verify: Annotated[bool, typer.Option("--verify", help="read all data and compare it with the digests")] = False,
):
    """What an artefact holds and how it was made."""
    from fertool.stages import inspect as stage

    facts = stage.summary(file, verify=verify)
    stage.report(facts)
    return facts


@datasets_app.callback()
def datasets(
    context: typer.Context,
    json_output: Annotated[bool, typer.Option("--json", help="print one JSON object on stdout")] = False,
):
    """The data sets fertool reads, and a check of one."""
    if context.invoked_subcommand:
        return
    from fertool.datasets import DATASETS

    console.configure(json_output=json_output)
    for cls in DATASETS:
        console.say(f"{cls.name}\n  {cls.about}")
        if cls.expect:
            console.say("  complete: " + ", ".join(f"{split or 'all'} {n:,}" for split, n in cls.expect.items()))
        console.say("\n".join(f"    {line}" for line in cls.layout.strip().splitlines()) + "\n")
    console.emit({c.name: {"about": c.about, "layout": c.layout, "expect": c.expect} for c in DATASETS})


@command("check", TOOLS, to=datasets_app)
def check(
    name: Annotated[str, typer.Argument(help="the data set, or 'auto' to have it recognised")],
    path: Annotated[Path, typer.Argument(help="where it lies")],
    images: Images = None,
    recipe: RecipeName = None,
    sets: Sets = None,
    workspace: Space = None,
):
    """List what a dataset on disk has, and everything that is missing or wrong (exit code 3 if it cannot be used)."""
    from fertool.datasets import check as check_dataset
    from fertool.datasets import disk
    from fertool.stages import inspect as stage

    chosen = recipes.load(recipe)
    usual = chosen.settings("detect-align").dataset_options
    settings = chosen.settings("detect-align", {}, sets or ())  # which of its forms is meant
    disk.leave_out(Workspace(workspace).root)
    given = None if name == "auto" else name
    facts = check_dataset(given, path, image_folder=images, usual=usual, **settings.dataset_options)
    stage.report_dataset(facts)
    if not facts["usable"]:
        fatal = "; ".join(p["message"] for p in facts["problems"] if p["fatal"])
        message = f"{path} cannot be used as {facts['dataset']}: {fatal}"
        raise DataError(message, "the layouts: fertool datasets", facts=facts)
    return facts


@command("models", TOOLS)
def models(name: Annotated[str | None, typer.Argument(help="one network: its settings and variants")] = None):
    """The networks; or one's settings and variants."""
    from fertool.stages import list_models

    if name:
        facts = list_models.describe(name)
        list_models.report_model(facts)
    else:
        facts = {"models": list_models.every_network()}
        list_models.report(facts)
    return facts


@command("recipes", TOOLS)
def show_recipes(name: Annotated[str | None, typer.Argument(help="one recipe: its text")] = None):
    """The recipes; or the text of one."""
    if name:
        chosen = recipes.load(name)
        if not console.is_json():
            print(chosen.text, end="")
        return {"name": chosen.name, "text": chosen.text}
    loaded = [recipes.load(n) for n in recipes.names()]
    console.show(console.table("Recipes", ["name", "what it is"], [[r.name, r.about] for r in loaded]))
    return {"recipes": {r.name: r.about for r in loaded}}


@command("papers", TOOLS)
def papers(name: Annotated[str | None, typer.Argument(help="one paper; default: all")] = None):
    """The papers' numbers, and the commands that put yours beside them."""
    from fertool.stages import papers as stage

    facts = stage.summary(name)
    stage.report(facts)
    return {"papers": facts}


@command("doctor", TOOLS)
def doctor(workspace: Space = None):
    """Versions, devices, and what is missing."""
    from fertool.stages import doctor as stage

    facts = stage.summary(Workspace(workspace))
    stage.report(facts)
    return facts
