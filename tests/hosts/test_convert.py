"""Converting torch modules to JAX: same values, same gradients, usable in jit, vmap, scan; clear refusals."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from subgrid.base.errors import SubgridError
from subgrid.hosts.convert import UnsupportedOperation, agreement, to_jax

TOLERANCE = 1e-5


class Formula(nn.Module):
    """A module from a function of (module, tensors), with a weight, a vector and indices to use."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.linspace(-1, 1, 24).sin().reshape(6, 4))
        self.register_buffer("vector", torch.tensor([-1.5, -0.5, 0.5, 1.5]))
        self.register_buffer("order", torch.tensor([3, 0, 2]))

    def forward(self, *tensors):
        return self.function(self, *tensors)


def perceptron(activation=nn.GELU):
    return nn.Sequential(
        nn.Linear(12, 32), activation(), nn.LayerNorm(32), nn.Linear(32, 32), activation(), nn.Linear(32, 9)
    )


class SmallUnet(nn.Module):
    """Strided and grouped convolutions, GroupNorm, attention, pooling and nearest upsampling, a skip."""

    def __init__(self):
        super().__init__()
        self.start = nn.Conv1d(4, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.down = nn.Conv1d(16, 16, 3, stride=2, padding=1, groups=2)
        self.heads = nn.Conv1d(16, 48, 1)
        self.mixed = nn.MultiheadAttention(16, 2, batch_first=True)
        self.up = nn.ConvTranspose1d(16, 16, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.end = nn.Conv1d(48, 3, 3, padding="same", padding_mode="replicate")

    def forward(self, x):
        fine = F.silu(self.norm(self.start(x)))
        coarse = F.gelu(self.down(fine)) + F.avg_pool1d(fine, 2)
        q, k, v = self.heads(coarse).unflatten(1, (3, 2, 8)).transpose(-1, -2).unbind(1)
        coarse = coarse + F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).flatten(1, 2)
        weights = torch.softmax(torch.einsum("bhtc,bhsc->bhts", q, k), -1)
        coarse = coarse + torch.einsum("bhts,bhsc->bhct", weights, v).reshape(coarse.shape)
        rows = coarse.transpose(1, 2)
        coarse = coarse + self.mixed(rows, rows, rows)[0].transpose(1, 2)
        again = F.interpolate(coarse, scale_factor=2, mode="nearest")
        return self.end(torch.cat([fine, again, F.leaky_relu(self.up(coarse))], dim=1))


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
        with torch.no_grad():
            for _ in range(5):
                self.body(torch.randn(64, 5) * 2 + 1)

    def forward(self, x):
        return self.body(x)


class Columns(nn.Module):
    """An emulator in small: encode, network, decode, constrain; a dict, a None and memory in the results."""

    def __init__(self):
        super().__init__()
        self.network = perceptron(nn.SiLU)
        self.register_buffer("mean", torch.linspace(200, 300, 8))
        self.register_buffer("std", torch.linspace(5, 20, 8))
        self.register_buffer("keep", torch.tensor([True, True, False, True]))

    def forward(self, profiles, scalars, memory):
        temperature, humidity = profiles[..., 0], profiles[..., 1]
        saturation = 0.01 * torch.exp(0.06 * (temperature - 290).clamp(-60, 20))
        relative = (humidity / saturation).clip(0, 1.5)
        inputs = torch.cat([((temperature - self.mean) / self.std)[:, :4], relative[:, 4:], scalars], dim=1)
        outputs = self.network(inputs.nan_to_num())
        heating = torch.where(self.keep, outputs[:, :4], torch.zeros(())) * 1e-5
        drying = torch.maximum(outputs[:, 4:8] * 1e-8, -humidity[:, 4:].clamp(min=0) / 1800)
        rain = F.softplus(outputs[:, 8]) * 1e-7
        tendencies = torch.stack([heating, drying], dim=-1).flip(1)
        counts = (drying <= -humidity[:, 4:] / 1800).sum(dim=1)
        return tendencies, rain, None, {"memory": memory * 0.5 + rain[:, None], "limited": counts}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 6, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(12, 4, batch_first=True)

    def forward(self, x):
        return self.gru(self.lstm(x)[0].flip(1)[:, :2])[0]


def columns(n=40):
    humidity = torch.rand(n, 8) * 0.02 - 0.002
    return torch.stack([250 + 20 * torch.randn(n, 8), humidity], -1), torch.randn(n, 4), torch.rand(n, 1)


MODULES = {
    "perceptron": lambda: (perceptron(), (torch.randn(40, 12),)),
    "unet": lambda: (SmallUnet(), (torch.randn(10, 4, 8),)),
    "batchnorm": lambda: (Normed(), (torch.randn(40, 5),)),
    "columns": lambda: (Columns(), columns()),
    "recurrent": lambda: (Recurrent(), (torch.randn(40, 8, 5),)),
}


@pytest.fixture(scope="module")
def converted():
    """Each module of ``MODULES`` with its function and inputs, converted once."""
    torch.manual_seed(0)
    made = {name: make() for name, make in MODULES.items()}
    return {name: (module, to_jax(module, inputs), inputs) for name, (module, inputs) in made.items()}


def arrays(inputs):
    return tuple(jnp.asarray(x.numpy()) for x in inputs)


@pytest.mark.parametrize("name", MODULES)
def test_modules_agree(converted, name):
    module, function, inputs = converted[name]
    assert agreement(module, function, inputs) < TOLERANCE
    others = tuple(x + 0.01 * torch.randn_like(x) for x in inputs)
    assert agreement(module, function, others) < TOLERANCE


@pytest.mark.parametrize("name", [name for name in MODULES if name != "recurrent"])
def test_gradients_are_those_of_torch(converted, name):
    check_gradient(*converted[name])


def test_gradients_of_a_short_recurrence():  # eight steps compile for seconds
    module, inputs = Recurrent(), (torch.randn(40, 2, 5),)
    check_gradient(module, to_jax(module, inputs), inputs)


def check_gradient(module, function, inputs):
    leaf = inputs[0].clone().requires_grad_()
    first = torch.utils._pytree.tree_leaves(module.eval()(leaf, *inputs[1:]))[0]
    direction = torch.randn_like(first) / first.detach().std()
    (expected,) = torch.autograd.grad((first * direction).sum(), leaf)
    rest = arrays(inputs[1:])
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(function(x, *rest)[0] * direction.numpy())))
    found = gradient(arrays(inputs)[0])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_works_in_scan_vmap_and_an_outer_jit(converted):
    _, function, (x,) = converted["batchnorm"]
    start = arrays((x,))[0]

    def step(carry, _):
        return carry.at[:, :3].add(0.1 * function(carry)[0]), None

    scanned = jax.jit(lambda x: jax.lax.scan(step, x, None, length=4)[0])(start)
    looped = start
    for _ in range(4):
        looped, _ = step(looped, None)
    np.testing.assert_allclose(scanned, looped, rtol=1e-5, atol=1e-5)
    members = jnp.stack([start, 2 * start])
    mapped = jax.vmap(lambda x: function(x)[0])(members)
    np.testing.assert_allclose(mapped[1], function(2 * start)[0], rtol=1e-5, atol=1e-5)


