"""The array type that physics functions take, numpy or torch, and how its namespace is found."""

from __future__ import annotations

from typing import Any, TypeAlias

import array_api_compat

Array: TypeAlias = Any
"""A numpy array or a torch tensor of floats; one function call never mixes the two."""


def namespace(*arrays: Array) -> Any:
    """The array-API namespace shared by ``arrays`` (Python numbers among them are skipped).

    Args:
        arrays: numpy arrays or torch tensors, any shape; at least one must be an array.

    Returns:
        The module of array functions (``xp``) to compute with.

    Raises:
        TypeError: no argument is an array, or numpy and torch are mixed.

    Source: Python array API standard, `__array_namespace__`, through array_api_compat.

    Inside traced code use ``xp.clip`` with Python bounds rather than ``xp.maximum`` with a Python number:
    the latter asks torch for a result dtype, which strict ``torch.export`` cannot follow.
    """
    return array_api_compat.array_namespace(*arrays)


def constant_like(values: tuple[float, ...], like: Array) -> Array:
    """``values`` as an array of the kind, dtype and device of ``like``.

    Args:
        values: numbers, shape (k,).
        like: array whose namespace, dtype and device are taken.

    Returns:
        Array of shape (k,).

    Raises:
        TypeError: ``like`` is not an array.

    Under ``torch.jit.trace`` the result becomes a constant bound to the device of the trace; a module that
    must move between devices keeps such numbers in buffers instead.
    """
    xp = namespace(like)
    return xp.asarray(values, dtype=like.dtype, device=array_api_compat.device(like))
