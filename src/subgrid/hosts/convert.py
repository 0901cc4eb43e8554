"""Turn a torch module into a pure JAX function: export it as a graph of ATen ops and translate each one.

Whatever depends on no input (weights, transposed weights, index tables, masks) is evaluated once, by torch
itself, and enters the JAX function as a constant; so a weight arrives in the layout its matmul wants.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import fx, nn
from torch.export import ExportedProgram, default_decompositions
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils._pytree import tree_leaves

from subgrid.base.errors import SubgridError
from subgrid.hosts.aten import ATEN

#: Arguments that say where and how torch stores a result. JAX decides that itself; dtypes follow the graph.
STORAGE = frozenset({"device", "dtype", "layout", "memory_format", "non_blocking", "out_int32", "pin_memory"})

#: What a graph takes besides the module's own arguments.
STATE = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)

#: The least spread of a channel, as a share of its mean, in which two float32 sums can agree to 1e-5.
LEAST_SPREAD = 0.1


class UnsupportedOperation(SubgridError):  # noqa: N818
    """A module that cannot become a JAX function; the message names every operation in the way."""


def to_jax(module: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> Callable[..., tuple[jax.Array, ...]]:
    """Convert ``module`` (in evaluation mode, with its present weights) to a jitted pure JAX function.

    Args:
        module: any module that ``torch.export`` can trace, thus without Python control flow on values and
            without random numbers. It is left as it was, its training flags included.
        example_inputs: one tensor per positional argument of ``forward`` (None where it takes None). Their
            shapes and dtypes are those of the function; their values do not matter.

    Returns:
        ``function(*arrays)``: the tensors in the module's output, flattened in order (tuples, lists and dicts
        opened, None left out). It can be jitted, differentiated, mapped and scanned over. Weights are float32
        constants of it; float64 and int64 become 32 bits wide unless ``jax_enable_x64`` is set. Products are
        computed in full float32 on accelerators as well.

    Raises:
        UnsupportedOperation: the module cannot be traced, changes its own buffers, or uses operations without
            a translation (all are named). Raised here, never by the function that is returned.

    Whether the result is as good as the module is for :func:`agreement` to say.
    """
    exported = _export(module, example_inputs)
    nodes = _needed(exported.graph)
    constants = _fold(nodes, _state(exported))
    steps = [node for node in nodes if node.op == "call_function" and node not in constants]
    _refuse(steps, exported)
    inputs = _inputs(exported)
    results = [leaf for leaf in exported.graph.output_node().args[0] if isinstance(leaf, fx.Node)]
    read = {source for step in steps for source in step.all_input_nodes} | set(results)
    held = {node: _held(constants[node]) for node in read if node in constants}

    @jax.jit
    def function(*arrays: Any) -> tuple[jax.Array, ...]:
        values = held | _received(inputs, arrays)
        with jax.default_matmul_precision("highest"):
            for step in steps:
                values[step] = _run(step, values)
        return tuple(jnp.asarray(_whole(values[node], node)) for node in results)

    jax.eval_shape(function, *(None if x is None else _abstract(x) for x in example_inputs))
    return function


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, without gradients; every training flag is put back afterwards."""
    flags = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        for part, training in flags:
            part.training = training