def test_outputs_are_flat_without_none(converted):
    _, function, inputs = converted["columns"]
    results = function(*arrays(inputs))
    assert [r.shape for r in results] == [(40, 4, 2), (40,), (40, 1), (40,)]
    assert results[3].dtype == jnp.int32


# --- op by op: every function of a group is one output of one module ---

ELEMENTWISE = {
    "unary": lambda s, x: [
        x.abs(),
        -x,
        x.sign(),
        x.sgn(),
        x.exp(),
        x.expm1(),
        x.exp2(),
        x.square(),
        x.frac(),
    ],
    "logs": lambda s, x: [f(x.abs() + 0.1) for f in (torch.log, torch.log1p, torch.log2, torch.log10)],
    "roots": lambda s, x: [x.abs().sqrt(), (x.abs() + 0.1).rsqrt(), 1 / (x + 9), x.abs() ** 0.5],
    "powers": lambda s, x: [x**2, x**3.0, x.abs() ** 0.7, 2.0**x, x.abs() ** s.vector, x**-2],
    "circle": lambda s, x: [
        x.sin(),
        x.cos(),
        x.tan(),
        x.atan(),
        torch.atan2(x, x + 1),
        x.tanh().asin(),
        x.sinc(),
    ],
    "hyperbola": lambda s, x: [
        x.sinh(),
        x.cosh(),
        x.tanh(),
        x.asinh(),
        (x.abs() + 1.1).acosh(),
        (x / 9).atanh(),
        (x / 9).acos(),
    ],
    "special": lambda s, x: [
        x.erf(),
        x.erfc(),
        (x / 9).erfinv(),
        torch.lgamma(x.abs() + 1),
        torch.digamma(x.abs() + 1),
    ],
    "rounding": lambda s, x: [
        x.floor(),
        x.ceil(),
        x.round(),
        x.trunc(),
        x.round(decimals=1),
        x.int(),
        x.long(),
    ],
    "gates": lambda s, x: [
        x.sigmoid(),
        F.silu(x),
        F.relu(x),
        F.leaky_relu(x, 0.2),
        F.glu(x),
        F.prelu(x, s.vector[:1]),
    ],
    "gelu": lambda s, x: [F.gelu(x), F.gelu(x, approximate="tanh"), F.mish(x), F.hardswish(x), F.hardtanh(x)],
    "elu": lambda s, x: [
        F.elu(x, 0.5),
        F.selu(x),
        F.celu(x),
        F.softplus(x * 20),
        F.softplus(x, 2.0, 3.0),
        F.relu6(x),
    ],
    "soft": lambda s, x: [
        x.softmax(1),
        x.log_softmax(0),
        F.logsigmoid(x),
        x.logsumexp(1),
        torch.logit(x.sigmoid()),
    ],
    "sums": lambda s, x: [
        x + 1,
        x + s.vector,
        torch.add(x, s.vector, alpha=2),
        1 - x,
        torch.sub(x, x[0], alpha=3),
    ],
    "products": lambda s, x: [
        x * 2,
        x * s.vector,
        x / 3,
        x / s.vector,
        torch.addcmul(x, x, x),
        x.lerp(x * 2, 0.3),
    ],
    "division": lambda s, x: [
        x // 0.3,
        torch.div(x, 0.3, rounding_mode="trunc"),
        x % 0.3,
        torch.fmod(x, 0.3),
    ],
    "bounds": lambda s, x: [
        x.clamp(0, 1),
        x.clamp(min=0),
        x.clamp_max(s.vector),
        x.clamp(s.vector, s.vector + 1),
    ],
    "pairs": lambda s, x: [
        torch.maximum(x, s.vector),
        torch.minimum(x, s.vector),
        torch.fmax(x, -x),
        torch.fmin(x, -x),
        x.copysign(-s.vector),
        torch.hypot(x, x),
    ],
    "compare": lambda s, x: [
        x > 0,
        x < s.vector,
        x >= 0,
        x <= 0,
        x == x[0],
        x != x[0],
        torch.isclose(x, x[0]),
    ],
    "logic": lambda s, x: [
        (x > 0) & (x < 1),
        (x > 0) | (x < -1),
        ~(x > 0),
        torch.logical_xor(x > 0, x < 1),
        (x > 0) ^ (x < 1),
        (x > 0).logical_not(),
        x.logical_and(x),
    ],
    "where": lambda s, x: [
        torch.where(x > 0, x, 0.0),
        torch.where(x > 0, 1.0, s.vector),
        x.masked_fill(x < 0, 7.0),
    ],
    "finite": lambda s, x: [
        x.isnan(),
        x.isinf(),
        x.isfinite(),
        (x / (x - x)).nan_to_num(1.0, 2.0, 3.0),
        x.log(),
    ],
    "types": lambda s, x: [
        (x * 9).long() / 4,
        (x * 9).long() * 0.5,
        (x > 0) * 2,
        x.double() * 2,
        x.bfloat16().float(),
    ],
    "steps": lambda s, x: [
        torch.bucketize(x, s.vector),
        torch.searchsorted(s.vector, x, right=True),
        torch.heaviside(x, x),
    ],
    "edges": lambda s, x: [
        torch.searchsorted(x.sort(1)[0], x),
        torch.bucketize(x.round(), s.vector.round(), right=True),
    ],
}
REDUCTIONS = {
    "sum": lambda s, x: [
        x.sum(),
        x.sum(1),
        x.sum((0, 1)),
        x.sum(0, keepdim=True),
        (x > 0).sum(1),
        x.mean(),
        x.mean(-1),
    ],
    "var": lambda s, x: [
        x.var(0),
        x.var(1, unbiased=False),
        x.std(),
        x.std(1, keepdim=True),
        torch.var_mean(x, 0),
    ],
    "extremes": lambda s, x: [
        x.max(),
        x.min(1),
        x.max(0, keepdim=True),
        x.amax((0, 1)),
        x.amin(0),
        x.argmax(1),
        x.argmin(),
        x.min(),
    ],
    "bool": lambda s, x: [(x > 0).any(1), (x > 0).all(0), (x > -99).all(), (x > 0).any(dim=(0, 1))],
    "products": lambda s, x: [x.prod(1), x.prod(), x.cumprod(0), x.cumsum(1), x.logcumsumexp(0)],
    "running": lambda s, x: [x.cummax(0)[0], x.cummin(-1)[0], x.diff(dim=1), torch.trapezoid(x, dim=1)],
    "norms": lambda s, x: [
        x.norm(dim=1),
        x.norm(),
        torch.linalg.vector_norm(x, 3, 0),
        torch.linalg.vector_norm(x, math.inf),
    ],
    "normalised": lambda s, x: [
        F.normalize(x),
        F.layer_norm(x, (4,), s.vector, s.vector),
        F.rms_norm(x, (4,)),
    ],
    "groups": lambda s, x: [
        F.group_norm(x, 2, s.vector, s.vector),
        F.instance_norm(x[None]),
        F.layer_norm(x, (20, 4)),
    ],
    "sorted": lambda s, x: [
        x.sort(1, descending=True),
        x.topk(2, 1),
        x.argsort(0),
        x.topk(3, 0, largest=False),
    ],
}
SHAPES = {
    "order": lambda s, x: [x.T, x.permute(1, 0), x.flip(1), x.roll(1, 1), x[None].movedim(0, 2), x.flatten()],
    "view": lambda s, x: [
        x.reshape(4, -1),
        x.unsqueeze(-1),
        x[:, :1].squeeze(),
        x[:, :1].squeeze(1),
        x.view(2, 10, 4),
    ],
    "repeat": lambda s, x: [
        x[:, None].expand(-1, 3, -1),
        x.repeat(2, 1, 2),
        x.tile(2),
        x.repeat_interleave(2, 1),
    ],
    "join": lambda s, x: [torch.cat([x, x[:3]]), torch.stack([x, -x], 1), torch.cat([x, s.weight])],
    "part": lambda s, x: [*x.split([1, 3], 1), *x.chunk(3), *x.unbind(1), x[2:-1:3, 1:], x[..., -1], x[-2]],
    "pick": lambda s, x: [
        x[:, s.order],
        x.index_select(1, s.order),
        x[s.order, s.order],
        x[:, [3, 1]],
        x.diagonal(),
    ],
    "gather": lambda s, x: [
        x.gather(1, s.order[:, None]),
        F.embedding((x > 0).long(), s.weight),
        x.unfold(1, 2, 1),
    ],
    "windows": lambda s, x: [
        x.unfold(0, 5, 3),
        torch.tril(x),
        F.one_hot(x.argmax(1), 4),
        torch.outer(x[0], x[1]),
    ],
    "new": lambda s, x: [
        torch.zeros_like(x) + x,
        torch.ones_like(x),
        torch.full_like(x, 2),
        x.new_zeros(3),
        s.weight,
    ],
    "table": lambda s, x: [
        x * torch.arange(4),
        x + torch.linspace(0, 1, 4),
        x * torch.tensor([1.0, 2, 3, 4]),
        x + torch.eye(20)[:, :4],
    ],
    "pad": lambda s, x: [F.pad(x[None], (1, 2), mode=m) for m in ("reflect", "replicate", "circular", "constant")],
    "crop": lambda s, x: [F.pad(x, (-1, 2, 0, 1), value=1.5), F.pad(x, (1, 1))],
    "pool": lambda s, x: [
        F.avg_pool1d(x.T, 3, 2, 1),
        F.avg_pool1d(x.T, 3, 1, 1, count_include_pad=False),
        F.max_pool1d(x.T, 3, 2, 1),
    ],
    "adapt": lambda s, x: [F.adaptive_avg_pool1d(x.T, n) for n in (1, 4, 7)],
    "resample2d": lambda s, x: [F.interpolate(x[None, None], scale_factor=f) for f in (2, (1, 3), (0.5, 1.3))],
    "resample": lambda s, x: [F.interpolate(x[None], size=n) for n in (8, 7, 2)],
    "blend": lambda s, x: [
        F.interpolate(x[None], scale_factor=1.6),
        F.interpolate(x[None], size=7, mode="linear"),
    ],
}
WRITES = {
    "slice": lambda s, x: [
        torch.slice_scatter(x, x[:, :2] * 2, 1, 1, 3),
        torch.select_scatter(x, x[0], 0, 3),
    ],
    "scatter": lambda s, x: [x.scatter(1, s.order[:, None], x[:, :1]), x.scatter(1, s.order[:, None], 5.0)],
    "add": lambda s, x: [x.scatter_add(1, s.order[:, None], x), x.index_add(1, s.order, x[:, :3])],
    "put": lambda s, x: [x.index_put((s.order, s.order), s.vector[:3]), x.index_put((x > 0,), s.vector[0])],
    "assign": lambda s, x: [
        _assigned(x, (slice(None), 1)),
        _assigned(x, (slice(2, 5), slice(0, 2))),
        _assigned(x, x > 0),
    ],
}
PRODUCTS = {
    "matrix": lambda s, x: [
        x @ s.weight.T,
        x.T @ x,
        x @ s.vector,
        x[0] @ x[1],
        F.linear(x, s.weight, s.weight[:, 0]),
    ],
    "scaled": lambda s, x: [
        torch.addmm(s.vector, x, x[:4], beta=2, alpha=3),
        torch.addmv(s.vector, x[:4], s.vector),
        torch.baddbmm(x[:, None], x[:, None], x[:, :, None] * x[:, None], alpha=2),
    ],
    "batched": lambda s, x: [
        x[:, None] @ s.weight.T.expand(20, 4, 6),
        torch.einsum("nk,jk->nj", x, s.weight),
    ],
    "levels": lambda s, x: [
        torch.einsum("nlc,lcd->nld", x[:, :, None], s.weight.T[:, None]),
        torch.bmm(x[:, None], x[:, :, None]),
    ],
    "conv1d": lambda s, x: [
        F.conv1d(x[:, None], s.weight[:, None, :3], stride=2, padding=2, dilation=2),
        F.conv1d(x.T, s.weight[:4, None, :2], s.vector, groups=4),
        F.conv1d(x.T, s.weight[:4, None, :3], s.vector, groups=4, stride=2, padding=3, dilation=2),
        F.conv_transpose1d(x.T, s.weight[:4, :, None], stride=3, groups=2, padding=0, output_padding=1),
    ],
    "conv2d": lambda s, x: [
        F.conv2d(x[None, None], s.weight[None, None]),
        F.conv2d(x.T[None, :, :, None], s.weight[:4, None, :3, None], groups=4, padding=(1, 0), stride=(2, 1)),
        F.conv_transpose2d(x[None, None], s.weight[None, None], stride=(2, 1)),
    ],
}


