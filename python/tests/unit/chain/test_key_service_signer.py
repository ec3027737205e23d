"""A key service answers in DER, with s in either half and no recovery bit: what comes of it is what nodes take."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature
from eth_account import Account

from tradingflow.chain.fees import Fees
from tradingflow.chain.key_service_signer import KeyServiceSigner
from tradingflow.chain.signature import CURVE_ORDER
from tradingflow.chain.signer import LocalSigner, UnsignedTransaction
from tradingflow.core.errors import DependencyUnavailable, InvariantBroken

SECRET = 0xA11CE
LOCAL = LocalSigner.from_key(f"0x{SECRET:064x}")
CALL = UnsignedTransaction(31337, 7, "0x" + "11" * 20, b"\x01\x02", 100_000, Fees(10**10, 10**9), value=3)


class Service:
    """Signs as a key service does; `upper` asks for the half of s that Ethereum refuses."""

    def __init__(self, secret: int = SECRET, *, upper: bool = False) -> None:
        self._key = ec.derive_private_key(secret, ec.SECP256K1())
        self._upper = upper

    async def sign_digest(self, digest: bytes) -> bytes:
        r, s = decode_dss_signature(self._key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
        return encode_dss_signature(r, max(s, CURVE_ORDER - s) if self._upper else s)


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("nonce", range(8))
async def test_signed_transaction_is_the_addresss_and_acceptable(nonce: int, upper: bool) -> None:
    signer = KeyServiceSigner(LOCAL.address, Service(upper=upper))
    call = UnsignedTransaction(CALL.chain_id, nonce, CALL.to, CALL.data, CALL.gas_limit, CALL.fees, CALL.value)
    signed = await signer.sign(call)
    assert Account.recover_transaction(signed.raw) == LOCAL.address
    assert signed.raw[:1] == b"\x02"
    assert len(signed.hash) == 66


async def test_key_that_is_not_the_addresss_is_refused() -> None:
    with pytest.raises(InvariantBroken, match="does not sign for"):
        await KeyServiceSigner(LOCAL.address, Service(0xB0B)).sign(CALL)


async def test_answer_that_is_no_signature_is_refused() -> None:
    class Broken:
        async def sign_digest(self, digest: bytes) -> bytes:
            return b"no"

    with pytest.raises(DependencyUnavailable, match="DER"):
        await KeyServiceSigner(LOCAL.address, Broken()).sign(CALL)
