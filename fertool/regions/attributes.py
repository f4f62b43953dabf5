"""The two attribute groups from whose presence WS-LGRN learns where the eyes and the mouth are.

Zhang et al., "Weakly supervised local-global relation network for facial expression recognition", IJCAI 2020, Table 1.
"""

from collections.abc import Mapping

import numpy as np

from fertool.labels import ATTRIBUTES

#: group -> the attributes that speak for it
GROUPS = ATTRIBUTES


def attribute_groups(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return (N, 2) int8 for `GROUPS` in order: 1 if a face has any of the group's attributes, 0 if it has none.

    Args:
        columns: every attribute by name, (N,) of 1 and -1.
    """
    present = [np.any([np.asarray(columns[name]) > 0 for name in names], axis=0) for names in GROUPS.values()]
    return np.stack(present, axis=1).astype(np.int8)


def draw(groups: np.ndarray, eligible: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Return (N, 2) bool: for each group `number` of the eligible faces at random, half positive and half negative.

    If there are fewer of the rarer kind, there are as many of each as there are of that.
    """
    drawn = np.zeros(groups.shape, bool)
    for g in range(groups.shape[1]):
        kinds = [np.flatnonzero(eligible & (groups[:, g] == value)) for value in (1, 0)]
        half = min(number // 2, *map(len, kinds))
        for rows in kinds:
            drawn[rng.permutation(rows)[:half], g] = True
    return drawn
