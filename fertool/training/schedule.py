"""The learning rate as a function of the step: nothing to store, nothing to restore."""

import math
from bisect import bisect_right

from fertool.settings import LARGEST, Train


def learning_rate(settings: Train, step: int, steps_per_epoch: int, total: int) -> float:
    """Return the rate of optimiser step `step` (from 0).

    It is lr · gamma^(milestones passed), in epochs, steps or fractions, or half a cosine from lr to 0 (Loshchilov and
    Hutter, ICLR 2017, without restarts). A linear warm-up comes first; milestones are counted from the start of it, the
    cosine begins at its end.
    """
    unit = {"epoch": steps_per_epoch, "iteration": 1, "fraction": total}[settings.lr_unit]  # steps of one unit
    warmup = settings.lr_warmup * unit
    if step + 1 < warmup:
        return settings.lr * (step + 1) / warmup
    if settings.lr_schedule == "cosine":
        return settings.lr * (1 + math.cos(math.pi * max(0.0, step - warmup) / max(1, total - warmup))) / 2
    time = step / unit
    if settings.lr_every:
        passed = int(time / settings.lr_every + 1e-9)  # 0.3 / 0.1 is a little less than 3
    else:
        passed = bisect_right(sorted(settings.lr_milestones), time)
    try:
        return min(settings.lr * settings.lr_gamma**passed, LARGEST)
    except OverflowError:  # a factor above 1, very often
        return LARGEST
