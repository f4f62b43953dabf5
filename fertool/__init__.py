"""fertool: rerun, compare and extend attention-based facial expression recognition.

The names below are imported when they are first used; `fertool.api` documents them.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Read by torch at its first allocation: large tensors in huge pages (Linux). A training step on the CPU touches
# gigabytes of fresh memory, and without this spends up to a fifth of its time on the faults of small pages.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if TYPE_CHECKING:
    from fertool.api import (
        build_subsets,
        crop_regions,
        detect_align,
        evaluate,
        export,
        make_masks,
        open,
        predict,
        quiet,
        report,
        runs,
        train,
        visualize,
    )
    from fertool.errors import FertoolError
    from fertool.torch_api import FacesDataset, load_model

_API = (
    *("build_subsets", "crop_regions", "detect_align", "evaluate", "export", "make_masks", "open", "predict", "quiet"),
    *("report", "runs", "train", "visualize"),
)
_LAZY = {
    **dict.fromkeys(_API, "fertool.api"),
    "FertoolError": "fertool.errors",
    "FacesDataset": "fertool.torch_api",
    "load_model": "fertool.torch_api",
}

__all__ = [
    "FacesDataset", "FertoolError", "build_subsets", "crop_regions", "detect_align", "evaluate", "export",
    "load_model", "make_masks", "open", "predict", "quiet", "report", "runs", "train", "visualize",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'fertool' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
