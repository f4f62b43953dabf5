"""Videos and cameras as frames with numbers and times: read by PyAV (`pip install 'fertool[video]'`) or by OpenCV.

Frames are upright, as the rotation in the file says, and their times are those of the stream, whatever its frame rate.
"""

from fertool.videos.base import Video, VideoError, numbered
from fertool.videos.files import count_frames, has_frames, open_video, probe, read_frame
from fertool.videos.writing import VideoWriter, write_video

__all__ = [
    "Video",
    "VideoError",
    "VideoWriter",
    "count_frames",
    "has_frames",
    "numbered",
    "open_video",
    "probe",
    "read_frame",
    "write_video",
]
