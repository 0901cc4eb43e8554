"""Runs and blends pushed to a repository of the Hugging Face Hub, or to a folder, and pulled from it, checked."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from subgrid.base.errors import SubgridError, UsageError
from subgrid.base.files import built_beside, only_writer, write_json, write_text
from subgrid.base.formats import SHARED, mark, read_record
from subgrid.base.hub import ask, quiet_library, sha256
from subgrid.deployment.runs import require_finished
from subgrid.emulator.files import load

logger = logging.getLogger("subgrid")
#: What a pushed run says of itself: its files with their sizes and checksums.
MANIFEST, CARD = "subgrid.json", "README.md"
#: The files that belong to a run, and its folders of which all do; checkpoints are many times larger.
FILES = ("config.json", "provenance.json", "metrics.json", "blend.json")
FOLDERS = ("emulator", "logs", "evaluation", "export")
CHECKPOINTS = "checkpoints"
#: What the words that name a folder, and no repository, begin with.
_FOLDER = ("/", "./", "../", "~", "file://")


@dataclass(frozen=True)
class ShareConfig:
    """Where to.

    Args:
        repository: ``owner/name`` of a model repository, or a folder: a path that begins with ``/``, ``./``, ``../``
            or ``~``, or a ``file://`` URL.
        checkpoints: push the checkpoints too, so that the run can be gone on with.
        create: make the repository, private, if there is none.
        revision: branch, tag or commit to pull.
        endpoint: address of the hub; empty: that of ``HF_ENDPOINT``, else the public one.
    """

    repository: str
    checkpoints: bool = False
    create: bool = False
    revision: str = "main"
    endpoint: str = ""

    def __post_init__(self) -> None:
        if self.folder is None and not _is_name(self.repository):
            raise UsageError(
                f"{self.repository!r} is neither OWNER/NAME nor a folder: write a folder as ./{self.repository} or "
                "with its whole path"
            )
        if self.folder is not None and (self.create or self.revision != "main" or self.endpoint):
            raise UsageError(f"{self.repository} is a folder: --create, --revision and --endpoint are for the hub")

    @property
    def folder(self) -> Path | None:
        """The folder, if it is one."""
        if not self.repository.startswith(_FOLDER):
            return None
        if self.repository.startswith("file://"):
            return Path(unquote(urlsplit(self.repository).path))
        return Path(self.repository).expanduser()


def _is_name(text: str) -> bool:
    owner, slash, name = text.partition("/")
    named = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)
    return bool(slash) and all(named.fullmatch(part) is not None for part in (owner, name))


def push(run: Path | str, config: ShareConfig) -> dict[str, Any]:
    """Push the files of a finished run or blend, in one commit, with a manifest of their checksums.

    Args:
        run: run folder with an emulator that was trained here, or a blend.
        config: where to. The token is that of ``HF_TOKEN`` in the environment, which nothing writes down.

    Returns:
        ``to``, ``files``, ``bytes`` and, from the hub, ``commit``.

    Raises:
        SubgridError: no finished run, no token, no such repository, the folder is there already, or the hub fails.
    """
    run = Path(run)
    told = _require_run(run)
    files = _files(run, config.checkpoints)
    sizes = {path: (run / path).stat().st_size for path in files}
    listed = {path: {"bytes": size, "sha256": sha256(run / path)} for path, size in sizes.items()}
    manifest = {**mark(SHARED), **told, "files": listed}
    result = {"to": config.repository, "files": len(files), "bytes": sum(sizes.values())}
    if config.folder is not None:
        with _new_folder(config.folder) as built:
            for path in files:
                (built / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(run / path, built / path)
            write_text(built / CARD, _card(config.repository, told))
            write_json(built / MANIFEST, manifest)
            _verify(built, manifest)
        return result
    return {**result, "commit": _commit(run, config, files, manifest)}


def pull(config: ShareConfig, out: Path | str) -> dict[str, Any]:
    """Fetch what :func:`push` pushed into the new folder ``out``, which gets its name once everything is checked.

    Raises:
        SubgridError: ``out`` is there already, there is no such repository, it holds no run of a version that this
            package reads, or what came is not what the manifest lists.
    """
    out = Path(out)
    with _new_folder(out) as built:
        manifest = _from_folder(config.folder, built) if config.folder is not None else _from_hub(config, built)
        _verify(built, manifest)
    size = sum(one["bytes"] for one in manifest["files"].values())
    return {"from": config.repository, "out": str(out), "files": len(manifest["files"]), "bytes": size}


def _require_run(run: Path) -> dict[str, Any]:
    """What the manifest tells of a run; refused unless it is finished and its emulator loads."""
    if not (run / "emulator" / "emulator.json").is_file():
        raise SubgridError(f"{run} is no run folder with an emulator: train one with `subgrid train`, or blend some")
    require_finished(run)
    emulator = load(run)
    names = [variable.name for variable in emulator.variables.targets]
    holds = "blend" if (run / "blend.json").is_file() else "run"
    return {"holds": holds, "variables": emulator.variables.name, "targets": names}


def _files(run: Path, checkpoints: bool) -> list[str]:
    """Paths of what belongs to a run, in order; links and hidden files do not."""
    folders = (*FOLDERS, CHECKPOINTS) if checkpoints else FOLDERS
    below = [path for folder in folders for path in (run / folder).rglob("*")]
    found = (path for path in [*(run / name for name in FILES), *below] if path.is_file() and not path.is_symlink())
    return sorted(path for one in found if _belongs(path := one.relative_to(run).as_posix()))


def _belongs(path: str) -> bool:
    """Whether a path, ours or a stranger's manifest's, is one of a run's and stays within its folder."""
    parts = PurePosixPath(path).parts
    plain = path == "/".join(parts) and not any(part.startswith(".") or "\\" in part for part in parts)
    return plain and (path in FILES if len(parts) == 1 else bool(parts) and parts[0] in (*FOLDERS, CHECKPOINTS))


