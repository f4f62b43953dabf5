"""Image files that tests share: a small colour image, and files that cannot be read as images."""

import os
import struct

import cv2
import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
COLOUR = cv2.resize(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8), (40, 30), interpolation=cv2.INTER_CUBIC)
GREY = COLOUR[..., 1].copy()


def saved(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def damaged_images(folder):
    """Write files that are not images; return the reason that the error gives, by file name."""
    saved(folder / "whole.jpg", np.tile(COLOUR, (8, 8, 1)))
    saved(folder / "whole.png", RNG.integers(0, 256, (99, 99, 3), dtype=np.uint8))
    for ending in ("jpg", "png"):
        data = (folder / f"whole.{ending}").read_bytes()
        (folder / f"cut.{ending}").write_bytes(data[: len(data) // 2])
    middle = bytearray((folder / "whole.png").read_bytes())
    middle[2000:2100] = bytes(100)
    (folder / "overwritten.png").write_bytes(middle)
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("this is no picture\n" * 50)
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "script.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(a) run\n")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    Image.new("1", (40_000, 8)).save(folder / "ribbon.png")
    Image.fromarray(np.random.default_rng(1).random((9, 9), dtype=np.float32)).save(folder / "float.tiff")
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR"
    (folder / "header.png").write_bytes(header)
    return {
        "cut.jpg": "truncated", "cut.png": "truncated", "overwritten.png": "damaged", "empty.jpg": "empty",
        "text.jpg": "not an image", "folder.jpg": "not a file", "pipe.jpg": "not a file",
        "script.jpg": "not an image", "bomb.png": "too many", "ribbon.png": "too many", "float.tiff": "floating",
        "header.png": "",
    }  # fmt: skip
