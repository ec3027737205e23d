"""`make prove-load`: the compose deployment under a steady load, and replaced under it without anybody noticing.

FLOWS flows (100) every ten seconds, TRADING of them (4) with a trade through a vault, RATE requests a second (20), on a
chain with a block a second, for MINUTES (10). RESTARTS=n (0) replaces all services n times meanwhile, with deploy.sh
and another tag, as a release does. Images as `make prove-deployment` builds them. Needs a Docker engine.
"""

import os
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime

from bench.container_memory import MemoryWatch
from bench.deployment_flows import count_cycles, failures, register_flows
from bench.deployment_traffic import Traffic
from bench.figure import Figures, progress
from bench.loaded_deployment import LoadedDeployment, logged_errors, settle, show_trades, tell_errors

P99_TARGET_S = 0.2
GROWTH_TARGET = 1.1
GROUPS = ("account-services", "worker")


def spend(seconds: float, deployed: LoadedDeployment, restarts: int) -> None:
    """Let the load run, with the restarts spread evenly over it."""
    began = time.monotonic()
    for number in range(restarts):
        _sleep_until(began + seconds * (number + 0.5) / (restarts + 0.5))
        for group in GROUPS:
            deployed.deploy(group, f"roll{number}")
    _sleep_until(began + seconds)


def _sleep_until(moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        progress(f"  {left:.0f} s left")
        time.sleep(min(left, 30))


def main() -> int:
    """Run once; prints the figures."""
    flows, trading = int(os.environ.get("FLOWS") or 100), int(os.environ.get("TRADING") or 4)
    minutes, rate = float(os.environ.get("MINUTES") or 10), float(os.environ.get("RATE") or 20)
    restarts = int(os.environ.get("RESTARTS") or 0)
    figures = Figures()
    with ExitStack() as opened:
        deployed = LoadedDeployment(opened)
        opened.callback(tell_errors, deployed.home)
        progress(f"{flows} flows ({trading} trade), {rate:g} requests/s for {minutes:g} min, {restarts} restarts")
        market = deployed.world.deployment.market
        register_flows(deployed.parts.worker, market, deployed.vault, count=flows, trading=trading)
        traffic, memory = deployed.traffic(rate), MemoryWatch(deployed.project)
        traffic.start()
        memory.start()
        spend(minutes * 60, deployed, restarts)
        until = datetime.now(UTC)
        memory.stop()
        traffic.stop()
        settle(deployed, flows, until)
        show(figures, deployed, traffic, restarts=restarts, until=until)
        if not restarts:
            show_memory(figures, memory)
    return figures.exit_code


def show(figures: Figures, deployed: LoadedDeployment, traffic: Traffic, *, restarts: int, until: datetime) -> None:
    """Judge what was measured."""
    failed = traffic.failed()
    figures.show("load_failed_requests", failed.total(), "requests", target="== 0", ok=not failed,
                 requests=len(traffic.answers), restarts=restarts, failures=dict(failed.most_common(5)))  # fmt: skip
    p99_s = traffic.p99_s()
    # The target is of a load that nobody disturbs: services that start take all of two cores for seconds.
    target = "shown" if restarts else f"<= {P99_TARGET_S * 1000:g}"
    figures.show("load_api_p99", p99_s * 1000, "ms", target=target, ok=bool(restarts) or p99_s <= P99_TARGET_S,
                 routes=traffic.p99_ms_of_each())  # fmt: skip
    cycles = count_cycles(deployed.project, until)
    figures.show("load_lost_cycles", cycles.lost, "cycles", target="== 0", ok=cycles.lost == 0, due=cycles.due)
    figures.show("load_failed_cycles", cycles.failed, "cycles", target="== 0", ok=cycles.failed == 0,
                 why=failures(deployed.project))  # fmt: skip
    show_trades(figures, deployed)
    errors = logged_errors(deployed.home)
    figures.show("load_logged_errors", len(errors), "lines", target="== 0", ok=not errors)


def show_memory(figures: Figures, memory: MemoryWatch) -> None:
    """The last minute against the second one, each container by itself."""
    growth = memory.growth()
    worst = max(growth, key=lambda name: growth[name])
    figures.show("load_memory_growth", growth[worst], "ratio", target=f"<= {GROWTH_TARGET:g} in every container",
                 ok=growth[worst] <= GROWTH_TARGET, container=worst, last_mb=memory.last_mb(),
                 each=_rounded(growth), each_without_shared=_rounded(memory.growth(shared=False)))  # fmt: skip


def _rounded(growth: dict[str, float]) -> dict[str, float]:
    return {name: round(ratio, 3) for name, ratio in growth.items()}


if __name__ == "__main__":
    sys.exit(main())
