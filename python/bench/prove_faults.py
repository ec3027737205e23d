"""`make prove-faults`: break each part of the compose deployment while flows trade, and see what becomes of it.

For each fault: which answers a front end got while it lasted, how long after its end until flows ran and every
container was well again. At the end nothing may be missing: every fire time led to a completed cycle, and trades
equal the chain's. FLOWS (20), TRADING (2), RATE (5), HOLD_S (15) seconds a fault lasts, ONLY=name,name for some of
them. Images as `make prove-deployment` builds them. Needs a Docker engine, a C compiler for clocks that are wrong, and
root for a small file system.
"""

import os
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench.deployment_faults import CLOCKED_SERVICES, Fault, all_faults, small_log_folder, unmount
from bench.deployment_flows import count_cycles, failures, register_flows
from bench.deployment_traffic import Traffic
from bench.figure import Figures, progress
from bench.loaded_deployment import LoadedDeployment, settle, show_trades
from bench.shifted_clocks import COMPOSE_FILE, ShiftedClocks
from devstack.errors import DevstackError

RECOVERY_TARGET_S = 60.0
RECOVERY_TIMEOUT_S = 180.0
BETWEEN_S = 5.0


def suffer(fault: Fault, deployed: LoadedDeployment, traffic: Traffic, figures: Figures) -> None:
    """Break, wait, mend, and measure until all is well."""
    progress(f"== {fault.name}")
    began = time.monotonic()
    fault.break_it()
    time.sleep(fault.hold_s)
    if fault.mend is not None:
        fault.mend()
    mended, mended_at = time.monotonic(), datetime.now(UTC)
    recovered_s = _recovery(deployed, mended, mended_at)
    seen = traffic.failed(began)
    figures.show(f"fault_{fault.name}", recovered_s, "s", target=f"recovers <= {RECOVERY_TARGET_S:g}",
                 ok=recovered_s <= RECOVERY_TARGET_S, by_itself=fault.mend is None,
                 unexplained=sum(count for answer, count in seen.items() if answer.startswith("500")),
                 front_end_saw=dict(seen.most_common(4)))  # fmt: skip
    time.sleep(BETWEEN_S)


def _recovery(deployed: LoadedDeployment, mended: float, mended_at: datetime) -> float:
    """Seconds until a cycle that fired afterwards is completed and every container is healthy."""
    while time.monotonic() - mended < RECOVERY_TIMEOUT_S:
        if _cycles_since(deployed, mended_at):
            try:
                deployed.project.wait_healthy()
            except DevstackError as problem:
                progress(str(problem)[-1500:])
                break
            return time.monotonic() - mended
        time.sleep(0.5)
    return RECOVERY_TIMEOUT_S


def _cycles_since(deployed: LoadedDeployment, moment: datetime) -> bool:
    query = f"SELECT count(*) FROM cycles WHERE status = 'completed' AND fire_time > '{moment.isoformat()}'"  # noqa: S608
    try:
        return deployed.project.rows(query)[0][0] != "0"
    except DevstackError:
        return False


def main() -> int:
    """Run once; prints the figures."""
    flows, trading = int(os.environ.get("FLOWS") or 20), int(os.environ.get("TRADING") or 2)
    rate, hold_s = float(os.environ.get("RATE") or 5), float(os.environ.get("HOLD_S") or 15)
    only = set(filter(None, os.environ.get("ONLY", "").split(",")))
    figures = Figures()
    with ExitStack() as opened:
        clocks = ShiftedClocks(CLOCKED_SERVICES)

        def prepare(home: Path) -> None:
            small_log_folder(home / "logs")
            opened.callback(unmount, home / "logs")
            clocks.install(home)

        deployed = LoadedDeployment(opened, prepare=prepare, more_files=(COMPOSE_FILE,))
        register_flows(
            deployed.parts.worker, deployed.world.deployment.market, deployed.vault, count=flows, trading=trading
        )
        traffic = deployed.traffic(rate)
        traffic.start()
        for fault in all_faults(deployed, clocks, hold_s):
            if not only or fault.name in only:
                suffer(fault, deployed, traffic, figures)
        until = datetime.now(UTC)
        traffic.stop()
        settle(deployed, flows, until)
        cycles = count_cycles(deployed.project, until)
        figures.show("faults_lost_cycles", cycles.lost, "cycles", target="== 0", ok=cycles.lost == 0, due=cycles.due)
        figures.show(
            "faults_failed_cycles", cycles.failed, "cycles", target="shown", ok=True, why=failures(deployed.project)
        )
        show_trades(figures, deployed)
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(main())
