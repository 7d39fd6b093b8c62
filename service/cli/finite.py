"""Numbers of options are finite: `nan` passes every lower and upper bound."""

import math
from typing import Any

import typer


def finite(context: Any, parameter: Any, value: Any) -> Any:
    """An option's value, as a callback of the option.

    Raises:
        BadParameter: it is infinite, or no number.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number", ctx=context, param=parameter)
    return value
