"""The 68 landmarks of the iBUG scheme as points of a mean head in space, and what the pose angles mean.

Frame: x to the right as the camera sees it, y down, z away from the camera (right-handed, OpenCV's camera frame), the
origin midway between the eyeballs, the unit the distance between their centres (about 62 mm). A head that looks
straight into the camera looks along -z; the person's left is at positive x.

The points are vertices of the MakeHuman head (CC0). The jaw contour (0-16) runs over fixed vertices from the temple
along the edge of the jaw to the chin, so on a turned head it stays on the bone, while annotators of photographs (and
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
        (-1.183, 0.047, 0.940),
        (-1.165, 0.300, 0.902),
        (-1.126, 0.676, 0.888),
        (-1.082, 0.828, 0.799),
        (-0.980, 1.233, 0.733),
        (-0.875, 1.453, 0.784),
        (-0.742, 1.639, 0.576),
        (-0.469, 1.819, 0.260),
        (0.000, 1.891, -0.078),
        (0.469, 1.819, 0.260),
        (0.742, 1.639, 0.576),
        (0.875, 1.453, 0.784),
        (0.980, 1.233, 0.733),
        (1.082, 0.828, 0.799),
        (1.126, 0.676, 0.888),
        (1.165, 0.300, 0.902),
        (1.183, 0.047, 0.940),
        (-0.879, -0.215, -0.103),
        (-0.682, -0.254, -0.327),
        (-0.411, -0.273, -0.435),
        (-0.261, -0.244, -0.451),
        (-0.175, -0.164, -0.421),
        (0.175, -0.164, -0.421),
        (0.261, -0.244, -0.451),
        (0.411, -0.273, -0.435),
        (0.682, -0.254, -0.327),
        (0.879, -0.215, -0.103),
        (0.000, 0.063, -0.418),
        (0.000, 0.317, -0.552),
        (0.000, 0.512, -0.679),
        (0.000, 0.697, -0.749),
        (-0.271, 0.794, -0.403),
        (-0.171, 0.826, -0.480),
        (0.000, 0.846, -0.537),
        (0.171, 0.826, -0.480),
        (0.271, 0.794, -0.403),
        (-0.714, 0.023, -0.170),
        (-0.566, -0.037, -0.281),
        (-0.442, -0.039, -0.283),
        (-0.268, 0.071, -0.235),
        (-0.390, 0.096, -0.248),
        (-0.572, 0.102, -0.260),
        (0.268, 0.071, -0.235),
        (0.442, -0.039, -0.283),
        (0.566, -0.037, -0.281),
        (0.714, 0.023, -0.170),
        (0.572, 0.102, -0.260),
        (0.390, 0.096, -0.248),
        (-0.407, 1.186, -0.347),
        (-0.289, 1.068, -0.486),
        (-0.136, 1.043, -0.560),
        (0.000, 1.014, -0.587),
        (0.136, 1.043, -0.560),
        (0.289, 1.068, -0.486),
        (0.407, 1.186, -0.347),
        (0.298, 1.301, -0.423),
        (0.108, 1.368, -0.494),
        (0.000, 1.373, -0.508),
        (-0.108, 1.368, -0.494),
        (-0.298, 1.301, -0.423),
        (-0.352, 1.167, -0.348),
        (-0.179, 1.158, -0.459),
        (0.000, 1.162, -0.485),
        (0.179, 1.158, -0.459),
        (0.352, 1.167, -0.348),
        (0.184, 1.176, -0.451),
        (0.000, 1.180, -0.502),
        (-0.184, 1.176, -0.451),
    ]
)


def rotation(pitch: float, yaw: float, roll: float) -> np.ndarray:
    """The (3, 3) matrix that turns a head looking along -z into the pose, in degrees.

    R = Rz(roll) Ry(yaw) Rx(pitch): yaw and pitch are azimuth and elevation of the looking direction before the
    picture is turned by roll. yaw > 0 looks to the picture's right, pitch > 0 up, roll > 0 turns clockwise as seen.
    """
    p, y, r = np.radians([pitch, yaw, roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def angles(matrix: np.ndarray) -> tuple[float, float, float]:
    """Pitch, yaw and roll in degrees of a rotation matrix: the inverse of `rotation`."""
    yaw = np.arcsin(np.clip(matrix[2, 0], -1, 1))
    pitch = np.arctan2(-matrix[2, 1], matrix[2, 2])
    roll = np.arctan2(matrix[1, 0], matrix[0, 0])
    return tuple(float(a) for a in np.degrees((pitch, yaw, roll)))
