"""Tables and text of the Markdown pages: the board and the model card."""

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text: int = 1) -> list[str]:
    """Return the lines of a table whose columns after the first `text` ones are right-aligned; rows are as they are."""
    rule = ["---" if i < text else "---:" for i in range(len(head))]
    lines = [list(map(escaped, head)), rule, *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def escaped(text: object) -> str:
    """Return text that Markdown shows as it is, in one line."""
    return re.sub(r"([|*\\])", r"\\\1", str(text)).replace("\n", " ").replace("<", "&lt;")
