"""The networks as a table: parameters, input, paper; and one network's settings and variants."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args, get_origin

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from fertool import console, plugins
from fertool.evaluation import paper_results
from fertool.models.registry import build_model, model_class, model_settings


def every_network() -> list[dict]:
    """Return one entry per network and notable form of it (`CATALOGUE` of its class).

    Returns:
        dicts with network, classes, parameters, weights (without biases and normalisation), input (H, W), paper.
    """
    found = []
    for plugin in plugins.every("models"):
        cls = plugin.object
        if not cls.trainable:
            continue
        forms: Sequence[tuple[str, Mapping[str, Any], int | None]] = cls.CATALOGUE or ((plugin.name, {}, 7),)
        for label, values, classes in forms:
            with torch.device("meta"):
                net = build_model(model_settings({"name": plugin.reference, **values}), classes or 0)
                parts = net.parts()
            reference = paper_results.of_network(cls)
            paper = _cited(paper_results.load(reference)) if reference else ""
            trained = [m for m in net.children() if m is not net.frozen]
            found.append(
                {
                    "network": label,
                    "classes": classes,
                    **count(*trained),
                    "input": list(net.input.size),
                    "paper": paper,
                }
            )
            found += [
                {"network": f"  {part}", "classes": None, **count(module), "input": None, "paper": ""}
                for part, module in parts.items()
            ]
    return found


def count(*modules: nn.Module) -> dict[str, int]:
    """Return the number of parameters, and of weights of convolutions and linear layers without biases.

    Several papers call the latter parameters.
    """
    layers = [m for module in modules for m in module.modules() if isinstance(m, _ConvNd | nn.Linear)]
    return {
        "parameters": sum(p.numel() for module in modules for p in module.parameters()),
        "weights": sum(m.weight.numel() for m in layers),
    }


def _cited(paper: paper_results.Paper) -> str:
    return f"{paper.authors.split(',')[0]} et al., {paper.venue[-4:]}"


def describe(name: str) -> dict:
    """Return a network's settings (type, default, help) and its variants."""
    cls = model_class(name)
    reference = paper_results.of_network(cls)
    paper = paper_results.load(reference) if reference else None
    return {
        "network": name,
        "paper": f"{paper.authors}: {paper.title}. {paper.venue}" if paper else (cls.__doc__ or "").split("\n")[0],
        "settings": {
            f.name: {
                "default": None if f.default is MISSING else f.default,
                "values": _values(f.type),
                "help": _help(f.type),
            }
            for f in fields(cls.Settings)
        },
        "variants": cls.VARIANTS,
    }


def _values(declared: Any) -> str:
    kind = get_args(declared)[0] if get_origin(declared) is Annotated else declared
    parts = [_values(part) if get_origin(part) else getattr(part, "__name__", str(part)) for part in get_args(kind)]
    return " | ".join(parts) or kind.__name__


def _help(declared: Any) -> str:
    parts = get_args(declared)[1:] if get_origin(declared) is Annotated else ()
    return next((p for p in parts if isinstance(p, str)), "")


def report(facts: dict) -> None:
    """Print the table of all networks."""
    rows = [
        [
            m["network"],
            m["classes"] or "",
            f"{m['parameters']:,}",
            f"{m['weights']:,}",
            "×".join(map(str, m["input"] or ())),
            m["paper"],
        ]
        for m in facts["models"]
    ]
    columns = ["network", "classes", "parameters", "weights only", "input", "paper"]
    console.show(console.table("Networks", columns, rows))
    console.say("fertool models NAME shows a network's settings and variants")


def report_model(facts: dict) -> None:
    """Print one network's settings and variants."""
    console.say(f"{facts['network']}: {facts['paper']}")
    console.say("\nSettings (in a recipe below train: model:, or with --set train.model.KEY=VALUE)")
    for name, s in facts["settings"].items():
        console.say(f"  {name} = {s['default']}  ({s['values']})" + (f"\n      {s['help']}" if s["help"] else ""))
    console.say("\nVariants (fertool train NAME --variant VARIANT)")
    for name, values in facts["variants"].items():
        console.say(f"  {name}: " + (", ".join(f"{k}={v}" for k, v in values.items()) or "the system itself"))
