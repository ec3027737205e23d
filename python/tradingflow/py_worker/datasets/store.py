"""Datasets in PostgreSQL. All writes of one user happen one after the other, so that quotas hold whoever writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from uuid import UUID, uuid4

from sqlalchemy import Text, cast, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.clock import Clock
from tradingflow.core.errors import InvalidInput, NotFound, Refused
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Dataset, DatasetRow, DatasetWrite, User
from tradingflow.py_worker.flows.schemas import storable
from tradingflow.py_worker.kit.rows import MAX_ROWS_STORED, Row, check_rows

MAX_DATASETS = 100
MAX_BYTES_OF_USER = 50_000_000
MAX_ROW_BYTES = 64_000
# A node may put out 1 MB as JSON. Rows are counted with what is not ASCII escaped: up to three times as much.
MAX_BYTES_READ = 3_000_000
# No message and no rerun comes back later than this; after it a write key may be forgotten.
KEYS_KEPT = timedelta(days=30)


@dataclass(frozen=True)
class Write:
    """`keep_rows`: only so many of the newest rows stay. `key`: a write with a known key changes nothing."""

    append: bool
    key: str
    keep_rows: int | None = None


@dataclass(frozen=True)
class DatasetStore:
    """Datasets for nodes: each call is one transaction."""

    sessions: SessionFactory
    clock: Clock

    def for_owner(self, owner: UUID) -> OwnedDatasets:
        return OwnedDatasets(self, owner)


@dataclass(frozen=True)
class OwnedDatasets:
    """`kit.Datasets` of one user."""

    store: DatasetStore
    owner: UUID

    async def read(self, name: str, limit: int) -> list[Row]:
        """The newest `limit` rows, oldest first. Raises Refused("dataset_unknown", …), or ("rows_too_large", …) for
        more than a node could put out."""
        async with self.store.sessions() as session:
            found = await find(session, self.owner, name)
            if found is None:
                raise Refused("dataset_unknown", await _known(session, self.owner, name))
            await _require_readable(session, found, limit)
            chosen = select(DatasetRow.value).where(DatasetRow.dataset_id == found.id)
            newest = await session.scalars(chosen.order_by(DatasetRow.position.desc()).limit(limit))
            return list(reversed(newest.all()))

    async def write(
        self, name: str, rows: Sequence[Row], *, append: bool, write_key: str, keep_rows: int | None = None
    ) -> int:
        """Rows now in the table. Raises InvalidInput for rows it cannot hold, Refused over a quota."""
        async with self.store.sessions.begin() as session:
            how = Write(append, write_key, keep_rows)
            return await write_rows(session, self.owner, name, list(rows), how, self.store.clock.now())


async def _require_readable(session: AsyncSession, dataset: Dataset, limit: int) -> None:
    """Before any row is read: in memory, rows take many times their bytes."""
    sizes = select(DatasetRow.bytes).where(DatasetRow.dataset_id == dataset.id)
    newest = sizes.order_by(DatasetRow.position.desc()).limit(limit).subquery()
    held = await session.scalar(select(func.sum(newest.c.bytes))) or 0
    if held > MAX_BYTES_READ:
        raise Refused(
            "rows_too_large",
            f"the newest {limit} rows of {dataset.name!r} hold {held} bytes, at most {MAX_BYTES_READ} are read at a "
            "time; ask for fewer rows",
        )


async def _known(session: AsyncSession, owner: UUID, name: str) -> str:
    names = [dataset.name for dataset in await list_datasets(session, owner, None, 20)]
    return f"you have no dataset named {name!r}; you have: {', '.join(names) or 'none'}"


async def find(session: AsyncSession, owner: UUID, name: str) -> Dataset | None:
    found: Dataset | None = await session.scalar(select(Dataset).where(Dataset.user_id == owner, Dataset.name == name))
    return found


async def get(session: AsyncSession, owner: UUID, name: str) -> Dataset:
    """Raises NotFound, also for somebody else's."""
    found = await find(session, owner, name)
    if found is None:
        raise NotFound("dataset", name)
    return found


async def list_datasets(session: AsyncSession, owner: UUID, after: str | None, limit: int) -> Sequence[Dataset]:
    chosen = select(Dataset).where(Dataset.user_id == owner).order_by(Dataset.name).limit(limit)
    return (await session.scalars(chosen if after is None else chosen.where(Dataset.name > after))).all()


async def newest_rows(
    session: AsyncSession, dataset: Dataset, before: int | None, limit: int
) -> tuple[Sequence[DatasetRow], int | None]:
    """Newest first, those before position `before` that hold at most MAX_BYTES_READ. Also the last one's position,
    where older ones are left."""
    older = select(DatasetRow.position, DatasetRow.bytes).where(DatasetRow.dataset_id == dataset.id)
    if before is not None:
        older = older.where(DatasetRow.position < before)
    sizes = (await session.execute(older.order_by(DatasetRow.position.desc()).limit(limit + 1))).all()
    held = accumulate(size.bytes for size in sizes[:limit])
    positions = [size.position for size, sum_ in zip(sizes, held, strict=False) if sum_ <= MAX_BYTES_READ]
    chosen = select(DatasetRow).where(DatasetRow.dataset_id == dataset.id, DatasetRow.position.in_(positions))
    rows = (await session.scalars(chosen.order_by(DatasetRow.position.desc()))).all()
    return rows, positions[-1] if len(positions) < len(sizes) else None


