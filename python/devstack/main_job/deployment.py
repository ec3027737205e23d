"""What stands on the local chain: Uniswap with its pool, and our factory. Kept from one run to the next."""

import asyncio
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from web3 import Web3

from devstack.anvil import CHAIN_ID
from devstack.uniswap import Artifacts, LocalMarket, deploy_market
from devstack.vaults import deploy_factory


@dataclass(frozen=True)
class Deployment:
    """`start_block` is the first block that can hold something of ours."""

    market: LocalMarket
    vault_factory: str
    start_block: int
    start_block_hash: str

    def stands_on(self, web3: Web3) -> bool:
        """Whether this is the chain it was deployed on: the same block, and code at the factory."""
        if int(web3.eth.block_number) < self.start_block:
            return False
        same = web3.eth.get_block(self.start_block)["hash"].to_0x_hex() == self.start_block_hash
        return same and bool(web3.eth.get_code(Web3.to_checksum_address(self.vault_factory)))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Deployment | None":
        """The deployment of an earlier run; None when there is none."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**kept, "market": LocalMarket(**kept["market"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None


def faucet(artifacts: Artifacts, token: str, to: str, amount: int) -> dict[str, Any]:
    """An unsigned transaction, in the form the Account Manager prepares them, that mints test tokens."""
    contract = Web3().eth.contract(address=Web3.to_checksum_address(token), abi=artifacts.load("TestToken")["abi"])
    data = contract.encode_abi("mint", [to, amount])
    return {"to": token, "data": data, "value": "0", "chain_id": CHAIN_ID}


def deploy(rpc_url: str, repository: Path) -> Deployment:
    """Deploy everything afresh."""
    web3 = Web3(Web3.HTTPProvider(rpc_url))
    start = web3.eth.get_block("latest")
    market = asyncio.run(deploy_market(rpc_url, repository))
    factory = asyncio.run(deploy_factory(rpc_url, repository, market.weth))
    return Deployment(market, factory, int(start["number"]), start["hash"].to_0x_hex())
