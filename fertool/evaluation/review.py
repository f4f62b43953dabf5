"""A page on which a person confirms or corrects what fertool suggests. It needs nothing beside it: no network."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fertool.figures import thumbnails
from fertool.subsets import OCCLUSIONS


def render(title: str, table: str, entries: Sequence[dict], looked_at: int) -> str:
    """Return the page.

    Args:
        title: of which faces. table: name of the CSV file that the page saves.
        entries: {"id", "type", "confidence" (0..1), "image" (H, W, C) uint8}, in the order of the page.
        looked_at: how many faces there were.
    """
    script = (resources.files("fertool") / "evaluation" / "templates" / "review.js").read_text(encoding="utf-8")
    environment = Environment(loader=PackageLoader("fertool.evaluation"), autoescape=True, undefined=StrictUndefined)
    groups: dict[str, list[dict]] = {kind: [] for kind in OCCLUSIONS}
    for entry in entries:
        picture = thumbnails.data_uri(thumbnails.face(entry["image"]))
        groups[entry["type"]].append({**entry, "picture": picture})
    return environment.get_template("review.html").render(
        title=title,
        table=table,
        looked_at=looked_at,
        count=len(entries),
        groups={kind: faces for kind, faces in groups.items() if faces},
        choices=(*OCCLUSIONS, "none"),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
