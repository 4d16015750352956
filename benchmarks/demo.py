"""Run the demo and record what it did as a row of results/demo.jsonl.

python -m benchmarks.demo --out runs/demo
"""

import argparse
import json
import time
from pathlib import Path

from benchmarks.rows import append_row
from densessl.commands.demo import demo
from densessl.files import read_json


def main() -> None:
    """Run, time and record the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("results/demo.jsonl"))
    arguments = parser.parse_args()
    started = time.perf_counter()
    status = demo(arguments.out, arguments.seed)
    seconds = time.perf_counter() - started
    before, after = (
        read_json(arguments.out / name / "scores.json", "scores") for name in ("clusters_initial", "clusters")
    )
    row = append_row(
        arguments.results,
        {
            "benchmark": "demo",
            "seed": arguments.seed,
            "miou_before": round(before["miou"], 4),
            "miou_after": round(after["miou"], 4),
            "miou_std_after": round(after["miou_std"], 4),
            "num_classes": len(after["classes"]),
            "seconds": round(seconds, 1),
            "status": status,
        },
    )
    print(json.dumps(row))


if __name__ == "__main__":
    main()
