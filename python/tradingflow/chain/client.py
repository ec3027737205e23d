"""One chain as calls and transactions see it: web3 with our errors.

Logs at volume do not come through here; the Monitor reads them raw.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from eth_abi.exceptions import DecodingError
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.contract import AsyncContract
from web3.exceptions import (
    BadFunctionCallOutput,
    ContractLogicError,
    ContractPanicError,
    Web3Exception,
    Web3RPCError,
)
from web3.providers.rpc.utils import REQUEST_RETRY_ALLOWLIST, ExceptionRetryConfiguration
from web3.types import BlockIdentifier

from tradingflow.chain.abi import load_abi
from tradingflow.chain.failover import FailoverProvider
from tradingflow.chain.reverts import explain_revert
from tradingflow.core.config import ChainSettings
from tradingflow.core.errors import DependencyUnavailable, InvariantBroken, Refused

REQUEST_TIMEOUT_S = 10.0
READ_RETRIES = 3
# Reads repeat themselves where the connection failed, not where the node hangs; whoever sends decides on sending again.
_RETRIED = [method for method in REQUEST_RETRY_ALLOWLIST if method != "eth_sendRawTransaction"]
# How nodes say that execution failed; everything else they say is about themselves.
_EVM_FAILURES = ("revert", "out of gas", "gas required exceeds", "opcode", "jump destination", "vm execution")


class CallReverted(Refused):
    """A simulated call reverted. `code` and `detail` say why, in the contract's own words; `data` is what it said."""

    def __init__(self, data: bytes) -> None:
        super().__init__(*explain_revert(data))
        self.data = data


class AnswerMissing(DependencyUnavailable):
    """A call came back without what the function returns.

    Of a contract of ours it means a node that is not there yet; anybody else's may just not answer.
    """

    def __init__(self, chain_id: int) -> None:
        super().__init__("rpc_unavailable", f"the RPC of chain {chain_id} answered a call with nothing that was asked")


class ChainClient:
    """Calls and transactions on one chain, through all of its nodes. Close it when done: `await client.close()`."""

    def __init__(self, settings: ChainSettings) -> None:
        self.settings = settings
        self.chain_id = settings.chain_id
        # Where there are several nodes, the next one is the retry.
        retries = READ_RETRIES if len(settings.rpc_urls) == 1 else 1
        self._provider = FailoverProvider(settings.chain_id, settings.rpc_urls, lambda url: _node(url, retries))
        self.web3: AsyncWeb3[FailoverProvider] = AsyncWeb3(self._provider)
        self._contracts: dict[tuple[str, str], AsyncContract] = {}

    async def close(self) -> None:
        await self._provider.disconnect()

    async def verify_chain_id(self) -> None:
        """Raises InvariantBroken when the RPC node serves another chain than configured."""
        answered = await self.guard(self.web3.eth.chain_id)
        if answered != self.chain_id:
            raise InvariantBroken("wrong_chain", f"the RPC of chain {self.chain_id} answers for chain {answered}")

    def contract(self, abi_name: str, address: str) -> AsyncContract:
        key = (abi_name, address)
        if key not in self._contracts:
            self._contracts[key] = self.web3.eth.contract(
                address=self.web3.to_checksum_address(address), abi=load_abi(abi_name)
            )
        return self._contracts[key]

    async def call(
        self, abi_name: str, address: str, function: str, *args: Any, block: BlockIdentifier = "latest"
    ) -> Any:
        """`eth_call` of one function. Raises CallReverted, AnswerMissing, or DependencyUnavailable when RPC fails."""
        bound = self.contract(abi_name, address).functions[function](*args)
        return await self.guard(bound.call(block_identifier=block))

    async def code_at(self, address: str) -> bytes:
        """The runtime code at an address; empty for an account without code."""
        return bytes(await self.guard(self.web3.eth.get_code(self.web3.to_checksum_address(address))))

    async def guard(self, request: Any) -> Any:
        """Await one web3 request; its failures come out as ours."""
        try:
            return await request
        except ContractLogicError as error:
            if not _is_revert(error):
                raise DependencyUnavailable(
                    "rpc_error", f"the RPC of chain {self.chain_id} answered: {error.message}"
                ) from error
            raise CallReverted(_revert_data(error)) from error
        except (KeyError, DecodingError) as error:
            # web3 stumbles over a contract's malformed panic or lookup; no contract may stop its reader.
            raise CallReverted(b"") from error
        except Web3RPCError as error:
            message = node_message(error)
            if _is_evms(message):
                raise CallReverted(b"") from error
            raise DependencyUnavailable("rpc_error", f"the RPC of chain {self.chain_id} answered: {message}") from error
        except BadFunctionCallOutput as error:
            raise AnswerMissing(self.chain_id) from error
        except (TimeoutError, aiohttp.ClientError, OSError, Web3Exception) as error:
            raise DependencyUnavailable(
                "rpc_unavailable", f"the RPC of chain {self.chain_id} failed: {type(error).__name__}"
            ) from error


def _node(url: str, retries: int) -> AsyncHTTPProvider:
    return AsyncHTTPProvider(
        url,
        request_kwargs={"timeout": aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)},
        exception_retry_configuration=ExceptionRetryConfiguration(
            errors=(aiohttp.ClientError,), retries=retries, method_allowlist=_RETRIED
        ),
    )


def _is_revert(error: ContractLogicError) -> bool:
    """Whether a contract said it, and not the node.

    web3 takes any JSON-RPC error that carries `data` (a rate limit with a link to the prices, say) for a revert, and
    puts the word in front of its message.
    """
    said = str(error.message or "")
    if isinstance(error.data, dict):
        said = said.removeprefix("execution reverted: ")
    return bool(_revert_data(error)) or _is_evms(said) or isinstance(error, ContractPanicError)


def _is_evms(message: str) -> bool:
    lowered = message.lower()
    return any(words in lowered for words in _EVM_FAILURES)


def _revert_data(error: ContractLogicError) -> bytes:
    """The raw revert data; nodes send it as hex text, some wrapped in an object."""
    data = error.data.get("data") if isinstance(error.data, dict) else error.data
    if not isinstance(data, str):
        return b""
    try:
        return bytes.fromhex(data.removeprefix("Reverted ").removeprefix("0x"))
    except ValueError:
        return b""


def node_message(error: Web3RPCError) -> str:
    """The words of the node itself, without web3's around them."""
    response = error.rpc_response or {}
    detail = response.get("error")
    return str(detail.get("message", detail)) if isinstance(detail, dict) else str(error.message)
