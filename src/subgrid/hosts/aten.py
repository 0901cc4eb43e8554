"""ATen operations as functions of JAX arrays: what :mod:`subgrid.hosts.convert` can translate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Axes = int | Sequence[int] | None

# Translations that need more than one expression; argument names and order are those of ATen.


def _axes(dim: Axes) -> int | tuple[int, ...] | None:
    """Reduction axes in numpy's convention; torch writes "all" as None or as an empty list."""
    if dim is None or isinstance(dim, int):
        return dim
    return tuple(dim) or None


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, dim=None, keepdim=False: function(x, axis=_axes(dim), keepdims=keepdim)


def _with_index(value: Callable[..., Any], index: Callable[..., Any]) -> Callable[..., Any]:
    """A reduction along one axis that also returns where the extreme lies (``max.dim``)."""
    return lambda x, dim, keepdim=False: (
        value(x, axis=dim, keepdims=keepdim),
        index(x, dim, keepdims=keepdim),
    )


def _variance(x: Any, dim: Axes = None, *, correction: float | None = None, keepdim: bool = False) -> Any:
    degrees = 1 if correction is None else correction
    return jnp.var(x, axis=_axes(dim), ddof=degrees, keepdims=keepdim)  # type: ignore[arg-type]


def _variance_and_mean(x: Any, dim: Axes = None, *, keepdim: bool = False, **settings: Any) -> tuple[Any, Any]:
    mean = jnp.mean(x, axis=_axes(dim), keepdims=keepdim)
    return _variance(x, dim, keepdim=keepdim, **settings), mean


def _vector_norm(x: Any, ord: float = 2.0, dim: Axes = None, keepdim: bool = False) -> Any:
    """(Σ|x|^p)^(1/p), with the gradient 0 at x = 0 that torch gives."""
    if math.isinf(ord):
        return (jnp.max if ord > 0 else jnp.min)(jnp.abs(x), axis=_axes(dim), keepdims=keepdim)
    total = jnp.sum(_power(jnp.abs(x), ord), axis=_axes(dim), keepdims=keepdim)
    return jnp.where(total > 0, _power(jnp.where(total > 0, total, 1.0), 1.0 / ord), 0.0)


def _power(x: Any, exponent: Any) -> Any:
    """x to a power; a whole-number exponent becomes products (exact, and differentiable at x <= 0)."""
    if isinstance(exponent, float) and exponent.is_integer():
        exponent = int(exponent)
    return jnp.sqrt(x) if isinstance(exponent, float) and exponent == 0.5 else jnp.power(x, exponent)


