"""What all kinds of training do with a run folder: claim it, or go on in it, and count its processor time."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densessl.errors import InputError
from densessl.files import remove_abandoned_writes
from densessl.structures import ImageRef
from densessl.training.checkpoints import list_checkpoints
from densessl.training.run_folder import check_same_config, read_run_record, record_run, write_config

WEIGHTS_FILE = "final.safetensors"


def claim_run(
    run: Path,
    config: dict[str, Any],
    free: set[str],
    defaults: dict[str, Any],
    resume: bool,
    result: str = WEIGHTS_FILE,
) -> None:
    """Make the folder this run's own, or check that it already is.

    Args:
        run: the folder. config: of the run, as `config.yaml` will hold it.
        free: settings ("section.name") that may differ where a run goes on.
        defaults: of settings that the version which wrote the folder did not have.
        resume: go on with a run that is there.
        result: name of the file that a finished run leaves.

    Raises:
        InputError: a run is there and is not to be gone on with, or has another configuration.
    """
    if holds_training(run, result):
        if not resume:
            raise InputError(f"{run} already holds a run; add --resume true to go on with it, or choose another --out")
        check_same_config(run, config, free, defaults)
    remove_abandoned_writes(run)
    write_config(run, config)


def holds_training(run: Path, result: str = WEIGHTS_FILE) -> bool:
    """Say whether a run got as far as a checkpoint; one that failed before has nothing that another could spoil."""
    is_started = (run / "config.yaml").is_file()
    return is_started and bool(list_checkpoints(run / "checkpoints") or (run / result).is_file())


def check_same_images(run: Path, images: Sequence[ImageRef], is_resumed: bool) -> None:
    """Refuse to go on with other images than a run began with, and record which they are.

    They are known by their stems; a file that holds something else now under the same name is not noticed, nor is
    anything in runs of versions that did not record them.

    Raises:
        InputError: others, more or fewer.
    """
    stems = "\n".join(image.stem for image in images)
    digest = hashlib.sha256(stems.encode(errors="surrogateescape")).hexdigest()
    record = read_run_record(run)
    if is_resumed and record.get("images_sha256", digest) != digest:
        raise InputError(
            f"cannot resume {run}: it began with {record.get('num_images')} images that have a usable mask, and there "
            f"are {len(images)} now, or others; bring back the images and masks of its start, or start a new run in "
            "another folder"
        )
    record_run(run, images_sha256=digest, num_images=len(images))


def cpu_seconds() -> float:
    """Return the processor time of this process and its finished workers since it started, proposing masks included."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
