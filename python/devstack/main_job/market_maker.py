"""The market maker as a process of its own, so that it can die and be started again like every other one."""

import argparse
import asyncio
import logging
from pathlib import Path

from devstack.market_maker import MarketMaker, following, wandering
from devstack.uniswap import LocalMarket

REPOSITORY = Path(__file__).resolve().parents[3]
# Any number: the same walk on every machine.
SEED = 7


def main() -> None:
    """Trade until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("market", type=Path, help="JSON of the pool and its tokens")
    parser.add_argument("--rpc-url", required=True)
    parser.add_argument("--candles", type=Path, help="follow the closes of this CSV instead of a seeded walk")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    market = LocalMarket.from_json(options.market.read_text(encoding="utf-8"))
    factors = wandering(SEED) if options.candles is None else following(options.candles)
    asyncio.run(MarketMaker(options.rpc_url, REPOSITORY, market, factors).run())


if __name__ == "__main__":
    main()
