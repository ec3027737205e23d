"""Knowing that an installed folder is what its lock files ask for, without asking a package manager."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

STAMP_FILE = ".tradingflow-stamp"


@dataclass(frozen=True)
class Stamp:
    """A mark inside an installed folder; deleting the folder deletes the mark."""

    folder: Path
    fingerprint: str

    @classmethod
    def of(cls, folder: Path, locks: list[Path], *versions: str) -> "Stamp":
        """The mark this folder must bear for these lock files and tool versions."""
        digest = hashlib.sha256("\n".join(versions).encode())
        for lock in locks:
            digest.update(hashlib.sha256(lock.read_bytes()).digest())
        return cls(folder, digest.hexdigest())

    @property
    def is_set(self) -> bool:
        """Whether the folder bears exactly this mark."""
        try:
            return (self.folder / STAMP_FILE).read_text() == self.fingerprint
        except OSError:
            return False

    def set(self) -> None:
        """Mark the folder as complete."""
        (self.folder / STAMP_FILE).write_text(self.fingerprint)

    def remove(self) -> None:
        """Take the mark off before changing the folder."""
        (self.folder / STAMP_FILE).unlink(missing_ok=True)
