"""`python -m benchmarks`: measure on every database that answers, and print a table for each subject."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import child, machine, places, report
from benchmarks.subjects import NAMES as SUBJECTS


def main() -> int:
    options = arguments()
    results: dict[str, Any] = {"machine": machine.described(), "options": vars(options), "databases": {}}
    failed = False
    for name in options.databases:
        try:
            with places.found(name) as url:
                results["databases"][name] = child.on_database(url, **vars(options))
        except places.NotThere as reason:
            print(f"{name} is not measured: {reason}", file=sys.stderr)
        except child.Failed as reason:
            print(f"{name} failed: {reason}", file=sys.stderr)
            failed = True
        if options.json:  # again after each: the next one may take long
            Path(options.json).write_text(json.dumps(results, indent=1), encoding="utf-8")
    print("\n".join(report.lines(results)))
    return 0 if results["databases"] and not failed else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", type=among(SUBJECTS), default=list(SUBJECTS), help=",".join(SUBJECTS))
    parser.add_argument(
        "--databases", type=among(places.NAMES), default=list(places.NAMES), help=",".join(places.NAMES)
    )
    parser.add_argument("--rounds", type=int, default=5, help="repetitions, ours and the reference in turn")
    parser.add_argument("--count", type=int, default=2000, help="connections that are due in bulk")
    parser.add_argument("--latency", type=float, default=50, help="milliseconds of a token request in bulk")
    parser.add_argument("--many", type=int, default=100_000, help="connections whose memory is looked at")
    parser.add_argument("--rows", type=int, default=1_000_000, help="connections of which some are due")
    parser.add_argument("--workers", type=int, default=None, help="oauth_refresh --workers")
    parser.add_argument("--json", help="a file to which everything that was measured is written")
    return parser.parse_args()


def among(names: tuple[str, ...]) -> Any:
    def chosen(text: str) -> list[str]:
        if unknown := set(text.split(",")) - set(names):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there are {', '.join(names)}")
        return text.split(",")

    return chosen


if __name__ == "__main__":
    sys.exit(main())
