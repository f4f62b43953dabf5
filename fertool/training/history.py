"""The history of a training: one row per epoch, in the run and on the terminal."""

import math

from fertool import console
from fertool.training import divergence
from fertool.training.loader import Loader
from fertool.training.run_file import COUNTS, Progress
from fertool.training.schedule import learning_rate
from fertool.training.state import TrainState
from fertool.training.validation import validate

#: share of saturated gates from which on a network that is no better than a constant is warned of
_SATURATED = 0.9


def running(progress: Progress) -> str:
    """Return mean loss and score of the epoch so far, in words."""
    seen = progress.sums.get("seen")
    if not seen:
        return ""
    loss = sum(v for k, v in progress.sums.items() if k not in COUNTS)
    return f"loss {loss / seen:.3f}  training {100 * progress.sums['score'] / seen:.1f} %"


def add_epoch(state: TrainState, loader: Loader) -> None:
    """Close the epoch's row of the history; keep the weights if they are the best so far.

    Raises:
        NotFiniteError: the state, or an output or the loss for validation faces, is NaN or infinite.
    """
    divergence.check_state(state)
    progress, metric = state.progress, state.net.metric
    seen = progress.sums["seen"]
    terms = {k: v / seen for k, v in progress.sums.items() if k not in COUNTS}
    val = f"val_{metric}"
    row = {
        "epoch": progress.epoch + 1,
        "lr": learning_rate(state.settings, progress.iteration - 1, state.steps, state.total),
        "loss": sum(terms.values()),
        **{f"loss_{k}": v for k, v in terms.items()},
        f"train_{metric}": progress.sums["score"] / seen,
        val: math.nan,
        **(validate(state, loader) if len(loader.data.val) else {}),
    }
    if loader.data.constant is not None:
        row[f"constant_{metric}"] = loader.data.constant
    if "saturated" in progress.sums:
        row["saturated"] = progress.sums["saturated"] / seen
    for key, value in row.items():
        progress.history.setdefault(key, [math.nan] * progress.epoch).append(float(value))
    if row[val] > progress.best:
        progress.best = row[val]
        state.best.update({k: v.detach().cpu().clone() for k, v in state.net.state_dict().items()})


def say_epoch(state: TrainState) -> None:
    """Print the last row of the history."""
    progress = state.progress
    last = {k: v[-1] for k, v in progress.history.items()}
    train, val = (last[f"{part}_{state.net.metric}"] for part in ("train", "val"))
    terms = [k for k in last if k.startswith("loss_")]
    constant = next((v for k, v in last.items() if k.startswith("constant_")), None)
    if progress.epoch == 1:
        names = "".join(f"{t.removeprefix('loss_'):>9}" for t in terms)
        beside = "" if constant is None else f"{'constant %':>12}"
        split = state.settings.val_split
        val_loss = f"{f'{split} loss':>12}" if "val_loss" in last else ""
        console.say(
            f"{'epoch':>6}{'rate':>10}{'loss':>9}{names}{val_loss}{'train %':>10}{f'{split} %':>10}{beside}{'time':>9}"
        )
    values = "".join(f"{last[t]:>9.4f}" for t in terms)
    values += f"{last['val_loss']:>12.4f}" if "val_loss" in last else ""
    beside = "" if constant is None else f"{100 * constant:>12.2f}"
    console.say(
        f"{progress.epoch:>6}{last['lr']:>10.2g}{last['loss']:>9.4f}{values}{100 * train:>10.2f}"
        f"{100 * val:>10.2f}{beside}{progress.seconds[-1]:>8.1f}s"
    )
    if state.out_of_patience:
        s = state.settings
        console.say(f"the {s.patience_on} on {s.val_split} has not improved for {s.patience} epochs: the training ends")
    score = train if math.isnan(val) else val
    if last.get("saturated", 0) > _SATURATED and (constant is None or not score > constant):
        console.say(
            f"warning: {100 * last['saturated']:.1f} % of the sigmoid or softmax outputs have saturated: near 0 or 1, "
            "they hardly learn any more. Try a lower --lr or pixels of a smaller scale"
        )
