"""A vault's policy, counters and balances as they stand on chain: what a copy of it on paper starts from."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eth_typing import BlockNumber

from tradingflow.chain.client import ChainClient
from tradingflow.chain.erc20 import balance_if_told
from tradingflow.chain.transactions import all_logs, head_number
from tradingflow.chain.vault_policy import DAY_S, LossCap, PolicyLedger, TokenRule, VaultPolicy
from tradingflow.core.evm import ZERO_ADDRESS, address_from_bytes, keccak

TOKEN_POLICY_SET = "0x" + keccak(b"TokenPolicySet(address,bool,uint256,uint256)").hex()
ROUTER_SET = "0x" + keccak(b"RouterSet(address,uint8)").hex()


@dataclass(frozen=True)
class VaultSnapshot:
    """`balances` maps tokens to base units, the zero address to the native currency. A token that does not tell its
    balance is not in it."""

    policy: VaultPolicy
    ledger: PolicyLedger
    balances: Mapping[str, int]
    block_number: int


async def read_vault(
    client: ChainClient, address: str, first_block: int, last_block: int | None = None
) -> VaultSnapshot:
    """Everything about a vault that decides on a trade, all at one block: the newest, or `last_block`.

    Which tokens and routers it knows is found in its own events since `first_block`; what holds now is asked.
    """
    block = await head_number(client) if last_block is None else last_block
    reader = _Reader(client, address, block)
    tokens, routers = await asyncio.gather(
        reader.named_by(TOKEN_POLICY_SET, first_block), reader.named_by(ROUTER_SET, first_block)
    )
    timestamp, rules, kinds, scalars, losses, held = await asyncio.gather(
        reader.time(),
        asyncio.gather(*(reader.read("tokenPolicy", token) for token in tokens)),
        asyncio.gather(*(reader.read("routerKind", router) for router in routers)),
        asyncio.gather(*(reader.read(name) for name in _SCALARS)),
        reader.read("lossPolicy"),
        reader.balances(tokens),
    )
    known = dict(zip(_SCALARS, scalars, strict=True))
    source, cap, window, counted = losses
    loss_cap = None if source == ZERO_ADDRESS else LossCap(str(source), int(cap), int(window))
    policy = VaultPolicy(
        routers={router: int(kind) for router, kind in zip(routers, kinds, strict=True) if kind},
        tokens={
            token: TokenRule(int(rule[1]), int(rule[2])) for token, rule in zip(tokens, rules, strict=True) if rule[0]
        },
        has_operator=known["operator"] != ZERO_ADDRESS,
        operator_expires_at=int(known["operatorExpiresAt"]),
        paused=bool(known["paused"]),
        cooldown_s=int(known["cooldown"]),
        loss_cap=loss_cap,
        wrapped_native=None if known["wrappedNative"] == ZERO_ADDRESS else str(known["wrappedNative"]),
    )
    ledger = PolicyLedger(
        spent={token: (timestamp // DAY_S, int(rule[3])) for token, rule in zip(tokens, rules, strict=True) if rule[3]},
        last_trade_at=int(known["lastTradeAt"]),
        # The contract tells the sum only; counted in this period it lasts at least as long as it would there.
        loss_period=timestamp // loss_cap.window_s if loss_cap else 0,
        loss_this_period=int(counted),
    )
    return VaultSnapshot(policy, ledger, held, block)


_SCALARS = ("operator", "operatorExpiresAt", "paused", "cooldown", "lastTradeAt", "wrappedNative")


class _Reader:
    def __init__(self, client: ChainClient, address: str, block: int) -> None:
        self._client = client
        self._address = address
        self._block = BlockNumber(block)

    async def read(self, function: str, *args: Any) -> Any:
        return await self._client.call("Vault", self._address, function, *args, block=self._block)

    async def named_by(self, topic: str, first_block: int) -> list[str]:
        """The addresses that are the first indexed argument of an event, each once."""
        logs = await all_logs(self._client, self._address, [topic], first_block, self._block)
        return list(dict.fromkeys(address_from_bytes(bytes(log["topics"][1])[12:]) for log in logs))

    async def balances(self, tokens: list[str]) -> dict[str, int]:
        held = await asyncio.gather(
            *(balance_if_told(self._client, token, self._address, self._block) for token in tokens)
        )
        address = self._client.web3.to_checksum_address(self._address)
        native = await self._client.guard(self._client.web3.eth.get_balance(address, self._block))
        told = {token: amount for token, amount in zip(tokens, held, strict=True) if amount is not None}
        return {**told, ZERO_ADDRESS: int(native)}

    async def time(self) -> int:
        block = await self._client.guard(self._client.web3.eth.get_block(self._block))
        return int(block["timestamp"])
