"""Commands that list and inspect: files, datasets, networks, recipes, papers, the machine."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fertool import console
from fertool import recipe as recipes
from fertool.cli import complete
from fertool.cli.app import TOOLS, app
from fertool.cli.command import Options, command
from fertool.cli.options import Images, Space
from fertool.errors import DataError
from fertool.workspace import Workspace

datasets_app = typer.Typer(
    help="List dataset layouts, or check a dataset.", invoke_without_command=True, rich_markup_mode=None
)
app.add_typer(datasets_app, name="datasets", rich_help_panel=TOOLS)


@command("inspect", TOOLS)
def inspect(
    file: Annotated[Path, typer.Argument(help="artefact (.h5)")],
    verify: Annotated[bool, typer.Option("--verify", help="check all data against the digests")] = False,
) -> dict[str, Any]:
    """Show what an artefact holds and how it was made."""
    from fertool.stages import inspect as stage

    facts = stage.summary(file, verify=verify)
    stage.report(facts)
    return facts


@datasets_app.callback()
def datasets(
    context: typer.Context,
    json_output: Annotated[bool, typer.Option("--json", help="print one JSON object on stdout")] = False,
) -> None:
    """List dataset layouts, or check a dataset."""
    if context.invoked_subcommand:
        return
    from fertool.cli.options import described
    from fertool.datasets import layouts

    console.configure(json_output=json_output)
    facts = {}
    for cls in layouts():
        options = described(cls.Options)
        facts[cls.name] = {"about": cls.about, "layout": cls.layout, "expect": cls.expect, "options": options}
        console.say(f"{cls.name}\n  {cls.about}")
        if cls.expect:
            console.say("  complete: " + ", ".join(f"{split or 'all'} {n:,}" for split, n in cls.expect.items()))
        console.say("\n".join(f"    {line}" for line in cls.layout.strip().splitlines()))
        for option in options:
            values = f"={'|'.join(option['values'])}" if option["values"] else "=VALUE"
            console.say(f"  --set data.{option['name']}{values}: {option['help']}")
        console.say("")
    console.emit(facts)


@command("check", TOOLS, to=datasets_app, settings="detect-align")
def check(
    options: Options,
    name: Annotated[
        str, typer.Argument(help="layout of the dataset, or 'auto'", autocompletion=complete.dataset_types)
    ],
    path: Annotated[Path, typer.Argument(help="folder or table of the dataset")],
    images: Images = None,
    workspace: Space = None,
) -> dict[str, Any]:
    """List what a dataset holds, and everything missing or wrong (exit code 3 if it is unusable)."""
    from fertool.datasets import check as check_dataset
    from fertool.datasets import disk
    from fertool.stages import inspect as stage

    usual = options.recipe.settings("detect-align").data
    settings = options.settings()
    disk.leave_out(Workspace(workspace).root)
    given = None if name == "auto" else name
    facts = check_dataset(given, path, image_folder=images, usual=usual, **settings.data)
    stage.report_dataset(facts)
    if not facts["usable"]:
        fatal = "; ".join(p["message"] for p in facts["problems"] if p["fatal"])
        message = f"{path} is unusable as {facts['dataset']}: {fatal}"
        raise DataError(message, "the layouts: fertool datasets", facts=facts)
    return facts


@command("models", TOOLS)
def models(
    name: Annotated[str | None, typer.Argument(help="network (default: all)", autocompletion=complete.networks)] = None,
) -> dict[str, Any]:
    """List networks, or the settings and variants of one."""
    from fertool.stages import list_models

    if name:
        facts = list_models.describe(name)
        list_models.report_model(facts)
    else:
        facts = {"models": list_models.every_network()}
        list_models.report(facts)
    return facts


@command("recipes", TOOLS)
def show_recipes(
    name: Annotated[str | None, typer.Argument(help="recipe (default: all)", autocompletion=complete.recipes)] = None,
) -> dict[str, Any]:
    """List recipes, or print one to copy and change."""
    if name:
        recipe = recipes.load(name)
        if not console.is_json():
            print(recipe.text, end="")
        return {"name": recipe.name, "text": recipe.text}
    loaded = [recipes.load(n) for n in recipes.names()]
    console.show(console.table("Recipes", ["name", "about"], [[r.name, r.about] for r in loaded]))
    return {"recipes": {r.name: r.about for r in loaded}}


@command("papers", TOOLS)
def papers(
    name: Annotated[
        str | None,
        typer.Argument(help="paper, or .yaml file (default: list all papers)", autocompletion=complete.papers),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="compare the papers' confusion matrices with their tables")
    ] = False,
) -> dict[str, Any]:
    """List the papers' numbers with the commands that make yours comparable, or check them against one another."""
    from fertool.stages import papers as stage

    if check:
        facts = stage.consistency(name)
        stage.report_consistency(facts)
    else:
        facts = stage.summary(name)
        (stage.report if name else stage.report_list)(facts)
    return {"papers": facts}


@command("doctor", TOOLS)
def doctor(workspace: Space = None) -> dict[str, Any]:
    """Show versions, devices, and missing parts of the installation."""
    from fertool.stages import doctor as stage

    facts = stage.summary(Workspace(workspace))
    stage.report(facts)
    return facts
