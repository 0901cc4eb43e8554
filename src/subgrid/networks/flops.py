"""Floating-point operations of a network, per column."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from subgrid.networks.base import NetworkShape


def count_flops(module: nn.Module, shape: NetworkShape) -> int:
    """Operations of one forward pass for one column: 2 per multiply-add of matrix products and convolutions.

    Counted by ``torch.utils.flop_counter`` on one column of zeros, in evaluation mode; normalisation,
    activations and biases are left out, as is usual. The module is left as it was.

    Args:
        module: a network of ``shape``, not scripted or traced.
        shape: sizes of its tensors.
    """
    parameter = next(module.parameters())
    columns = shape.zeros(1, dtype=parameter.dtype, device=parameter.device)
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        # oneDNN's kernels hide the products of a recurrent layer from the counter.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # that this build of torch has no Intel GPU
            with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
                module(*columns)
    finally:
        for part, training in modes.items():
            part.training = training
    return int(counter.get_total_flops())
