"""A vault as the executor speaks to it: what it allows, whether a trade was executed, how to ask for one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from hexbytes import HexBytes
from web3.types import BlockIdentifier, EventData, LogReceipt

from tradingflow.chain.client import ChainClient
from tradingflow.chain.transactions import Receipt, all_logs, estimate_gas, find_logs, simulate
from tradingflow.core.errors import Refused
from tradingflow.core.evm import ZERO_ADDRESS, address_from_bytes, keccak, to_bytes

# The vault's MAX_DEADLINE_S: how far ahead of the block's time a swap's deadline may lie.
LONGEST_DEADLINE = timedelta(seconds=120)
TRADE_EXECUTED_TOPIC = "0x" + keccak(b"TradeExecuted(bytes32,bytes32,address,address,uint256,uint256,address)").hex()


@dataclass(frozen=True)
class Swap:
    """The argument of `executeSwap`, field by field. Amounts in base units, `deadline` in Unix seconds."""

    trade_id: str
    flow_id: str
    router: str
    path: bytes
    amount_in: int
    min_amount_out: int
    deadline: int

    def as_argument(self) -> tuple[bytes, bytes, str, bytes, int, int, int]:
        return (
            to_bytes(self.trade_id),
            to_bytes(self.flow_id),
            self.router,
            self.path,
            self.amount_in,
            self.min_amount_out,
            self.deadline,
        )


@dataclass(frozen=True)
class Operator:
    """Who may trade, until when. `address` is None when the owner named nobody."""

    address: str | None
    expires_at: datetime

    @classmethod
    def from_words(cls, address: int, expires_at: int) -> Self:
        """From what `operator` and `operatorExpiresAt` return, as integers."""
        # An owner may let an operator stay for ever: 2**48 - 1 lies beyond what datetime can say.
        expiry = datetime.max.replace(tzinfo=UTC) if expires_at >= 2**37 else datetime.fromtimestamp(expires_at, UTC)
        return cls(address_from_bytes(address.to_bytes(20)) if address else None, expiry)


@dataclass(frozen=True)
class TokenPolicy:
    """How much of a token the vault lets a trade, and a UTC day, sell. Base units."""

    allowed: bool
    per_trade_cap: int
    per_day_cap: int
    spent_today: int


@dataclass(frozen=True)
class ExecutedTrade:
    """`TradeExecuted` as the chain has it: what really moved, in base units."""

    trade_id: str
    amount_in: int
    amount_out: int
    transaction_hash: str
    block_number: int
    block_hash: str


class VaultContract:
    """One vault on one chain."""

    def __init__(self, client: ChainClient, address: str) -> None:
        self._client = client
        self.address = address

    async def owner(self) -> str:
        return str(await self._read("owner"))

    async def operator(self) -> Operator:
        address, expires_at = await asyncio.gather(self._read("operator"), self._read("operatorExpiresAt"))
        return Operator.from_words(int(address, 16), expires_at)

    async def is_paused(self) -> bool:
        return bool(await self._read("paused"))

    async def cooldown_s(self) -> int:
        """Least seconds between two trades; 0 for none."""
        return int(await self._read("cooldown"))

    async def has_loss_cap(self) -> bool:
        """Whether the owner caps what trades may lose."""
        price_source, *_ = await self._read("lossPolicy")
        return bool(price_source != ZERO_ADDRESS)

    async def wrapped_native(self) -> str:
        return str(await self._read("wrappedNative"))

    async def router_kind(self, router: str) -> int:
        return int(await self._read("routerKind", router))

    async def token_policy(self, token: str) -> TokenPolicy:
        return TokenPolicy(*await self._read("tokenPolicy", token))

    async def trade_used(self, trade_id: str, *, block: BlockIdentifier = "latest") -> bool:
        """Whether the trade was executed, as of a block; DependencyUnavailable of a node that is not there yet."""
        return bool(await self._client.call("Vault", self.address, "tradeUsed", to_bytes(trade_id), block=block))

    def encode_swap(self, swap: Swap) -> bytes:
        encoded = self._client.contract("Vault", self.address).encode_abi("executeSwap", [swap.as_argument()])
        return bytes.fromhex(encoded[2:])

    async def simulate_swap(self, swap: Swap, sender: str, *, block: BlockIdentifier = "latest") -> int:
        """What the vault would receive. Raises CallReverted with the vault's own reason."""
        data = self.encode_swap(swap)
        returned = await simulate(self._client, sender=sender, to=self.address, data=data, block=block)
        return int.from_bytes(returned[:32])

    async def estimate_swap(self, swap: Swap, sender: str, *, block: BlockIdentifier = "latest") -> int:
        """Gas the swap would use. Raises CallReverted with the vault's own reason, Refused `gas_too_high`.

        The vault's owner chooses the router and the operator pays: what a router may burn needs a bound of ours.
        """
        data = self.encode_swap(swap)
        gas = await estimate_gas(self._client, sender=sender, to=self.address, data=data, block=block)
        if gas > (most := self._client.settings.max_trade_gas):
            raise Refused("gas_too_high", f"the trade would use {gas} gas; chain {self._client.chain_id} allows {most}")
        return gas

    def executed_trade(self, receipt: Receipt, trade_id: str) -> ExecutedTrade | None:
        """The vault's own event in a receipt; events of other addresses do not count."""
        for log in receipt.logs:
            if log["address"] == self.address and _topics(log)[:2] == [TRADE_EXECUTED_TOPIC, trade_id]:
                return self._decode(log)
        return None

    async def find_executed_trade(self, trade_id: str, first_block: int, last_block: int) -> ExecutedTrade | None:
        """Search the chain backwards for the trade's event."""
        topics = [TRADE_EXECUTED_TOPIC, trade_id]
        logs = await find_logs(self._client, self.address, topics, first_block, last_block)
        return self._decode(logs[0]) if logs else None

    async def executed_trades(self, first_block: int, last_block: int) -> list[ExecutedTrade]:
        """Every trade the vault executed in these blocks, oldest first."""
        logs = await all_logs(self._client, self.address, [TRADE_EXECUTED_TOPIC], first_block, last_block)
        return [self._decode(log) for log in logs]

    def _decode(self, log: LogReceipt) -> ExecutedTrade:
        event: EventData = self._client.contract("Vault", self.address).events["TradeExecuted"]().process_log(log)
        return ExecutedTrade(
            trade_id="0x" + bytes(event["args"]["tradeId"]).hex(),
            amount_in=int(event["args"]["amountIn"]),
            amount_out=int(event["args"]["amountOut"]),
            transaction_hash=HexBytes(log["transactionHash"]).to_0x_hex(),
            block_number=int(log["blockNumber"]),
            block_hash=HexBytes(log["blockHash"]).to_0x_hex(),
        )

    async def _read(self, function: str, *args: Any) -> Any:
        return await self._client.call("Vault", self.address, function, *args)


def _topics(log: LogReceipt) -> list[str]:
    return [HexBytes(topic).to_0x_hex() for topic in log["topics"]]
