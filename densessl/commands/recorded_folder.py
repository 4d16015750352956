"""The record of a folder that a promptable model's masks fill: what made it, and whether it may be written again."""

from pathlib import Path
from typing import Any

from densessl.commands.promptable_network import OpenedModel
from densessl.data.masks import SALIENCY_RECORD
from densessl.errors import InputError
from densessl.files import describe_difference, make_folder, read_json, remove_abandoned_writes, write_json
from densessl.promptable.predictor import Predictor
from densessl.promptable.promptable_settings import PromptableSettings
from densessl.training.run_folder import environment_record, plain


def model_record(opened: OpenedModel, predictor: Predictor, task: dict[str, Any]) -> dict[str, Any]:
    """Return the record of what a model does, in which `compared` must be the same when a folder is taken up again.

    task: what else must be.
    """
    paths = {key: value for key, value in opened.identity.items() if isinstance(value, Path)}
    identity = {key: value for key, value in opened.identity.items() if key not in paths}
    return {
        "supervision": opened.supervision,
        "compared": {**identity, **task, "precision": predictor.precision},
        **paths,
        "environment": environment_record(predictor.device),
    }


def claim_folder(out: Path, record: dict[str, Any], name: str, command: str) -> None:
    """Make the folder this record's own; what an earlier call recorded under "compared" must be the same.

    Args:
        out: the folder.
        record: what is being done, as `model_record` gives it.
        name: of the record's file.
        command: that writes such folders, for messages.

    Raises:
        InputError: it was begun with something else, shows both; or it holds what the command did not write.
    """
    make_folder(out)
    if (out / SALIENCY_RECORD).is_file():
        raise InputError(f"{out} was written by `saliency`; choose another output folder (--out)")
    path = out / name
    new = plain(record)
    old = read_json(path, f"the record of `{command}`") if path.is_file() else None
    if old is not None:
        before = old.get("compared") if isinstance(old, dict) else None
        if not isinstance(before, dict):
            raise InputError(f"{path} holds no record of `{command}`; choose another output folder (--out)")
        now = new["compared"]
        if isinstance(before.get("model"), dict):  # earlier versions knew fewer settings, at their defaults of now
            before = {**before, "model": plain(PromptableSettings()) | before["model"]}
        differences = [
            describe_difference(key, before.get(key), now.get(key))
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        if differences:
            raise InputError(
                f"{out} was begun with something else ({'; '.join(differences)}); choose another output folder (--out)"
            )
    remove_abandoned_writes(out)
    if old is None:
        if any(out.iterdir()):
            raise InputError(
                f"{out} is not empty and has no {name}, so `{command}` did not begin it; choose a new or an empty "
                "output folder (--out)"
            )
        write_json(path, new)


def write_folder_record(out: Path, record: dict[str, Any], name: str) -> None:
    """Write the record anew."""
    write_json(out / name, plain(record))
