"""Videos read by PyAV, which brings FFmpeg along."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from fertool.videos.base import Video, VideoError

#: containers of videos; playlists, which name other files and addresses, are none
_FORMATS = ",".join(
    ("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpeg", "mpegts", "mpegvideo", "m4v", "h264")
    + ("hevc", "asf", "flv", "ogg", "gif", "dv", "mxf", "rm", "wtv", "nut", "ivf")
)


class PyavVideo(Video):
    """A video file.

    Raises:
        VideoError: it has no video stream, or is damaged.
    """

    def __init__(self, path: Path):
        self._path = path
        self._container = _open(path)
        if not self._container.streams.video:
            self.close()
            raise VideoError("there is only sound in it")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._frame: av.VideoFrame | None = None
        self._unit = float(self._stream.time_base or 0)
        self._first = self._stream.start_time or 0
        self.rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        whole = (self._container.duration or 0) / av.time_base
        self.duration = self._stream.duration * self._unit if self._stream.duration else whole
        self.stated = self._stream.frames or round(self.duration * self.rate)

    def grab(self) -> Iterator[float | None]:
        before = -1 / (self.rate or 25.0)
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.FFmpegError:
                yield None
                continue
            for frame in frames:
                stamp = frame.dts if frame.pts is None else frame.pts
                before = before + 1 / (self.rate or 25.0) if stamp is None else (stamp - self._first) * self._unit
                self._frame = frame
                yield before

    def _packets(self) -> Iterator[av.Packet]:
        try:
            yield from self._container.demux(self._stream)
        except av.FFmpegError:
            return  # the end of a truncated file

    def image(self) -> np.ndarray | None:
        if self._frame is None:
            return None
        try:
            pixels = self._frame.to_ndarray(format="rgb24")
        except (av.FFmpegError, ValueError):
            return None
        return np.ascontiguousarray(np.rot90(pixels, round(self._frame.rotation / 90)))

    def times(self) -> list[float]:
        with PyavVideo(self._path) as video:
            return sorted((p.pts - video._first) * video._unit for p in video._packets() if p.pts is not None)

    def close(self) -> None:
        self._container.close()


def _open(path: Path) -> "av.container.InputContainer":
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    try:
        return av.open(f"file:{path}", options=options)
    except (av.FFmpegError, ValueError) as e:
        raise VideoError("not a video, or damaged") from e