def _assigned(x, place):
    y = x.clone()
    y[place] = 3.0
    return y


GROUPS = {
    "elementwise": ELEMENTWISE,
    "reductions": REDUCTIONS,
    "shapes": SHAPES,
    "writes": WRITES,
    "products": PRODUCTS,
}


def departure(function, x):
    module = Formula(function)
    return agreement(module, to_jax(module, (x,)), (x,))


@pytest.mark.parametrize("group", GROUPS)
def test_operations_agree(group):
    torch.manual_seed(1)
    x, functions = torch.randn(20, 4), GROUPS[group]
    if departure(lambda s, x: {name: f(s, x) for name, f in functions.items()}, x) >= TOLERANCE:
        worst = {name: departure(f, x) for name, f in functions.items()}
        pytest.fail(f"departures: { {name: d for name, d in worst.items() if d >= TOLERANCE} }")


def test_dtypes_follow_torch():
    module = Formula(lambda s, x: [x > 0, x.long(), x.double(), x.bfloat16(), x.int() / 2, x.argmax()])
    found = to_jax(module, (torch.randn(3),))(jnp.ones(3))
    assert [str(r.dtype) for r in found] == ["bool", "int32", "float32", "bfloat16", "float32", "int32"]


def test_double_and_half_modules():
    double = nn.Linear(4, 3).double()
    inputs = (torch.randn(20, 4, dtype=torch.float64),)
    assert agreement(double, to_jax(double, inputs), inputs) < TOLERANCE
    half = nn.Linear(4, 3).bfloat16()
    inputs = (torch.randn(20, 4, dtype=torch.bfloat16),)
    assert agreement(half, to_jax(half, inputs), inputs) < 0.05


