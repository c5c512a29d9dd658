"""Load saved state into the objects of a training, and say precisely what does not fit.

A checkpoint may come from other code, which kept other things. Only that is a ``MisfitError``; every other exception
while a state is loaded is a bug and stays visible as one.
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
        MisfitError: ``state`` is no mapping or has no such entry.
    """
    if not isinstance(state, Mapping) or name not in state:
        raise MisfitError(f"it has no {name}")
    return state[name]


def load_part(part: Any, state: Any, name: str) -> None:
    """Load ``state[name]`` into ``part``: a network, an optimiser, or an object with a ``load_state_dict`` of its own.

    Tensors are copied, so ``part`` keeps nothing of ``state`` alive.

    Raises:
        MisfitError: the entry is missing or was saved from a part of another structure.
    """
    own = entry(state, name)
    try:
        if isinstance(part, nn.Module):
            _load_network(part, own)
        elif isinstance(part, torch.optim.Optimizer):
            _load_optimiser(part, own)
        else:
            part.load_state_dict(own)
    except MisfitError as misfit:
        raise MisfitError(f"{name}: {misfit}") from None


def load_dataclass(kind: type[T], state: Any, name: str) -> T:
    """A dataclass ``kind`` from ``state[name]``, a mapping of its fields. Fields that are not saved take their default.

    Raises:
        MisfitError: the entry is missing or has a field that ``kind`` lacks.
    """
    own = entry(state, name)
    if not isinstance(own, Mapping):
        raise MisfitError(f"{name} is no mapping")
    unknown = own.keys() - {field.name for field in fields(kind)}  # type: ignore[arg-type]  # T is a dataclass
    if unknown:
        raise MisfitError(f"{name} has {min(unknown)}, which is not known here")
    return kind(**own)


def copy_into(target: Tensor, state: Any, name: str) -> None:
    """Copy the tensor ``state[name]`` into ``target`` of the same shape.

    Raises:
        MisfitError: the entry is missing or has another shape.
    """
    own = entry(state, name)
    if not isinstance(own, Tensor) or own.shape != target.shape:
        found = tuple(own.shape) if isinstance(own, Tensor) else type(own).__name__
        raise MisfitError(f"{name} is {found} there and {tuple(target.shape)} here")
    target.copy_(own)


def _load_network(network: nn.Module, state: Any) -> None:
    own = network.state_dict()
    if not isinstance(state, Mapping):
        raise MisfitError("is no network's state")
    for key in [*own, *state]:
        here, there = (tuple(each[key].shape) if key in each else "missing" for each in (own, state))
        if here != there:
            raise MisfitError(f"{key} is {there} there and {here} here")
    network.load_state_dict(dict(state))


def _load_optimiser(optimiser: torch.optim.Optimizer, state: Any) -> None:
    groups, moments = entry(state, "param_groups"), entry(state, "state")
    own = optimiser.param_groups
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in own]:
        raise MisfitError("it is of other parameters")
    parameters = [parameter for group in own for parameter in group["params"]]
    for index, values in moments.items():
        for key, value in values.items():
            # Scalars, such as the number of steps, have the same shape for every parameter.
            if isinstance(value, Tensor) and value.dim() and value.shape != parameters[index].shape:
                raise MisfitError(f"{key} of parameter {index} is {tuple(value.shape)}")
    # The optimiser would keep the very tensors, and with them the file that they are mapped from.
    optimiser.load_state_dict(copy.deepcopy(dict(state)))
