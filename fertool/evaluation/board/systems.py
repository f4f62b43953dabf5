"""Which runs are seeds of one system, and which systems were scored on the same faces and may stand in one table."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fertool import artefact
from fertool.artefact import Artefact
from fertool.evaluation import score
from fertool.evaluation.board.effects import Right
from fertool.evaluation.setups import Setup, setup_of
from fertool.training import lineage

#: settings in which the runs of one system may differ: chance, and what changes the speed only
_FREE = ("train.seed", "train.cache", "train.checkpoint_minutes", "train.compile", "train.channels_last", "train.track")
#: roles of parents that differ from fold to fold
_PER_FOLD = ("train.fold", "pretrained_part")


@dataclass(frozen=True)
class Entry:
    """A finished run with its predictions, and what it was scored on.

    Attributes:
        name: by which a command finds the run.
        faces, subsets: those that were predicted; None where they are gone, or there are no subsets.
    """

    name: str
    run: Artefact
    predictions: Artefact
    faces: Artefact | None
    subsets: Artefact | None

    @property
    def seed(self) -> int:
        return int(self.run.params["train"].get("seed", 0))

    @property
    def fold(self) -> int | None:
        return self.run.params["train"].get("fold")

    @property
    def network(self) -> str:
        return str(self.run.params["model"]["name"])

    @property
    def variant(self) -> str:
        return str(self.run.params["variant"] or "")

    @property
    def seconds(self) -> float:
        return float(sum(self.run.info.get("seconds", ())))

    def settings(self) -> dict[str, Any]:
        """Return what every run of this one's system has in common: settings by dotted key, digests of the parents."""
        ignored = {"recipe", *_FREE, *(_PER_FOLD if self.fold is not None else ())}
        shared = artefact.flatten(self.run.params) | {p.role: p.digest for p in self.run.inputs}
        return {k: v for k, v in shared.items() if k not in ignored}

    def key(self) -> str:
        """Return the same as text, with how it was scored."""
        scored = {k: v for k, v in self.predictions.params.items() if k != "crop_repeat"}
        return json.dumps([self.settings(), scored, self.fold is not None], sort_keys=True, default=str)


@dataclass
class System:
    """Runs that differ by their seed alone.

    Attributes:
        label: name in the table.
        entries: the runs of every seed: one, or in a cross-validation one per fold.
        right: (seeds, faces) which faces every seed got right, in the order of `Block.ids`.
        differs: settings in which it differs from others of the same network and variant.
    """

    label: str
    entries: dict[int, list[Entry]]
    right: Right
    differs: dict[str, Any] = field(default_factory=dict)

    @property
    def first(self) -> Entry:
        return next(iter(self.entries.values()))[0]

    @property
    def runs(self) -> list[Entry]:
        return [e for entries in self.entries.values() for e in entries]

    def setup(self, paper: str = "") -> Setup | None:
        """Return what it is in the terms of a paper; None without one."""
        e = self.first
        return setup_of(e.run, e.predictions, e.faces, e.subsets, crossed=e.fold is not None, paper=paper)


@dataclass
class Block:
    """Systems that were scored on the same faces, with the same labels, subsets and choice of the checkpoint.

    Attributes:
        ids: the labelled faces, sorted.
        members: subset -> (faces,) bool, "all" first.
    """

    about: dict[str, Any]
    ids: list[str]
    members: dict[str, NDArray[np.bool_]]
    systems: list[System]


@dataclass(frozen=True)
class LeftOut:
    """A run that stands in no table, and why."""

    run: str
    reason: str


def arrange(entries: Sequence[Entry], names: Sequence[str] = (score.ALL,)) -> tuple[list[Block], list[LeftOut]]:
    """Return the tables that finished runs belong to, and the runs that belong to none.

    Args:
        entries: oldest first; of two runs of one system with one seed the later counts.
        names: subsets to score beside the whole split; "all" for every one.
    """
    grouped: dict[str, dict[tuple[int, int | None], Entry]] = {}
    left: list[LeftOut] = []
    for entry in entries:
        runs = grouped.setdefault(entry.key(), {})
        if earlier := runs.get((entry.seed, entry.fold)):
            left.append(LeftOut(earlier.name, f"the same training as {entry.name}, which is later"))
        runs[entry.seed, entry.fold] = entry
    blocks: dict[str, Block] = {}
    for runs in grouped.values():
        seeds, missing = _seeds(runs.values())
        left += missing
        if not seeds:
            continue
        ids, labels, right = _outcomes(seeds)
        first = next(iter(seeds.values()))[0]
        about = _about(first, labels)
        key = json.dumps(about, sort_keys=True)
        if key not in blocks:
            blocks[key] = Block(about, ids, _members(first, ids, names), [])
        blocks[key].systems.append(System("", seeds, right))
    for block in blocks.values():
        _name(block.systems)
    return list(blocks.values()), left