def test_kernels_longer_than_the_column():
    for padding, stride, dilation in ((2, 1, 1), (4, 2, 2), (3, 1, 1)):
        module = nn.Conv1d(4, 6, 5, padding=padding, stride=stride, dilation=dilation)
        inputs = (torch.randn(20, 4, 2),)
        assert agreement(module, to_jax(module, inputs), inputs) < TOLERANCE


def test_attention_masks():
    q = torch.randn(4, 2, 6, 8)
    module = Formula(lambda s, q: F.scaled_dot_product_attention(q, q, q, is_causal=True))
    assert agreement(module, to_jax(module, (q,)), (q,)) < TOLERANCE


def test_arguments_may_be_none_and_outputs_may_be_constants():
    module = Formula(lambda s, x, memory: (x if memory is None else x + memory, s.weight, torch.ones(2)))
    inputs = (torch.randn(5, 4), None)
    function = to_jax(module, inputs)
    assert agreement(module, function, inputs) == 0.0
    assert len(function(jnp.ones((5, 4)), None)) == 3


def test_gradients_stay_finite_where_torch_has_them():
    module = Formula(lambda s, x: F.softplus(x * 1000) + F.mish(x * 1000) + x.norm(dim=1, keepdim=True))
    function = to_jax(module, (torch.zeros(3, 4),))
    gradient = jax.grad(lambda x: function(x)[0].sum())(jnp.asarray([[0.0] * 4, [9.0] * 4, [-9.0] * 4]))
    assert np.isfinite(gradient).all()


