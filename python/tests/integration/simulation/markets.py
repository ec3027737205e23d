"""Uniswap deployments of two tokens, and their own words for what a swap pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from web3.contract import AsyncContract
from web3.exceptions import ContractLogicError
from web3.logs import DISCARD

from devstack.uniswap import FAR_FUTURE, Deployer
from tradingflow.chain.amm.concentrated import TICK_SPACINGS, ConcentratedPool
from tradingflow.chain.amm.constant_product import ConstantProductPool
from tradingflow.core.evm import ZERO_ADDRESS
from tradingflow.core.money import MAX_UINT256

POOL_EVENTS = ("Initialize", "Mint", "Burn", "Swap", "Collect")


async def deploy_tokens(deployer: Deployer, count: int, spenders: list[str]) -> list[AsyncContract]:
    """Tokens in the order of their addresses, a fortune of each minted and approved."""
    tokens = [await deployer.deploy("TestToken", f"Token {n}", f"T{n}", 18) for n in range(count)]
    for token in tokens:
        await deployer.send(token.functions.mint(deployer.account, 10**60))
        for spender in spenders:
            await deployer.send(token.functions.approve(spender, MAX_UINT256))
    return sorted(tokens, key=lambda token: int(token.address, 16))


@dataclass
class V3Market:
    """One V3 pool under test."""

    deployer: Deployer
    manager: AsyncContract
    router: AsyncContract
    quoter: AsyncContract
    pool: AsyncContract
    tokens: list[AsyncContract]
    fee: int

    @classmethod
    async def deploy(cls, deployer: Deployer, fee: int, sqrt_price: int) -> V3Market:
        weth = await deployer.deploy("TestWrappedNative")
        factory = await deployer.deploy("UniswapV3Factory")
        around = (factory.address, weth.address)
        manager = await deployer.deploy("NonfungiblePositionManager", *around, ZERO_ADDRESS)
        router = await deployer.deploy("SwapRouter", *around)
        quoter = await deployer.deploy("QuoterV2", *around)
        tokens = await deploy_tokens(deployer, 2, [manager.address, router.address])
        market = cls(deployer, manager, router, quoter, manager, tokens, fee)
        await market.open(factory, sqrt_price)
        return market

    async def open(self, factory: AsyncContract, sqrt_price: int) -> None:
        low, high = (token.address for token in self.tokens)
        create = self.manager.functions.createAndInitializePoolIfNecessary
        await self.deployer.send(create(low, high, self.fee, sqrt_price))
        address = await factory.functions.getPool(low, high, self.fee).call()
        self.pool = self.deployer.at("UniswapV3Pool", address)

    async def add(self, lower: int, upper: int, amounts: tuple[int, int]) -> int:
        """Open a position; its token id."""
        low, high = (token.address for token in self.tokens)
        account = self.deployer.account
        terms = (low, high, self.fee, lower, upper, *amounts, 0, 0, account, FAR_FUTURE)
        receipt = await self.deployer.send(self.manager.functions.mint(terms))
        (told,) = self.manager.events.IncreaseLiquidity().process_receipt(receipt, errors=DISCARD)
        return int(told["args"]["tokenId"])

    async def remove(self, position: int, share: int) -> None:
        """Take `share` percent of a position's liquidity out."""
        held = (await self.manager.functions.positions(position).call())[7]
        terms = (position, held * share // 100, 0, 0, FAR_FUTURE)
        await self.deployer.send(self.manager.functions.decreaseLiquidity(terms))

    async def quote(self, path: bytes, amount: int) -> int | None:
        """QuoterV2's answer, None for a revert."""
        try:
            return int((await self.quoter.functions.quoteExactInput(path, amount).call())[0])
        except ContractLogicError:
            return None

    async def swap(self, path: bytes, amount: int) -> tuple[int, int]:
        """What SwapRouter moves: (taken from us, paid to us)."""
        sold = self.tokens[0] if path[:20] == bytes.fromhex(self.tokens[0].address[2:]) else self.tokens[1]
        bought = self.tokens[1] if sold is self.tokens[0] else self.tokens[0]
        before = [await self._held(token) for token in (sold, bought)]
        terms = (path, self.deployer.account, FAR_FUTURE, amount, 0)
        await self.deployer.send(self.router.functions.exactInput(terms))
        after = [await self._held(token) for token in (sold, bought)]
        return before[0] - after[0], after[1] - before[1]

    async def history(self, from_block: int = 0) -> list[tuple[str, dict[str, Any]]]:
        """The pool's own events in order: name and arguments."""
        return await events_of(self.pool, POOL_EVENTS, from_block)

    def empty_pool(self) -> ConcentratedPool:
        low, high = (token.address for token in self.tokens)
        return ConcentratedPool(low, high, self.fee, TICK_SPACINGS[self.fee])

    async def _held(self, token: AsyncContract) -> int:
        return int(await token.functions.balanceOf(self.deployer.account).call())


async def events_of(contract: AsyncContract, names: tuple[str, ...], from_block: int) -> list[tuple[str, Any]]:
    logs = [log for name in names for log in await contract.events[name]().get_logs(from_block=from_block)]
    logs.sort(key=lambda log: (log["blockNumber"], log["logIndex"]))
    return [(log["event"], dict(log["args"])) for log in logs]


@dataclass
class V2Market:
    """One V2 pair under test."""

    deployer: Deployer
    router: AsyncContract
    pair: AsyncContract
    tokens: list[AsyncContract]

    @classmethod
    async def deploy(cls, deployer: Deployer, reserves: tuple[int, int]) -> V2Market:
        weth = await deployer.deploy("TestWrappedNative")
        factory = await deployer.deploy("UniswapV2Factory", deployer.account)
        router = await deployer.deploy("UniswapV2Router02", factory.address, weth.address)
        tokens = await deploy_tokens(deployer, 2, [router.address])
        addresses = [token.address for token in tokens]
        add = router.functions.addLiquidity(*addresses, *reserves, 0, 0, deployer.account, FAR_FUTURE)
        await deployer.send(add)
        pair = deployer.at("UniswapV2Pair", await factory.functions.getPair(*addresses).call())
        return cls(deployer, router, pair, tokens)

    async def swap(self, sold: int, amount: int) -> int:
        """What the router pays for `amount` of token `sold` (0 or 1)."""
        path = [self.tokens[sold].address, self.tokens[1 - sold].address]
        bought = self.tokens[1 - sold].functions.balanceOf(self.deployer.account)
        before = await bought.call()
        terms = (amount, 0, path, self.deployer.account, FAR_FUTURE)
        await self.deployer.send(self.router.functions.swapExactTokensForTokens(*terms))
        return int(await bought.call() - before)

    async def reserves(self) -> tuple[int, int]:
        reserve0, reserve1, _ = await self.pair.functions.getReserves().call()
        return int(reserve0), int(reserve1)

    async def as_pool(self) -> ConstantProductPool:
        low, high = (token.address for token in self.tokens)
        return ConstantProductPool(low, high, *await self.reserves())
