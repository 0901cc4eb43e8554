"""What every architecture owes: script, trace, export, dtype, finite zeros, seeds, independent columns."""

import io

import pytest
import torch

from subgrid.networks import NetworkShape, build

NAMES = [
    "cnn",
    "convnext",
    "cvae",
    "ed",
    "encdec_lstm",
    "fifth_place_a",
    "fifth_place_b",
    "hsr",
    "mlp",
    "pao",
    "res_lstm",
    "rpn",
    "squeezeformer",
    "unet",
]
#: Those with dropout and with the choice of positive scalars.
CHOOSY = ["mlp", "unet"]
RECURRENT = ["encdec_lstm", "fifth_place_a", "fifth_place_b", "pao", "res_lstm"]
SHAPE = NetworkShape(8, 4, 16, 4, 13)
#: A bottleneck, and maps that are divided by five three times, learn slowly: what makes them quick enough for a test.
SLOW = {"ed": {"widths": [96, 96]}, "fifth_place_b": {"embedding": 64, "hidden": 64, "layers": 1, "inner": 64}}


def made(name, shape=SHAPE, **overrides):
    """A network in evaluation mode whose weights are large enough to matter (heads may start near zero)."""
    torch.manual_seed(0)
    network = build(name, shape, **overrides).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def columns(n, shape=SHAPE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    profiles = torch.randn(n, shape.levels, shape.profiles_in, generator=generator)
    return profiles, torch.randn(n, shape.scalars_in, generator=generator)


def assert_equal(ours, theirs, **tolerance):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.filterwarnings("error::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("name", "overrides"),
    [(n, {}) for n in NAMES] + [(n, {"positive_scalars": True, "dropout": 0.5}) for n in CHOOSY],
)
def test_scripted_and_traced_at_any_batch_equal_eager(name, overrides):
    network = made(name, **overrides)
    with torch.no_grad():
        scripted = torch.jit.script(network)
        traced = torch.jit.trace(network, columns(7))
        buffer = io.BytesIO()
        torch.jit.save(scripted, buffer)
        buffer.seek(0)
        loaded = torch.jit.load(buffer)
        for n in (1, 7, 384):
            eager = network(*columns(n, seed=n))
            assert eager[0].shape == (n, SHAPE.levels, SHAPE.profiles_out)
            assert eager[1].shape == (n, SHAPE.scalars_out)
            for form in (scripted, traced, loaded):
                for _ in range(2):  # the second call may run an optimised graph
                    assert_equal(form(*columns(n, seed=n)), eager, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_exported_equals_eager(name):
    network = made(name)
    with torch.no_grad():
        program = torch.export.export(network, columns(5))
        assert_equal(program.module()(*columns(5, seed=3)), network(*columns(5, seed=3)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("levels", [4, 5, 8, 26, 30, 47, 60])
def test_any_number_of_levels(name, levels):
    shape = NetworkShape(levels, 2, 3, 2, 1)
    with torch.no_grad():
        profiles, scalars = made(name, shape)(*columns(2, shape))
    assert profiles.shape == (2, levels, 2)
    assert scalars.shape == (2, 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", [(8, 0, 3, 2, 1), (8, 2, 0, 2, 1), (8, 2, 3, 0, 1), (8, 1, 0, 1, 0)])
def test_a_kind_of_variable_may_be_missing(name, sizes):
    shape = NetworkShape(*sizes)
    network = made(name, shape)
    with torch.no_grad():
        outputs = network(*columns(3, shape))
        assert outputs[0].shape == (3, 8, shape.profiles_out)
        assert outputs[1].shape == (3, shape.scalars_out)
        assert_equal(torch.jit.script(network)(*columns(3, shape)), outputs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fill", [0.0, 1e4])
def test_constant_columns_stay_finite_with_their_gradients(name, fill):
    network = made(name)
    profiles, scalars = (x.fill_(fill).requires_grad_() for x in columns(2))
    outputs = network(profiles, scalars)
    (outputs[0].square().mean() + outputs[1].square().mean()).backward()
    assert all(torch.isfinite(x).all() for x in (*outputs, profiles.grad, scalars.grad))
    # what only a loss of its own reads has no gradient here
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_outputs_keep_the_dtype_of_the_inputs(name, dtype):
    network = made(name).to(dtype)
    with torch.no_grad():
        outputs = network(*(x.to(dtype) for x in columns(2)))
    assert [x.dtype for x in outputs] == [dtype, dtype]


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_the_weights(name):
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in build(name, SHAPE).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize("name", NAMES)
def test_columns_do_not_see_each_other(name):
    network = made(name).double()
    profiles, scalars = (x.double() for x in columns(6))
    with torch.no_grad():
        together = network(profiles, scalars)
        alone = network(profiles[4:5], scalars[4:5])
    assert_equal((together[0][4:5], together[1][4:5]), alone)


@pytest.mark.parametrize("name", NAMES)
def test_every_input_reaches_every_output(name):
    network = made(name).double()
    inputs = [x.double().requires_grad_() for x in columns(1)]
    for output in network(*inputs):
        for reached in torch.autograd.grad(output.square().sum(), inputs, retain_graph=True):
            assert (reached != 0).all()


@pytest.mark.parametrize("name", CHOOSY)
def test_positive_scalars_are_not_negative_and_plain_ones_may_be(name):
    inputs = columns(64)
    with torch.no_grad():
        assert made(name, positive_scalars=True)(*inputs)[1].min() >= 0
        assert made(name)(*inputs)[1].min() < 0


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_of_training_learn(name):
    torch.manual_seed(0)
    network = build(name, SHAPE, **SLOW.get(name, {}))
    inputs = columns(64)
    target = inputs[0].flip(1).cumsum(1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = (network(*inputs)[0] - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
