"""Why a network cannot be exported: which module, which operator, and which rewrite helps."""

import re
import traceback
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import nn

from ranking_models.errors import InputError
from ranking_models.export.graph_rules import WRAPPERS


class _Advice(NamedTuple):
    """What is wrong with an operator, and what to write instead."""

    reason: str
    rewrite: str


_SIZE = "its result's size depends on the values, so no engine can plan its memory"

_OPERATORS: tuple[tuple[str, _Advice], ...] = (
    (r"_?unique", _Advice(_SIZE, "look every row up, repeated or not")),
    (
        r"nonzero|masked_select",
        _Advice(_SIZE, "multiply by the 0/1 mask, or use torch.where(mask, a, b)"),
    ),
    (r"bincount|histc", _Advice(_SIZE, "count with a comparison and a sum over it")),
    (
        r"_?embedding_bag",
        _Advice(
            "it becomes a loop over rows, which no engine runs fast",
            "use nn.Embedding and a sum or mean over the list's axis, as FieldEmbedding does",
        ),
    ),
    (
        r".*sparse",
        _Advice("no engine has sparse tensors", "use nn.Embedding for one-hot inputs, or to_dense"),
    ),
    (
        r"_?linalg|svd|inverse|cholesky",
        _Advice("ONNX has no solvers", "compute it once after training and keep it as a buffer"),
    ),
    (
        r"rand|bernoulli|multinomial|normal_|native_dropout",
        _Advice("two engines never draw the same numbers", "leave it out in evaluation mode"),
    ),
    (
        r"cond|while_loop|scan|map_impl",
        _Advice(
            "what runs depends on the values, so one recorded plan cannot serve every batch",
            "compute both ways and choose with torch.where",
        ),
    ),
    (
        r"special_|bessel|digamma|polygamma|igamma",
        _Advice("ONNX has no such function", "tabulate it as a numeric feature, or approximate it"),
    ),
)
"""Start of an operator's name to what to do; the first that fits."""

_OTHER = _Advice("ONNX has no such operator", "write it with arithmetic, matmul, gather and where")
_CUSTOM = _Advice(
    "it is a custom kernel, and ONNX Runtime and TensorRT have no such kernel",
    "write it with PyTorch's own operators",
)
_OWN_NAMESPACES = {"aten", "prims", "prim"}

_CAPTURE: dict[str, _Advice] = {
    "GuardOnDataDependentSymNode": _Advice(
        "Python decides by a tensor's values, and a graph has only one way to go",
        "compute both ways and choose with torch.where",
    ),
    "UserError": _Advice(
        "it holds only for some numbers of rows, not for any",
        "take sizes from x.shape[0], and write loops over rows as operations on whole tensors",
    ),
    "DataDependentOutputException": _Advice(_SIZE, "use torch.where with a mask"),
}
"""Class of the exporter's error to what it means."""


def export_failure(
    error: BaseException, module: nn.Module, program: torch.export.ExportedProgram | None = None
) -> InputError:
    """The exporter's error in one line: where, what, and what helps.

    Args:
        error: What capturing or translating raised.
        module: What was exported.
        program: What was captured; None if that is what failed.
    """
    chain = list(_chain(error))
    where = _place_in_code(chain, module)
    if program is not None:
        named = (re.search(r"target=torch\.ops\.([\w.]+)", str(cause)) for cause in chain)
        target = next((match[1] for match in named if match), None)
        if target:
            return _refusal(_place_of(target, program), target, _advice(target))
    for cause in chain:
        operator = getattr(cause, "func", None)  # of torch's errors about one operator
        if isinstance(operator, torch._ops.OpOverload):
            return _refusal(where, str(operator), _advice(str(operator)))
        if type(cause).__name__ in _CAPTURE:
            advice = _CAPTURE[type(cause).__name__]
            return InputError(
                f"the model cannot be exported to ONNX: {where}: {advice.reason}; {advice.rewrite}"
            )
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(
        f"the model cannot be exported to ONNX: {where}: {text}; "
        "write it with PyTorch operators on whole tensors"
    )


def refuse_operators(program: torch.export.ExportedProgram) -> None:
    """Refuse captured operators that no engine runs, while their origin is known.

    Raises:
        InputError: names the module, the operator, and what to write instead.
    """
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        name = str(node.target)
        advice = _CUSTOM if _is_custom(node.target) else _known(name)
        if name.startswith("aten.index.") and _by_mask(node):
            advice = _known("aten.nonzero.default")
        if advice is not None:
            raise _refusal(_scope(node), name, advice)


def _refusal(where: str, operator: str, advice: _Advice) -> InputError:
    return InputError(
        f"the model cannot be exported to ONNX: {where} uses {operator}: "
        f"{advice.reason}; {advice.rewrite}"
    )


def _is_custom(target: object) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target.namespace not in _OWN_NAMESPACES


def _known(operator: str) -> _Advice | None:
    namespace, _, rest = operator.partition(".")
    name = rest if namespace in _OWN_NAMESPACES else operator
    return next((advice for start, advice in _OPERATORS if re.match(start, name)), None)


def _advice(operator: str) -> _Advice:
    if operator.partition(".")[0] not in _OWN_NAMESPACES:
        return _CUSTOM
    return _known(operator) or _OTHER


def _by_mask(node: torch.fx.Node) -> bool:
    """Whether a tensor is indexed by booleans, which gives as many values as are true."""
    indices = node.args[1]
    assert isinstance(indices, list | tuple)
    return any(
        isinstance(index, torch.fx.Node) and index.meta["val"].dtype == torch.bool
        for index in indices
    )


def _place_of(target: str, program: torch.export.ExportedProgram) -> str:
    """The module of a translated operator, which may be a part of the one written there."""
    for graph in (program.graph, program.run_decompositions().graph):
        for node in graph.nodes:
            if str(node.target).removeprefix("torch.ops.") == target:
                return _scope(node)
    return _NETWORK


_NETWORK = "the network itself"


def _scope(node: torch.fx.Node) -> str:
    stack: Mapping[str, tuple[str, object]] = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return _path(paths[-1]) if paths else _NETWORK


def _path(full: str) -> str:
    """A module's path without the wrappers that the export puts around the network."""
    return re.sub(WRAPPERS, "", full.removeprefix("L['self'].")) or _NETWORK


def _place_in_code(chain: list[BaseException], module: nn.Module) -> str:
    """The innermost module whose ``forward`` was running."""
    paths = {id(part): name for name, part in module.named_modules()}
    found = _NETWORK
    for cause in chain:
        for frame, _ in traceback.walk_tb(cause.__traceback__):
            first = frame.f_code.co_varnames[:1]
            itself = frame.f_locals.get(first[0]) if first else None
            if frame.f_code.co_name == "forward" and id(itself) in paths:
                found = _path(paths[id(itself)])
        if found != _NETWORK:
            return found
    return found


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
