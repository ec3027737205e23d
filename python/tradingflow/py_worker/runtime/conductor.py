"""Conducts cycles: messages come in, nodes run, endings are committed and signalled side by side.

A delivery is acknowledged when every ending it led to is committed and every signal of those is confirmed. What is
lost before that moment, with the process or the connection, RabbitMQ delivers again, here or to another worker.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

import msgspec

from tradingflow.core.clock import Clock
from tradingflow.core.errors import InvariantBroken
from tradingflow.core.logging import get_logger
from tradingflow.messaging.messages import (
    CycleMessage,
    CycleStarted,
    Signals,
    TradeSettled,
    decode_cycle_messages,
    encode,
)
from tradingflow.messaging.partitions import Delivery
from tradingflow.py_worker.engine.cycle import SKIPPED, Outcome, Step
from tradingflow.py_worker.engine.graph import Graph
from tradingflow.py_worker.runtime.committer import Committer
from tradingflow.py_worker.runtime.live import LiveCycle, NodeRun, release_all
from tradingflow.py_worker.runtime.loader import CycleLoader
from tradingflow.py_worker.runtime.observers import Observers
from tradingflow.py_worker.runtime.poison import Poison
from tradingflow.py_worker.runtime.records import CycleKey, CycleRecord, RunningRecord, StoredCycle, TaskRecord
from tradingflow.py_worker.runtime.runner import Ended, NodeRunner
from tradingflow.py_worker.runtime.settlements import Settlements
from tradingflow.py_worker.runtime.signaller import Signaller
from tradingflow.py_worker.runtime.slots import FairSlots, Slot
from tradingflow.py_worker.runtime.tracing import trace_cycle
from tradingflow.tracing.traces import Traces

log = get_logger(__name__)

# A node task that runs longer than this is shown as running; shorter ones are stored once, when they end.
SHOWN_AFTER_S = 0.25
# A node that waits (for a trade, a person) must not hold messages until RabbitMQ's consumer timeout of 30 minutes.
# What it rests on is durable, so from here on the sweep brings the cycle back if this worker dies.
PARKED_AFTER_S = 60.0


class Conductor:
    def __init__(
        self,
        *,
        partitions: int,
        clock: Clock,
        loader: CycleLoader,
        runner: NodeRunner,
        committer: Committer,
        signaller: Signaller,
        observers: Observers,
        settlements: Settlements,
        poison: Poison,
        slots: FairSlots,
        traces: Traces,
    ) -> None:
        self._partitions = partitions
        self._clock = clock
        self._loader = loader
        self._runner = runner
        self._committer = committer
        self._signaller = signaller
        self._observers = observers
        self._settlements = settlements
        self._poison = poison
        self._slots = slots
        self._traces = traces
        self._cycles: dict[CycleKey, LiveCycle] = {}
        self._pending: defaultdict[CycleKey, list[tuple[Delivery, CycleMessage]]] = defaultdict(list)

    @property
    def cycles(self) -> int:
        return len(self._cycles)

    def knows(self, key: CycleKey) -> bool:
        return key in self._cycles or key in self._pending

    def flows(self) -> set[UUID]:
        """The flows of all cycles in memory, those that only hold and those still being loaded included."""
        return {key[0] for key in (*self._cycles, *self._pending)}

    def live_of_flow(self, flow_pk: UUID) -> list[LiveCycle]:
        return [live for live in self._cycles.values() if live.key[0] == flow_pk]

    def running(self) -> Iterable[tuple[LiveCycle, NodeRun]]:
        return ((live, run) for live in self._cycles.values() for run in live.running.values())

    def receive(self, delivery: Delivery) -> None:
        """Take one delivery of a partition queue. Never raises: what cannot be handled is poison."""
        try:
            messages = decode_cycle_messages(delivery.body)
        except msgspec.MsgspecError as error:
            self._poison.bury(delivery, delivery.body, f"not a cycle message: {error}")
            return
        for message in messages:
            self._handle(delivery, message, 1)
        delivery.release()

    def _handle(self, delivery: Delivery, message: CycleMessage, tries: int) -> None:
        try:
            self._dispatch(delivery, message)
        except Exception as error:  # noqa: BLE001 - the consumer's edge: one message must not stop its neighbours
            log.warning("message not handled", message_id=delivery.message_id, tries=tries, error=error)
            delivery.hold()
            again = partial(self._handle_again, delivery, message, tries + 1)
            self._poison.retry_or_bury(delivery, message, error, tries, again)

    def _handle_again(self, delivery: Delivery, message: CycleMessage, tries: int) -> None:
        self._handle(delivery, message, tries)
        delivery.release()

    def forget(self) -> None:
        """The connection is gone: every delivery is void and will come again, here or elsewhere."""
        self._signaller.reset()
        self._loader.reset()
        self._pending.clear()
        for live in list(self._cycles.values()):
            live.drop()
        self._cycles.clear()

    def leave(self, partition: int) -> None:
        """Another worker goes on with this partition; nothing of it is under way here any more."""
        for live in [live for live in self._cycles.values() if live.partition == partition]:
            self._discard(live)

    def _dispatch(self, delivery: Delivery, message: CycleMessage) -> None:
        if isinstance(message, TradeSettled):
            self._settlements.announce(message.trade_id)
            return
        key = (message.flow_pk, message.cycle)
        live = self._cycles.get(key)
        if live is None:
            delivery.hold()
            self._pending[key].append((delivery, message))
            self._loader.request(key)
        elif isinstance(message, Signals):
            self._on_signals(live, delivery, message)
        else:
            self._release_held(live, [delivery])

    def loaded(self, key: CycleKey, stored: StoredCycle | None, graph: Graph | None) -> None:
        """A requested cycle came from the database; its waiting messages, if it has any still, go on."""
        if key not in self._pending:
            return
        waiting = self._pending.pop(key)
        deliveries = [delivery for delivery, _ in waiting]
        if stored is None or stored.status != "running" or stored.flow_status == "paused":
            release_all(deliveries)
            return
        if graph is None:
            for delivery, message in waiting:
                self._poison.bury(delivery, encode(message), "the flow's version cannot be run any more")
            return
        self._revive(stored, graph, waiting)
        release_all(deliveries)

    def _revive(self, stored: StoredCycle, graph: Graph, waiting: Sequence[tuple[Delivery, CycleMessage]]) -> None:
        live = LiveCycle(stored, graph, self._partitions)
        self._cycles[live.key] = live
        deliveries = [delivery for delivery, _ in waiting]
        known = {graph.index[name]: outcome for name, outcome in stored.outcomes.items() if name in graph.index}
        step = live.state.restore(known)
        for delivery, message in waiting:
            if isinstance(message, Signals) and message.source_node not in graph.index:
                self._handle(delivery, message, 1)
            elif isinstance(message, Signals):
                found = self._take_over(live, delivery, message)
                step.ready += found.ready
                step.skipped += found.skipped
        step.ready = [index for index in step.ready if index not in live.state.outcomes]
        self._advance(live, step, deliveries)

    def _on_signals(self, live: LiveCycle, delivery: Delivery, message: Signals) -> None:
        self._advance(live, self._take_over(live, delivery, message), [delivery])

    def _take_over(self, live: LiveCycle, delivery: Delivery, message: Signals) -> Step:
        """Apply the ending a message tells of: ours, one already known, or one whose commit a crash cut off."""
        index = live.graph.index.get(message.source_node)
        if index is None:
            raise InvariantBroken("unknown_node", f"version {live.version} has no node {message.source_node!r}")
        step = Step()
        if index not in live.state.outcomes:
            outcome = live.ended.pop(index, None) or self._adopt(live, index, message)
            step = live.state.finish(index, outcome)
        live.release_when_durable(index, delivery)
        return step

    def _adopt(self, live: LiveCycle, index: int, message: Signals) -> Outcome:
        """The signals were confirmed, the commit was not: what was signalled is what happened."""
        run = live.running.pop(index, None)
        if run is not None and run.task is not None:
            run.task.cancel()
        outcome = Outcome(
            "failed" if message.status == "failed" else "completed",
            msgspec.json.decode(message.outputs),
            message.error,
            message.attempt,
            message.started_at,
            message.finished_at,
        )
        ended = Ended(outcome, bytes(message.outputs), [])
        self._commit(live, index, ended, run.deliveries if run else [])
        return outcome

    def _advance(self, live: LiveCycle, step: Step, deliveries: Sequence[Delivery]) -> None:
        now = self._clock.now() if step.skipped else None
        for index in step.skipped:
            outcome = Outcome(SKIPPED.status, started_at=now, finished_at=now)
            for delivery in deliveries:
                delivery.hold()
            self._commit(live, index, Ended(outcome, b"{}", []), deliveries)
        for index in step.ready:
            self._start(live, index, deliveries)
        if live.state.is_done:
            self._end(live, deliveries)

    def _start(self, live: LiveCycle, index: int, deliveries: Sequence[Delivery]) -> None:
        if live.paused or live.graph.nodes[index].id in live.paused_nodes:
            live.held.append(index)
            return
        for delivery in deliveries:
            delivery.hold()
        run = NodeRun(index, list(deliveries))
        live.running[index] = run
        self._slots.submit(live.user_id, partial(self._launch, live, run))

    def _launch(self, live: LiveCycle, run: NodeRun) -> bool:
        if live.dropped or live.running.get(run.index) is not run:
            return False
        run.started_at = self._clock.now()
        slot = Slot(self._slots, live.user_id)
        run.step_aside = partial(self._step_aside, run, slot)
        run.task = asyncio.create_task(self._run(live, run, run.started_at, slot))
        return True

    def _step_aside(self, run: NodeRun, slot: Slot) -> None:
        slot.give_back()
        parked, run.deliveries = run.deliveries, []
        release_all(parked)

    async def _run(self, live: LiveCycle, run: NodeRun, started_at: datetime, slot: Slot) -> None:
        try:
            ended = await self._runner.run(live, run.index, started_at, slot.pause)
            if live.running.get(run.index) is run:
                del live.running[run.index]
                self._ended(live, run, ended)
        finally:
            slot.give_back()

    def _ended(self, live: LiveCycle, run: NodeRun, ended: Ended) -> None:
        node = live.graph.nodes[run.index]
        if not any(edge.source_handle in ended.outcome.outputs for edge in node.outgoing):
            step = live.state.finish(run.index, ended.outcome)
            for delivery in run.deliveries:
                delivery.hold()
            self._commit(live, run.index, ended, run.deliveries)
            self._advance(live, step, run.deliveries)
            release_all(run.deliveries)
            return
        live.ended[run.index] = ended.outcome
        self._observers.tell(live, node, ended)
        send = partial(self._signal, live, run, ended)
        if ended.state:
            # What was remembered cannot be told from the signals, so it must be durable before they go out.
            self._commit(live, run.index, ended, run.deliveries, then=send)
        else:
            for delivery in run.deliveries:
                delivery.hold()
            self._commit(live, run.index, ended, run.deliveries)
            send()

    def _signal(self, live: LiveCycle, run: NodeRun, ended: Ended) -> None:
        """Send the signals of an ended task; takes over one hold of each delivery."""
        flow_pk, cycle = live.key
        outcome = ended.outcome
        message = Signals(
            flow_pk,
            cycle,
            live.graph.nodes[run.index].id,
            outcome.status,
            msgspec.Raw(ended.outputs),
            None if outcome.error is None else dict(outcome.error),
            outcome.attempt,
            outcome.started_at or self._clock.now(),
            outcome.finished_at or self._clock.now(),
        )
        self._signaller.send(live.partition, encode(message), partial(release_all, run.deliveries))

    def _commit(
        self,
        live: LiveCycle,
        index: int,
        ended: Ended,
        deliveries: Sequence[Delivery],
        then: partial[None] | None = None,
    ) -> None:
        """Commit one ending; takes over one hold of each delivery, which `then` gets if it is given."""

        def settle(applied: bool) -> None:
            if applied and not live.dropped:
                live.mark_durable(index)
                if then is not None:
                    then()
                    return
            elif not applied:
                self._on_conflict(live)
            release_all(deliveries)

        node = live.graph.nodes[index]
        outputs = ended.outputs.decode()
        record = TaskRecord(live.key, node.id, ended.outcome, outputs, settle, ended.logs, ended.state, ended.journal)
        self._committer.add(record)

    def _end(self, live: LiveCycle, deliveries: Sequence[Delivery]) -> None:
        if live.is_ending:
            return
        live.is_ending = True
        for delivery in deliveries:
            delivery.hold()

        def settle(applied: bool) -> None:
            if not applied:
                self._on_conflict(live)
            else:
                self._discard(live)
                trace_cycle(self._traces, live)
            release_all(deliveries)

        ending = live.state.ending
        said = "" if ending == "completed" else f"cycle {ending}: {live.told_failures()}"
        self._committer.add(CycleRecord(live.key, ending, len(live.graph.nodes), settle, said))

    def _on_conflict(self, live: LiveCycle) -> None:
        """The database knows better than this memory: somebody else ended this task or this cycle. Begin from there."""
        if live.dropped:
            return
        deliveries = self._discard(live)
        restart = CycleStarted(*live.key)
        self._pending[live.key] += [(delivery, restart) for delivery in deliveries]
        self._loader.request(live.key)

    def _discard(self, live: LiveCycle) -> list[Delivery]:
        if self._cycles.get(live.key) is live:
            del self._cycles[live.key]
        return live.drop()

    # Control: what the database says about cycles this worker has in memory.

    def look_after_running(self) -> None:
        """Store as running what has been running for a while, and let go of the deliveries of what takes long."""
        now = self._clock.now()
        for live, run in self.running():
            age_s = (now - run.started_at).total_seconds() if run.started_at else 0.0
            if not run.is_shown and age_s >= SHOWN_AFTER_S:
                run.is_shown = True
                node_id = live.graph.nodes[run.index].id
                self._committer.add(RunningRecord(live.key, node_id, 1, run.started_at or now))
            if run.deliveries and age_s >= PARKED_AFTER_S and live.are_inputs_durable(run.index):
                parked, run.deliveries = run.deliveries, []
                release_all(parked)

    def changed(self, flow_pk: UUID) -> None:
        """Control changed a flow in the database, also for cycles of it that are being loaded now."""
        self._loader.changed(flow_pk)

    def reconcile(self, live: LiveCycle, stored: StoredCycle | None) -> None:
        """Follow what the database says now: ended cycles stop at once, terminated nodes too, paused flows hold."""
        if live.dropped:
            return
        if stored is None or stored.status != "running":
            release_all(self._discard(live))
            return
        live.paused = stored.flow_status == "paused"
        live.paused_nodes = stored.paused_nodes
        for name, outcome in stored.outcomes.items():
            index = live.graph.index.get(name)
            if index is not None and outcome.status == "terminated" and index not in live.state.outcomes:
                self._terminate(live, index, outcome)
        # The announcement of a resume may have come before this, while the pause was still in force here.
        self._release_held(live, [])

    def _terminate(self, live: LiveCycle, index: int, outcome: Outcome) -> None:
        run = live.running.pop(index, None)
        if run is not None and run.task is not None:
            run.task.cancel()
        live.ended.pop(index, None)
        deliveries = run.deliveries if run else []
        live.mark_durable(index)
        self._advance(live, live.state.finish(index, outcome), deliveries)
        release_all(deliveries)

    def _release_held(self, live: LiveCycle, deliveries: Sequence[Delivery]) -> None:
        """An announcement of a cycle we have: only what a pause held back has something to do."""
        if live.held and not live.paused:
            held, live.held = live.held, []
            self._advance(live, Step(ready=[i for i in held if i not in live.state.outcomes]), deliveries)
