"""fertool's commands, run inside this process."""

import json

from rates import beyond_one
from typer.testing import CliRunner

from fertool import cli


def call(*words, space):
    """What a command did in a workspace, with --json."""
    return CliRunner().invoke(cli.app, [*map(str, words), "--workspace", str(space), "--json"])


def tell(*words, space, ok: bool = True) -> dict:
    """What it told; that it worked, or that it did not, is asserted, and that its rates are fractions."""
    result = call(*words, space=space)
    assert (result.exit_code == 0) == ok, result.output
    facts = json.loads(result.stdout)
    problems = list(beyond_one(facts))
    assert not problems, problems
    return facts
