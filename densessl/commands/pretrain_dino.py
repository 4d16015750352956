"""`pretrain` by DINO: a vision transformer from images alone, without masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from densessl.changed_settings import changed_settings
from densessl.commands.pretrain_claim import check_same_images, claim_run, cpu_seconds, holds_training
from densessl.commands.provenance import first_weights_provenance
from densessl.commands.unused_saliency import changed_saliency
from densessl.data.layouts import open_images
from densessl.data.view_settings import ViewSettings
from densessl.errors import InputError
from densessl.files import make_folder, write_json
from densessl.models.mask_contrast_model import ModelSettings
from densessl.models.self_distillation_network import SelfDistillationNetwork, build_self_distillation_network
from densessl.models.weights import load_encoder_weights
from densessl.objectives.settings import ObjectiveSettings
from densessl.saliency.proposals import SaliencySettings
from densessl.structures import Provenance
from densessl.training.devices import make_fabric
from densessl.training.dino_settings import DinoRun, DinoSettings, check_unused
from densessl.training.dino_training import pretrain_dino
from densessl.training.pretraining import PretrainResult
from densessl.training.run_folder import environment_record, plain, record_run
from densessl.training.settings import TrainingSettings
from densessl.training.usable_images import readable_images

NO_MASKS = "none (dino sees images alone)"
_FREE_ON_RESUME = {"training.num_workers", "training.log_every", "training.keep_checkpoints"}


@dataclass(frozen=True)
class ImageSource:
    """Which images are trained on: a folder, or a split of a data set."""

    images: Path | None
    data: Path | None
    split: str


def pretrain_with_dino(
    out: Path,
    source: ImageSource,
    model: ModelSettings,
    objective: ObjectiveSettings,
    run: DinoRun,
    *,
    resume: bool,
    profile: bool,
) -> PretrainResult:
    """Pretrain a vision transformer; arguments as for `pretrain`, checked by `check_dino`."""
    image_set = open_images(source.images, source.data, source.split)
    network, backbone = initial_dino_network(model, run.dino, run.seed)
    make_folder(out)
    fabric = make_fabric(run.training.precision)
    is_resumed = resume and holds_training(out)
    if fabric.is_global_zero:
        defaults = {"model": ModelSettings(), "objective": ObjectiveSettings(), "dino": DinoSettings()}
        config = _configuration(source, model, objective, run)
        claim_run(out, config, _FREE_ON_RESUME, {**defaults, "training": TrainingSettings()}, resume)
        record_run(out, **environment_record(fabric.device), seed=run.seed)
    fabric.barrier()
    images, left_out = readable_images(image_set.images)
    if fabric.is_global_zero:
        check_same_images(out, images, is_resumed)
        _print(f"{len(images)} of {len(image_set)} images can be read; no mask and no label is used")
        _print(f"initial weights: {backbone}")
        for item in left_out:
            _print(f"left out {item.stem}: {item.reason}")
        write_json(out / "left_out.json", [{"stem": item.stem, "reason": item.reason} for item in left_out])
        provenance = Provenance(backbone=backbone, masks=NO_MASKS)
        record_run(out, provenance=plain(provenance), num_left_out=len(left_out))
    result = pretrain_dino(fabric, network, model.encoder, images, out, run, resume=resume, profile=profile)
    if fabric.is_global_zero:
        entries = {"seconds": round(result.seconds, 3), "num_steps": result.num_steps, "finished": True}
        if not is_resumed:  # the time of interrupted parts is unknown
            entries["cpu_minutes"] = round(cpu_seconds() / 60, 2)
        record_run(out, **entries)
        _print(
            f"{result.num_steps} steps in {result.seconds:.0f} s; the teacher's encoder, for --encoder {model.encoder} "
            f"--weights of the other commands: {out / 'final.safetensors'}"
        )
    return result


def check_dino(
    masks: Path | None,
    saliency: SaliencySettings,
    model: ModelSettings,
    views: ViewSettings,
    objective: ObjectiveSettings,
    training: TrainingSettings,
) -> None:
    """Raise `InputError` for masks and settings that DINO would pass over."""
    if masks is not None:
        raise InputError(f"masks {masks} is given, but objective.method dino sees images alone; leave masks out")
    for name, value in changed_saliency(saliency).items():
        raise InputError(f"saliency.{name} is {value}, but objective.method dino proposes no masks; leave it out")
    check_unused(model, views, objective, training)


def check_no_dino(dino: DinoSettings) -> None:
    """Raise `InputError` for settings of DINO where the method is another one."""
    for group in changed_settings(dino, DinoSettings()):
        raise InputError(
            f"dino.{group} is set, but objective.method is mask_contrast, which does not use it; add --objective dino, "
            "or leave it out"
        )


def initial_dino_network(model: ModelSettings, dino: DinoSettings, seed: int) -> tuple[SelfDistillationNetwork, str]:
    """Build the student with its initial weights; also returns, in words, which labels those weights saw."""
    if model.weights is not None and model.pretrained:
        raise InputError(f"model.weights {model.weights} and model.pretrained true are given; choose one of the two")
    torch.manual_seed(seed)
    network = build_self_distillation_network(
        model.encoder,
        dino.head,
        size_px=dino.crops.global_size_px,
        drop_path=dino.schedule.drop_path,
        pretrained=model.pretrained,
    )
    report = None
    if model.weights is not None:
        report = load_encoder_weights(network.encoder.backbone, model.weights, encoder_name=model.encoder)
        _print(report.describe())
    return network, first_weights_provenance(model.encoder, report, pretrained=model.pretrained)


def _configuration(
    source: ImageSource, model: ModelSettings, objective: ObjectiveSettings, run: DinoRun
) -> dict[str, Any]:
    """Return what `config.yaml` holds: the flags of `pretrain` that the method knows, without the run folder."""
    return {
        "images": source.images and source.images.resolve(),
        "data": source.data and source.data.resolve(),
        "split": source.split,
        "seed": run.seed,
        "model": model,
        "objective": objective,
        "dino": run.dino,
        "training": run.training,
    }


def _print(line: str) -> None:
    Console(stderr=True).print(line, soft_wrap=True, highlight=False, markup=False)
