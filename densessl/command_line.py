"""The command line: every stage function of `densessl.commands` is a command, its parameters are the flags."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, get_args

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, get_loader, set_loader

from densessl import __version__
from densessl.errors import InputError
from densessl.objectives.settings import Method

COMMANDS = {
    "demo": "render a small data set and run the whole pipeline on it, scores before and after training",
    "run": "images in, segmentation out: masks, pretraining, clusters, report, and scores where there are labels",
    "synth": "render a labelled data set of textured shapes in VOC layout",
    "check_data": "look a data set over and list every fault",
    "saliency": "propose a foreground mask for every image, without labels",
    "saliency_gallery": "write a page of thumbnails by which to judge proposed masks",
    "pretrain": "train pixel embeddings on images and masks (MaskContrast), or a vision transformer on images (DINO)",
    "cluster": "cluster mask embeddings into a segmentation, and score it where there are labels",
    "benchmark": "score any encoder under every named protocol, with intervals and a card for each number",
    "linear": "fit a linear probe to frozen features, and score it",
    "knn": "transfer labels from the nearest patches of labelled images (dense k-NN), and score them",
    "retrieve": "give every mask the class of the most similar labelled mask, and score them",
    "predict": "give new images the clusters that `cluster` found, and overlays",
    "segment": "segment what points or a box show, or everything, with a promptable model (SAM)",
    "self_label": "train a segmentation network on clusters of masks, and then on its own predictions",
    "paste": "paste objects of other images into images, to train a promptable model on scenes of several objects",
    "train_promptable": "train a model that gives masks from points and boxes, on masks of any source",
    "filter_masks": "keep the masks that a promptable model, taught by all of them, gives back",
    "export_promptable": "write a promptable model as ONNX and torch.export files, compared with it; int8 on wish",
    "evaluate": "score a folder of label maps against a folder of labels",
    "saliency_metrics": "score saliency maps, and mask proposals, against masks or labels",
    "report": "write the HTML report of a run",
    "explain": "draw what the loss sees of one image at the end of a run",
    "attention": "draw what an encoder sees: attention, rollout, principal components, similarity of patches",
    "embedding_space": "draw a map of masks by their embeddings, coloured by cluster, and who is nearest to whom",
}
"""Every command and what it does, in the order in which they are used."""

_GIVEN_ONCE = {
    "--points": 'write all points in one, with ; between them: --points "310,220,1;40,35,0"',
    "--box": "a call takes one box; the Python call Predictor.predict(boxes=...) takes several",
}
"""Flags of which a second one would be meant as one more, not in place of the first, and what to write instead."""

DISTRIBUTED_COMMANDS = ("saliency", "pretrain", "train_promptable", "evaluate")
"""The commands that share their work among the processes of torchrun or srun."""


def stage_function(command: str) -> Callable[..., Any]:
    """Return the stage function of a command; only that command's modules are imported."""
    match command:
        case "demo":
            from densessl.commands.demo import demo as stage
        case "run":
            from densessl.commands.run import run as stage  # type: ignore[assignment]
        case "synth":
            from densessl.commands.synth import synth as stage  # type: ignore[assignment]
        case "check_data":
            from densessl.commands.check_data import check_data as stage  # type: ignore[assignment]
        case "saliency":
            from densessl.commands.saliency import saliency as stage  # type: ignore[assignment]
        case "saliency_gallery":
            from densessl.commands.saliency_gallery import saliency_gallery as stage  # type: ignore[assignment]
        case "pretrain":
            from densessl.commands.pretrain import pretrain as stage  # type: ignore[assignment]
        case "cluster":
            from densessl.commands.cluster import cluster as stage  # type: ignore[assignment]
        case "benchmark":
            from densessl.commands.benchmark import benchmark as stage  # type: ignore[assignment]
        case "linear":
            from densessl.commands.linear import linear as stage  # type: ignore[assignment]
        case "knn":
            from densessl.commands.knn import knn as stage  # type: ignore[assignment]
        case "retrieve":
            from densessl.commands.retrieve import retrieve as stage  # type: ignore[assignment]
        case "predict":
            from densessl.commands.predict import predict as stage  # type: ignore[assignment]
        case "segment":
            from densessl.commands.segment import segment as stage  # type: ignore[assignment]
        case "self_label":
            from densessl.commands.self_label import self_label as stage  # type: ignore[assignment]
        case "paste":
            from densessl.commands.paste import paste as stage  # type: ignore[assignment]
        case "train_promptable":
            from densessl.commands.train_promptable import train_promptable as stage  # type: ignore[assignment]
        case "filter_masks":
            from densessl.commands.filter_masks import filter_masks as stage  # type: ignore[assignment]
        case "export_promptable":
            from densessl.commands.export_promptable import export_promptable as stage  # type: ignore[assignment]
        case "evaluate":
            from densessl.commands.evaluate import evaluate as stage  # type: ignore[assignment]
        case "saliency_metrics":
            from densessl.commands.saliency_metrics import saliency_metrics as stage  # type: ignore[assignment]
        case "report":
            from densessl.commands.report import report as stage  # type: ignore[assignment]
        case "explain":
            from densessl.commands.explain import explain as stage  # type: ignore[assignment]
        case "attention":
            from densessl.commands.attention import attention as stage  # type: ignore[assignment]
        case "embedding_space":
            from densessl.commands.embedding_space import embedding_space as stage  # type: ignore[assignment]
        case _:
            raise InputError(f"unknown command {command!r}; the commands are {', '.join(COMMANDS)}")
    return stage


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line; exits with 0, with 1 on input that the user can mend, with 2 on wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in {"-h", "--help"}:
        print(_overview())
        sys.exit(0 if words else 2)
    if words[0] == "--version":
        print(f"densessl {__version__}")
        sys.exit(0)
    try:
        stage = stage_function(words[0])
    except InputError as error:
        print(f"densessl: {error}", file=sys.stderr)
        sys.exit(2)
    parser = build_parser(words[0], stage)
    try:
        _refuse_one_more(words[1:])
        flags = _bare_flags_spelt_out(_negative_values_joined(words[1:]), _flags_of(parser, bool))
        flags = _lists_bracketed(flags, _flags_of(parser, tuple[str, ...]))
        values = parser.parse_args(_config_first(_methods_spelt_out(flags)))
    except ArgumentError as error:
        print(f"densessl {words[0]}: {error}{_suggestion(str(error), parser)}", file=sys.stderr)
        print(f"`{parser.prog} --help` lists every flag and setting", file=sys.stderr)
        sys.exit(2)
    try:
        check_processes(words[0])
        result = stage(**_call_arguments(parser, values))
    except InputError as error:
        print(f"densessl {words[0]}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"densessl {words[0]}: interrupted; what is finished stays on disk", file=sys.stderr)
        sys.exit(130)
    sys.exit(result if isinstance(result, int) else 0)


def check_processes(command: str) -> None:
    """Refuse to run a command once in each of several processes, where all would write the same files.

    Raises:
        InputError: torchrun (WORLD_SIZE) or srun (SLURM_STEP_NUM_TASKS) started several processes, and the command
            is not among `DISTRIBUTED_COMMANDS`.
    """
    for variable in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        num_processes = os.environ.get(variable, "1")
        if num_processes != "1" and command not in DISTRIBUTED_COMMANDS:
            raise InputError(
                f"{command} works in one process, but {variable} is {num_processes}; start it once, without torchrun "
                f"or srun (of the commands only {', '.join(DISTRIBUTED_COMMANDS)} share their work among processes)"
            )


def build_parser(command: str, stage: Callable[..., Any]) -> ArgumentParser:
    """Build a command's parser from its stage function's signature and docstring, with `--config FILE`."""
    set_loader("densessl", load_yaml_strictly, exceptions=(yaml.YAMLError,))
    parser = ArgumentParser(
        prog=f"python -m densessl {command}",
        usage="%(prog)s [--config FILE] [--flag value ...]",
        description=_first_paragraph(stage),
        parser_mode="densessl",
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below")
    parser.add_function_arguments(stage, as_group=False, fail_untyped=True)
    return parser


def load_yaml_strictly(text: str) -> Any:
    """Read YAML, refusing a key that is given twice; `5e-4` is a number, as people mean it."""
    _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader))
    return get_loader("yaml")(text)


