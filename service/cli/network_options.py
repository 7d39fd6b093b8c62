"""Which network to train, from the command line: each option for those that read it."""

import re
from collections.abc import Mapping
from enum import StrEnum

import msgspec
import typer

from ranking_models import architectures
from ranking_models.architectures import Architecture


class Network(StrEnum):
    """Architectures that can be trained."""

    LOGISTIC_REGRESSION = "logistic-regression"
    WIDE_AND_DEEP = "wide-and-deep"
    DEEPFM = "deepfm"
    DCN_V2 = "dcn-v2"
    DLRM = "dlrm"
    TWO_TOWER = "two-tower"


_SIZES: dict[Network, type[msgspec.Struct]] = {
    Network.LOGISTIC_REGRESSION: architectures.LogisticRegression,
    Network.WIDE_AND_DEEP: architectures.WideAndDeep,
    Network.DEEPFM: architectures.DeepFM,
    Network.DCN_V2: architectures.DCNv2,
    Network.DLRM: architectures.DLRM,
    Network.TWO_TOWER: architectures.TwoTower,
}

DEFAULTS: dict[str, object] = {
    "embedding_dim": 16,
    "hidden": (128, 64),
    "dropout": 0.4,
    "cross_layers": 2,
    "cross_rank": 0,
    "cross_experts": 1,
    "bottom": (64,),
    "output_dim": 32,
}
"""The same for every architecture that reads the option."""


def architecture_of(network: Network, given: Mapping[str, object]) -> Architecture:
    """The architecture with the options given, and defaults for the others.

    Args:
        network: Which.
        given: By field name of `ranking_models.architectures`; None was not given.

    Raises:
        typer.BadParameter: an option that this architecture does not read, or
            options that do not go together.
    """
    check_read(network.value, given)
    fields = msgspec.structs.fields(_SIZES[network])
    sizes = {f.name: DEFAULTS[f.name] for f in fields} | _given(given)
    try:
        # Converted rather than constructed, which would check no limits.
        made: Architecture = msgspec.convert({"name": network.value, **sizes}, Architecture)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(str(error)) from None
    return made


def check_read(name: str, given: Mapping[str, object]) -> None:
    """Refuse an option that an architecture does not read.

    Raises:
        typer.BadParameter: names the option and who reads it.
    """
    read_by = {
        network.value: {field.name for field in msgspec.structs.fields(sizes)}
        for network, sizes in _SIZES.items()
    }
    for option in _given(given):
        if option not in read_by[name]:
            readers = [other for other, fields in read_by.items() if option in fields]
            flag = f"--{option.replace('_', '-')}"
            raise typer.BadParameter(f"{flag} is for {', '.join(readers)}; {name} does not read it")


def check_agrees(
    architecture: Architecture, network: Network | None, given: Mapping[str, object]
) -> None:
    """Refuse options that would make another network than the bundle's that is trained further.

    Raises:
        typer.BadParameter: names the option, and what the bundle has.
    """
    if network is not None and network.value != architecture.name:
        raise typer.BadParameter(
            f"--architecture is {network.value} and the bundle's is {architecture.name}; "
            "training goes on with the same one, so leave the option out"
        )
    check_read(architecture.name, given)
    for option, value in _given(given).items():
        if value != (has := getattr(architecture, option)):
            flag = f"--{option.replace('_', '-')}"
            raise typer.BadParameter(
                f"{flag}: the bundle has {has}; training goes on with the same network, "
                "so leave the option out"
            )


def widths(text: str | None, option: str) -> tuple[int, ...] | None:
    """Layer widths such as 128,64; none of them where the text is ``none``.

    Raises:
        typer.BadParameter: not such a list.
    """
    if text is None:
        return None
    if text == "none":
        return ()
    if not re.fullmatch(r"[1-9]\d{0,4}(,[1-9]\d{0,4})*", text):
        raise typer.BadParameter(
            f"{text!r} is not a list of widths such as 128,64, or none", param_hint=option
        )
    return tuple(int(width) for width in text.split(","))


def _given(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}
