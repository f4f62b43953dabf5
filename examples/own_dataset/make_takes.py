"""Make a small dataset in the layout of `studio.py`: a bright bar stands for the mouth.

python make_takes.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image


def main(folder: Path) -> None:
    """Write 60 takes of six actors, two of whom are tested on."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    noise, lines = np.random.default_rng(0), ["take;actor;emotion;set"]
    for take in range(60):
        actor, emotion = take % 6, take // 6 % 3
        image = noise.integers(0, 90, (48, 48), dtype=np.uint8)
        image[12 * emotion + 8 : 12 * emotion + 20, 8:40] += 120
        Image.fromarray(image).save(folder / f"images/{take:04d}.png")
        lines.append(f"{take:04d};actor{actor};{'NHS'[emotion]};{'b' if actor > 3 else 'a'}")
    (folder / "takes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
