"""What the weights of a run follow from, in words."""

from pathlib import Path

from fertool.datasets import layouts
from fertool.training.checkpoint import Trained


def notes(trained: Trained) -> str:
    """Return a line on the licences of the data and models that a network was trained with."""
    name = trained.prepared["faces"].get("dataset", "")
    data = next((d.about for d in layouts() if d.name == name), name or "faces of unknown origin")
    lines = ["fertool is MIT-licensed; weights follow from what they were trained on.", f"Trained on: {data}."]
    if trained.faces.landmarks == "ert68":
        lines.append("Its faces were aligned by dlib's 68-point model, trained on iBUG 300-W: no commercial use.")
    init = trained.train.get("init", "none")
    if init == "dlib":
        lines.append("Its training began with dlib's face recognition network, which is in the public domain.")
    elif init != "none":
        lines.append(f"Its training began with weights of others: {Path(init).name}.")
    return " ".join(lines)
