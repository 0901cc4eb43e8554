"""ClimSim's datasets on the Hugging Face Hub: which there are, what a month holds, one file fetched and checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from subgrid.base.errors import SubgridError
from subgrid.base.hub import ask, sha256
from subgrid.columns.climsim.names import GRID_SUFFIX
from subgrid.columns.climsim.netcdf import LIBRARY

Found = TypeVar("Found")
#: The folder of a dataset that holds its months.
MONTHS = "train"
_MONTH = re.compile(rf"{MONTHS}/\d{{4}}-\d{{2}}")


@dataclass(frozen=True)
class Dataset:
    """One published configuration.

    Args:
        repository: on the hub.
        kinds: of its files, those before physics first.
    """

    repository: str
    kinds: tuple[str, str] = ("mli", "mlo")


DATASETS = {
    "low-res": Dataset("LEAP/ClimSim_low-res"),
    "low-res-aqua-planet": Dataset("LEAP/ClimSim_low-res_aqua-planet"),
    "high-res": Dataset("LEAP/ClimSim_high-res"),
    "low-res-expanded": Dataset("LEAP/ClimSim_low-res-expanded", ("mlexpand", "mlo")),
}


@dataclass(frozen=True)
class RemoteFile:
    """A file of a dataset: its path there, its bytes, and its SHA-256 where the hub tells it (else empty)."""

    path: str
    size: int
    sha256: str = ""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


class Hub:
    """One dataset at one commit, so that what is listed is what is fetched.

    Args:
        repository: owner and name of the dataset.
        endpoint: address of the hub; empty: that of ``HF_ENDPOINT``, else the public one.

    Raises:
        SubgridError: the hub cannot be reached, or has no such dataset.
    """

    def __init__(self, repository: str, endpoint: str = "") -> None:
        from huggingface_hub import HfApi

        self.repository = repository
        self._api = HfApi(endpoint=endpoint.rstrip("/") or None)
        self.endpoint = self._api.endpoint
        sha = self._ask("", lambda: self._api.dataset_info(repository).sha)
        if not sha:
            raise SubgridError(f"{self.endpoint} does not say at which commit {repository} is: it is no hub")
        #: Commit that everything is read at.
        self.commit = sha

    def months(self) -> list[str]:
        """Names of the months that there are, in order."""
        return sorted(e.path.rpartition("/")[2] for e in self._list(MONTHS) if _MONTH.fullmatch(e.path))

    def month(self, name: str) -> list[RemoteFile]:
        """The files of a month."""
        return self._files(f"{MONTHS}/{name}")

    def grids(self) -> list[RemoteFile]:
        """The grid files at the root."""
        return [file for file in self._files("") if file.name.endswith(GRID_SUFFIX)]

    def fetch(self, file: RemoteFile, folder: Path) -> Path:
        """Download a file below ``folder``, check it, and return where it is.

        Raises:
            SubgridError: it cannot be fetched, or what came is not the file that was listed.
        """

        def work() -> str:
            return self._api.hf_hub_download(
                self.repository, file.path, repo_type="dataset", revision=self.commit, local_dir=folder
            )

        path = Path(self._ask(file.path, work))
        try:
            require_whole(path, file)
        except SubgridError:
            path.unlink(missing_ok=True)
            raise
        return path

    def _files(self, folder: str) -> list[RemoteFile]:
        """The files of one folder."""
        found = [e for e in self._list(folder) if hasattr(e, "size")]
        return [RemoteFile(e.path, e.size, e.lfs.sha256 if e.lfs else "") for e in found]

    def _list(self, folder: str) -> list[Any]:
        return self._ask(
            folder,
            lambda: list(
                self._api.list_repo_tree(self.repository, folder or None, revision=self.commit, repo_type="dataset")
            ),
        )

    def _ask(self, path: str, work: Callable[[], Found]) -> Found:
        """What ``work`` finds at ``path``."""
        where = f"{self.endpoint}/datasets/{self.repository}{'/' if path else ''}{path}"
        fewer = ", with fewer --workers, or logged in (`hf auth login`), which allows more"
        return ask(where, work, getattr(self, "commit", "main"), fewer)


def require_whole(path: Path, file: RemoteFile) -> None:
    """Raise :class:`SubgridError` unless ``path`` has the size and SHA-256 of ``file`` and opens as NetCDF."""
    size = path.stat().st_size
    if size != file.size:
        raise SubgridError(
            f"{file.path} came with {size} bytes, but the hub lists {file.size}: run the same command again"
        )
    if file.sha256 and sha256(path) != file.sha256:
        raise SubgridError(f"{file.path} came with another SHA-256 than the hub lists: run the same command again")
    import netCDF4

    try:
        with LIBRARY, netCDF4.Dataset(path) as opened:
            held = len(opened.variables)
    except (OSError, RuntimeError) as error:
        raise SubgridError(f"{file.path} came whole, but is no NetCDF file ({error})") from error
    if not held:
        raise SubgridError(f"{file.path} came whole, but holds no variable")