def _divide_rounded(x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode == "floor":
        return jnp.floor_divide(x, y)
    return jnp.true_divide(x, y) if rounding_mode is None else jnp.trunc(jnp.true_divide(x, y))


def _gelu(x: Any, *, approximate: str = "none") -> Any:
    """torch's own formula; on a CPU faster than the erfc of ``jax.nn.gelu`` (finer in the far tail)."""
    if approximate == "tanh":
        return jax.nn.gelu(x, approximate=True)
    return 0.5 * x * (1.0 + lax.erf(x * math.sqrt(0.5)))


def _softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    return jnp.where(x * beta > threshold, x, jnp.logaddexp(x * beta, 0.0) / beta)


def _elu(x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    negative = alpha * jnp.expm1(jnp.minimum(x, 0.0) * input_scale)
    return scale * jnp.where(x > 0, x, negative)


def _bucket(edges: Any, x: Any, right: bool) -> Any:
    """How many of the sorted ``edges`` lie below each x (``right``: at or below), along the last axis."""
    below = jnp.less_equal if right else jnp.less
    return jnp.sum(below(edges[..., None, :], jnp.asarray(x)[..., None]), axis=-1)


def _searchsorted(edges: Any, x: Any, *, right: bool = False, side: str | None = None) -> Any:
    return _bucket(edges, x, right or side == "right")


def _addmm(bias: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    product = jnp.matmul(a, b)
    return (product if alpha == 1 else alpha * product) + (bias if beta == 1 else beta * bias)


def _standardise(x: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any, Any]:
    """(x - mean) / sqrt(variance + eps) over ``axes``, the mean and the reciprocal deviation."""
    mean = jnp.mean(x, axis=axes, keepdims=True)
    centred = x - mean
    scale = lax.rsqrt(jnp.mean(centred * centred, axis=axes, keepdims=True) + eps)
    return centred * scale, mean, scale


def _channels(parameter: Any, ndim: int) -> Any:
    """A per-channel vector shaped to meet axis 1 of an array of ``ndim`` axes."""
    return jnp.reshape(parameter, (1, -1) + (1,) * (ndim - 2))


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    scaled = x if weight is None else x * weight
    return scaled if bias is None else scaled + bias


def _affine_channels(x: Any, weight: Any, bias: Any) -> Any:
    return _affine(x, *(None if p is None else _channels(p, x.ndim) for p in (weight, bias)))


def _layer_norm(x: Any, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    normal, mean, scale = _standardise(x, tuple(range(x.ndim - len(shape), x.ndim)), eps)
    return _affine(normal, weight, bias), mean, scale


def _group_norm(
    x: Any, weight: Any, bias: Any, n: int, channels: int, size: int, groups: int, eps: float
) -> tuple[Any, Any, Any]:
    normal, mean, scale = _standardise(jnp.reshape(x, (n, groups, -1)), (2,), eps)
    return _affine_channels(jnp.reshape(normal, x.shape), weight, bias), mean[..., 0], scale[..., 0]


def _batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> tuple[Any, None, None]:
    scale = _channels(lax.rsqrt(variance + eps), x.ndim)
    return _affine_channels((x - _channels(mean, x.ndim)) * scale, weight, bias), None, None


def _instance_norm(
    x: Any, weight: Any, bias: Any, training: bool, momentum: float, eps: float
) -> tuple[Any, None, None]:
    normal, _, _ = _standardise(x, (0, *range(2, x.ndim)), eps)
    return _affine_channels(normal, weight, bias), None, None


def _convolution(
    x: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Any:
    """Convolution over 1 to 3 axes, (N, C, ...) like torch; transposed = its input dilated by the stride.

    The zeros around x are written out: XLA's fast convolution for CPUs refuses a kernel longer than its
    input, as on a U-Net's coarsest levels, and the other one takes a hundred times as long. Channels are moved
    to the end for it as well: XLA does so by itself in a program's outermost level, but not inside a loop, where
    a host's steps are.
    """
    space = x.ndim - 2
    letters = "DHW"[3 - space :]
    layout = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    ones, pads = (1,) * space, [(0, 0)] * space
    if transposed:
        weight = _transposed_kernel(weight, groups)
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        pads = [(r - p, r - p + o) for r, p, o in zip(reach, padding, output_padding, strict=True)]
    else:
        x = _pad(x, [p for p in reversed(padding) for _ in range(2)])
        if weight.shape[:2] == (groups, 1) and x.shape[1] == groups > 1:
            y = _by_channel(x, weight, stride, dilation)
            return y if bias is None else y + _channels(bias, x.ndim)
    y = lax.conv_general_dilated(
        jnp.moveaxis(x, 1, -1),
        jnp.moveaxis(weight, (0, 1), (-1, -2)),
        window_strides=ones if transposed else tuple(stride),
        padding=pads,
        lhs_dilation=tuple(stride) if transposed else ones,
        rhs_dilation=tuple(dilation),
        dimension_numbers=layout,
        feature_group_count=groups,
    )
    return jnp.moveaxis(y if bias is None else y + bias, -1, 1)


def _by_channel(x: Any, weight: Any, stride: Sequence[int], dilation: Sequence[int]) -> Any:
    """A convolution of each channel by itself, as a sum over the kernel: XLA's takes seventy times as long on CPUs."""
    kernel = weight.shape[2:]
    sizes = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)]
    total = None
    for tap in product(*map(range, kernel)):
        starts = [t * d for t, d in zip(tap, dilation, strict=True)]
        windows = [slice(a, a + s * (n - 1) + 1, s) for a, s, n in zip(starts, stride, sizes, strict=True)]
        part = x[(slice(None), slice(None), *windows)] * _channels(weight[(slice(None), 0, *tap)], x.ndim)
        total = part if total is None else total + part
    return total


def _transposed_kernel(weight: Any, groups: int) -> Any:
    """(in, out/groups, ...) of a transposed convolution to (out, in/groups, ...), mirrored in space."""
    inputs, outputs, *kernel = weight.shape
    grouped = jnp.reshape(weight, (groups, inputs // groups, outputs, *kernel))
    swapped = jnp.reshape(jnp.swapaxes(grouped, 1, 2), (groups * outputs, inputs // groups, *kernel))
    return jnp.flip(swapped, axis=tuple(range(2, swapped.ndim)))


def _slide(
    x: Any, start: float, combine: Any, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Any:
    """``combine`` over windows that slide along the last axes."""
    whole = x.ndim - len(kernel)
    pads = [(0, 0)] * whole + [(p, p) for p in list(padding) * (len(kernel) // len(padding))]
    size, step = (1,) * whole + tuple(kernel), (1,) * whole + tuple(stride or kernel)
    return lax.reduce_window(x, np.asarray(start, x.dtype), combine, size, step, pads)


def _average_pool(
    x: Any,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    if ceil_mode:
        raise NotImplementedError("ceil_mode")
    total = _slide(x, 0.0, lax.add, kernel, stride, padding)
    if divisor_override or count_include_pad or not any(padding):
        return total / (divisor_override or math.prod(kernel))
    return total / _slide(jnp.ones_like(x), 0.0, lax.add, kernel, stride, padding)


def _max_pool(
    x: Any,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[Any, None]:
    if ceil_mode or any(d != 1 for d in dilation):
        raise NotImplementedError("ceil_mode or dilation")
    return _slide(x, -math.inf, lax.max, kernel, stride, padding), None


def _adaptive_average_pool(x: Any, sizes: Sequence[int]) -> Any:
    """Means over nearly equal windows [floor(i n/m), ceil((i+1) n/m)), one averaging matrix per axis."""
    for axis, size in zip(range(x.ndim - len(sizes), x.ndim), sizes, strict=True):
        length = x.shape[axis]
        if size == length:
            continue
        weights = np.zeros((length, size), np.float32)
        for i in range(size):
            window = slice(i * length // size, -(-(i + 1) * length // size))
            weights[window, i] = 1.0 / (window.stop - window.start)
        x = jnp.moveaxis(jnp.tensordot(x, weights, axes=(axis, 0)), -1, axis)
    return x


def _pad(x: Any, pad: Sequence[int], value: float = 0.0) -> Any:
    """torch lists (before, after) from the last axis backwards; a negative width crops."""
    widths = [(pad[2 * i], pad[2 * i + 1], 0) for i in reversed(range(len(pad) // 2))]
    return lax.pad(x, np.asarray(value, x.dtype), [(0, 0, 0)] * (x.ndim - len(widths)) + widths)


def _section(dim: int, index: Any) -> tuple[Any, ...]:
    """The numpy index that takes ``index`` along axis ``dim`` (negative: counted from the end)."""
    return (*(slice(None),) * dim, index) if dim >= 0 else (..., index, *(slice(None),) * (-dim - 1))


def _slice(x: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    return x[_section(dim, slice(start, end, step))]


def _slice_scatter(
    x: Any, src: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    return x.at[_section(dim, slice(start, end, step))].set(src)


def _windows(x: Any, dim: int, size: int, step: int) -> Any:
    """Windows of ``size`` that start every ``step`` along ``dim``, as a new last axis."""
    axis = dim % x.ndim
    starts = np.arange(0, x.shape[axis] - size + 1, step)
    return jnp.moveaxis(x[_section(axis, starts[:, None] + np.arange(size))], axis + 1, -1)


def _split(x: Any, sizes: Sequence[int], dim: int = 0) -> tuple[Any, ...]:
    return tuple(jnp.split(x, np.cumsum(sizes)[:-1].tolist(), axis=dim))


def _squeeze(x: Any, dim: Axes = None) -> Any:
    axes = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    return jnp.squeeze(x, axis=tuple(axis for axis in axes if x.shape[axis] == 1))


def _expand(x: Any, size: Sequence[int], *, implicit: bool = False) -> Any:
    """Broadcast; -1 keeps the axis."""
    old = (1,) * (len(size) - x.ndim) + x.shape
    return jnp.broadcast_to(x, tuple(o if s == -1 else s for o, s in zip(old, size, strict=True)))


def _repeat(x: Any, repeats: Sequence[int]) -> Any:
    return jnp.tile(jnp.reshape(x, (1,) * (len(repeats) - x.ndim) + x.shape), tuple(repeats))


def _nearest(x: Any, output_size: Sequence[int] | None, factors: Sequence[float] | None) -> Any:
    """Nearest upsampling over the last axes: repeats for a whole factor, else a table of sources."""
    space = len(output_size or factors or ())
    for i, axis in enumerate(range(x.ndim - space, x.ndim)):
        old = x.shape[axis]
        new = output_size[i] if output_size else int(old * factors[i])  # type: ignore[index]
        if new % old == 0:
            x = jnp.repeat(x, new // old, axis=axis)
        else:
            ratio = 1.0 / factors[i] if factors else old / new
            x = x[_section(axis, np.minimum((np.arange(new) * ratio).astype(int), old - 1))]
    return x


def _picks(indices: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index for index in indices)


def _index_put(x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Any:
    """``x[indices] = values``; a mask that depends on the input can only take one value."""
    mask = indices[0]
    if isinstance(mask, jax.Array) and mask.dtype == bool and len(indices) == 1 and np.size(values) == 1:
        fill = jnp.reshape(values, ())
        inside = jnp.reshape(mask, mask.shape + (1,) * (x.ndim - mask.ndim))
        return jnp.where(inside, x + fill if accumulate else fill, x)
    place = x.at[_picks(indices)]
    return place.add(values) if accumulate else place.set(values)


def _along(index: Any, dim: int) -> tuple[Any, ...]:
    """The numpy index that equals torch's gather and scatter with ``index`` along ``dim``."""
    grids: list[Any] = list(np.indices(index.shape, sparse=True))
    grids[dim] = index
    return tuple(grids)


def _corner(index: Any) -> tuple[slice, ...]:
    """The part of a scatter's source that ``index`` covers."""
    return tuple(slice(n) for n in index.shape)


def _sort(x: Any, dim: int = -1, descending: bool = False, *, stable: bool | None = True) -> tuple[Any, Any]:
    order = jnp.argsort(x, axis=dim, descending=descending)
    return jnp.take_along_axis(x, order, axis=dim), order


def _top(x: Any, k: int, dim: int = -1, largest: bool = True, ordered: bool = True) -> tuple[Any, ...]:
    return tuple(_slice(part, dim, 0, k) for part in _sort(x, dim, largest))


#: ATen op, "name" or "name.overload" (the latter wins), to a function of JAX arrays. An op that is here is
#: translated whole; any other is first decomposed by torch. Result dtypes are cast to what torch gave.
ATEN: dict[str, Callable[..., Any]] = {
    # element-wise, one argument
    "abs": jnp.abs,
    "acos": jnp.arccos,
    "acosh": jnp.arccosh,
    "asin": jnp.arcsin,
    "asinh": jnp.arcsinh,
    "atan": jnp.arctan,
    "atanh": jnp.arctanh,
    "bitwise_not": jnp.bitwise_not,
    "ceil": jnp.ceil,
    "cos": jnp.cos,
    "cosh": jnp.cosh,
    "digamma": jax.scipy.special.digamma,
    "erf": lax.erf,
    "erfc": lax.erfc,
    "erfinv": lax.erf_inv,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "floor": jnp.floor,
    "isinf": jnp.isinf,
    "isnan": jnp.isnan,
    "lgamma": lax.lgamma,
    "log": jnp.log,
    "log10": jnp.log10,
    "log1p": jnp.log1p,
    "log2": jnp.log2,
    "logical_not": jnp.logical_not,
    "neg": jnp.negative,
    "reciprocal": jnp.reciprocal,
    "round.decimals": lambda x, *, decimals=0: jnp.round(x, decimals),
    "round.default": jnp.round,
    "rsqrt": lambda x: lax.rsqrt(x),
    "sign": jnp.sign,
    "sin": jnp.sin,
    "sinh": jnp.sinh,
    "sqrt": jnp.sqrt,
    "tan": jnp.tan,
    "tanh": jnp.tanh,
    "trunc": jnp.trunc,
    # activations
    "elu": _elu,
    "gelu": _gelu,
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0: jnp.clip(x, min_val, max_val),
    "leaky_relu": lambda x, negative_slope=0.01: jnp.where(x > 0, x, x * negative_slope),
    "mish": lambda x: x * jnp.tanh(jnp.logaddexp(x, 0.0)),
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": _softplus,
    "_softmax": lambda x, dim, half_to_float: jax.nn.softmax(x, axis=dim),
    "_log_softmax": lambda x, dim, half_to_float: jax.nn.log_softmax(x, axis=dim),
    # element-wise, more arguments
    "add": lambda x, y, *, alpha=1: x + (y if alpha == 1 else alpha * y),
    "atan2": jnp.arctan2,
    "bitwise_and": jnp.bitwise_and,
    "bitwise_or": jnp.bitwise_or,
    "bitwise_xor": jnp.bitwise_xor,
    "bucketize.Tensor": lambda x, edges, *, right=False: _bucket(edges, x, right),
    "clamp": lambda x, min=None, max=None: jnp.clip(x, min, max),
    "copysign": jnp.copysign,
    "div": jnp.true_divide,
    "div.Tensor_mode": _divide_rounded,
    "eq": jnp.equal,
    "fmax": jnp.fmax,
    "fmin": jnp.fmin,
    "fmod": jnp.fmod,
    "ge": jnp.greater_equal,
    "gt": jnp.greater,
    "hypot": jnp.hypot,
    "le": jnp.less_equal,
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
    "logical_xor": jnp.logical_xor,
    "lt": jnp.less,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "mul": jnp.multiply,
    "ne": jnp.not_equal,
    "pow": _power,
    "remainder": jnp.remainder,
    "searchsorted.Tensor": _searchsorted,
    "sub": lambda x, y, *, alpha=1: x - (y if alpha == 1 else alpha * y),
    "where": jnp.where,
    # reductions and scans
    "all": _reduction(jnp.all),
    "amax": _reduction(jnp.max),
    "amin": _reduction(jnp.min),
    "any": _reduction(jnp.any),
    "argmax": _reduction(jnp.argmax),
    "argmin": _reduction(jnp.argmin),
    "cummax": lambda x, dim: (lax.cummax(x, axis=dim % x.ndim), None),
    "cummin": lambda x, dim: (lax.cummin(x, axis=dim % x.ndim), None),
    "cumprod": lambda x, dim: jnp.cumprod(x, axis=dim),
    "cumsum": lambda x, dim: jnp.cumsum(x, axis=dim),
    "linalg_vector_norm": _vector_norm,
    "logcumsumexp": lambda x, dim: lax.cumlogsumexp(x, axis=dim % x.ndim),
    "max.default": jnp.max,
    "max.dim": _with_index(jnp.max, jnp.argmax),
    "mean": _reduction(jnp.mean),
    "min.default": jnp.min,
    "min.dim": _with_index(jnp.min, jnp.argmin),
    "prod": _reduction(jnp.prod),
    "sort": _sort,
    "sum": _reduction(jnp.sum),
    "topk": _top,
    "var.correction": _variance,
    "var_mean.correction": _variance_and_mean,
    # matrices, convolutions, pooling, normalisation
    "addmm": _addmm,
    "addmv": _addmm,
    "baddbmm": _addmm,
    "bmm": jnp.matmul,
    "mm": jnp.matmul,
    "_adaptive_avg_pool2d": _adaptive_average_pool,
    "avg_pool2d": _average_pool,
    "convolution": _convolution,
    "max_pool2d_with_indices": _max_pool,
    "native_group_norm": _group_norm,
    "native_layer_norm": _layer_norm,
    "_native_batch_norm_legit.no_stats": _instance_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "upsample_nearest1d.vec": _nearest,
    "upsample_nearest2d.vec": _nearest,
    # shape, order, selection
    "alias": lambda x: x,
    "cat": lambda tensors, dim=0: jnp.concatenate(tensors, axis=dim),
    "clone": lambda x: x,
    "constant_pad_nd": _pad,
    "copy": lambda x, src: jnp.broadcast_to(src, x.shape),
    "diagonal": lambda x, offset=0, dim1=0, dim2=1: jnp.diagonal(x, offset, dim1, dim2),
    "embedding": lambda weight, indices, *_: weight[indices],
    "expand": _expand,
    "flip": lambda x, dims: jnp.flip(x, axis=tuple(dims)),
    "full_like": lambda x, value: jnp.full_like(x, value),
    "gather": lambda x, dim, index, *, sparse_grad=False: x[_along(index, dim)],
    "index.Tensor": lambda x, indices: x[_picks(indices)],
    "index_put": _index_put,
    "index_select": lambda x, dim, index: x[_section(dim, jnp.atleast_1d(index))],
    "permute": lambda x, dims: jnp.transpose(x, tuple(dims)),
    "repeat": _repeat,
    "scatter.src": lambda x, dim, index, src: x.at[_along(index, dim)].set(src[_corner(index)]),
    "scatter.value": lambda x, dim, index, value: x.at[_along(index, dim)].set(value),
    "scatter_add": lambda x, dim, index, src: x.at[_along(index, dim)].add(src[_corner(index)]),
    "select.int": lambda x, dim, index: x[_section(dim, index)],
    "select_scatter": lambda x, src, dim, index: x.at[_section(dim, index)].set(src),
    "slice.Tensor": _slice,
    "slice_scatter": _slice_scatter,
    "split_with_sizes": _split,
    "squeeze": _squeeze,
    "_to_copy": lambda x: x,
    "unfold": _windows,
    "unsqueeze": lambda x, dim: jnp.expand_dims(x, dim),
    "view": lambda x, size: jnp.reshape(x, tuple(size)),
}
