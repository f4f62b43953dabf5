"""The learning rate as a function of the step: nothing to store, nothing to restore."""

from bisect import bisect_right

from fertool.settings import LARGEST, Train


def learning_rate(settings: Train, step: int, steps_per_epoch: int, total: int) -> float:
    """Rate of optimiser step `step` (from 0): lr · gamma^(milestones passed), in epochs, steps or fractions."""
    time = {"epoch": step / steps_per_epoch, "iteration": step, "fraction": step / total}[settings.lr_unit]
    if settings.lr_every:
        passed = int(time / settings.lr_every + 1e-9)  # 0.3 / 0.1 is a little less than 3
    else:
        passed = bisect_right(sorted(settings.lr_milestones), time)
    try:
        return min(settings.lr * settings.lr_gamma**passed, LARGEST)
    except OverflowError:  # a factor above 1, very often
        return LARGEST
