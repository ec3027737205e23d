"""What the chain itself says, read with plain JSON-RPC calls and the compiled ABIs: the judge of the main job."""

from dataclasses import dataclass
from typing import Any

from requests import RequestException
from web3 import Web3
from web3.contract import Contract
from web3.providers.rpc.utils import ExceptionRetryConfiguration

from devstack.uniswap import Artifacts, LocalMarket

# A chain that was killed is back after about a second; the waits double from 0.25 s to 32 s.
AWAY = ExceptionRetryConfiguration(errors=(RequestException,), retries=8, backoff_factor=0.25)


def connect(rpc_url: str) -> Web3:
    """The local chain, asked again while it is away."""
    return Web3(Web3.HTTPProvider(rpc_url, exception_retry_configuration=AWAY))


@dataclass(frozen=True)
class ExecutedTrade:
    """One `TradeExecuted` of a vault, from a receipt's log."""

    trade_id: str
    transaction_hash: str
    block_number: int
    token_in: str
    token_out: str
    amount_in: int
    amount_out: int


@dataclass(frozen=True)
class RawLog:
    """What identifies a log for good."""

    transaction_hash: str
    log_index: int
    address: str


class ChainTruth:
    """Reads of the local chain for checks."""

    def __init__(self, web3: Web3, artifacts: Artifacts, market: LocalMarket, factory: str) -> None:
        self._web3 = web3
        self._artifacts = artifacts
        self._market = market
        self._factory = self._contract("VaultFactory", factory)

    def _contract(self, name: str, address: str) -> Contract:
        return self._web3.eth.contract(address=Web3.to_checksum_address(address), abi=self._artifacts.load(name)["abi"])

    def head(self) -> int:
        return int(self._web3.eth.block_number)

    def vault_count(self) -> int:
        return int(self._factory.functions.vaultCount().call())

    def vault_owner(self, vault: str) -> str:
        return str(self._contract("Vault", vault).functions.owner().call())

    def balance(self, token: str, holder: str, block: int | None = None) -> int:
        """Base units held; at `block`, or now."""
        function = self._contract("TestToken", token).functions.balanceOf(Web3.to_checksum_address(holder))
        return int(function.call(block_identifier="latest" if block is None else block))

    def succeeded(self, transaction_hash: str) -> bool:
        return bool(self._web3.eth.get_transaction_receipt(transaction_hash)["status"] == 1)  # type: ignore[arg-type]

    def executed_trades(self, vault: str, from_block: int) -> list[ExecutedTrade]:
        """Every `TradeExecuted` the vault emitted since `from_block`, in chain order."""
        logs = self._contract("Vault", vault).events.TradeExecuted().get_logs(from_block=from_block)
        return [
            ExecutedTrade(
                trade_id=Web3.to_hex(log["args"]["tradeId"]),
                transaction_hash=log["transactionHash"].to_0x_hex(),
                block_number=log["blockNumber"],
                token_in=log["args"]["tokenIn"],
                token_out=log["args"]["tokenOut"],
                amount_in=log["args"]["amountIn"],
                amount_out=log["args"]["amountOut"],
            )
            for log in logs
        ]

    def logs(self, address: str, from_block: int, to_block: int) -> set[RawLog]:
        """Every log of one contract in an inclusive block range."""
        query: Any = {"address": Web3.to_checksum_address(address), "fromBlock": from_block, "toBlock": to_block}
        return {
            RawLog(log["transactionHash"].to_0x_hex(), log["logIndex"], log["address"])
            for log in self._web3.eth.get_logs(query)
        }
