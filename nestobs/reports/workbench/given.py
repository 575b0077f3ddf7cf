"""What a notebook's first cell gives to the function that loads its store: each of the kind that is wanted, or a
sentence. None, where there is a default, is the default."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import Parameter, signature
from numbers import Integral, Real
from os import PathLike
from typing import Final, ParamSpec, TypeVar

from nestobs.errors import UsageError
from nestobs.observation.text import shortened

P = ParamSpec("P")
T = TypeVar("T")

_KINDS: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "str": ((str, PathLike), 'text: write it in quotes, "" for none'),
    "str | Sequence[str]": ((str, Sequence), 'text: write it in quotes, "" for none'),
    "int": ((Integral,), "a whole number"),
    "float": ((Real,), "a number"),
}
"""By how it is annotated."""


def given(load: Callable[P, T]) -> Callable[P, T]:
    """`load`, which raises UsageError for an argument that is not what its annotation says; others are not judged."""

    @wraps(load)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        taken = signature(load)
        bound = taken.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            parameter = taken.parameters[name]
            if value is None and parameter.default is not Parameter.empty:
                bound.arguments[name] = parameter.default
            elif (kind := _KINDS.get(parameter.annotation)) and (
                not isinstance(value, kind[0]) or isinstance(value, bool)
            ):
                raise UsageError(f"{name} = {shortened(repr(value), 80)} is not {kind[1]}")
        return load(*bound.args, **bound.kwargs)

    return checked
