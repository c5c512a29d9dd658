"""Loads saved state into the objects of a training; errors name the entry that does not fit.

A checkpoint of another version may have another structure. Only that raises ``MisfitError``. Every other exception
during loading is a bug and is not caught.
"""

import copy
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lpaint.errors import MisfitError

__all__ = ["MisfitError", "copy_into", "entry", "load_dataclass", "load_part"]
T = TypeVar("T")


def entry(state: Any, name: str) -> Any:
    """``state[name]``.

    Raises:
        MisfitError: ``state`` is no mapping or has no entry ``name``.
    """
    if not isinstance(state, Mapping) or name not in state:
        raise MisfitError(f"it has no {name}")
    return state[name]


def load_part(part: Any, state: Any, name: str) -> None:
    """Load ``state[name]`` into ``part``: a network, an optimizer, or another object with ``load_state_dict``.

    Tensors are copied, so ``part`` does not keep the file of ``state`` open.

    Raises:
        MisfitError: the entry is missing or has another structure.
    """
    saved = entry(state, name)
    try:
        if isinstance(part, nn.Module):
            _load_network(part, saved)
        elif isinstance(part, torch.optim.Optimizer):
            _load_optimiser(part, saved)
        else:
            part.load_state_dict(saved)
    except MisfitError as misfit:
        raise MisfitError(f"{name}: {misfit}") from None


def load_dataclass(kind: type[T], state: Any, name: str) -> T:
    """An instance of the dataclass ``kind`` from ``state[name]``, a mapping. Missing fields take their defaults.

    Raises:
        MisfitError: the entry is missing or has a field that ``kind`` lacks.
    """
    saved = entry(state, name)
    if not isinstance(saved, Mapping):
        raise MisfitError(f"{name} is no mapping")
    unknown = saved.keys() - {field.name for field in fields(kind)}  # type: ignore[arg-type]  # T is a dataclass
    if unknown:
        raise MisfitError(f"{name} has {min(unknown)}, which is not known here")
    return kind(**saved)


def copy_into(target: Tensor, state: Any, name: str) -> None:
    """Copy the tensor ``state[name]`` into ``target``, in place.

    Raises:
        MisfitError: the entry is missing or has another shape.
    """
    saved = entry(state, name)
    if not isinstance(saved, Tensor) or saved.shape != target.shape:
        found = tuple(saved.shape) if isinstance(saved, Tensor) else type(saved).__name__
        raise MisfitError(f"{name} is {found} there and {tuple(target.shape)} here")
    target.copy_(saved)


def _load_network(network: nn.Module, state: Any) -> None:
    current = network.state_dict()
    if not isinstance(state, Mapping):
        raise MisfitError("is no network's state")
    for key in [*current, *state]:
        here, there = (tuple(each[key].shape) if key in each else "missing" for each in (current, state))
        if here != there:
            raise MisfitError(f"{key} is {there} there and {here} here")
    network.load_state_dict(dict(state))


def _load_optimiser(optimiser: torch.optim.Optimizer, state: Any) -> None:
    groups, moments = entry(state, "param_groups"), entry(state, "state")
    current = optimiser.param_groups
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in current]:
        raise MisfitError("it is of other parameters")
    parameters = [parameter for group in current for parameter in group["params"]]
    for index, values in moments.items():
        for key, value in values.items():
            # Scalars, such as the number of steps, have the same shape for all parameters.
            if isinstance(value, Tensor) and value.dim() and value.shape != parameters[index].shape:
                raise MisfitError(f"{key} of parameter {index} is {tuple(value.shape)}")
    # Without a copy the optimizer would keep the tensors, and with them the mapped file.
    optimiser.load_state_dict(copy.deepcopy(dict(state)))