# --- weights ---


def constants(function, *example):
    """Constants and primitive names of the traced function, its inner jits included."""
    values, names, pending = [], set(), [jax.make_jaxpr(function)(*example).jaxpr]
    while pending:
        jaxpr = pending.pop()
        values += [v.aval.shape for v in jaxpr.constvars]
        for equation in jaxpr.eqns:
            names.add(equation.primitive.name)
            values += [a.aval.shape for a in equation.invars if not hasattr(a, "count")]
            pending += [p.jaxpr for p in equation.params.values() if hasattr(p, "jaxpr")]
    return values, names


def test_weights_arrive_transposed(converted):
    _, function, (x,) = converted["perceptron"]
    _, names = constants(function, *arrays((x,)))
    assert "dot_general" in names
    assert "transpose" not in names


@pytest.mark.parametrize("module", [nn.Conv1d(4, 6, 3, padding=1), nn.ConvTranspose1d(4, 6, 3, stride=2)])
def test_convolutions_have_their_channels_last(module):
    """Inside a loop XLA's CPU compiler leaves other layouts to a convolution that is many times as slow."""
    x = torch.randn(8, 4, 10)
    program = jax.jit(to_jax(module, (x,))).lower(*arrays((x,))).as_text()
    assert "[b, 0, f]x[0, i, o]->[b, 0, f]" in program


