"""Chains: RPC, ABIs, contract wrappers. The only importer of web3 and eth_account."""

import sys

# py_ecc, which web3 brings along, raises the recursion limit to 100,000 when it is first imported. Deeply nested JSON
# would then overflow the C stack and end the process, where Python's own limit makes it an error. So it is imported
# here, before any module that needs it, and the limit put back.
_limit = sys.getrecursionlimit()
import py_ecc  # noqa: E402, F401

sys.setrecursionlimit(_limit)
