"""The materials of nano's lessons that are slow to make or come from packages: arrays in files, made once.

`python -m smolcli.nano.materials [NAME ...]` makes the files that are not there, all or those named.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from smolcli.system.atomic_file import atomic_write

# The name of each file, and the function that writes it into an open binary file, as module:function.
MAKERS = {
    "charts.npz": "smolcli.nano.chart_pool:make_training",
    "charts-held-out.npz": "smolcli.nano.chart_pool:make_held_out",
    "icons.npz": "smolcli.nano.icon_sets:make",
    "photographs.npz": "smolcli.nano.photograph_sources:make_training",
    "photographs-held-out.npz": "smolcli.nano.photograph_sources:make_held_out",
}


def folder() -> Path:
    """The folder of the files: $SMOLCLI_NANO_MATERIALS, or runs/materials of the working directory."""
    return Path(os.environ.get("SMOLCLI_NANO_MATERIALS") or "runs/materials")


def path(name: str) -> Path:
    """The path of a file that `make` has made; raises FileNotFoundError that says how to make it."""
    target = folder() / name
    if not target.exists():
        raise FileNotFoundError(f"{target} is missing; make it with: python -m smolcli.nano.materials {name}")
    return target


def make(name: str) -> bool:
    """Make one file of MAKERS; False if it is there already."""
    target = folder() / name
    if target.exists():
        return False
    module, _, function = MAKERS[name].partition(":")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as file:
        getattr(importlib.import_module(module), function)(file)
    return True


@dataclass(frozen=True)
class Package:
    """A package of a registry ("debian", "pypi" or "npm"). Debian serves one version alone, the others this one."""

    registry: str
    name: str
    version: str

    def unpack(self, into: Path) -> Path:
        """Download the package and unpack it, without installing it; returns the folder of its files.

        A package that is unpacked already is not downloaded again. Raises CalledProcessError where the registry's
        client (apt-get, pip or npm) fails.
        """
        target = into / f"{self.registry}-{self.name.replace('/', '+')}"
        if target.exists():
            return target
        download = target.with_name(f"{target.name}.download")
        shutil.rmtree(download, ignore_errors=True)
        download.mkdir(parents=True)
        subprocess.run(self._command(), cwd=download, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        [archive] = download.iterdir()
        files = download / "files"
        if archive.suffix == ".deb":
            subprocess.run(["dpkg-deb", "-x", archive, files], check=True)
        elif archive.suffix == ".whl":
            zipfile.ZipFile(archive).extractall(files)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(files, filter="data")
        files.rename(target)
        shutil.rmtree(download)
        return target

    def _command(self) -> list[str]:
        if self.registry == "debian":
            return ["apt-get", "download", self.name]
        if self.registry == "npm":
            return ["npm", "pack", "--silent", f"{self.name}@{self.version}"]
        return [sys.executable, "-m", "pip", "download", "--no-deps", f"{self.name}=={self.version}"]


def main(names: list[str]) -> None:
    """Make the named files, all of them without a name."""
    for name in names or MAKERS:
        if name not in MAKERS:
            raise SystemExit(f"no material {name!r}; there are: {', '.join(MAKERS)}")
        print(f"{folder() / name}: {'made' if make(name) else 'is there'}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