def test_a_weight_that_the_batch_shares_is_held_once():
    module = Formula(lambda s, x: torch.bmm(x, s.weight.T.expand(50, 4, 6)))
    function = to_jax(module, (torch.randn(50, 3, 4),))
    text = jax.jit(function).lower(jnp.ones((50, 3, 4))).as_text()
    assert "50x4x6" not in text
    assert "4x6" in text


def test_function_keeps_its_weights_and_module_its_flags():
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3)).train()
    module[1].eval()
    x = torch.randn(6, 3)
    function = to_jax(module, (x,))
    before = function(*arrays((x,)))[0]
    assert agreement(module, function, (x,)) < TOLERANCE
    assert [part.training for part in module] == [True, False, True]
    with torch.no_grad():
        module[0].weight.zero_()
    np.testing.assert_array_equal(function(*arrays((x,)))[0], before)
    assert agreement(module, function, (x,)) > 0.1


# --- refusals ---


def test_names_every_missing_operation_at_once():
    module = Formula(lambda s, x: torch.fft.rfft(x).abs() + torch.linalg.det(x[:4]) + torch.randn(3))
    with pytest.raises(UnsupportedOperation) as caught:
        to_jax(module, (torch.randn(6, 4),))
    for name in ("aten._fft_r2c", "aten._linalg_det", "aten.randn"):
        assert name in str(caught.value)
    assert isinstance(caught.value, SubgridError)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda s, x: x[x > 0], "shape that depends on values"),
        (lambda s, x: torch.cond(x.sum() > 0, torch.exp, torch.neg, (x,)), "cond"),
        (lambda s, x: x + s.vector.add_(1), "writing to 'vector'"),
        (lambda s, x: F.avg_pool1d(x, 3, 2, ceil_mode=True), "avg_pool2d.*ceil_mode"),
        (lambda s, x: F.max_pool1d(x, 2, dilation=2), "max_pool2d_with_indices.*dilation"),
        (lambda s, x: F.max_pool1d(x, 2, return_indices=True), "max_pool2d_with_indices"),
        (lambda s, x: x @ x, "cannot export Formula"),
    ],
)
def test_refuses_before_running(function, reason):
    with pytest.raises(UnsupportedOperation, match=reason):
        to_jax(Formula(function), (torch.randn(6, 4),))


