"""The 68 landmarks of the iBUG scheme as points of a mean head in space, and what the pose angles mean.

Frame: x to the right as the camera sees it, y down, z away from the camera (right-handed, OpenCV's camera frame), the
origin midway between the eyeballs, the unit the distance between their centres (about 62 mm). A head that looks
straight into the camera looks along -z; the person's left is at positive x.

The points are vertices of the MakeHuman head (CC0). The jaw contour (0-16) runs over fixed vertices from the temple
along the edge of the jaw to the chin, so on a turned head it stays on the bone, while annotators of images (and
networks trained on their work) slide it to the visible outline.
"""

import numpy as np

#: vertex numbers of the landmarks in the MakeHuman base mesh
VERTICES = (
    5769, 5763, 5097, 869, 895, 740, 742, 920, 747, 7622, 7462, 7460, 7597, 7574, 11712, 12360, 12366,
    255, 206, 205, 208, 209, 6984, 6983, 6980, 6981, 7024, 133, 5063, 291, 297, 358, 359, 343,
    7120, 7119, 21, 0, 54, 70, 50, 41, 6854, 6838, 6784, 6805, 6825, 6834, 422, 410, 457,
    455, 7216, 7170, 7182, 7166, 7241, 492, 486, 406, 433, 470, 474, 7226, 7193, 7236, 493, 481,
)  # fmt: skip

#: (68, 3) landmarks of the mean head (of 300 drawn at random, made symmetric) in the frame described above
POINTS = np.array(
    [
        (-1.181, 0.060, 0.938),
        (-1.162, 0.304, 0.900),
        (-1.124, 0.678, 0.889),
        (-1.081, 0.830, 0.802),
        (-0.981, 1.239, 0.724),
        (-0.876, 1.464, 0.771),
        (-0.741, 1.647, 0.572),
        (-0.468, 1.824, 0.262),
        (0.000, 1.896, -0.073),
        (0.468, 1.824, 0.262),
        (0.741, 1.647, 0.572),
        (0.876, 1.464, 0.771),
        (0.981, 1.239, 0.724),
        (1.081, 0.830, 0.802),
        (1.124, 0.678, 0.889),
        (1.162, 0.304, 0.900),
        (1.181, 0.060, 0.938),
        (-0.877, -0.218, -0.103),
        (-0.681, -0.256, -0.329),
        (-0.410, -0.273, -0.437),
        (-0.260, -0.244, -0.453),
        (-0.175, -0.164, -0.423),
        (0.175, -0.164, -0.423),
        (0.260, -0.244, -0.453),
        (0.410, -0.273, -0.437),
        (0.681, -0.256, -0.329),
        (0.877, -0.218, -0.103),
        (0.000, 0.063, -0.419),
        (0.000, 0.318, -0.549),
        (0.000, 0.510, -0.680),
        (0.000, 0.698, -0.752),
        (-0.273, 0.793, -0.406),
        (-0.170, 0.828, -0.486),
        (0.000, 0.847, -0.542),
        (0.170, 0.828, -0.486),
        (0.273, 0.793, -0.406),
        (-0.714, 0.023, -0.169),
        (-0.566, -0.038, -0.282),
        (-0.442, -0.039, -0.283),
        (-0.268, 0.072, -0.236),
        (-0.391, 0.096, -0.249),
        (-0.572, 0.102, -0.260),
        (0.268, 0.072, -0.236),
        (0.442, -0.039, -0.283),
        (0.566, -0.038, -0.282),
        (0.714, 0.023, -0.169),
        (0.572, 0.102, -0.260),
        (0.391, 0.096, -0.249),
        (-0.407, 1.191, -0.361),
        (-0.286, 1.073, -0.495),
        (-0.135, 1.048, -0.567),
        (0.000, 1.018, -0.593),
        (0.135, 1.048, -0.567),
        (0.286, 1.073, -0.495),
        (0.407, 1.191, -0.361),
        (0.294, 1.307, -0.432),
        (0.107, 1.375, -0.500),
        (0.000, 1.380, -0.514),
        (-0.107, 1.375, -0.500),
        (-0.294, 1.307, -0.432),
        (-0.350, 1.171, -0.360),
        (-0.177, 1.163, -0.467),
        (0.000, 1.167, -0.493),
        (0.177, 1.163, -0.467),
        (0.350, 1.171, -0.360),
        (0.182, 1.181, -0.458),
        (0.000, 1.186, -0.508),
        (-0.182, 1.181, -0.458),
    ]
)


def rotation(pitch: float, yaw: float, roll: float) -> np.ndarray:
    """Return the (3, 3) matrix that turns a head looking along -z into the pose, in degrees.

    R = Rz(roll) Ry(yaw) Rx(pitch): yaw and pitch are azimuth and elevation of the looking direction before the
    image is turned by roll. yaw > 0 looks to the image's right, pitch > 0 up, roll > 0 turns clockwise as seen.
    """
    p, y, r = np.radians([pitch, yaw, roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def angles(matrix: np.ndarray) -> tuple[float, float, float]:
    """Return pitch, yaw and roll in degrees of a rotation matrix: the inverse of `rotation`."""
    yaw = np.arcsin(np.clip(matrix[2, 0], -1, 1))
    pitch = np.arctan2(-matrix[2, 1], matrix[2, 2])
    roll = np.arctan2(matrix[1, 0], matrix[0, 0])
    return float(np.degrees(pitch)), float(np.degrees(yaw)), float(np.degrees(roll))
