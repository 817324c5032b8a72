"""`python -m benchmarks`: measure on every database that answers, and print a table for each subject."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import child, document, imports, machine, places, report
from benchmarks.subjects import NAMES as DATABASE_SUBJECTS

SUBJECTS = (*DATABASE_SUBJECTS, "imports")
# Everything in two minutes. The figures say little, their order of magnitude is right.
QUICK: dict[str, Any] = {
    "databases": ["sqlite"],
    "rounds": 1,
    "calls": 60,
    "count": 300,
    "many": 3000,
    "rows": 20_000,
    "loaded": 2000,
}


def main() -> int:
    options = arguments()
    results: dict[str, Any] = {"machine": machine.described(), "options": vars(options), "databases": {}}
    if "imports" in options.only:
        print("imports ...", file=sys.stderr, flush=True)
        results["imports"] = imports.measure(rounds=options.rounds)
    failed = not measured_databases(options, results)
    tables = list(report.lines(results))
    print("\n".join(tables))
    if options.write and not failed:
        document.write(Path(options.write), tables)
    return 1 if failed else 0


def measured_databases(options: argparse.Namespace, results: dict[str, Any]) -> bool:
    """Measure each database that answers. Returns whether there was one, and none failed."""
    subjects = [name for name in options.only if name in DATABASE_SUBJECTS]
    databases, complete = results["databases"], True
    for name in options.databases if subjects else ():
        try:
            with places.found(name) as url:
                databases[name] = child.on_database(url, **{**vars(options), "only": subjects})
        except places.NotThere as reason:
            print(f"{name} is not measured: {reason}", file=sys.stderr)
        except child.Failed as reason:
            print(f"{name} failed: {reason}", file=sys.stderr)
            complete = False
        write_json(options, results)  # again after each: the next one may take long
    write_json(options, results)
    return complete and bool(databases or not subjects)


def write_json(options: argparse.Namespace, results: dict[str, Any]) -> None:
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1), encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything on SQLite, in less than two minutes")
    parser.add_argument("--only", type=among(SUBJECTS), default=list(SUBJECTS), help=",".join(SUBJECTS))
    parser.add_argument(
        "--databases", type=among(places.NAMES), default=list(places.NAMES), help=",".join(places.NAMES)
    )
    parser.add_argument("--rounds", type=int, default=5, help="repetitions, all ways in turn")
    parser.add_argument("--calls", type=int, default=200, help="calls of each way in a round")
    parser.add_argument("--count", type=int, default=2000, help="connections that are due in bulk")
    parser.add_argument("--latency", type=float, default=50, help="milliseconds of a token request in bulk")
    parser.add_argument("--many", type=int, default=20_000, help="connections that are due in memory")
    parser.add_argument("--rows", type=int, default=200_000, help="connections of which some are due")
    parser.add_argument("--loaded", type=int, default=10_000, help="rows that are loaded into memory")
    parser.add_argument("--workers", type=int, default=None, help="oauth_refresh --workers")
    parser.add_argument("--json", help="a file to which everything that was measured is written")
    parser.add_argument("--write", metavar="FILE", help="a page whose figures to replace")
    if parser.parse_known_args()[0].quick:
        parser.set_defaults(**QUICK)
    options = parser.parse_args()
    if options.write and set(options.only) != set(SUBJECTS):
        parser.error("--write: all tables of the page are of one run, so leave --only out")
    return options


def among(names: tuple[str, ...]) -> Any:
    def chosen(text: str) -> list[str]:
        if unknown := set(text.split(",")) - set(names):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there are {', '.join(names)}")
        return text.split(",")

    return chosen


if __name__ == "__main__":
    sys.exit(main())
