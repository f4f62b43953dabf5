"""Scores of a cross-validation, added up in each of the ways in which papers do it."""

from collections.abc import Sequence

import numpy as np

from fertool.artefact import Artefact
from fertool.evaluation import metrics
from fertool.evaluation.score import score as score_one


def score(predictions: Sequence[Artefact], confidence: float = 0.95) -> dict:
    """Score the folds of one system.

    Args:
        predictions: those of each fold's run, in order.

    Returns:
        {"classes", "confidence",
        "folds": [{fold, n_total, n_correct, accuracy, macro_accuracy}],
        "pooled": {n_correct, n_total, accuracy, low, high, macro_accuracy}  over all faces together,
        "fold_mean": {accuracy, sd_population, sd_sample}  of the folds' accuracies,
        "confusion"  counts over all faces,
        "confusion_mean"  each fold's rows as fractions, averaged over folds; a class that a fold lacks counts as a row
        of zeros there, as in MAN's Table 6.}
    """
    each = [score_one(one, confidence=confidence)["subsets"]["all"] for one in predictions]
    together = metrics.across_folds([np.array(s["confusion"]) for s in each], confidence)
    keys = ("n_total", "n_correct", "accuracy", "macro_accuracy")
    pooled = together.pooled
    return {
        "classes": list(predictions[0].class_names),
        "confidence": confidence,
        "folds": [{"fold": i, **{k: s[k] for k in keys}} for i, s in enumerate(each)],
        "pooled": {
            "n_correct": pooled.n_correct,
            "n_total": pooled.n_total,
            "accuracy": pooled.value,
            "low": pooled.low,
            "high": pooled.high,
            "macro_accuracy": metrics.macro_accuracy(together.confusion),
        },
        "fold_mean": {
            "accuracy": together.mean,
            "sd_population": together.sd_population,
            "sd_sample": together.sd_sample,
        },
        "confusion": together.confusion.tolist(),
        "confusion_mean": together.confusion_mean.tolist(),
    }
