"""Who is who on the local chain: accounts of anvil's public development phrase, holding play money only."""

from eth_account import Account
from eth_account.signers.local import LocalAccount

from devstack.anvil import MNEMONIC

TRADER = 0
OPERATOR = 1
MARKET_MAKER = 8


def account(index: int) -> LocalAccount:
    """The account at this index of the development phrase."""
    Account.enable_unaudited_hdwallet_features()
    derived: LocalAccount = Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
    return derived
