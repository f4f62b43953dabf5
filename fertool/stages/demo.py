"""demo: the seven stages on rendered faces, as a user would type them."""

from pathlib import Path

from fertool import console, recipe
from fertool.stages import render, run_recipe
from fertool.training.devices import choose
from fertool.workspace import Workspace

RECIPE = "ran-rendered"


def run(folder: Path, *, people: int, seed: int) -> dict:
    """Render faces into `folder`/rendered, walk the small RAN recipe on them, artefacts in `folder`/artefacts.

    Returns:
        The facts of every stage, see `stages.run_recipe`.
    """
    console.say("These faces are rendered: they try the pipeline out, and their accuracies are no benchmark.\n\nrender")
    pictures = render.run(folder / "rendered", people=people, per_person=21, size=128, seed=seed, overwrite=False)
    render.report(render.summary(pictures))
    facts = run_recipe.run(
        recipe.load(RECIPE), folder / "rendered", workspace=Workspace(folder / "artefacts"), devices=choose(None)
    )
    console.say(f"\nOpen the page:          {facts['report']['report']}")
    console.say(f"Look at the pictures:   {folder}/artefacts/rendered/runs/*/figures")
    console.say(f"Try a command yourself: fertool eval --workspace {folder}/artefacts --subset all")
    return facts
