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
    5769,
    5763,
    5097,
    869,
    895,
    740,
    742,
    920,
    747,
    7622,
    7462,
    7460,
    7597,
    7574,
    11712,
    12360,
    12366,
    255,
    206,
    205,
    208,
    209,
    6984,
    6983,
    6980,
    6981,
    7024,
    133,
    5063,
    291,
    297,
    358,
    359,
    343,
    7120,
    7119,
    21,
    0,
    54,
    70,
    50,
    41,
    6854,
    6838,
    6784,
    6805,
    6825,
    6834,
    422,
    410,
    457,
    455,
    7216,
    7170,
    7182,
    7166,
    7241,
    492,
    486,
    406,
    433,
    470,
    474,
    7226,
    7193,
    7236,
    493,
    481,
)

#: (68, 3) landmarks of the mean head in the frame described above
POINTS = np.array(
    [
        (-1.158, -0.011, 0.905),
        (-1.150, 0.234, 0.876),
        (-1.125, 0.539, 0.868),
        (-1.083, 0.712, 0.784),
        (-0.942, 1.091, 0.681),
        (-0.832, 1.287, 0.616),
        (-0.720, 1.456, 0.397),
        (-0.474, 1.668, 0.134),
        (0.000, 1.824, -0.163),
        (0.474, 1.668, 0.134),
        (0.720, 1.456, 0.397),
        (0.832, 1.287, 0.616),
        (0.942, 1.091, 0.681),
        (1.083, 0.712, 0.784),
        (1.125, 0.539, 0.868),
        (1.150, 0.234, 0.876),
        (1.158, -0.011, 0.905),
        (-0.868, -0.208, -0.052),
        (-0.674, -0.264, -0.217),
        (-0.416, -0.300, -0.341),
        (-0.262, -0.281, -0.396),
        (-0.173, -0.204, -0.403),
        (0.173, -0.204, -0.403),
        (0.262, -0.281, -0.396),
        (0.416, -0.300, -0.341),
        (0.674, -0.264, -0.217),
        (0.868, -0.208, -0.052),
        (0.000, -0.012, -0.426),
        (0.000, 0.220, -0.514),
        (0.000, 0.406, -0.627),
        (0.000, 0.610, -0.707),
        (-0.245, 0.727, -0.394),
        (-0.134, 0.787, -0.468),
        (0.000, 0.804, -0.516),
        (0.134, 0.787, -0.468),
        (0.245, 0.727, -0.394),
        (-0.714, -0.005, -0.183),
        (-0.567, -0.074, -0.264),
        (-0.443, -0.063, -0.260),
        (-0.268, 0.027, -0.238),
        (-0.392, 0.059, -0.237),
        (-0.572, 0.071, -0.254),
        (0.268, 0.027, -0.238),
        (0.443, -0.063, -0.260),
        (0.567, -0.074, -0.264),
        (0.714, -0.005, -0.183),
        (0.572, 0.071, -0.254),
        (0.392, 0.059, -0.237),
        (-0.421, 1.096, -0.279),
        (-0.290, 0.970, -0.452),
        (-0.131, 0.941, -0.557),
        (0.000, 0.956, -0.572),
        (0.131, 0.941, -0.557),
        (0.290, 0.970, -0.452),
        (0.421, 1.096, -0.279),
        (0.303, 1.204, -0.370),
        (0.093, 1.282, -0.481),
        (0.000, 1.293, -0.506),
        (-0.093, 1.282, -0.481),
        (-0.303, 1.204, -0.370),
        (-0.369, 1.090, -0.302),
        (-0.165, 1.090, -0.487),
        (0.000, 1.098, -0.500),
        (0.165, 1.090, -0.487),
        (0.369, 1.090, -0.302),
        (0.180, 1.105, -0.441),
        (0.000, 1.109, -0.478),
        (-0.180, 1.105, -0.441),
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
