"""Videos read and written by PyAV and by OpenCV: times, rotation, damage, animated images."""

import itertools
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from films import write_film, write_sound
from PIL import Image

from fertool import videos
from fertool.faces.images import UnreadableImage
from fertool.faces.media import Sampling, count, named, pictures
from fertool.videos import files, writing

UNEVEN = [0, 0.03, 0.1, 0.5, 0.53, 1.5, 1.6, 3.0]


@pytest.fixture(params=["pyav", "opencv"])
def library(request, monkeypatch):
    """Every test with PyAV, and as if it were not installed."""
    if request.param == "opencv":
        for module in (files, writing):
            monkeypatch.setattr(module, "find_spec", lambda name: None if name == "av" else find_spec(name))
    return request.param


def shades(n, shape=(48, 64)):
    """Frames of one grey each, the left third darker, the top row of thirds brighter."""
    frames = [np.full((*shape, 3), 60 + 10 * i, np.uint8) for i in range(n)]
    for frame in frames:
        frame[:, : shape[1] // 3] -= 40
    return frames


def read(path, **sampling):
    return list(pictures(named([str(path)]), Sampling(**sampling)))


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
def test_times_are_those_of_the_stream(library, tmp_path, ending):
    write_film(tmp_path / f"a.{ending}", shades(8), UNEVEN)
    found = read(tmp_path / f"a.{ending}")
    assert [p.problem for p in found] == [""] * 8
    assert [p.frame for p in found] == [*range(1, 9)]
    assert [p.seconds for p in found] == pytest.approx(UNEVEN, abs=0.002)
    assert [p.pixels[24, 60, 0] for p in found] == pytest.approx([60 + 10 * i for i in range(8)], abs=4)


def test_both_libraries_read_the_same_pixels(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (6, 12, 16, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    write_film(tmp_path / "a.mp4", list(noise), rotation=90)
    mine = read(tmp_path / "a.mp4")
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    for a, b in zip(mine, read(tmp_path / "a.mp4"), strict=True):
        assert np.array_equal(a.pixels, b.pixels)


@pytest.mark.parametrize(("rotation", "dark"), [(0, "left"), (90, "top"), (180, "right"), (270, "bottom")])
def test_frames_are_turned_upright(library, tmp_path, rotation, dark):
    write_film(tmp_path / "a.mp4", shades(3), rotation=rotation)
    image = read(tmp_path / "a.mp4")[0].pixels
    assert image.shape == ((64, 48, 3) if rotation % 180 else (48, 64, 3))
    edges = {"left": image[:, :8], "right": image[:, -8:], "top": image[:8], "bottom": image[-8:]}
    assert min(edges, key=lambda side: edges[side].mean()) == dark


def test_time_step_takes_the_first_frame_of_every_interval(library, tmp_path):
    write_film(tmp_path / "a.mp4", shades(8), UNEVEN)
    assert [p.frame for p in read(tmp_path / "a.mp4", seconds=0.5)] == [1, 4, 6, 8]
    assert [p.frame for p in read(tmp_path / "a.mp4", step=3)] == [1, 4, 7]
    sources = named([str(tmp_path / "a.mp4")] * 2)
    assert count(sources, Sampling(step=3)) == 6
    assert count(sources, Sampling(seconds=0.5)) in range(8, 15)  # times between are not known before


def test_an_animated_gif_is_a_video(library, tmp_path):
    frames = [Image.fromarray(frame) for frame in shades(5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[100, 300, 100, 200, 100])
    frames[0].save(tmp_path / "still.gif")
    found = read(tmp_path / "a.gif")
    assert [p.seconds for p in found] == pytest.approx([0, 0.1, 0.4, 0.5, 0.7])
    assert [p.pixels[24, 60, 0] for p in found] == pytest.approx([60, 70, 80, 90, 100], abs=3)
    assert [p.frame for p in read(tmp_path / "still.gif")] == [0]


def test_files_without_frames_have_one_reason_each(library, tmp_path, capfd):
    write_sound(tmp_path / "sound.mp4")
    write_film(tmp_path / "whole.mp4", shades(8) * 5)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.mov").touch()
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:4,\nwhole.mp4\n#EXT-X-ENDLIST\n")
    for name in ("sound.mp4", "cut.mp4", "empty.mov", "list.mp4"):
        (found,) = read(tmp_path / name)
        said = "there is only sound in it" if (name, library) == ("sound.mp4", "pyav") else "not a video, or damaged"
        assert found.problem == said
        assert videos.count_frames(tmp_path / name) == 0
    assert capfd.readouterr() == ("", "")


def test_opencv_is_silent_about_a_broken_file_after_it_has_written_a_video(tmp_path):
    """FFmpeg's level is read once in a process, so the writer has to set it too."""
    script = f"""
from pathlib import Path
import numpy as np
from fertool.videos.opencv import OpencvVideo
from fertool.videos.writing import _OpencvWriter
writer = _OpencvWriter(Path(r"{tmp_path / "a.mp4"}"), (64, 48), 10)
for frame in range(40):
    writer.write(np.random.default_rng(frame).integers(0, 255, (48, 64, 3), np.uint8), frame / 10)
writer.close()
data = Path(r"{tmp_path / "a.mp4"}").read_bytes()
Path(r"{tmp_path / "cut.mp4"}").write_bytes(data[:len(data) // 2])
try:
    OpencvVideo(Path(r"{tmp_path / "cut.mp4"}"))
except Exception as problem:
    print(problem)
"""
    env = {name: value for name, value in os.environ.items() if name != "OPENCV_FFMPEG_LOGLEVEL"}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    assert (result.stdout.strip(), result.stderr) == ("not a video, or damaged", "")


def test_a_video_that_ends_too_early_says_when(library, tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(60)]
    write_film(tmp_path / "whole.mkv", frames, np.arange(60) / 5)
    data = (tmp_path / "whole.mkv").read_bytes()
    assert not any(p.problem for p in read(tmp_path / "whole.mkv"))
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    *good, last = read(tmp_path / "cut.mkv")
    assert 10 < len(good) < 50
    assert last.problem.startswith("damaged: it ends after ")
    assert last.problem.endswith(" of 11.9 s")


def test_a_frame_by_its_number(library, tmp_path):
    write_film(tmp_path / "a.mp4", shades(8), UNEVEN)
    assert videos.count_frames(tmp_path / "a.mp4") == 8
    assert videos.read_frame(tmp_path / "a.mp4", 6)[24, 60, 0] == pytest.approx(110, abs=4)
    with pytest.raises(UnreadableImage, match="there is no frame 9$"):
        videos.read_frame(tmp_path / "a.mp4", 9)


def test_a_written_video_keeps_times(library, tmp_path):
    """PyAV writes every frame at its time; OpenCV repeats and leaves out frames of a steady rate."""
    writer = writing.write_video(tmp_path / "a.mp4", (64, 48), 10)
    for frame, seconds in zip(shades(8), UNEVEN, strict=True):
        writer.write(frame, seconds)
    writer.close()
    found = read(tmp_path / "a.mp4")
    if library == "pyav":
        assert [p.seconds for p in found] == pytest.approx(UNEVEN, abs=0.001)
    shown = {round(p.seconds, 1): round(float(p.pixels[24, 60, 0]) / 10) for p in found}
    assert [shown[t] for t in (0.5, 1.5, 1.6, 3.0)] == [10, 11, 12, 13]
    assert all(a.seconds < b.seconds for a, b in itertools.pairwise(found))
