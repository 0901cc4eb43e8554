"""Array helpers keep the namespace, dtype and device, and the physics room imports lightly."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from subgrid.physics.arrays import constant_like, namespace


def test_constant_like_takes_kind_and_dtype():
    made = constant_like((1.0, 2.0), np.zeros(3, np.float32))
    assert isinstance(made, np.ndarray) and made.dtype == np.float32
    made = constant_like((1.0, 2.0), torch.zeros(3, dtype=torch.float64))
    assert isinstance(made, torch.Tensor) and made.dtype == torch.float64


def test_namespace_refuses_numbers_and_mixtures():
    with pytest.raises(TypeError):
        namespace(1.0)
    with pytest.raises(TypeError):
        namespace(np.zeros(1), torch.zeros(1))


def test_the_rooms_import_neither_torch_nor_jax():
    code = (
        "import sys, subgrid.physics, subgrid.scores.pointwise, subgrid.scores.climate;"
        "sys.exit(bool({'torch', 'jax'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
