"""Our factory and ready-made vaults on a local chain."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.contract import AsyncContract

from devstack.uniswap import DEPLOYER, Artifacts, Deployer, LocalMarket
from tradingflow.core.money import MAX_UINT256

OWNER = 1
UNISWAP_V3_ROUTER = 1
OPERATOR_FOR_EVER = 2**48 - 1  # the latest expiry a vault can store
NO_SALT = b"\0" * 32


@dataclass(frozen=True)
class VaultTerms:
    """What a ready-made vault allows and holds. Amounts in base units; caps of None mean no cap."""

    deposits: Mapping[str, int]
    per_trade_cap: int | None = None
    per_day_cap: int | None = None
    cooldown_s: int = 0


async def deploy_factory(rpc_url: str, repository: Path, wrapped_native: str, *, account_index: int = DEPLOYER) -> str:
    """Deploy VaultFactory (which deploys the Vault implementation) and return its address."""
    async with LocalVaults(rpc_url, repository, account_index) as vaults:
        return str((await vaults.deployer.deploy("VaultFactory", wrapped_native)).address)


class LocalVaults:
    """Makes vaults for one of anvil's unlocked accounts, who becomes their owner."""

    def __init__(self, rpc_url: str, repository: Path, owner_index: int = OWNER) -> None:
        self._web3 = AsyncWeb3(AsyncHTTPProvider(rpc_url))
        self._artifacts = Artifacts(repository)
        self._owner_index = owner_index
        self.deployer: Deployer

    async def __aenter__(self) -> Self:
        self.deployer = Deployer(self._web3, self._artifacts, (await self._web3.eth.accounts)[self._owner_index])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._web3.provider.disconnect()

    @property
    def owner(self) -> str:
        return self.deployer.account

    async def open_vault(
        self, factory: str, market: LocalMarket, operator: str, terms: VaultTerms, *, salt: bytes = NO_SALT
    ) -> str:
        """Create a vault that may trade the market's two tokens, and deposit freshly minted tokens."""
        maker = self.deployer.at("VaultFactory", factory)
        await self.deployer.send(maker.functions.createVault(self.owner, salt))
        vault = self.deployer.at("Vault", await maker.functions.predictVault(self.owner, salt).call())
        await self.deployer.send(vault.functions.multicall(_policy(vault, market, operator, terms)))
        for token, amount in terms.deposits.items():
            await self.deposit(vault, token, amount)
        return str(vault.address)

    async def deposit(self, vault: AsyncContract, token: str, amount: int) -> None:
        minted = self.deployer.at("TestToken", token)
        await self.deployer.send(minted.functions.mint(self.owner, amount))
        await self.deployer.send(minted.functions.approve(vault.address, amount))
        await self.deployer.send(vault.functions.deposit(token, amount))


def _policy(vault: AsyncContract, market: LocalMarket, operator: str, terms: VaultTerms) -> list[str]:
    caps = (_cap(terms.per_trade_cap), _cap(terms.per_day_cap))
    return [
        vault.encode_abi("setOperator", [operator, OPERATOR_FOR_EVER]),
        vault.encode_abi("setRouter", [market.swap_router, UNISWAP_V3_ROUTER]),
        vault.encode_abi("setTokenPolicy", [market.base_token, True, *caps]),
        vault.encode_abi("setTokenPolicy", [market.quote_token, True, *caps]),
        vault.encode_abi("setCooldown", [terms.cooldown_s]),
    ]


def _cap(amount: int | None) -> int:
    return MAX_UINT256 if amount is None else amount