async def row_texts(session: AsyncSession, dataset: Dataset) -> list[str]:
    """All rows as JSON, oldest first: what the quota bounds, while rows read take several times as much."""
    chosen = select(cast(DatasetRow.value, Text)).where(DatasetRow.dataset_id == dataset.id)
    found = await session.stream_scalars(chosen.order_by(DatasetRow.position), execution_options={"yield_per": 1_000})
    return [text async for text in found]


async def remove(session: AsyncSession, owner: UUID, name: str) -> None:
    """Raises NotFound."""
    await _take_turn(session, owner)
    await session.delete(await get(session, owner, name))


async def write_rows(session: AsyncSession, owner: UUID, name: str, rows: list[Row], how: Write, now: datetime) -> int:
    """Rows now in the table, once per `how.key`. Raises InvalidInput for a row it cannot hold, Refused over a quota."""
    sizes = [_size(row) for row in check_rows(rows)]
    await _take_turn(session, owner)
    dataset = await find(session, owner, name) or await _create(session, owner, name)
    done = await session.get(DatasetWrite, (dataset.id, how.key))
    if done is not None:
        return done.rows_after
    if not how.append:
        await _drop_before(session, dataset, dataset.next_position)
    await _add(session, dataset, rows, sizes)
    if how.keep_rows is not None and dataset.rows > how.keep_rows:
        await _drop_before(session, dataset, dataset.next_position - how.keep_rows)
    await _check_quotas(session, owner, dataset)
    await session.execute(
        delete(DatasetWrite).where(DatasetWrite.dataset_id == dataset.id, DatasetWrite.written_at < now - KEYS_KEPT)
    )
    session.add(DatasetWrite(dataset_id=dataset.id, write_key=how.key, rows_after=dataset.rows, written_at=now))
    return dataset.rows


async def _take_turn(session: AsyncSession, owner: UUID) -> None:
    """A lock that a foreign key to the same user does not wait for."""
    await session.execute(select(User.id).where(User.id == owner).with_for_update(key_share=True))


async def _create(session: AsyncSession, owner: UUID, name: str) -> Dataset:
    count = await session.scalar(select(func.count()).select_from(Dataset).where(Dataset.user_id == owner))
    if (count or 0) >= MAX_DATASETS:
        raise Refused("dataset_quota", f"you may have {MAX_DATASETS} datasets; delete one first")
    dataset = Dataset(id=uuid4(), user_id=owner, name=name, rows=0, bytes=0, next_position=0)
    session.add(dataset)
    await session.flush()
    return dataset


async def _add(session: AsyncSession, dataset: Dataset, rows: list[Row], sizes: list[int]) -> None:
    first = dataset.next_position
    values = [
        {"dataset_id": dataset.id, "position": first + at, "value": row, "bytes": size}
        for at, (row, size) in enumerate(zip(rows, sizes, strict=True))
    ]
    if values:
        await session.execute(insert(DatasetRow), values)
    dataset.next_position += len(rows)
    dataset.rows += len(rows)
    dataset.bytes += sum(sizes)


async def _drop_before(session: AsyncSession, dataset: Dataset, position: int) -> None:
    dropped = delete(DatasetRow).where(DatasetRow.dataset_id == dataset.id, DatasetRow.position < position)
    sizes = (await session.scalars(dropped.returning(DatasetRow.bytes))).all()
    dataset.rows -= len(sizes)
    dataset.bytes -= sum(sizes)


async def _check_quotas(session: AsyncSession, owner: UUID, dataset: Dataset) -> None:
    if dataset.rows > MAX_ROWS_STORED:
        raise Refused(
            "dataset_quota",
            f"a dataset holds {MAX_ROWS_STORED} rows; set keep_rows to drop the oldest, or write to another one",
        )
    await session.flush()
    used = await session.scalar(select(func.sum(Dataset.bytes)).where(Dataset.user_id == owner))
    if used is not None and used > MAX_BYTES_OF_USER:
        raise Refused("dataset_quota", f"your datasets hold {MAX_BYTES_OF_USER} bytes together; delete one first")


def _size(row: Row) -> int:
    """Bytes of a row as JSON. Raises InvalidInput for one PostgreSQL cannot hold."""
    try:
        size = len(json.dumps(storable(row)).encode())
    except (TypeError, ValueError) as error:
        raise InvalidInput("invalid_row", f"a row {error}") from error
    if size > MAX_ROW_BYTES:
        raise InvalidInput("row_too_large", f"a row has at most {MAX_ROW_BYTES} bytes as JSON")
    return size
