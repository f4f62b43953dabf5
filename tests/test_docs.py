"""The README and the pages beside the packages: length, links, commands, options and setting keys."""

import re
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml

from fertool.cli import app

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    p
    for glob in ("*.md", *(f"{d}/**/*.md" for d in ("fertool", "tests", "examples", ".github")))
    for p in ROOT.glob(glob)
)
RAY = {"--head", "--address", "--generate"}  # of `ray start`, `ray get-auth-token`
SLURM = {"--gpus-per-node", "--gpus-per-task", "--ntasks", "--ntasks-per-node", "--signal"}
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def _commands() -> dict[str, set[str]]:
    """Options of every command, with those of its subcommands."""
    group = typer.main.get_command(app)
    return {
        name: {
            option
            for c in (command, *getattr(command, "commands", {}).values())
            for p in c.params
            for option in p.opts + p.secondary_opts
        }
        for name, command in group.commands.items()
    }


def _command_lines() -> list[tuple[str, str]]:
    """Every fertool command in the shell blocks and inline code of a page."""
    found = []
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^ *```(?:bash|console)\n(.*?)^ *```", text, re.S | re.M)
        lines = [
            part.strip().removeprefix("$ ")
            for b in blocks
            for line in b.splitlines()
            for part in line.split("#")[0].split("&&")
        ]
        found += [(_name(page), line) for line in [*lines, *re.findall(r"`(fertool [^`]+)`", text)]]
    return [(page, line) for page, line in found if line.startswith("fertool ")]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if not target.startswith(("https://", "http://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{_name(page)}: {target}"


def test_every_page_is_linked_from_the_readme():
    linked = {(ROOT / t).resolve() for t in LINK.findall((ROOT / "README.md").read_text()) if "://" not in t}
    hidden = {p for p in PAGES if ".github" in p.parts}
    assert {p.resolve() for p in PAGES} - linked - hidden <= {
        ROOT / "README.md",
        *(ROOT / "examples").glob("*/README.md"),
    }


@pytest.mark.parametrize(("page", "line"), sorted(set(_command_lines())))
def test_commands_and_their_options_exist(page, line):
    name, *words = line.split()[1:]
    if name.isupper() or name.startswith("-"):
        return
    assert name in _commands()
    assert {w.partition("=")[0] for w in words if w.startswith("--")} <= _commands()[name] | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_options_exist(page):
    if page.name == "CHANGELOG.md" or page.is_relative_to(ROOT / "tests") or ".github" in page.parts:
        return
    known = set().union(*_commands().values()) | {"--help", "--install-completion"} | SLURM | RAY
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page.read_text())) <= known


def test_pictures_are_small():
    for name in ("examples/regions.png",):
        assert (ROOT / name).stat().st_size < 200_000


def test_setting_keys_exist():
    """Every `--set section.key=value` of the pages names a setting."""
    from fertool import recipe

    for page in PAGES:
        for entry in re.findall(r"--set[ \n]([a-z][a-z-]*\.[a-z0-9_.]+=(?:\[[^\]]*\]|[^\s`)\]]*))", page.read_text()):
            if entry.startswith("section."):
                continue
            ((section, keys, value),) = recipe.parse_sets([entry])
            if section == "train" and keys[0] == "model":
                continue  # depends on the network
            if yaml.safe_load(str(value)) in ("VALUE", "FILE"):
                value = "x"
            fields = recipe.STAGES[section].__dataclass_fields__
            assert keys[0] in fields, f"{_name(page)}: {entry}"
