"""Chains: RPC, ABIs, contract wrappers. The only importer of web3 and eth_account."""