def test_refuses_other_shapes_and_counts(converted):
    _, function, (x,) = converted["perceptron"]
    with pytest.raises(SubgridError, match="takes 1 arrays, not 2"):
        function(x.numpy(), x.numpy())
    with pytest.raises(SubgridError, match=r"\(3, 12\); converted for \(40, 12\)"):
        function(jnp.ones((3, 12)))


# --- agreement ---


def identity_plus(*shifts):
    return lambda x: (x + jnp.asarray(shifts),)


def test_agreement_by_hand():
    # channel 0: std 1; channel 1: constant, so judged by a tenth of its mean 10
    x = torch.tensor([[1.0, 10.0], [3.0, 10.0]])
    module = nn.Identity()
    assert agreement(module, identity_plus(0.0, 0.0), (x,)) == 0.0
    assert agreement(module, identity_plus(0.25, 0.125), (x,)) == pytest.approx(0.25)
    assert agreement(module, identity_plus(0.25, 0.5), (x,)) == pytest.approx(0.5)
    # only the first output counts
    twice = Formula(lambda s, x: (x, x))
    assert agreement(twice, lambda x: (x, x + 1.0), (x,), outputs=1) == 0.0
    # one axis is one channel: mean 2, std 1
    assert agreement(module, lambda x: (x + 0.5,), (x[:, 0],)) == pytest.approx(0.5)
    # a channel that is exactly zero must stay so
    assert agreement(module, identity_plus(0.0, 1e-9), (x * torch.tensor([1.0, 0.0]),)) == math.inf


def test_agreement_of_what_is_not_finite_or_not_alike():
    x = torch.tensor([[1.0], [3.0], [math.nan], [math.inf]])
    assert agreement(nn.Identity(), lambda x: (x,), (x,)) == 0.0
    assert agreement(nn.Identity(), lambda x: (jnp.nan_to_num(x),), (x,)) == math.inf
    assert agreement(nn.Identity(), lambda x: (x[:2],), (x,)) == math.inf
    assert agreement(nn.Identity(), lambda x: (x, x), (x,)) == math.inf
    assert agreement(nn.Identity(), lambda x: (x + 1.0,), (torch.tensor(4.0),)) == pytest.approx(2.5)
