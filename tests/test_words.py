"""Private words for which the field has its own do not come back."""

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
