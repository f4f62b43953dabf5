"""Private words for which the field has its own do not come back."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: private word -> the field's
WORDS = {
    r"so-manieth": "every N-th",
    r"photographs?": "image",
    r"(stands?|standing) on": "requires, pretrained part",
    r"verdicts?": "score, review",
    r"who (finds|places|judges)": "detector, landmark model",
    r"data sets?": "dataset",
    r"films?": "video",
    r"twins?": "duplicate",
    r"goes? on with": "resume, continue",
    r"draw_(train|val)|--draws|n_draws": "train_samples, val_samples, crop_repeats",
    r"learnt": "trained, learned",
    r"--photos|obscured?": "--images, occlusion sensitivity",
}

#: names of columns in other people's tables are theirs
THEIRS = {"fertool/datasets/columns.py"}

FILES = [
    path
    for top in ("fertool", "examples", "README.md")
    for path in ([ROOT / top] if (ROOT / top).is_file() else sorted((ROOT / top).rglob("*")))
    if path.suffix in (".py", ".yaml", ".md", ".sh", ".html") and str(path.relative_to(ROOT)) not in THEIRS
]


@pytest.mark.parametrize("word", WORDS)
def test_private_words_are_gone(word):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:90]}"
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(rf"\b{word}\b", line, re.I)
    ]
    assert not found, f"say {WORDS[word]}:\n" + "\n".join(found)


#: words that a summary of a function does not begin with: it begins with a verb in the imperative
NO_VERBS = {"Whether", "How", "Which", "Where", "What", "Why", "All", "Names", "Rows", "Columns", "A", "An", "The"}


def test_summaries_of_functions_begin_with_a_verb():
    problems = []
    for path in (path for path in FILES if path.suffix == ".py" and path.is_relative_to(ROOT / "fertool")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef) or any("property" in ast.dump(d) for d in node.decorator_list):
                continue
            summary = (ast.get_docstring(node) or "Return.").splitlines()[0]
            if not summary[0].isalpha() or summary.split()[0] in NO_VERBS:
                problems.append(f"{path.relative_to(ROOT)}:{node.lineno}: {summary}")
    assert not problems, "\n".join(problems)
