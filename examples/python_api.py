"""A whole experiment from Python, in cells as for a notebook: faces, two runs, scores, a loop of one's own.

    python examples/python_api.py [FOLDER] [EPOCHS]

It renders the faces that it trains on, so that it needs no data; accuracies on rendered faces are no benchmark.
"""

# %% Faces: any dataset that `fertool datasets` lists works the same way
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader

import fertool
from fertool.stages import render

if __name__ == "__main__":  # the workers of detect-align import this file, too
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "python-api")
    epochs = float(sys.argv[2]) if len(sys.argv) > 2 else 4
    render.run(folder / "images", people=12, per_person=14, size=96)
    faces = fertool.detect_align(folder / "images", workspace=folder, name="faces", detector="none", size=48)
    print(fertool.open(faces).to_pandas()[["label", "split", "true_yaw"]].head())

    # %% Two networks under one protocol
    fertool.crop_regions(faces)
    fertool.build_subsets(faces)
    small = {"epochs": epochs, "lr": 0.05, "gpus": 0, "model": {"backbone": "tiny", "size": 48}}
    baseline = fertool.train("ran", faces, variant="baseline", workspace=folder, **small)
    ran = fertool.train("ran", faces, workspace=folder, **small)
    scores = fertool.evaluate([baseline, ran], subsets=["pose30"], workspace=folder, gpus=0)
    for name, run in scores["runs"].items():
        print(name, {subset: s["accuracy"] for subset, s in run["subsets"].items()})
    print(fertool.report([baseline, ran], workspace=folder, out=folder / "report.html"))

    # %% A trained network on images
    table = fertool.predict(folder / "images", run=ran, gpus=0)
    print(table["expression"].value_counts())

    # %% The same faces in a training loop of one's own
    data = fertool.FacesDataset(faces, split="train", transform=lambda image: image.float() / 255)
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(len(data.classes)))
    images, labels = next(iter(DataLoader(data, batch_size=len(data))))
    classifier(images[:1])
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
    for _step in range(20):
        loss = torch.nn.functional.cross_entropy(classifier(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"linear classifier: loss {loss.item():.2f}")
