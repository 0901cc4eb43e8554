"""Architectures: tensors only, from the normalised inputs of columns to their normalised outputs.

Every architecture maps ``(profiles (n, level, channel), scalars (n, scalar))`` to the same, and is one file
that registers itself. Importing this package registers those here; other packages add theirs
through the entry-point group ``subgrid.architectures`` (entry name = architecture name, value = the module
that registers it)::

    shape = NetworkShape(levels=8, profiles_in=4, scalars_in=16, profiles_out=4, scalars_out=13)
    network = build("unet", shape, size="small", channels=24)
    same = build(network.architecture, network.shape, **network.hyperparameters)
"""

from subgrid.networks import (
    cnn,
    convnext,
    cvae,
    ed,
    encdec_lstm,
    fifth_place_a,
    fifth_place_b,
    hsr,
    mlp,
    pao,
    res_lstm,
    rpn,
    squeezeformer,
    unet,
)
from subgrid.networks.base import Network, NetworkShape
from subgrid.networks.flops import count_flops
from subgrid.networks.probabilistic import ProbabilisticNetwork
from subgrid.networks.registry import architecture, build, names, resolve, sizes

__all__ = [
    "Network",
    "NetworkShape",
    "ProbabilisticNetwork",
    "architecture",
    "build",
    "cnn",
    "convnext",
    "count_flops",
    "cvae",
    "ed",
    "encdec_lstm",
    "fifth_place_a",
    "fifth_place_b",
    "hsr",
    "mlp",
    "names",
    "pao",
    "res_lstm",
    "resolve",
    "rpn",
    "sizes",
    "squeezeformer",
    "unet",
]
