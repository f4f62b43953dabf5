"""Every command, option, variant, choice and setting that a message names exists.

Messages are taken from the source: all texts but docstrings. What a program fills in stands in them as X.
"""

import ast
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import typer

import fertool
from fertool import cli, plugins
from fertool.models.registry import model_class
from fertool.settings import STAGES

SOURCE = Path(fertool.__file__).parent

#: words after "fertool" that are no commands
PROSE = {"wrote", "drew", "did", "is", "began", "reads", "made", "artefact"}
#: words that go on with the sentence after an option
PHRASES = {"is", "and", "or", "needs", "takes", "for", "to", "of", "with", "always", "alone", "asks", "shows"}
#: of other programs
FOREIGN = {
    *("--upgrade", "--force-reinstall"),
    *("--ntasks-per-node", "--gpus-per-node", "--gpus-per-task"),  # srun's
    *("--nnodes", "--nproc-per-node"),  # torchrun's
}


#: (where, text)
Texts = list[tuple[str, str]]


def texts() -> Texts:
    """(where, text) of all strings of the source that are no docstrings, f-strings with X for what they fill in."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inner = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in ast.walk(n) if v is not n}
        inner |= {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if id(node) in inner:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = (v.value if isinstance(v, ast.Constant) else "X" for v in node.values)
                found.append((f"{path.relative_to(SOURCE)}:{node.lineno}", "".join(parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append((f"{path.relative_to(SOURCE)}:{node.lineno}", node.value))
    return found


TEXTS = texts()
COMMANDS = typer.main.get_command(cli.app).commands


@cache
def parameters(name: str) -> set[str]:
    """The options of a command, and of those below it."""
    command = COMMANDS[name]
    every = [p for c in (command, *getattr(command, "commands", {}).values()) for p in c.params]
    return {flag for p in every for flag in (*p.opts, *p.secondary_opts) if flag.startswith("-")} | {"--help"}


EVERY_OPTION = {"--version"}.union(*map(parameters, COMMANDS))


def model_fields() -> dict[str, list]:
    hints: dict[str, list] = {}
    for name in plugins.names("models"):
        for key, kind in get_type_hints(model_class(name).Settings).items():
            hints.setdefault(key, []).append(kind)
    return hints


MODEL_FIELDS = model_fields()
STAGE_FIELDS = {
    (stage, f.name): get_type_hints(cls, include_extras=True)[f.name]
    for stage, cls in STAGES.items()
    for f in fields(cls)
}


def choices(kind) -> set[str]:
    """The words that a setting's type allows; none where it allows any."""
    if isinstance(kind, plugins.PluginName):
        return set(kind.names)
    if get_origin(kind) is Literal:
        return set(map(str, get_args(kind)))
    return set().union(*(choices(part) for part in get_args(kind)))


@cache
def allowed(flag: str) -> set[str]:
    """The words that an option takes, by the settings of that name; none where one of them takes any."""
    sets = [choices(kind) for (_, key), kind in STAGE_FIELDS.items() if key == flag[2:].replace("-", "_")]
    return set().union(*sets) if sets and all(sets) else set()


def test_there_are_texts_to_check():
    assert sum("fertool " in text for _, text in TEXTS) > 30
    assert sum("--" in text for _, text in TEXTS) > 80


#: what a check gives: what does not exist, where it is named; and how many names were checked
Checked = tuple[list[tuple], int]


def commands(texts: Texts) -> Checked:
    """What follows `fertool NAME` up to the end of the phrase is parsed as that command parses it."""
    wrong, seen = [], 0
    for where, text in texts:
        for name, rest in re.findall(r"\bfertool ([A-Za-z][a-z-]*)((?:[ =][^\s;,()]+)*)", text):
            if name in PROSE or name.isupper():
                continue
            if name not in COMMANDS:
                wrong.append((where, name, text))
                continue
            seen += 1
            flags = re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)
            wrong += [(where, flag, text) for flag in flags if flag not in parameters(name)]
    return wrong, seen


def options(texts: Texts) -> Checked:
    """Options exist, and take the word beside them."""
    wrong, seen = [], 0
    for where, text in texts:
        if "pip install" in text:
            continue
        for flag, value in re.findall(r"(?<![\w-])(--[a-z][a-z-]*)(?:[ =]([a-z][a-z0-9-]*))?", text):
            seen += 1
            if flag not in EVERY_OPTION and flag not in FOREIGN:
                wrong.append((where, flag, text))
            elif value and (known := allowed(flag)) and value not in known | PHRASES:
                wrong.append((where, f"{flag} {value}", text))
    return wrong, seen


SETTING = re.compile(r"(?:--set|--vary|set) ([a-z-]+)\.([a-z_.]*[a-z_])(?![A-Za-z_.])(?:=([a-z][a-z0-9-]*))?")


def settings(texts: Texts) -> Checked:
    """Settings exist, and take the word beside them."""
    wrong, seen = [], 0
    for where, text in texts:
        for stage, key, value in SETTING.findall(text):
            if stage not in STAGES:
                continue
            seen += 1
            kinds = MODEL_FIELDS.get(key.removeprefix("model."), []) if key.startswith("model.") else []
            kinds = kinds or ([STAGE_FIELDS[stage, key]] if (stage, key) in STAGE_FIELDS else [])
            words = set().union(*map(choices, kinds))
            if not kinds or (value and words and value not in words):
                wrong.append((where, f"{stage}.{key}={value}", text))
    return wrong, seen


def values(texts: Texts) -> Checked:
    """`key: value` in a message, where the key is a setting of a few words."""
    words: dict[str, set[str]] = {}
    for (_, key), kind in STAGE_FIELDS.items():
        words.setdefault(key, set()).update(choices(kind))
    wrong, seen = [], 0
    for where, text in texts:
        for key, value in re.findall(r"\b(?:write|with|to|or|needs) ([a-z_]+): ([a-z][a-z0-9-]*)", text):
            if words.get(key) and value != "fertool":
                seen += 1
                if value not in words[key]:
                    wrong.append((where, f"{key}: {value}", text))
    return wrong, seen


def variants(texts: Texts) -> Checked:
    """Variants exist in one of the networks."""
    known = {variant for name in plugins.names("models") for variant in model_class(name).VARIANTS}
    named = [(where, v, text) for where, text in texts for v in re.findall(r"--variant[ =]([a-z][\w-]*)", text)]
    return [n for n in named if n[1] not in known], len(named)


@pytest.mark.parametrize(
    ("check", "at_least"), [(commands, 31), (options, 81), (settings, 11), (values, 5), (variants, 0)]
)
def test_what_messages_name_exists(check, at_least):
    wrong, seen = check(TEXTS)
    assert not wrong
    assert seen >= at_least


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (commands, "run: fertool trian ran"),
        (commands, "run: fertool train --subset x"),
        (options, "see --reusme"),
        (options, "try --align similar"),
        (settings, "add --set train.lrr=3"),
        (settings, "use --set train.model.backbone=resnet19"),
        (values, "write select_on: best"),
        (variants, "train --variant attention"),
    ],
)
def test_what_does_not_exist_is_found(check, text):
    """That these checks can fail."""
    wrong, _ = check([("here", text)])
    assert [(where, whole) for where, _, whole in wrong] == [("here", text)]
