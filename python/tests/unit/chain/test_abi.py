"""The ABIs we ship are those of the contracts we ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tradingflow.chain.abi import load_abi

ARTIFACTS = Path(__file__).resolve().parents[4] / "contracts" / "artifacts"


def compiled_abi(name: str) -> list[dict[str, object]]:
    abi: list[dict[str, object]] = json.loads((ARTIFACTS / f"{name}.json").read_text())["abi"]
    return abi


@pytest.mark.parametrize("name", ["Vault", "VaultFactory"])
def test_shipped_abi_equals_the_compiled_contract(name: str) -> None:
    assert load_abi(name) == compiled_abi(name)


def test_shipped_erc20_abi_is_what_the_test_token_offers_without_its_own_additions() -> None:
    standard = [e for e in compiled_abi("TestToken") if e["type"] != "constructor" and e.get("name") != "mint"]
    assert load_abi("ERC20") == standard
