"""The command that makes a run of a network or function of others."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from fertool.cli.app import EXPERIMENTS
from fertool.cli.command import Options, command
from fertool.cli.options import Data, Overwrite, Space
from fertool.errors import UsageError
from fertool.workspace import Workspace


@command(
    "adopt",
    EXPERIMENTS,
    settings="adopt",
    flags=("architecture", "size", "height", "colour", "pixels", "layout", "outputs", "output", "extra"),
)
def adopt(
    options: Options,
    file: Annotated[
        str, typer.Argument(help="ONNX or TorchScript file, weights (with --architecture), or FILE.py:FUNCTION")
    ],
    classes: Annotated[
        str | None, typer.Option(help="names of all outputs in their order, separated by commas: angry,disgust,fear")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="subtracted from the values, one number or one per channel: 0.485,0.456,0.406")
    ] = None,
    std: Annotated[str | None, typer.Option(help="what the values are then divided by, likewise")] = None,
    data: Data = None,
    name: Annotated[str | None, typer.Option(help="name of the run (default: adopted-NAME)")] = None,
    workspace: Space = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Make a run of anyone's network or function, to evaluate it like your own (→ run.h5)."""
    from fertool.stages import adopt as stage

    words = tuple(classes.split(",")) if classes is not None else None
    given = {"classes": words, "mean": _numbers("--mean", mean), "std": _numbers("--std", std)}
    settings = replace(options, flags={**options.flags, **given}).settings()
    faces = Workspace(workspace).faces(data)
    facts = stage.summary(stage.run(file, faces, settings=settings, name=name or "", overwrite=overwrite))
    stage.report(facts)
    return facts


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Return numbers separated by commas."""
    if text is None:
        return None
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise UsageError(f"{option} {text} is no list of numbers", f"e.g. {option} 0.5,0.5,0.5") from None
