"""How quick it is, beside the shortest recipes that do the same: `python -m benchmarks --help`."""
