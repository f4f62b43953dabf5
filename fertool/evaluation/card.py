"""A model card in Markdown, with the front matter that the Hugging Face hub reads.

Front matter: `model-index` with one entry per subset of at least 30 faces; values are fractions from 0 to 1.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from fertool import __version__
from fertool.evaluation import tables
from fertool.evaluation.comparison import called
from fertool.evaluation.markdown import escaped, table
from fertool.evaluation.score import ALL, FEW
from fertool.evaluation.units import interval, percent
from fertool.outputs import MARK

Facts = Mapping[str, Any]

_TASK = {"type": "image-classification", "name": "facial expression recognition"}
_INTENDED = (
    "Research on facial expression recognition: comparing methods under one protocol, studying what occlusion and head "
    "pose cost, and starting further trainings. It names the expression that people would most likely label a face "
    "with."
)
_NOT_INTENDED = (
    "To infer what a person feels, thinks or intends: an expression is no emotion, and how the two go together differs "
    "between people, situations and cultures.",
    "To decide about people, in hiring, education, insurance, credit, health care, policing or border control; the "
    "European Union prohibits inferring emotions at work and in education (Regulation 2024/1689, Article 5).",
    "To identify people, or to watch them without their consent.",
    "On faces unlike those it was evaluated on, before it has been evaluated on faces like them.",
)


def page(facts: Facts) -> str:
    """Return the card.

    Args:
        facts: of a run, from `stages.report.metrics.facts`, and: weights ("last" or "best"), paper (citation), dataset
            (name of its layout), licence (in words), faces (settings of detect-align), has_boxes (whether the ONNX file
            takes regions), files (name -> SHA-256), commands.
    """
    lines = ["---", _front_matter(facts), "---", "", f"# {escaped(facts['name'])}", "", _summary(facts), ""]
    lines += ["## Intended use", "", _INTENDED, "", "Not intended:", "", *(f"- {line}" for line in _NOT_INTENDED), ""]
    lines += _evaluation(facts) if facts["scores"] else []
    lines += ["## Training data and licences", "", escaped(facts["licence"]), "", _training(facts), ""]
    lines += ["## How to use it", "", *_usage(facts), ""]
    lines += ["## To train it again", "", "```bash", *facts["commands"], "```", ""]
    lines += ["## Digests", "", *_digests(facts), "", f"<!-- {MARK} {__version__} -->", ""]
    return "\n".join(lines)


def _front_matter(facts: Facts) -> str:
    front: dict[str, Any] = {
        "library_name": "fertool",
        "license": "other",
        "license_name": "see-training-data-and-licences",
        "pipeline_tag": _TASK["type"],
        "tags": ["facial-expression-recognition", facts["model"], facts["dataset"] or "faces"],
    }
    if facts["scores"]:
        front["metrics"] = ["accuracy"]
        front["model-index"] = [{"name": facts["name"], "results": list(_results(facts))}]
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120).rstrip()


def _results(facts: Facts) -> Iterator[dict[str, Any]]:
    for name, s in facts["scores"]["subsets"].items():
        if s["n_total"] < FEW:
            continue
        data = {"type": facts["dataset"] or "faces", "name": facts["data"], "split": facts["split"]}
        if name != ALL:
            data |= {"name": f"{facts['data']}, {name}", "config": name}
        args = {"faces": s["n_total"], "confidence": facts["scores"]["confidence"]}
        args |= {end: round(s[end], 4) for end in ("low", "high")}
        yield {
            "task": dict(_TASK),  # a copy: YAML would write an alias
            "dataset": data,
            "metrics": [
                {"type": "accuracy", "name": "accuracy", "value": round(s["accuracy"], 4), "args": args},
                {"type": "recall", "name": "mean recall of the classes", "value": round(s["macro_accuracy"], 4)},
            ],
        }


def _summary(facts: Facts) -> str:
    of = f" ({facts['variant']})" if facts["variant"] else ""
    what = f"probabilities of {', '.join(facts['classes'])}" if facts["scores"] else "no expressions"
    paper = f" The network is that of {facts['paper'].rstrip('.')}." if facts["paper"] else ""
    by = f" by the recipe `{facts['recipe']}`" if facts["recipe"] else ""
    return escaped(f"{facts['model']}{of}, trained with fertool{by}: a face image in, {what} out.{paper}")


def _evaluation(facts: Facts) -> list[str]:
    scores, confidence = facts["scores"], f"{100 * facts['scores']['confidence']:g} % interval"
    head = ("subset", "faces", "accuracy (%)", confidence, "mean recall (%)")
    lines = ["## Evaluation", "", f"Split {escaped(facts['split'])} of {escaped(facts['data'])}.", ""]
    lines += table(head, [_line(tables.marked(n, s["n_total"]), s) for n, s in scores["subsets"].items()])
    whole = scores["subsets"][ALL]
    lines += ["", f"Chance is {percent(scores['chance'])} %, the most frequent class {percent(whole['majority'])} %."]
    if any(0 < s["n_total"] < FEW for s in scores["subsets"].values()):
        lines[-1] += f" {escaped(tables.FEW_NOTE)}."
    if facts["calibration"]:
        error = percent(facts["calibration"]["error"], 1)
        lines[-1] += f" Confidence and accuracy lie {error} points apart (expected calibration error)."
    lines += ["", *table(("class", "faces", "recall (%)", "precision (%)", "F1"), _classes(whole)), ""]
    for column, grouped in scores["groups"].items():
        rows = [_line(name + " *" * s["few"], s) for name, s in grouped["groups"].items()]
        lines += [*table((column, *head[1:]), rows), "", f"{escaped(tables.gap(grouped))}.", ""]
    if not scores["groups"]:
        lines += ["It was not evaluated by groups of people, such as gender, age or skin tone.", ""]
    for line in facts["warnings"]:
        lines += [f"**{escaped(line)}**", ""]
    if facts["silent"]:
        lines += ["Not known:", "", *(f"- {escaped(line)}" for line in facts["silent"]), ""]
    return lines


def _line(name: str, s: Mapping[str, Any]) -> list[str]:
    values = (percent(s["accuracy"]), interval(s["low"], s["high"]), percent(s["macro_accuracy"]))
    return [escaped(called(name)), f"{s['n_total']:,}", *values]


def _classes(scored: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, c in scored["classes"].items():
        yield [escaped(name), f"{c['support']:,}", *(percent(c[k]) for k in ("recall", "precision", "f1"))]


def _training(facts: Facts) -> str:
    training, settings = facts["training"], facts["settings"]
    amount = f"{training['epochs']:,} epochs" if training["counts"] == "epochs" else f"{training['iterations']:,} steps"
    splits = ", ".join(settings.get("train.train_splits", ())) or "unknown"
    chosen = settings.get("train.select_on", "last")
    weights = "the last weights" if chosen == "last" else f"the {facts['weights']} weights, chosen on split {chosen}"
    seed = settings.get("train.seed", "unknown")
    return escaped(f"Trained for {amount} on split {splits} with random seed {seed}; these are {weights}.")


def _usage(facts: Facts) -> list[str]:
    """Return the input, and how to run each file."""
    faces = facts["faces"]
    height, width, channels = faces.shape
    colour = "grey" if channels == 1 else "RGB"
    lines = [
        f"Faces are {width} × {height} pixels, {colour}: found by {faces.detector}, landmarks by {faces.landmarks}, "
        f"aligned by {faces.align} to the template {faces.template}. `fertool predict` does all this.",
        "",
        "```bash",
        *(f"fertool predict IMAGES --run {name}" for name in facts["files"]),
        "```",
    ]
    if not (onnx := next((name for name in facts["files"] if name.endswith(".onnx")), "")):
        return lines
    boxes = " It also takes `boxes` (N, K, 4), the regions as fractions of the face." if facts["has_boxes"] else ""
    more = ', "boxes": boxes' if facts["has_boxes"] else ""
    return [
        *lines,
        "",
        f"The ONNX file takes aligned faces, `faces` (N, {channels}, {height}, {width}) float32 from 0 to 255, and "
        f"does the rest; its metadata hold class names and preprocessing.{boxes}",
        "",
        "```python",
        "import json, numpy, onnxruntime",
        "",
        f'session = onnxruntime.InferenceSession("{onnx}")',
        'classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])',
        f"faces = numpy.zeros((1, {channels}, {height}, {width}), numpy.float32)",
        f'(probabilities,) = session.run(["probabilities"], {{"faces": faces{more}}})',
        "```",
    ]


def _digests(facts: Facts) -> list[str]:
    rows = [[f"`{name}`", "SHA-256", f"`{digest}`"] for name, digest in facts["files"].items()]
    rows += [[f"`{n['name']}`", escaped(n["title"]), f"`{n['digest']}`"] for n in facts["origin"] if n["digest"]]
    return table(("file", "kind", "digest"), rows, text=3)
