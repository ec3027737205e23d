"""The built-in events are those of the contracts that are really deployed."""

import json
from pathlib import Path

import pytest

from tradingflow.chain.decoder import event_from_abi
from tradingflow.chain.registry import built_in_events

CONTRACTS = Path(__file__).resolve().parents[4] / "contracts"
UNISWAP = CONTRACTS / "node_modules/@uniswap"


@pytest.mark.parametrize(
    ("kind", "artifact"),
    [
        ("vault", CONTRACTS / "artifacts/Vault.json"),
        ("vault_factory", CONTRACTS / "artifacts/VaultFactory.json"),
        ("uniswap_v2_factory", UNISWAP / "v2-core/build/UniswapV2Factory.json"),
        ("uniswap_v2_pair", UNISWAP / "v2-core/build/UniswapV2Pair.json"),
        ("uniswap_v3_factory", UNISWAP / "v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json"),
        ("uniswap_v3_pool", UNISWAP / "v3-core/artifacts/contracts/UniswapV3Pool.sol/UniswapV3Pool.json"),
    ],
)
def test_built_in_events_are_those_of_the_artifact(kind: str, artifact: Path) -> None:
    if not artifact.exists():
        pytest.skip("contracts/node_modules is not installed: cd contracts && npm ci")
    abi = json.loads(artifact.read_text())["abi"]
    assert set(built_in_events()[kind]) == {event_from_abi(entry) for entry in abi if entry["type"] == "event"}
