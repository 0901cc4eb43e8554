"""Where the published networks are defective: the default is right, and ``paper_compatible`` does what they did."""

from __future__ import annotations

import pytest
import torch

from subgrid.networks import NetworkShape, build

SHAPE = NetworkShape(levels=6, profiles_in=3, scalars_in=4, profiles_out=2, scalars_out=3)


def pair(name, **settings):
    """The right network and the published one, with the same weights."""
    right, published = (build(name, SHAPE, paper_compatible=which, **settings).eval() for which in (False, True))
    published.load_state_dict(right.state_dict())
    torch.manual_seed(1)
    return right, published, (torch.randn(5, 6, 3), torch.randn(5, 4))


@pytest.mark.parametrize("heads", [1, 2])
def test_paos_profiles_are_read_variable_after_variable_though_written_level_after_level(heads):
    shape = NetworkShape(6, 3, 4, 2, 3, heads=heads)
    right, published = (build("pao", shape, paper_compatible=which).eval() for which in (False, True))
    published.load_state_dict(right.state_dict())
    inputs = torch.randn(5, 6, 3), torch.randn(5, 4)
    with torch.no_grad():
        (p, s), (q, t) = right(*inputs), published(*inputs)
    assert torch.equal(s, t)
    for head in range(heads):
        flat = p[..., 2 * head : 2 * head + 2].reshape(5, 12)  # level 0: both variables, level 1: both ...
        for variable in range(2):
            for level in range(6):
                assert torch.equal(q[:, level, 2 * head + variable], flat[:, 6 * variable + level])


def test_squeezeformers_batch_norm_forgets_a_twentieth_and_as_published_nineteen():
    right, published, inputs = pair("squeezeformer")
    with torch.no_grad():
        torch.testing.assert_close(right(*inputs), published(*inputs))  # the same until they are trained
    for network, share in ((right, 0.05), (published, 0.95)):
        norm = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm1d))
        seen = {}
        norm.register_forward_hook(lambda m, args, out, seen=seen: seen.setdefault("x", args[0].detach()))
        norm.running_mean.fill_(7.0)
        network.train()
        network(*inputs)
        dims = [d for d in range(seen["x"].ndim) if d != 1]
        wanted = (1.0 - share) * 7.0 + share * seen["x"].mean(dims)
        torch.testing.assert_close(norm.running_mean, wanted)


def test_eds_last_layer_is_linear_and_as_published_an_elu():
    right, published, inputs = pair("ed")
    with torch.no_grad():
        for network in (right, published):
            network.output.bias.fill_(-3.0)
        found, as_published = right(*inputs), published(*inputs)
    for plain, bounded in zip(found, as_published, strict=True):
        assert plain.min() < -2.0 and bounded.min() >= -1.0
        torch.testing.assert_close(bounded, torch.nn.functional.elu(plain))