def _refuse_repeated_keys(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise yaml.YAMLError(f"key {key.value!r} is given twice (line {key.start_mark.line + 1}); keep one")
            seen.add(key.value)
            _refuse_repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_keys(item)


def _config_first(words: list[str]) -> list[str]:
    """Move `--config FILE` to the front, so that a flag overrides the file wherever it stands."""
    config: list[str] = []
    others = list(words)
    for index in reversed(range(len(words))):
        if words[index] == "--config" or words[index].startswith("--config="):
            stop = index + (2 if words[index] == "--config" else 1)
            config = others[index:stop] + config
            del others[index:stop]
    return config + others


def _refuse_one_more(words: list[str]) -> None:
    """Raise `ArgumentError` where a flag stands twice whose first value would be lost without a word."""
    names = [word.partition("=")[0] for word in words]
    for name, remedy in _GIVEN_ONCE.items():
        if names.count(name) > 1:
            raise ArgumentError(None, f"{name} is given {names.count(name)} times; {remedy}")


def _methods_spelt_out(words: list[str]) -> list[str]:
    """Write `--objective dino`, the name of a method in place of a group of settings, as `--objective.method dino`."""
    methods, spelt = get_args(Method), list(words)
    for index, word in enumerate(words):
        if word == "--objective" and words[index + 1 : index + 2] and words[index + 1] in methods:
            spelt[index] = "--objective.method"
        elif word.startswith("--objective=") and word.partition("=")[2] in methods:
            spelt[index] = f"--objective.method={word.partition('=')[2]}"
    return spelt


def _negative_values_joined(words: list[str]) -> list[str]:
    """Write `--box -5,10,90,80` as `--box=-5,10,90,80`: what begins with a minus and a digit is a value, not a flag."""
    joined: list[str] = []
    for word in words:
        if re.match(r"-\.?\d", word) and joined and re.fullmatch(r"--[^=]+", joined[-1]):
            joined[-1] = f"{joined[-1]}={word}"
        else:
            joined.append(word)
    return joined


def _bare_flags_spelt_out(words: list[str], bool_flags: Collection[str]) -> list[str]:
    """Write a flag of yes or no that stands without a value, `--everything`, as `--everything true`."""
    spelt: list[str] = []
    for index, word in enumerate(words):
        is_bare = word in bool_flags and all(following.startswith("-") for following in words[index + 1 : index + 2])
        spelt += [word, "true"] if is_bare else [word]
    return spelt


def _lists_bracketed(words: list[str], list_flags: Collection[str]) -> list[str]:
    """Write a list of names as YAML has it: `--self_training.teachers fused,file` with `[fused,file]`."""
    bracketed = list(words)
    for index, word in enumerate(words):
        flag, is_joined, value = word.partition("=")
        if is_joined and flag in list_flags and not value.startswith("["):
            bracketed[index] = f"{flag}=[{value}]"
        elif index and words[index - 1] in list_flags and not word.startswith(("[", "-")):
            bracketed[index] = f"[{word}]"
    return bracketed


def _flags_of(parser: ArgumentParser, kind: object) -> frozenset[str]:
    """Return the flags of a type, those of settings too: of bool `--resume` and `--linear.augmentation`."""
    actions = [action for action in parser._actions if getattr(action, "_typehint", None) == kind]
    return frozenset(flag for action in actions for flag in action.option_strings)


def _suggestion(message: str, parser: ArgumentParser) -> str:
    """Return a question for the first name in an error that is nearly a setting's; empty where there is none."""
    settings = list(parser.get_defaults().keys())
    group = next(iter(re.findall(r"Group '([\w.]+)'", message)), "")
    full_names: dict[str, list[str]] = {}
    for name in [name for name in settings if name.startswith(f"{group}.")] or settings:
        for key in {name, name.rpartition(".")[2]}:
            full_names.setdefault(key, []).append(name)
    for word in re.findall(r"[Oo]ption '([\w.-]+)'|--([\w.-]+)", message):
        given = "".join(word)
        nearest = difflib.get_close_matches(given.replace("-", "_"), full_names, n=1, cutoff=0.75)
        if nearest and given not in settings:
            return f"; did you mean {' or '.join(full_names[nearest[0]])}?"
    return ""


def _call_arguments(parser: ArgumentParser, values: Namespace) -> dict[str, Any]:
    arguments = parser.instantiate(values).as_dict()
    arguments.pop("config", None)
    return arguments


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m densessl <command> [--config FILE] [--flag value ...]",
            "",
            "Segment images without labels.",
            "",
            "commands:",
            *lines,
            "",
            "`python -m densessl <command> --help` describes a command's flags. Every flag can stand in a YAML file",
            "given by --config; flags on the command line override it, sections with dots (--model.encoder resnet50).",
        ]
    )


def _first_paragraph(stage: Callable[..., Any]) -> str:
    return (stage.__doc__ or "").strip().split("\n\n")[0]
