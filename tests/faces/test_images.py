"""Images as people have them: every format and mode gives upright pixels, everything else one clear reason."""

import os
import resource

import cv2
import numpy as np
import pytest
from image_files import COLOUR, GREY, damaged_images, saved
from PIL import Image

from fertool.errors import DataError
from fertool.faces import media
from fertool.faces.images import UnreadableImage, read_image
from fertool.videos import read_frame


@pytest.mark.parametrize("ending", ["png", "bmp", "tiff", "ppm"])
def test_lossless_formats_come_as_they_are(tmp_path, ending):
    assert (read_image(saved(tmp_path / f"a.{ending}", COLOUR)) == COLOUR).all()
    ending = "pgm" if ending == "ppm" else ending
    grey = read_image(saved(tmp_path / f"g.{ending}", GREY))
    assert grey.shape == GREY.shape
    assert (grey == GREY).all()


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_lossy_formats_are_close(tmp_path, ending):
    read = read_image(saved(tmp_path / f"a.{ending}", COLOUR, quality=95))
    assert read.shape == COLOUR.shape
    assert np.abs(read.astype(int) - COLOUR).mean() < 6


def test_the_name_does_not_matter(tmp_path):
    png = saved(tmp_path / "a.png", COLOUR).rename(tmp_path / "a photo, ä.jpg")
    assert (read_image(png) == COLOUR).all()


def test_sixteen_bits_are_scaled(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), GREY.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "colour.png"), COLOUR[..., ::-1].astype(np.uint16) * 257)
    assert (read_image(tmp_path / "grey.png") == GREY).all()
    assert (read_image(tmp_path / "colour.png") == COLOUR).all()
    half = np.full((4, 4), 32768, np.uint16)  # not 0, not 255: 128
    cv2.imwrite(str(tmp_path / "half.png"), half)
    assert (read_image(tmp_path / "half.png") == 128).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_sixteen_bits_that_hold_fewer_are_not_black(tmp_path, bits, ending):
    """As cameras of 10, 12 and 14 bits write them, grey, in colour and with transparency."""
    white = (1 << bits) - 1
    deep = np.round(COLOUR[..., ::-1] / 255 * white).astype(np.uint16)
    deep[0, 0], colour = white, COLOUR.copy()
    colour[0, 0] = 255
    cv2.imwrite(str(tmp_path / f"colour.{ending}"), deep)
    cv2.imwrite(str(tmp_path / f"grey.{ending}"), deep[..., 1])
    assert np.abs(read_image(tmp_path / f"colour.{ending}").astype(int) - colour).max() <= 1
    assert np.abs(read_image(tmp_path / f"grey.{ending}").astype(int) - colour[..., 1]).max() <= 1


def test_avif_and_heic(tmp_path):
    read = read_image(saved(tmp_path / "a.avif", COLOUR, quality=95))
    assert np.abs(read.astype(int) - COLOUR).mean() < 6
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(UnreadableImage, match="pip install pillow-heif|damaged|not an image"):
        read_image(tmp_path / "a.heic")


def test_cmyk(tmp_path):
    whole = Image.fromarray(COLOUR).convert("CMYK")
    whole.save(tmp_path / "a.tiff")
    whole.save(tmp_path / "a.jpg", quality=98)
    assert np.abs(read_image(tmp_path / "a.tiff").astype(int) - COLOUR).max() <= 1
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - COLOUR).mean() < 8


def test_palette_and_one_bit(tmp_path):
    few = (COLOUR // 128) * 255
    Image.fromarray(few).quantize(16).save(tmp_path / "p.png")
    assert (read_image(tmp_path / "p.png") == few).all()
    Image.fromarray(GREY > 127).save(tmp_path / "1.png")
    assert (read_image(tmp_path / "1.png") == np.where(GREY > 127, 255, 0)).all()


def test_what_is_transparent_lies_over_white(tmp_path):
    alpha = np.zeros_like(GREY)
    alpha[:, 20:], alpha[0, 0] = 255, 128
    saved(tmp_path / "rgba.png", np.dstack([COLOUR, alpha]))
    read = read_image(tmp_path / "rgba.png")
    assert read.shape == COLOUR.shape
    assert (read[:, 20:] == COLOUR[:, 20:]).all()
    assert (read[1:, :20] == 255).all()
    assert np.abs(read[0, 0] - (255 + COLOUR[0, 0].astype(float)) / 2).max() <= 1
    Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]).save(tmp_path / "la.png")
    grey = read_image(tmp_path / "la.png")
    assert grey.shape == GREY.shape
    assert (grey[1:, :20] == 255).all()
    keyed = Image.fromarray((COLOUR // 128) * 255).quantize(8)
    keyed.save(tmp_path / "key.png", transparency=keyed.getpixel((3, 3)))
    assert (read_image(tmp_path / "key.png")[3, 3] == 255).all()


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    saved(tmp_path / "a.png", COLOUR, exif=exif)
    assert (read_image(tmp_path / "a.png") == TURNS[orientation](COLOUR)).all()


@pytest.mark.parametrize("ending", ["gif", "png", "webp"])
def test_the_first_frame_of_an_animation(tmp_path, ending):
    frames = [Image.fromarray(np.full((20, 20, 3), v, np.uint8)) for v in (30, 200, 90)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], duration=50)
    with Image.open(tmp_path / f"a.{ending}") as image:
        assert image.n_frames == 3
    read = read_image(tmp_path / f"a.{ending}")
    assert read.shape == (20, 20, 3)
    assert np.abs(read.astype(int) - 30).max() <= 2


def test_what_is_no_photograph_is_named_with_its_reason(tmp_path):
    said = {}
    for name, reason in damaged_images(tmp_path).items():
        with pytest.raises(UnreadableImage) as caught:
            read_image(tmp_path / name)
        said[name] = caught.value.message
        assert said[name].startswith(f"{tmp_path / name}: ")
        assert reason in said[name], said[name]
        assert "\n" not in said[name]
    assert issubclass(UnreadableImage, DataError)
    assert len(said) == 12


def test_a_file_that_goes_missing_after_it_was_named_is_a_failure_not_a_bad_picture(tmp_path):
    """Of an image and of a video; a file that was never there is reported like a damaged one."""
    for name in ("a.png", "b.mp4"):
        saved(tmp_path / "there.png", GREY).rename(tmp_path / name)
        (source,) = media.named([str(tmp_path / name)])
        (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError):
            [picture.read() for picture in media.pictures([source])]
        (never,) = media.pictures(media.named([str(tmp_path / name)]))
        assert (never.pixels, never.problem) == (None, "no such file or directory")


def test_too_many_open_files_do_not_make_a_video_damaged(tmp_path):
    (tmp_path / "film.mp4").write_bytes(bytes(99))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    (source,) = media.named([str(tmp_path / "film.mp4")])
    assert [p.problem for p in media.pictures([source])] == ["not a video, or damaged"]
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            list(media.pictures([source]))
        with pytest.raises(OSError, match="Too many open files"):
            read_frame(tmp_path / "film.mp4", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