def _card(repository: str, told: dict[str, Any]) -> str:
    """The page that the hub shows."""
    return (
        "---\nlibrary_name: subgrid\ntags: [climate, emulator]\n---\n"
        f"A {told['holds']} of subgrid: variables {told['variables']}, targets {', '.join(told['targets'])}.\n\n"
        f"```\nsubgrid pull {repository} OUT\n```\n"
    )


def _commit(run: Path, config: ShareConfig, files: list[str], manifest: dict[str, Any]) -> str:
    """One commit of all files; the commit's name."""
    from huggingface_hub import CommitOperationAdd, HfApi

    token = os.environ.get("HF_TOKEN", "")
    if not token:
        raise SubgridError("push needs a token with write access: set HF_TOKEN in the environment")
    api = HfApi(endpoint=config.endpoint.rstrip("/") or None, token=token)
    where = f"{api.endpoint}/{config.repository}"
    with _staged(manifest, _card(config.repository, manifest)) as made, quiet_library():
        if config.create:
            ask(where, lambda: api.create_repo(config.repository, private=True, exist_ok=True))
        paths = {**{path: run / path for path in files}, **made}
        # anew for each attempt: the library changes them
        return ask(
            where,
            lambda: str(
                api.create_commit(
                    config.repository,
                    [CommitOperationAdd(path, str(file)) for path, file in paths.items()],
                    commit_message=f"subgrid push of {run.resolve().name}",
                ).oid
            ),
        )


@contextlib.contextmanager
def _staged(manifest: dict[str, Any], card: str) -> Iterator[dict[str, Path]]:
    """The two files that a push adds, in a folder of the system's for temporary ones."""
    with tempfile.TemporaryDirectory(prefix="subgrid-push-") as folder:
        write_json(Path(folder) / MANIFEST, manifest)
        write_text(Path(folder) / CARD, card)
        yield {name: Path(folder) / name for name in (CARD, MANIFEST)}


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out``, which is renamed to it if nothing goes wrong, and removed otherwise."""
    if out.exists():
        raise SubgridError(f"{out} is there already: choose another folder, or remove it")
    with only_writer(out), built_beside(out) as built:
        yield built


def _read_manifest(folder: Path, origin: str) -> dict[str, Any]:
    """The manifest in ``folder``; refused unless every path is one of a run's."""
    if not (folder / MANIFEST).is_file():
        raise SubgridError(f"{origin} holds no run that subgrid pushed ({MANIFEST} is missing)")
    manifest = read_record(folder / MANIFEST, SHARED)
    files = manifest.get("files")
    if not isinstance(files, dict) or not files or not all(_listed(path, one) for path, one in files.items()):
        raise SubgridError(f"{origin}: {MANIFEST} is damaged, or lists what is no part of a run")
    return manifest


def _listed(path: str, one: Any) -> bool:
    """Whether an entry of a manifest is as :func:`push` writes it."""
    return _belongs(path) and isinstance(one, dict) and {"bytes": int, "sha256": str} == {k: type(one[k]) for k in one}


def _from_folder(folder: Path, built: Path) -> dict[str, Any]:
    """Copy what is listed."""
    manifest = _read_manifest(folder, str(folder))
    for path in manifest["files"]:
        (built / path).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / path).is_file():
            raise SubgridError(f"{folder / path} is missing, which {MANIFEST} lists: push the run again")
        shutil.copyfile(folder / path, built / path)
    return manifest


def _from_hub(config: ShareConfig, built: Path) -> dict[str, Any]:
    """Fetch what is listed, at one commit."""
    from huggingface_hub import HfApi

    # False: not the token that the library may have stored
    api = HfApi(endpoint=config.endpoint.rstrip("/") or None, token=os.environ.get("HF_TOKEN") or False)
    where = f"{api.endpoint}/{config.repository}"
    with quiet_library():
        commit = ask(where, lambda: api.model_info(config.repository, revision=config.revision).sha, config.revision)
        if not commit:
            raise SubgridError(f"{where} does not say at which commit it is: it is no hub")

        def fetch(path: str) -> None:
            api.hf_hub_download(config.repository, path, revision=commit, local_dir=built)

        ask(f"{where}/{MANIFEST}", partial(fetch, MANIFEST), commit)
        manifest = _read_manifest(built, where)
        for path in manifest["files"]:
            ask(f"{where}/{path}", partial(fetch, path), commit)
    (built / MANIFEST).unlink()
    shutil.rmtree(built / ".cache", ignore_errors=True)  # the library's own notes
    return manifest


def _verify(built: Path, manifest: dict[str, Any]) -> None:
    """Refuse what is not as listed, or holds no emulator that this package reads."""
    for path, listed in manifest["files"].items():
        size = (built / path).stat().st_size
        if size != listed["bytes"] or sha256(built / path) != listed["sha256"]:
            came = f"{size} of {listed['bytes']} bytes"
            raise SubgridError(f"{path} came otherwise than {MANIFEST} lists it ({came}): try again, or push it again")
    _require_run(built)
