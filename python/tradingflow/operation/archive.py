"""A back-up on disk: a folder with one compressed file a table, RabbitMQ's definitions, and a manifest over them.

Plain COPY text, so that a back-up is read by any PostgreSQL, needs no client program of the server's version, and can
be taken from inside our own image.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tradingflow.core.errors import InvalidInput

MANIFEST = "manifest.json"
RABBITMQ = "rabbitmq.json"
FORMAT = 1


@dataclass(frozen=True)
class TableFile:
    """`columns` in the order of the file; `rows` as the server counted them."""

    table: str
    columns: tuple[str, ...]
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a back-up holds. `revision` is the schema it belongs to, `created_at` the moment of its snapshot."""

    format: int
    version: str
    revision: str
    created_at: str
    tables: tuple[TableFile, ...]

    def write(self, folder: Path) -> None:
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest, every file checked against it. Raises InvalidInput for what is not a whole back-up."""
        try:
            raw = json.loads((folder / MANIFEST).read_text())
            tables = tuple(TableFile(**{**table, "columns": tuple(table["columns"])}) for table in raw.pop("tables"))
            manifest = cls(**raw, tables=tables)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidInput("not_a_backup", f"{folder} holds no readable {MANIFEST}") from error
        if manifest.format != FORMAT:
            raise InvalidInput("unknown_backup_format", f"format {manifest.format}; this version reads {FORMAT}")
        for table in manifest.tables:
            _verify(folder, table)
        return manifest


def table_file(folder: Path, table: str) -> Path:
    """Where the rows of a table are."""
    return folder / f"{table}.copy.gz"


def sha256_of(file: Path) -> str:
    """Of the file as it is on disk."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _verify(folder: Path, table: TableFile) -> None:
    file = table_file(folder, table.table)
    if not file.is_file() or sha256_of(file) != table.sha256:
        raise InvalidInput("damaged_backup", f"{file.name} is missing or was changed since the back-up was taken")
