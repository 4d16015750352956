"""Files of promptable models: SAM's, MobileSAM's and transformers' are read; our own are read and written."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from densessl.errors import InputError
from densessl.models.checkpoint_file import read_checkpoint
from densessl.models.network_file import load_network, save_network
from densessl.models.weight_formats import state_dict_of
from densessl.models.weights import WeightReport, load_encoder_weights
from densessl.promptable.backbone_encoder import BackboneEncoder
from densessl.promptable.promptable_model import PromptableModel, build_promptable_model
from densessl.promptable.promptable_settings import PromptableSettings, settings_from_plain
from densessl.promptable.sam_architecture import recognise_architecture
from densessl.promptable.transformers_names import is_transformers_sam, published_names

_HEADER_KEY = "promptable_model"
_RUN_HEADER_KEYS = ("model_settings", "dino_encoder")
_ORIGIN = "a file of `save_promptable_model`, or a SAM, MobileSAM or transformers SamModel checkpoint"
_CLASSIFIER = ("image_encoder.norm_head.", "image_encoder.head.")  # in MobileSAM's file, not in its computation
_TRAINED_ON_MASKS = "masks of SA-1B, if these are the published weights; the file does not say"


def save_promptable_model(path: str | Path, model: PromptableModel, supervision: str) -> None:
    """Write a model as safetensors, with the settings that rebuild it.

    Args:
        path: the file, which ends in .safetensors.
        model: its weights, and `model.settings`.
        supervision: which labels trained it, its encoder's weights included, in words.

    Raises:
        InputError: another suffix, by which the file could not be read again.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"promptable model {path} ends in {path.suffix!r}; let its name end in .safetensors")
    header = {"settings": asdict(model.settings), "supervision": supervision}
    save_network(path, model.state_dict(), _HEADER_KEY, header)


def load_promptable_model(path: str | Path) -> tuple[PromptableModel, WeightReport]:
    """Build the model of a file, in evaluation mode; its architecture is told from the header, or from the tensors.

    Takes files of `save_promptable_model`; SAM's and MobileSAM's (.pth) under their own names; and the safetensors or
    .bin of a SamModel of transformers. No code in a file is run. Every tensor must be there with its shape; only the
    classifier in MobileSAM's file is left out, and reported.

    Raises:
        MissingInputError: no such file.
        InputError: a file that cannot be read safely, is no promptable model, or lacks or has more tensors than it.
    """
    path = Path(path)
    if _has_header(path, _HEADER_KEY):
        return _load_own(path)
    _, tensors = state_dict_of(read_checkpoint(path), path)
    weight_format = "SAM"
    if is_transformers_sam(tensors):
        tensors, weight_format = published_names(tensors), "transformers SamModel"
    settings = recognise_architecture(tensors, path)
    if settings.encoder == "mobile_sam":
        weight_format = "MobileSAM"
    unused = tuple(name for name in tensors if name.startswith(_CLASSIFIER))
    kept = {name: value for name, value in tensors.items() if name not in unused}
    model = _fill(build_promptable_model(settings), kept, path, f"{weight_format}, {settings.encoder}")
    return model, WeightReport(weight_format, path, len(kept), (), unused, (), _TRAINED_ON_MASKS)


def load_backbone_weights(model: PromptableModel, path: Path) -> WeightReport:
    """Load a checkpoint of the encoder alone into a model on a timm backbone, in place.

    Takes all that `densessl.models.weights.load_encoder_weights` does, the final.safetensors of a run among them, and
    the encoder of a file of `save_promptable_model`.

    Raises:
        MissingInputError: no such file.
        InputError: a model of another kind, a file that cannot be read safely or holds another architecture.
    """
    if not isinstance(model.image_encoder, BackboneEncoder):
        raise InputError(
            f"{path} cannot be loaded into encoder {model.settings.encoder}, which is no timm backbone; name the "
            "backbone that the file holds as the encoder, such as resnet50, or give the file of a whole SAM as weights "
            "(--weights, `load_promptable_model`)"
        )
    backbone = model.image_encoder.encoder.backbone
    report = load_encoder_weights(backbone, path, encoder_name=model.settings.encoder)
    if not _has_header(path, _HEADER_KEY):
        return report
    _, header = load_network(path, _HEADER_KEY, kind="promptable model", origin=_ORIGIN)
    return replace(report, supervision=_check_header(path, header)[1])


def is_of_run(path: Path) -> bool:
    """Say whether a file holds the weights of a run (final.safetensors of `pretrain`), whose encoder it names."""
    return any(_has_header(path, key) for key in _RUN_HEADER_KEYS)


def encoder_of_run(path: Path) -> str:
    """Return the timm name of the encoder in the weights of a run, as a `PromptableSettings.encoder`.

    Raises:
        MissingInputError: no such file.
        InputError: no weights of a run.
    """
    key = next((key for key in _RUN_HEADER_KEYS if _has_header(path, key)), _RUN_HEADER_KEYS[0])
    _, header = load_network(path, key, kind="weights", origin="final.safetensors of a densessl run")
    match header:
        case {"encoder": str(name)}:
            return name
    raise InputError(f"the header of weights {path} names no encoder; expected final.safetensors of a densessl run")


def _load_own(path: Path) -> tuple[PromptableModel, WeightReport]:
    tensors, header = load_network(path, _HEADER_KEY, kind="promptable model", origin=_ORIGIN)
    settings, supervision = _check_header(path, header)
    model = _fill(build_promptable_model(settings), tensors, path, f"densessl, {settings.encoder}")
    return model, WeightReport("densessl promptable model", path, len(tensors), (), (), (), supervision)


def _check_header(path: Path, header: Any) -> tuple[PromptableSettings, str]:
    """Return settings and supervision of a file, which may come from anywhere."""
    match header:
        case {"settings": dict(values), "supervision": str(supervision)}:
            try:
                return settings_from_plain(values), supervision
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise InputError(
                    f"the header of promptable model {path} holds no settings that this version knows ({error}); "
                    "get or train it anew"
                ) from error
    raise InputError(
        f"the header of promptable model {path} is {str(header)[:200]!r}; it must give settings, and supervision in "
        "words: get or train it anew"
    )


def _fill(model: PromptableModel, tensors: Mapping[str, torch.Tensor], path: Path, kind: str) -> PromptableModel:
    expected = model.state_dict()
    problems = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(value.shape)}"
            for name, value in expected.items()
            if name in tensors and tensors[name].shape != value.shape
        ],
    }
    found = [f"{len(names)} {what} ({_first(names)})" for what, names in problems.items() if names]
    if found:
        raise InputError(
            f"{path} does not fit the model that it was taken for ({kind}): tensors {', '.join(found)}; download or "
            "export it again, whole and unaltered; a fine-tuned variant with other parts cannot be loaded"
        )
    broken = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise InputError(
            f"{path} holds values that are not finite in {len(broken)} tensors ({_first(broken)}); its training "
            "diverged or the file is damaged, take an earlier checkpoint"
        )
    model.load_state_dict(tensors)
    return model.eval()


def _has_header(path: Path, key: str) -> bool:
    """Say whether a file is safetensors with a header of that name; what is wrong with others is told by readers."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as handle:
            return key in (handle.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _first(names: list[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