def _seeds(entries: Iterable[Entry]) -> tuple[dict[int, list[Entry]], list[LeftOut]]:
    """Return the runs of every seed, sorted; of a cross-validation only seeds whose folds are all there."""
    seeds: dict[int, list[Entry]] = {}
    for entry in sorted(entries, key=lambda e: (e.seed, e.fold or 0)):
        seeds.setdefault(entry.seed, []).append(entry)
    missing = []
    for seed, runs in list(seeds.items()):
        folds = (lineage.describe(runs[0].run)["lineage"].get("folds") or {}).get("number", len(runs))
        if runs[0].fold is not None and len(runs) < folds:
            reason = f"{len(runs)} of the {folds} folds of this cross-validation are trained"
            missing += [LeftOut(e.name, reason) for e in seeds.pop(seed)]
    return seeds, missing


def _outcomes(seeds: Mapping[int, list[Entry]]) -> tuple[list[str], dict[str, str], Right]:
    """Return the ids of the labelled faces, their labels, and which of them every seed got right (seeds, faces)."""
    labels: dict[str, str] = {}
    each = []
    for runs in seeds.values():
        outcome: dict[str, bool] = {}
        for entry in runs:
            p = entry.predictions
            label = np.asarray(p["label"]).astype(np.int64)
            predicted = np.asarray(p["logits"]).argmax(1)
            for i in np.flatnonzero(label >= 0):
                outcome[str(p.ids[i])] = bool(predicted[i] == label[i])
                labels[str(p.ids[i])] = (p.classes or ())[label[i]]
        each.append(outcome)
    ids = sorted(labels)
    return ids, labels, np.array([[outcome[i] for i in ids] for outcome in each], bool).reshape(len(each), len(ids))


def _about(first: Entry, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return what the systems of one table share."""
    train, scored = first.run.params["train"], first.predictions.params
    faces = first.predictions.parent("faces")
    checkpoint = scored.get("weights", "selected")
    if checkpoint == "selected":
        checkpoint = train["select_on"]
    return {
        "dataset": (first.faces.params if first.faces else {}).get("dataset", ""),
        "data": first.faces.path.parent.name if first.faces else faces.name if faces else "",
        "split": scored.get("split", "test"),
        "checkpoint": "last" if checkpoint == "last" else f"best on {train['val_split']}",
        "labels": "list" if train["labels"] == "list" else "dataset",
        "n_total": len(labels),
        "classes": sorted(first.run.classes or ()),
        "faces": faces.digest if faces else "",
        "subsets": first.subsets.digest if first.subsets else "",
        "labels_digest": hashlib.sha256(json.dumps(sorted(labels.items())).encode()).hexdigest(),
        "folds": first.fold is not None,
    }


def _members(first: Entry, ids: Sequence[str], names: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return which faces are in each subset."""
    whole = {score.ALL: np.ones(len(ids), bool)}
    if first.faces is None or first.subsets is None:
        return whole
    place = {str(name): row for row, name in enumerate(first.faces.ids)}
    rows = np.array([place[i] for i in ids], np.int64)
    found = dict(whole)
    for name in names:
        for column in score.subset_names(first.subsets) if name == score.ALL else [name]:
            inside = score.membership(first.subsets, column)[rows]
            if name != score.ALL or inside.any():
                found[column] = inside
    return found


def _name(systems: list[System]) -> None:
    """Give every system of a table its own label: network and variant, and where these are not enough, what differs."""
    alike: dict[str, list[System]] = {}
    for system in systems:
        e = system.first
        variant = "" if e.variant == e.network else e.variant
        system.label = f"{e.network} {variant}".strip()
        alike.setdefault(system.label, []).append(system)
    for same in alike.values():
        if len(same) == 1:
            continue
        settings = [s.first.settings() for s in same]
        keys = [k for k in dict.fromkeys(k for s in settings for k in s) if len({str(s.get(k)) for s in settings}) > 1]
        for number, (system, one) in enumerate(zip(same, settings, strict=True), 1):
            system.differs = {k: one.get(k) for k in keys}
            shown = [f"{k.rpartition('.')[2]} {_short(one.get(k))}" for k in keys[:3]]
            system.label += f" ({', '.join(shown)})" if shown else f" ({number})"
        if len({s.label for s in same}) < len(same):
            for number, system in enumerate(same, 1):
                system.label += f" #{number}"


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= 24 else text[:23] + "…"
