"""Videos that tests share, written by PyAV: any times, turned by metadata, with sound only."""

from fractions import Fraction

import av
import numpy as np

_UNIT = Fraction(1, 1000)


def write_film(path, frames, times=None, rotation=0, codec="libx264"):
    """Write frames (H, W, 3) RGB, each shown from its time; `rotation` degrees clockwise bring it upright."""
    times = np.arange(len(frames)) / 10 if times is None else times
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = _UNIT
        for frame, seconds in zip(frames, times, strict=True):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = round(seconds * 1000), _UNIT
            file.mux(stream.encode(picture))
        file.mux(stream.encode())
    if rotation:
        _turn(path, rotation)


def _turn(path, rotation):
    """Write a rotation into the track header of an MP4 file, as phones do."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44  # of the matrix, in a header of version 0
    cos, sin = round(np.cos(np.radians(rotation))), round(np.sin(np.radians(rotation)))
    for i, value in enumerate((cos, sin, 0, -sin, cos)):
        data[at + 4 * i : at + 4 * i + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(data)


def write_sound(path):
    """Write a second of noise without a picture."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        for i in range(16):
            noise = np.random.default_rng(i).normal(0, 0.1, (1, 1024)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
            frame.rate, frame.pts = 16000, 1024 * i
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
