"""A trader that keeps the price of the local pool moving, so that strategies have something to react to."""

import asyncio
import csv
import logging
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import aiohttp
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.contract import AsyncContract
from web3.exceptions import Web3Exception

from devstack.uniswap import BASE_DECIMALS, FAR_FUTURE, QUOTE_DECIMALS, Artifacts, Deployer, LocalMarket
from tradingflow.chain.pool_math import invert, price_from_sqrt, sqrt_from_price

ACCOUNT = 8  # index of anvil's development phrase
PURSE = 2**120  # base units minted of each token: more than any walk can spend
WAVE_STEPS = 12
WAVE_HEIGHT = 0.03
NOISE = 0.004
RPC_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, Web3Exception)

logger = logging.getLogger("devstack.market_maker")


def wandering(seed: int) -> Iterator[Decimal]:
    """Endless factors on the starting price: a wave of three percent with noise; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - a market, not a secret
    phase = chance.uniform(0, 2 * math.pi)
    step = 0
    while True:
        step += 1
        exponent = WAVE_HEIGHT * (math.sin(2 * math.pi * step / WAVE_STEPS + phase) - math.sin(phase))
        yield Decimal(str(math.exp(exponent + chance.gauss(0, NOISE))))


def following(candles: Path) -> Iterator[Decimal]:
    """Endless factors along the closes of a candles file (columns date,open,high,low,close,volume), to and fro.

    Raises ValueError for a file without two positive closes, naming what is wrong.
    """
    closes = read_closes(candles)
    first = closes[0]
    while True:
        yield from (close / first for close in closes)
        yield from (close / first for close in closes[-2:0:-1])


def read_closes(candles: Path) -> Sequence[Decimal]:
    with candles.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if "close" not in (rows.fieldnames or ()):
            raise ValueError(f"{candles}: needs a header with the column close (date,open,high,low,close,volume)")
        closes = [Decimal(row["close"]) for row in rows]
    if len(closes) < 2 or any(close <= 0 for close in closes):
        raise ValueError(f"{candles}: needs at least two candles with a close above zero")
    return closes


@dataclass(frozen=True)
class Move:
    """One swap it made; prices in whole quote tokens for one whole base token."""

    block_number: int
    price_before: Decimal
    price_after: Decimal
    transaction_hash: str


def log_move(move: Move) -> None:
    logger.info("block %d: price %.4f -> %.4f", move.block_number, move.price_before, move.price_after)


class MarketMaker:
    """Steers the pool's price along `factors` of the price it found, one swap every `interval_s`, until cancelled.

    `on_move` hears of every swap that was mined.
    """

    def __init__(
        self,
        rpc_url: str,
        repository: Path,
        market: LocalMarket,
        factors: Iterator[Decimal],
        *,
        interval_s: float = 1.0,
        account_index: int = ACCOUNT,
        on_move: Callable[[Move], None] = log_move,
    ) -> None:
        self._market = market
        self._on_move = on_move
        self._factors = factors
        self._interval_s = interval_s
        self._account_index = account_index
        self._artifacts = Artifacts(repository)
        self._web3 = AsyncWeb3(AsyncHTTPProvider(rpc_url, request_kwargs={"timeout": aiohttp.ClientTimeout(total=10)}))
        self._start_price: Decimal | None = None
        self._trader: Deployer | None = None

    async def run(self) -> None:
        """Trade until cancelled; a chain that is away is waited for."""
        try:
            while True:
                await self._step_or_wait()
                await asyncio.sleep(self._interval_s)
        finally:
            await self._web3.provider.disconnect()

    async def _step_or_wait(self) -> None:
        try:
            await self._step()
        except (*RPC_ERRORS, RuntimeError) as error:
            logger.warning("the chain does not answer or refused (%s); trying again", type(error).__name__)
            self._trader = None

    async def _step(self) -> None:
        trader = self._trader or await self._prepare()
        pool = trader.at("UniswapV3Pool", self._market.pool)
        before = await self._price(pool)
        self._start_price = self._start_price or before
        target = self._start_price * next(self._factors)
        move = await self._push(trader, before, target)
        if move is not None:
            self._on_move(move)

    async def _prepare(self) -> Deployer:
        """Fill the purse and let the router take from it; again after a chain lost its last blocks."""
        account = (await self._web3.eth.accounts)[self._account_index]
        trader = Deployer(self._web3, self._artifacts, account)
        for address in (self._market.base_token, self._market.quote_token):
            token = trader.at("TestToken", address)
            if await token.functions.balanceOf(account).call() < PURSE // 2:
                await trader.send(token.functions.mint(account, PURSE))
            if await token.functions.allowance(account, self._market.swap_router).call() < PURSE // 2:
                await trader.send(token.functions.approve(self._market.swap_router, 2**256 - 1))
        self._trader = trader
        return trader

    async def _push(self, trader: Deployer, before: Decimal, target: Decimal) -> Move | None:
        """Swap until the pool stands at `target`: the router stops at the price limit and takes no more."""
        limit = self._as_sqrt(target)
        if limit == self._as_sqrt(before):
            return None
        buys = target > before
        token_in, token_out = self._market.quote_token, self._market.base_token
        if not buys:
            token_in, token_out = token_out, token_in
        router = trader.at("SwapRouter", self._market.swap_router)
        terms = (token_in, token_out, self._market.fee, trader.account, FAR_FUTURE, PURSE // 4, 0, limit)
        receipt = await trader.send(router.functions.exactInputSingle(terms))
        after = await self._price(trader.at("UniswapV3Pool", self._market.pool))
        return Move(receipt["blockNumber"], before, after, receipt["transactionHash"].to_0x_hex())

    @property
    def _base_is_token0(self) -> bool:
        return int(self._market.base_token, 16) < int(self._market.quote_token, 16)

    async def _price(self, pool: AsyncContract) -> Decimal:
        sqrt_price = (await pool.functions.slot0().call())[0]
        if self._base_is_token0:
            return price_from_sqrt(sqrt_price, BASE_DECIMALS, QUOTE_DECIMALS)
        return invert(price_from_sqrt(sqrt_price, QUOTE_DECIMALS, BASE_DECIMALS))

    def _as_sqrt(self, price: Decimal) -> int:
        if self._base_is_token0:
            return sqrt_from_price(price, BASE_DECIMALS, QUOTE_DECIMALS)
        return sqrt_from_price(invert(price), QUOTE_DECIMALS, BASE_DECIMALS)
