"""How a network's attention is shown: what figures, reports and predictions ask a network, whichever it is."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from fertool.backbones.base import InputSpec


class ShowsAttention:
    """Attention as maps over the face, and as weights of its parts.

    The defaults fit networks that give maps (N, h, w), and those that weigh crops (`fertool.requirements.Regions`).

    Attributes:
        region_weights: attention that weighs parts of the face, (N, P): its name -> what figures call it. The first is
            the one shown where none is named.
        own_weight: the one among them that judges a part from its pixels alone; "" for the first.
        region_factors: name -> symbol of the attention whose product, normalised over the parts, is the first of
            `region_weights`; empty where it is no product.
        finds_masks: whether attention "masks" or, without it, the logits are masks of regions (N, R, h, w).
        any_size: whether `forward` takes views of any size, in grey.
        map_stride: pixels of the input that a value of a map stands for, in either direction; 1 for maps that cover
            the whole input.
    """

    input: InputSpec
    region_weights: Mapping[str, str] = MappingProxyType({})
    own_weight: str = ""
    region_factors: Mapping[str, str] = MappingProxyType({})
    map_stride: int = 1

    @property
    def finds_masks(self) -> bool:
        return False

    @property
    def any_size(self) -> bool:
        return False

    def attention_maps(self, attention: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return maps (N, h, w) over the network's input, by name; none for networks whose attention is no map.

        Args:
            attention: arrays by name as `Output.attention` has them.
        """
        return {name: values for name, values in attention.items() if values.ndim == 3}

    def region_names(self, crops: Sequence[str]) -> list[str] | None:
        """Return the names of the weighed parts; None where they are only numbered.

        Args:
            crops: names of the crops that the network looked at, the whole face first; may be empty.
        """
        return list(crops) or None

    def region_boxes(self, attention: Mapping[str, np.ndarray], crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes of the parts that can be covered, and their places among the weights.

        Args:
            attention: of N faces, as for `attention_maps`.
            crops: (N, K, 4) boxes of the crops as fractions of the face, the whole face first.

        Returns:
            (N, P, 4) fractions of the face, (P,) positions.
        """
        return crops[:, 1:], np.arange(1, crops.shape[1])
