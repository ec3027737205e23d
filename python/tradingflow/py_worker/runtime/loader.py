"""Loads cycles in groups: while one query is under way the next keys gather. Graphs are built once a version."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from uuid import UUID

from tradingflow.core.errors import DependencyUnavailable, InvalidInput
from tradingflow.core.logging import get_logger
from tradingflow.py_worker.engine.graph import Graph, build_graph
from tradingflow.py_worker.engine.spec import NodeSpec
from tradingflow.py_worker.runtime.records import CycleKey, StoredCycle
from tradingflow.py_worker.runtime.store import CycleStore

log = get_logger(__name__)

MAX_GROUP = 500
RETRY_S = 0.2
GRAPHS_KEPT = 2_000

Loaded = Callable[[CycleKey, StoredCycle | None, Graph | None], None]
"""Told once for each requested key: None for a cycle that is not there or whose graph cannot be built any more."""


class CycleLoader:
    def __init__(self, store: CycleStore, specs: Mapping[str, NodeSpec]) -> None:
        self._store = store
        self._specs = specs
        self._graphs: OrderedDict[tuple[UUID, int], Graph] = OrderedDict()
        self._wanted: dict[CycleKey, None] = {}
        self._wake = asyncio.Event()
        self._under_way: set[CycleKey] = set()
        self._outdated: set[CycleKey] = set()

    def changed(self, flow_pk: UUID) -> None:
        """Control changed a flow: what is being read of it at this moment may be older, and is read again."""
        self._outdated |= {key for key in self._under_way if key[0] == flow_pk}

    def request(self, key: CycleKey) -> None:
        self._wanted[key] = None
        self._wake.set()

    def reset(self) -> None:
        """Nothing is wanted any more. Who wants again what is being read at this moment gets it as it is then."""
        self._wanted.clear()
        self._outdated |= self._under_way

    async def run(self, loaded: Loaded) -> None:
        """Serve requests until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                keys = list(self._wanted)[:MAX_GROUP]
                for key in keys:
                    del self._wanted[key]
                await self._serve(keys, loaded)

    async def graph(self, flow_pk: UUID, version: int) -> Graph | None:
        """The graph of a version; None when it does not exist or its node types are gone."""
        known = self._graphs.get((flow_pk, version))
        if known is not None:
            self._graphs.move_to_end((flow_pk, version))
            return known
        flow_json = await self._store.graph_json(flow_pk, version)
        if flow_json is None:
            return None
        try:
            graph = build_graph(flow_json, self._specs)
        except InvalidInput:
            log.exception("a stored version is not valid any more", flow_pk=flow_pk, version=version)
            return None
        self._graphs[flow_pk, version] = graph
        if len(self._graphs) > GRAPHS_KEPT:
            self._graphs.popitem(last=False)
        return graph

    async def _serve(self, keys: list[CycleKey], loaded: Loaded) -> None:
        self._under_way = set(keys)
        found, graphs = await self._load_until_it_works(keys)
        outdated, self._under_way, self._outdated = self._outdated, set(), set()
        for key in keys:
            if key in outdated:
                self.request(key)
            else:
                loaded(key, found.get(key), graphs.get(key))

    async def _load_until_it_works(
        self, keys: list[CycleKey]
    ) -> tuple[dict[CycleKey, StoredCycle], dict[CycleKey, Graph | None]]:
        while True:
            try:
                found = {stored.key: stored for stored in await self._store.load(keys)}
                graphs = {s.key: await self.graph(s.key[0], s.version) for s in found.values()}
            except DependencyUnavailable as error:
                log.warning("load is retried", cycles=len(keys), error=error, cause=error.__cause__)
                await asyncio.sleep(RETRY_S)
            else:
                return found, graphs
