"""Which network to train and how, from the command line: each option for those that read it."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from ranking_models import architectures
from ranking_models.architectures import Architecture

# What `podium train` and `podium distil` take alike.
EmbeddingDimOption = Annotated[
    int | None,
    typer.Option(help="Width of a feature's vector. Default: 16.", min=1, max=1024),
]
HiddenOption = Annotated[
    str | None,
    typer.Option(help="Widths of the MLP's layers, or none. Default: 128,64.", metavar="WIDTHS"),
]
CrossLayersOption = Annotated[
    int | None,
    typer.Option(help="Depth of the cross network of dcn-v2. Default: 2.", min=1, max=16),
]
CrossRankOption = Annotated[
    int | None,
    typer.Option(help="Rank of its matrices; 0, the default, is full.", min=0, max=65536),
]
CrossExpertsOption = Annotated[
    int | None,
    typer.Option(
        help="Low-rank experts that a gate mixes per cross layer. Default: 1.", min=1, max=64
    ),
]
BottomOption = Annotated[
    str | None,
    typer.Option(
        help="Widths of the layers under dlrm's numbers, or none. Default: 64.",
        metavar="WIDTHS",
    ),
]
OutputDimOption = Annotated[
    int | None,
    typer.Option(help="Width of two-tower's vectors. Default: 32.", min=1, max=65536),
]
LearningRateOption = Annotated[float, typer.Option(help="Of AdamW.", min=1e-9, max=1)]
BatchSizeOption = Annotated[int, typer.Option(help="Rows per step.", min=1)]
EpochsOption = Annotated[int, typer.Option(help="At most so many.", min=1)]
PatienceOption = Annotated[
    int, typer.Option(help="Stop after so many epochs without a gain.", min=1)
]
SeedOption = Annotated[
    int, typer.Option(help="The same seed gives the same run.", min=0, max=2**63 - 1)
]


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