def _export(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> ExportedProgram:
    """The module as a graph of functional ATen ops; those in ``ATEN`` are kept whole."""
    table = default_decompositions()
    for op in list(table.keys()):
        if _translation(op) is not None:
            table.pop(op)
    with _evaluating(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(module, inputs).run_decompositions(table)
        except Exception as error:  # torch raises a dozen unrelated kinds
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise UnsupportedOperation(f"torch cannot export {type(module).__name__}: {reason}") from error


def _translation(op: Any) -> Callable[..., Any] | None:
    if op is operator.getitem:
        return operator.getitem
    space, _, name = str(op).partition(".")
    return (ATEN.get(name) or ATEN.get(name.partition(".")[0])) if space == "aten" else None


def _needed(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that the output depends on, in order; torch's assertions about metadata drop out."""
    needed = {graph.output_node()}
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    return [node for node in graph.nodes if node in needed]


def _state(exported: ExportedProgram) -> dict[str, torch.Tensor]:
    """Parameters, buffers and literal tensors by the name of their placeholder."""
    tensors = {**exported.constants, **exported.state_dict}
    specs = exported.graph_signature.input_specs
    return {spec.arg.name: tensors[spec.target] for spec in specs if spec.kind in STATE}


def _inputs(exported: ExportedProgram) -> list[fx.Node]:
    specs = exported.graph_signature.input_specs
    given = {spec.arg.name for spec in specs if spec.kind is InputKind.USER_INPUT}
    return [node for node in exported.graph.nodes if node.op == "placeholder" and node.name in given]


def _fold(nodes: Iterable[fx.Node], state: dict[str, torch.Tensor]) -> dict[fx.Node, Any]:
    """Every value that depends on no input, computed by torch; random numbers are never folded."""
    known: dict[fx.Node, Any] = {}
    with torch.inference_mode(False), torch.no_grad():
        for node in nodes:
            if node.op == "placeholder" and node.name in state:
                known[node] = state[node.name].detach()
            elif _foldable(node) and all(source in known for source in node.all_input_nodes):
                args, kwargs = fx.map_arg((node.args, node.kwargs), known.__getitem__)
                known[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    return known


def _foldable(node: fx.Node) -> bool:
    if node.op != "call_function":
        return False
    tags = getattr(node.target, "tags", ())
    known = node.target is operator.getitem or isinstance(node.target, torch._ops.OpOverload)
    return known and torch.Tag.nondeterministic_seeded not in tags


def _refuse(steps: Iterable[fx.Node], exported: ExportedProgram) -> None:
    """Raise for everything that has no translation, at once."""
    missing = {str(step.target) for step in steps if _translation(step.target) is None}
    missing |= {f"{step.target} of a shape that depends on values" for step in steps if _is_dynamic(step)}
    written = (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION, OutputKind.PARAMETER_MUTATION)
    specs = exported.graph_signature.output_specs
    missing |= {f"writing to '{spec.target}' in place" for spec in specs if spec.kind in written}
    if missing:
        raise UnsupportedOperation(
            f"no JAX translation for: {', '.join(sorted(missing))}; couple this module through the torch "
            "callback instead, or add the operation to subgrid.hosts.convert.ATEN"
        )


def _is_dynamic(node: fx.Node) -> bool:
    return any(not isinstance(size, int) for size in getattr(node.meta["val"], "shape", ()))


def _dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """The JAX dtype of a torch one: 64 bits become 32 where x64 is off."""
    return jax.dtypes.canonicalize_dtype(str(dtype).removeprefix("torch."))


def _abstract(tensor: torch.Tensor) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(tensor.shape), _dtype(tensor.dtype))


def _array(tensor: torch.Tensor) -> jax.Array:
    wide = tensor.float() if tensor.dtype is torch.bfloat16 else tensor  # numpy has no bfloat16
    return jnp.array(wide.detach().cpu().contiguous().numpy(), _dtype(tensor.dtype))  # a copy


def _held(tensor: torch.Tensor) -> jax.Array:
    """A constant as JAX holds it: contiguous in the layout of its use, one row if all rows are equal.

    Torch repeats a weight along the batch to feed ``bmm``, and writes out initial states and fill values.
    """
    if tensor.ndim and tensor.shape[0] > 1 and bool((tensor == tensor[:1]).all()):
        tensor = tensor[:1]
    return _array(tensor)


def _received(inputs: list[fx.Node], arrays: tuple[Any, ...]) -> dict[fx.Node, Any]:
    """The arguments by placeholder, in the dtype and shape of the example inputs."""
    if len(arrays) != len(inputs):
        raise SubgridError(f"the converted function takes {len(inputs)} arrays, not {len(arrays)}")
    return {node: _conform(array, node) for node, array in zip(inputs, arrays, strict=True)}


def _conform(value: Any, node: fx.Node) -> Any:
    """``value`` in the dtype that torch recorded for ``node``; refused if the shape is another."""
    expected = node.meta.get("val")
    if not isinstance(expected, torch.Tensor):
        return value
    array = jnp.asarray(value, _dtype(expected.dtype))
    if array.shape != tuple(expected.shape):
        raise SubgridError(f"'{node.name}' has shape {array.shape}; converted for {tuple(expected.shape)}")
    return array


def _whole(value: Any, node: fx.Node) -> Any:
    """A constant that is kept as one row, at its full extent along axis 0."""
    return jnp.broadcast_to(value, node.meta["val"].shape) if isinstance(value, jax.Array) else value


def _run(step: fx.Node, values: dict[fx.Node, Any]) -> Any:
    """One op. ``bmm`` takes a weight that the batch shares as it is, as one large product."""
    shared = step.target is torch.ops.aten.bmm.default
    operands = fx.map_arg(
        (step.args, {key: value for key, value in step.kwargs.items() if key not in STORAGE}),
        lambda node: values[node] if shared else _whole(values[node], node),
    )
    translate = _translation(step.target)
    assert translate is not None  # _refuse has seen to it
    try:
        return _conform(translate(*operands[0], **operands[1]), step)
    except Exception as error:  # whatever JAX makes of arguments that the translation does not cover
        op = step.all_input_nodes[0].target if step.target is operator.getitem else step.target
        raise UnsupportedOperation(f"{op} as used in this module: {error}") from error


def agreement(
    module: nn.Module,
    function: Callable[..., Sequence[Any]],
    inputs: tuple[torch.Tensor, ...],
    outputs: int | None = None,
) -> float:
    """How far ``function`` departs from ``module`` on ``inputs``, in standard deviations of the outputs.

    The largest absolute difference of a channel (last axis) divided by that channel's standard deviation over the
    other axes, taken over all channels and outputs; an output with one axis is one channel. A tenth of the
    channel's absolute mean is the least that it is divided by, as float32 sums resolve no smaller spread to 1e-5; so
    a difference from a channel that is exactly zero is infinite. Values that are not finite agree only with
    themselves.

    Rounding alone departs by 3e-6 to 1e-5, the more the wider the network (so does torch from float64).

    Args:
        module: the torch module, compared in evaluation mode.
        function: what :func:`to_jax` returned for it.
        inputs: tensors of the converted shapes, as realistic as possible.
        outputs: how many outputs count, from the first (None: all). Leave out counters: what differs between
            nearly equal numbers, or counts values beyond a bound, agrees less well than what they count.

    Returns:
        The departure, 0 or more; infinity if number or shapes of the outputs differ.
    """
    with _evaluating(module), torch.inference_mode():
        expected = [leaf for leaf in tree_leaves(module(*inputs)) if isinstance(leaf, torch.Tensor)]
    found = function(*(None if x is None else _array(x) for x in inputs))
    if len(found) != len(expected):
        return math.inf
    pairs = zip(expected[:outputs], found[:outputs], strict=True)
    departures = [_departure(e.detach().double().cpu().numpy(), np.asarray(f, np.float64)) for e, f in pairs]
    return max(departures, default=0.0)


def _departure(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest |found - expected| / std of one output, channel by channel."""
    if expected.shape != found.shape:
        return math.inf
    if expected.size == 0:
        return 0.0
    rows = expected.reshape(-1, expected.shape[-1] if expected.ndim > 1 else 1)
    other = found.reshape(rows.shape)
    equal = (rows == other) | (np.isnan(rows) & np.isnan(other))
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(equal, 0.0, np.abs(rows - other)).max(axis=0)
        finite = np.isfinite(rows)
        mean, deviation = rows.mean(axis=0, where=finite), rows.std(axis=0, where=finite)
        scale = np.maximum(deviation, LEAST_SPREAD * np.abs(mean))
        ratio = np.where(error == 0, 0.0, error / scale)
    return float(np.where(np.isnan(ratio), np.inf, ratio).max())
