"""How handlers mark what the composition root hands them."""

from typing import TypeAlias, TypeVar

from litestar.di import NamedDependency
from litestar.params import SkipValidation

T = TypeVar("T")

Given: TypeAlias = NamedDependency[SkipValidation[T]]
"""A dependency by the parameter's name. Not checked at run time: the types are
protocols as well as classes, and mypy has checked what `app.py` hands in."""
