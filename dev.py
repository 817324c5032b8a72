#!/usr/bin/env python3
"""One command for each thing that is done with a clone: `python3 dev.py` lists them.

Needs Python and nothing else: it keeps an environment in `.venv` and renews it when the packaging
files change.
"""

import sys

# Said before anything is imported that an older Python lacks.
if sys.version_info < (3, 11):
    sys.stderr.write("dev.py needs Python 3.11 or newer: install one and run dev.py with that.\n")
    sys.exit(2)

import hashlib
import importlib.util
import json
import os
import subprocess
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
STAMP = ENVIRONMENT / "dev-stamp.json"
SCRIPTS = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
EXECUTABLE_SUFFIX = ".exe" if os.name == "nt" else ""

# What a command needs of setup.cfg's extras, with those that the last one includes.
EXTRAS = {
    "demo": ("demo",),
    "test": ("demo", "test"),
    "bench": ("bench", "demo", "test"),
    "lint": ("demo", "dev", "test"),
    "fix": ("demo", "dev", "test"),
}

DATABASES = ("sqlite", "postgresql", "mariadb")

# Settings of another project would be preferred to this one's; and without bytecode, each of the many
# processes of the tests compiles the package for itself.
LEFT_OUT = {"DJANGO_SETTINGS_MODULE", "PYTHONDONTWRITEBYTECODE"}

USAGE_ERROR = 2
INTERRUPTED = 130


class Stop(Exception):
    """Ends the program with a message and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Stamp:
    """What `.venv` was made from."""

    interpreter: str
    packaging: str
    extras: tuple[str, ...]


def demo(arguments: Sequence[str]) -> int:
    """Walk through the example site, then keep it running (--check: exit after the walk)."""
    install("demo")
    return run(executable("python"), "-m", "example_project.demo", *arguments)


def test(arguments: Sequence[str]) -> int:
    """Run the tests on three databases (--fast, --db NAME, PATH; the rest goes to pytest)."""
    check_database(arguments)
    install("test")
    return run(executable("python"), "-m", "tests.support.everywhere", *arguments)


def check_database(arguments: Sequence[str]) -> None:
    """Refuse a database that there is not, before anything is installed."""
    given = [*arguments, ""]
    for argument, following in pairwise(given):
        option, separator, value = argument.partition("=")
        name = value if separator else following
        if option == "--db" and name not in DATABASES:
            raise Stop(
                f"dev.py test --db {name or 'NAME'}: NAME is one of {', '.join(DATABASES)}.", USAGE_ERROR
            )


def bench(arguments: Sequence[str]) -> int:
    """Measure how quick it is, on every database that answers (--help says what else)."""
    install("bench")
    return run(executable("python"), "-m", "benchmarks", *arguments)


def lint(arguments: Sequence[str]) -> int:
    """Check style, types, the direction of imports, spelling, and that no migration is missing."""
    if arguments:
        raise Stop("dev.py lint takes no arguments.", USAGE_ERROR)
    install("lint")
    checks = {
        "ruff check": [executable("ruff"), "check", "."],
        "ruff format": [executable("ruff"), "format", "--check", "."],
        "mypy": [executable("mypy")],
        "import-linter": [executable("lint-imports"), "--no-logo"],
        "typos": [executable("typos")],
        "makemigrations": [executable("python"), "manage.py", "makemigrations", "--check"],
    }
    return max([run_check(name, command) for name, command in checks.items()])


def fix(arguments: Sequence[str]) -> int:
    """Correct the style where ruff can, and format the code."""
    if arguments:
        raise Stop("dev.py fix takes no arguments.", USAGE_ERROR)
    install("fix")
    return run(executable("ruff"), "check", "--fix", ".") | run(executable("ruff"), "format", ".")


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "demo": demo,
    "test": test,
    "bench": bench,
    "lint": lint,
    "fix": fix,
}


def run_check(name: str, command: Sequence[str]) -> int:
    heading(name)
    return run(*command)


def heading(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def executable(name: str) -> str:
    return str(SCRIPTS / f"{name}{EXECUTABLE_SUFFIX}")


def run(*command: str) -> int:
    """Run a command of the environment in the clone, and return its exit code."""
    environ = {key: value for key, value in os.environ.items() if key not in LEFT_OUT}
    with subprocess.Popen(command, cwd=ROOT, env=environ) as process:
        while process.poll() is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                continue  # The command heard it too, and is left the time to clean up.
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def install(command: str) -> None:
    """Install into `.venv` what a command needs, unless it is there."""
    found = read_stamp()
    wanted = Stamp(interpreter(), packaging(), EXTRAS[command])
    if found and (found.interpreter, found.packaging) == (wanted.interpreter, wanted.packaging):
        wanted = replace(wanted, extras=tuple(sorted({*found.extras, *wanted.extras})))
    if found == wanted:
        return
    print(f"Installing into {ENVIRONMENT.name}, this once ...", flush=True)
    # Written last: the environment of an interrupted run has no stamp, and is made again.
    STAMP.unlink(missing_ok=True)
    if found is None or found.interpreter != wanted.interpreter:
        make_environment()
    install_extras(wanted.extras)
    STAMP.write_text(json.dumps(asdict(wanted)), encoding="utf-8")


def make_environment() -> None:
    if importlib.util.find_spec("ensurepip") is None:
        raise Stop(
            "This Python has no ensurepip, without which .venv gets no pip: install the package "
            "of your system that brings it (on Debian and Ubuntu: apt-get install python3-venv).",
            USAGE_ERROR,
        )
    venv.create(ENVIRONMENT, clear=True, with_pip=True, symlinks=os.name != "nt")


def install_extras(extras: Sequence[str]) -> None:
    command = [executable("python"), "-m", "pip", "install", "--no-input"]
    command += ["--disable-pip-version-check", "--editable", f".[{','.join(extras)}]"]
    finished = subprocess.run(
        command, cwd=ROOT, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if finished.returncode:
        raise Stop(f"{finished.stdout}\nThe installation failed, see above.", finished.returncode)


def packaging() -> str:
    """A hash of the files that say what is installed."""
    contents = b"\0".join((ROOT / name).read_bytes() for name in ("setup.cfg", "pyproject.toml"))
    return hashlib.sha256(contents).hexdigest()


def interpreter() -> str:
    """What an environment is bound to: a Python and a place."""
    return f"{sys.version} {sys.base_prefix} {ENVIRONMENT}"


def read_stamp() -> Stamp | None:
    try:
        found = json.loads(STAMP.read_text(encoding="utf-8"))
        return Stamp(found["interpreter"], found["packaging"], tuple(found["extras"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def usage() -> str:
    lines = [f"  {name:6}{command.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: python3 dev.py COMMAND [ARGUMENT ...]", "", *lines])


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(usage())
        return 0
    command = COMMANDS.get(arguments[0])
    if command is None:
        raise Stop(f"dev.py knows no command {arguments[0]!r}.\n\n{usage()}", USAGE_ERROR)
    return command(arguments[1:])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Stop as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
