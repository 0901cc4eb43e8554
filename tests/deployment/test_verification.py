"""A bundle that was changed, does not fit or computes otherwise is refused, with what is wrong."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from subgrid.base.errors import SubgridError
from subgrid.deployment import ExportConfig, export, verify
from subgrid.deployment.bundle import SUMS, checksum_lines


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "bundle")


def sums_again(folder):
    """As somebody would who changes a file and its checksum."""
    (folder / SUMS).unlink()
    (folder / SUMS).write_text(checksum_lines(folder))


def change_json(path, change):
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


def test_a_bundle_as_it_was_made_holds(bundle):
    checks = {one["name"]: one for one in verify(bundle, fortran=False)}
    assert {"checksums", "torch", "shapes", "padding", "vectors grid", "vectors extreme"} <= checks.keys()
    assert checks.pop("fortran driver") == {"name": "fortran driver", "holds": None, "seen": "not asked for"}
    assert all(one["holds"] for one in checks.values())
    assert "45) -> (ncol, 44)" in checks["shapes"]["seen"] and checks["vectors grid"]["seen"].endswith("0.0e+00")


def test_what_was_built_beside_is_no_part_of_it(copy):
    (copy / "build").mkdir()
    (copy / "build" / "driver").write_text("")
    assert verify(copy, fortran=False)


@pytest.mark.parametrize("name", ["model.pt", "contract.json", "tiny_ftorch.F90", "test/grid.y.bin"])
def test_a_changed_or_missing_file_is_named(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    if name != "contract.json":
        (copy / name).write_bytes(content)
        with pytest.raises(SubgridError, match=rf"{name} was changed"):
            verify(copy)
    (copy / name).unlink()
    with pytest.raises(SubgridError, match="is missing"):
        verify(copy)


def test_a_bundle_is_wanted(tmp_path):
    with pytest.raises(SubgridError, match=r"is no bundle \(contract.json is missing\)"):
        verify(tmp_path)


def test_another_model_with_its_checksum_is_refused_by_the_contract(copy, tmp_path, make_emulator, tiny_store):
    from subgrid.emulator import save_emulator

    save_emulator(make_emulator(network={"widths": [8]}), tmp_path / "other")
    export(tmp_path / "other", tmp_path / "out", ExportConfig(str(tiny_store.path), name="tiny"))
    shutil.copyfile(tmp_path / "out" / "model.pt", copy / "model.pt")
    sums_again(copy)
    with pytest.raises(SubgridError, match=r"model.pt is not the model of .*contract.json"):
        verify(copy)
    model = json.loads((tmp_path / "out" / "contract.json").read_text())["model"]
    change_json(copy / "contract.json", lambda held: held.update(model=model))
    sums_again(copy)
    with pytest.raises(SubgridError, match=r"the contract inside the model is another one .*provenance"):
        verify(copy)


def test_a_contract_that_was_touched_up_is_refused(copy):
    change_json(copy / "contract.json", lambda held: held["inputs"].reverse())
    sums_again(copy)
    with pytest.raises(SubgridError, match=r"differs in inputs"):
        verify(copy)


def test_an_older_libtorch_is_refused_with_both_versions(copy, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.1.0+cpu")
    with pytest.raises(SubgridError, match=r"made with torch 2\.\d+.*this is 2\.1\.0\+cpu, which is older: install"):
        verify(copy)


def test_vectors_of_another_shape_or_other_answers_are_refused(copy):
    path = copy / "test" / "one.y.bin"
    held = np.fromfile(path, "<f4")
    held[:-1].tofile(path)
    sums_again(copy)
    with pytest.raises(SubgridError, match=r"one.y.bin holds 43 numbers, not 1x44"):
        verify(copy)
    (held + np.float32(1.0)).tofile(path)
    sums_again(copy)
    with pytest.raises(SubgridError, match=r"test vectors 'one': the answers differ by .*allowed are 1e-05"):
        verify(copy)


def test_a_driver_that_is_asked_for_and_cannot_be_built_is_an_error(bundle, monkeypatch):
    monkeypatch.delenv("FTorch_DIR", raising=False)
    with pytest.raises(SubgridError, match=r"the Fortran driver cannot be built: .*FTorch \(set FTorch_DIR"):
        verify(bundle, fortran=True)
    last = verify(bundle)[-1]
    assert last["holds"] is None and "no FTorch" in last["seen"]


def test_pytorch_alone_has_no_driver(tmp_path, tiny_run, tiny_store):
    export(tiny_run, tmp_path / "out", replace(ExportConfig(str(tiny_store.path)), target="torchscript"))
    assert "fortran driver" not in {one["name"] for one in verify(tmp_path / "out")}
