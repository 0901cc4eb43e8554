"""Named arrays on disk: the same back, and whatever was altered is refused."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from subgrid.base.arrays import read_arrays, write_arrays
from subgrid.base.errors import SubgridError

ARRAYS = {
    "number": np.asarray(3),
    "empty": np.zeros((0, 4), np.float32),
    "turned": np.arange(6.0).reshape(2, 3).T,
    "whole": np.arange(5, dtype=np.int64),
}


def test_the_same_comes_back(tmp_path):
    write_arrays(tmp_path / "a.safetensors", ARRAYS)
    found = read_arrays(tmp_path / "a.safetensors")
    assert set(found) == set(ARRAYS)
    for name, values in ARRAYS.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_arrays_of_another_writer_are_read(tmp_path):
    save_file({"x": np.ones(3)}, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.safetensors")["x"], np.ones(3))


def test_every_altered_byte_is_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    write_arrays(path, ARRAYS)
    sound = path.read_bytes()
    for at in range(len(sound)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0x20]) + sound[at + 1 :])
        try:
            found = read_arrays(path)
        except SubgridError as error:
            assert "a.safetensors is damaged" in str(error)
            continue
        # In the header: a name, the checksum's own name, or a blank.
        assert at < 8 + int.from_bytes(sound[:8], "little")
        assert all(values.tobytes() in sound for values in found.values())


@pytest.mark.parametrize("cut", [0, 7, 8, 100, -1])
def test_a_cut_file_is_refused(tmp_path, cut):
    path = tmp_path / "a.safetensors"
    write_arrays(path, ARRAYS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SubgridError, match=r"a\.safetensors is damaged"):
        read_arrays(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(SubgridError, match=r"a\.safetensors does not exist"):
        read_arrays(tmp_path / "a.safetensors")
