"""YAML of the user's, parsed so that no text can take for ever, fill the memory or mean something unforeseen."""

import re
from typing import Any

import yaml

from fertool.errors import RecipeError

LONGEST = 1 << 20  # characters
_DEEPEST = 16  # levels
_MOST = 20_000  # nodes, each counted as often as aliases repeat it
_DIGITS = 64  # of a number

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """Plain values only: what looks like a date is text."""

    yaml_implicit_resolvers = {  # as PyYAML keeps them
        first: [(tag, pattern) for tag, pattern in found if tag != _TIMESTAMP]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def parse(text: str, where: str) -> Any:
    """Parse YAML.

    Args:
        where: what the text is, for messages.

    Raises:
        RecipeError: it is no YAML, or longer, deeper or larger with its aliases than any recipe is.
    """
    if len(text) > LONGEST:
        raise RecipeError(f"{where} is longer than {LONGEST:,} characters", "this is no recipe")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _size(node, {}, 0, where)
        return loader.construct_document(node)
    except RecursionError:
        raise _too_deep(where) from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as e:
        raise RecipeError(f"{where} is not valid YAML: {' '.join(str(e).split())[:300]}") from e


def _size(node: yaml.Node, known: dict[int, int], depth: int, where: str) -> int:
    """Return the nodes of a tree, with those that aliases repeat."""
    if depth > _DEEPEST:
        raise _too_deep(where)
    if id(node) not in known:
        if isinstance(node, yaml.ScalarNode):
            if node.tag in _NUMBERS and len(node.value) > _DIGITS:
                raise RecipeError(f"{where} holds a number of {len(node.value):,} digits", "no setting takes one")
            if node.tag in _NUMBERS and (base := _base(node.value)):
                raise RecipeError(f"{where} holds {node.value}, in YAML a number of base {base}", "write it in decimal")
            parts = []
        else:
            parts = [n for pair in node.value for n in (pair if isinstance(pair, tuple) else (pair,))]
        size = 1 + sum(_size(part, known, depth + 1, where) for part in parts)
        if size > _MOST:
            raise RecipeError(f"{where} has more than {_MOST:,} values with its aliases", "this is no recipe")
        known[id(node)] = size
    return known[id(node)]


def _base(number: str) -> int | None:
    """Return the base of a number that is not what a reader takes it for: 1:30 is 90, 017 is 15."""
    if ":" in number:
        return 60
    return 8 if re.fullmatch(r"[-+]?0[0-7_]+", number) else None


def _too_deep(where: str) -> RecipeError:
    return RecipeError(f"{where} is nested more than {_DEEPEST} levels deep", "this is no recipe")
