"""Removes what a killed test run left: its servers go on running and its folder stays."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from devstack.daemon import RECORD_FILE, ProcessRecord, stop_process
from devstack.proc import ProcessIdentity

OWNER_FILE = "owner.json"
STOP_TIMEOUT_S = 30


def write_owner(folder: Path) -> None:
    """Note in the folder which process it belongs to: this one."""
    identity = ProcessIdentity.of(os.getpid())
    if identity is not None:
        (folder / OWNER_FILE).write_text(json.dumps(asdict(identity)))


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Kill the servers and remove the folders of owners who no longer live; the others are left alone."""
    for folder in parent.glob(f"{prefix}*"):
        owner = _owner(folder)
        if owner is not None and not owner.alive:
            stop_recorded(folder)
            shutil.rmtree(folder, ignore_errors=True)


def stop_recorded(folder: Path) -> list[ProcessRecord]:
    """Stop every process recorded anywhere below a folder, the youngest first; those that had to be killed."""
    youngest_first = sorted(recorded(folder), key=lambda record: record.started_at, reverse=True)
    return [record for record in youngest_first if not stop_process(record, STOP_TIMEOUT_S)]


def recorded(folder: Path) -> list[ProcessRecord]:
    """The living processes recorded anywhere below a folder."""
    records = (ProcessRecord.read(file.parent) for file in folder.rglob(RECORD_FILE))
    return [record for record in records if record is not None and record.identity.alive]


def _owner(folder: Path) -> ProcessIdentity | None:
    try:
        return ProcessIdentity(**json.loads((folder / OWNER_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
