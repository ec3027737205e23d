"""The user's own wallet: signs in messages and the unsigned transactions the Account Manager prepares."""

from typing import Any

from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from web3 import Web3

from devstack.main_job.steps import require

RECEIPT_TIMEOUT_S = 60
GAS_MARGIN = 1.3


class Wallet:
    """A key that never leaves this process, and the chain it pays gas on."""

    def __init__(self, account: LocalAccount, web3: Web3) -> None:
        self._account = account
        self._web3 = web3
        self.address: str = account.address

    def sign_message(self, text: str) -> str:
        """EIP-191 personal signature, 0x hex."""
        return self._account.sign_message(encode_defunct(text=text)).signature.to_0x_hex()

    def send_all(self, prepared: list[dict[str, Any]]) -> list[str]:
        """Sign and send unsigned transactions in order, each mined before the next; their hashes."""
        return [self._send(transaction) for transaction in prepared]

    def _send(self, prepared: dict[str, Any]) -> str:
        fees = self._web3.eth.fee_history(1, "latest", [50])
        tip = self._web3.to_wei(1, "gwei")
        request = {
            "to": prepared["to"],
            "data": prepared["data"],
            "value": int(prepared["value"]),
            "from": self.address,
            "chainId": int(prepared["chain_id"]),
            "nonce": self._web3.eth.get_transaction_count(self.address),  # type: ignore[arg-type]
            "maxPriorityFeePerGas": tip,
            "maxFeePerGas": 2 * fees["baseFeePerGas"][-1] + tip,
        }
        request["gas"] = int(self._web3.eth.estimate_gas(request) * GAS_MARGIN)  # type: ignore[arg-type]
        del request["from"]
        signed = self._account.sign_transaction(request)
        sent = self._web3.eth.send_raw_transaction(signed.raw_transaction)
        receipt = self._web3.eth.wait_for_transaction_receipt(sent, timeout=RECEIPT_TIMEOUT_S, poll_latency=0.1)
        require(receipt["status"] == 1, f"the wallet's transaction {sent.to_0x_hex()} was reverted")
        return sent.to_0x_hex()
