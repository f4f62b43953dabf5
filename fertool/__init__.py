"""fertool: rerun, compare and extend attention-based facial expression recognition."""

import os

__version__ = "0.1.0"

# Read by torch at its first allocation: large tensors in huge pages (Linux). A training step on the CPU touches
# gigabytes of fresh memory, and without this spends up to a fifth of its time on the faults of small pages.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
