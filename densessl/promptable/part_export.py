"""Writes a part of a promptable model with torch.export and as ONNX, and opens what was written.

What the files hold beside the computation is put in order: axes bear their names, and the lines of source code that
each step came from, with the paths of this machine, are left out.
"""

import contextlib
import importlib.util
import io
import logging
import math
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from densessl.errors import InputError
from densessl.promptable.model_parts import Axis, ModelPart
from densessl.promptable.onnx_predictor import open_session

ExportFormat = Literal["onnx", "torch_export"]
SUFFIXES: dict[ExportFormat, str] = {"onnx": ".onnx", "torch_export": ".pt2"}
EXTRA = 'pip install "densessl[export]"'

LEAST_TORCH = (2, 13)
"""The first that traces the decoder for any number of prompts, as the extra `export` says."""

_MAX_CELLS = 2**16
"""Of a side of the grid: what torch.export wants to know of an axis that can have any length."""

Runner = Callable[[tuple[torch.Tensor, ...]], Sequence[torch.Tensor]]
"""Computes the outputs of a part from its inputs."""


def check_onnx_tools(*modules: str) -> None:
    """Raise `InputError` where a module that ONNX files need is not installed."""
    missing = [name for name in modules if not is_installed(name)]
    if missing:
        raise InputError(
            f"ONNX files need {' and '.join(missing)}, not installed here: {EXTRA}; or leave ONNX out "
            "(formats torch_export)"
        )


def is_installed(module: str) -> bool:
    """Say whether a module can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def trace_part(part: ModelPart) -> torch.export.ExportedProgram:
    """Trace a part for every length of the axes that bear names.

    Raises:
        InputError: a module whose steps depend on a size; the message says which, and what to do.
    """
    dimensions = {"batch", "num_prompts", "num_points", "rows", "columns"}
    symbols = {name: torch.export.Dim(name, min=1, max=_MAX_CELLS) for name in dimensions}
    shapes = {
        form.name: {
            place: symbols[axis.name] if axis.unit == 1 else axis.unit * symbols[axis.name]
            for place, axis in enumerate(form.axes)
            if isinstance(axis, Axis)
        }
        for form in part.inputs
    }
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(part.module, part.draw(part.traced), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # what cannot be traced ends in any of torch's own errors
        if _torch_version() < LEAST_TORCH:
            remedy = f"torch {torch.__version__} may be the reason, exports need 2.13 or newer: {EXTRA}"
        else:
            remedy = "its network depends on them, export it for one size (sizes square)"
        raise InputError(
            f"the {part.name} cannot be traced for sizes of any length ({_first_line(error)}); {remedy}"
        ) from error
    program.example_inputs = None  # a file would carry them
    _round_up_in_integers(program.graph)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _round_up_in_integers(graph: torch.fx.Graph) -> None:
    """Replace ceil(size / number), for which torch.export's files have no word, by (size + number - 1) // number.

    timm's networks whose padding depends on the size (`pad_same`) compute so.
    """
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target is not math.ceil:
            continue
        quotient = node.args[0]
        if not (isinstance(quotient, torch.fx.Node) and quotient.target is operator.truediv):
            continue
        size, number = quotient.args
        if not (isinstance(size, torch.fx.Node) and isinstance(number, int)):
            continue
        with graph.inserting_before(node):
            raised = graph.call_function(operator.add, (size, number - 1))
            raised.meta["val"] = size.meta["val"] + (number - 1)
            rounded = graph.call_function(operator.floordiv, (raised, number))
            rounded.meta["val"] = raised.meta["val"] // number
        node.replace_all_uses_with(rounded)
        graph.erase_node(node)
        if not quotient.users:
            graph.erase_node(quotient)


def write_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a traced part as a file of torch.export.

    Raises:
        InputError: a step with sizes that the file format has no word for.
    """
    try:
        torch.export.save(program, path)
    except Exception as error:  # as above
        raise InputError(
            f"{path.name} cannot be written by torch.export for sizes of any length ({_first_line(error)}); export it "
            "for one size (sizes square), or as ONNX alone (formats onnx)"
        ) from error


def open_program(path: Path) -> Runner:
    """Open a file of `write_program`.

    Without its guards: some of them hold what was true of the traced sizes alone (more than one image, several windows,
    all padded), though the steps are the general ones.
    """
    with _quiet():
        module = torch.export.load(path).module(check_guards=False)

    def run(inputs: tuple[torch.Tensor, ...]) -> Sequence[torch.Tensor]:
        found = module(*inputs)
        return (found,) if isinstance(found, torch.Tensor) else tuple(found)

    return run


def write_onnx(program: torch.export.ExportedProgram, part: ModelPart, path: Path) -> None:
    """Write a traced part as ONNX; weights of more than 2 GB in total go to a second file beside it (`.data`).

    Raises:
        InputError: an operator that has no translation.
    """
    try:
        with torch.no_grad(), _quiet():  # which kernel attention takes depends on it, as when it was traced
            exported: Any = torch.onnx.export(program, dynamo=True, verbose=False)
    except Exception as error:  # as above
        raise InputError(
            f"the {part.name} cannot be written as ONNX ({_first_line(error)}); leave ONNX out (formats torch_export)"
        ) from error
    _name_axes(exported.model, part)
    exported.save(str(path))


def open_onnx(path: Path) -> Runner:
    """Open an ONNX file with onnxruntime, on the CPU."""
    session = open_session(path, torch.get_num_threads())
    names = [value.name for value in session.get_inputs()]

    def run(inputs: tuple[torch.Tensor, ...]) -> Sequence[torch.Tensor]:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(value) for value in session.run(None, given)]

    return run


def _name_axes(model: Any, part: ModelPart) -> None:
    """Give inputs and outputs the names and axes of the part, and forget where in the source each node came from."""
    import onnx_ir

    for values, forms in ((model.graph.inputs, part.inputs), (model.graph.outputs, part.outputs)):
        for value, form in zip(values, forms, strict=True):
            value.name = form.name
            value.shape = onnx_ir.Shape([axis if isinstance(axis, int) else str(axis) for axis in form.axes])
    for node in model.graph.all_nodes():
        node.metadata_props.clear()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' progress and warnings to themselves; what fails is raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _torch_version() -> tuple[int, ...]:
    return tuple(int(number) for number in torch.__version__.split(".")[:2])


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:  # exporters wrap what went wrong in what they were doing
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
