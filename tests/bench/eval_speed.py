"""How many faces a second `eval` predicts, from the faces file to predictions.h5, by precision and batch.

    python tests/bench/eval_speed.py RUN [--precision 32 bf16] [--batch 64 256] [--turns 3] [--json FILE]

A turn predicts the test split once; the first of every setting warms up and is not counted. One process, so neither
its start nor the imports are timed; reading and checking the files, loading the weights and writing are.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

from fertool import artefact, console
from fertool.settings import Evaluate
from fertool.stages import evaluate
from fertool.training.devices import choose


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run beside its faces")
    parser.add_argument("--precision", nargs="+", default=["32", "bf16"])
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--gpus", type=int, help="0: CPU (default: one, if there is one)")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    devices = choose(given.gpus)
    found = []
    for precision in given.precision:
        for batch in given.batch:
            seconds = []
            for _ in range(given.turns + 1):
                began = time.perf_counter()
                settings = Evaluate(precision=precision, batch=batch)
                out = evaluate.run(given.run, settings=settings, devices=devices, overwrite=True)
                seconds.append(time.perf_counter() - began)
            faces = artefact.read(out, "predictions").rows
            rate = faces / median(seconds[1:])
            found.append({"precision": precision, "batch": batch, "faces": faces, "faces_per_second": rate})
    rows = [(f["precision"], f["batch"], f"{f['faces']:,}", f"{f['faces_per_second']:,.0f}") for f in found]
    console.show(
        console.table(f"eval {given.run.name}, {devices.kind}", ("precision", "batch", "faces", "a second"), rows)
    )
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))
    best = max(found, key=lambda f: f["faces_per_second"])
    print(f"{best['faces_per_second']:,.0f} faces a second with precision {best['precision']}, batch {best['batch']}")


if __name__ == "__main__":
    main()
