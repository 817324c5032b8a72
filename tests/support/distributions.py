"""The built distributions of the package, and environments in which the wheel is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")


@dataclass(frozen=True)
class Distributions:
    wheel: Path
    sdist: Path

    def wheel_names(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def sdist_names(self) -> set[str]:
        with tarfile.open(self.sdist) as archive:
            return {name.partition("/")[2] for name in archive.getnames()}


@dataclass(frozen=True)
class Site:
    """A folder outside the checkout, and a Python in which the wheel is installed."""

    folder: Path
    python: Path

    def run(self, *arguments: str) -> str:
        return run([self.python, *arguments], cwd=self.folder)


def foreign_environment() -> dict[str, str]:
    """Return the variables of a process that knows neither the checkout nor the suite's settings."""
    hidden = {"DJANGO_SETTINGS_MODULE", "PYTHONPATH"}
    return {key: value for key, value in os.environ.items() if key not in hidden}


def run(command: Sequence[str | Path], cwd: Path) -> str:
    """Run a command in a ``foreign_environment``."""
    finished = subprocess.run(
        command, cwd=cwd, env=foreign_environment(), check=False, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def built(shared: Path) -> Distributions:
    """Return the sdist, and the wheel built from it. They are built once for all workers of a run."""
    folder = shared / "distributions"
    with FileLock(shared / "distributions.lock"):
        if not any(folder.glob("*.whl")):
            build_in(folder)
    return Distributions(*folder.glob("*.whl"), *folder.glob("*.tar.gz"))


def build_in(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of a worker that was killed
    # A copy, so that files of an earlier build in the checkout are left out.
    source = shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source], cwd=folder)


def environment_in(folder: Path, *, with_pip: bool) -> Path:
    """Create an environment, and return its Python."""
    venv.create(folder, with_pip=with_pip, symlinks=os.name != "nt")
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def wheel_with_our_packages(distributions: Distributions, folder: Path) -> Path:
    """Install the wheel alone. All other packages are those of this environment. Return the Python."""
    python = environment_in(folder, with_pip=False)
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile"]
    run([sys.executable, "-m", "pip", "--python", python, "install", *options, distributions.wheel], folder)
    where = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder)
    # The path files there are not read, so an editable installation of the checkout is not found.
    Path(where.strip(), "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return python
