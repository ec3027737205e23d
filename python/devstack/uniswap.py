"""Real Uniswap V3 on a local chain: the published artifacts, two test tokens, and a pool with liquidity."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.contract import AsyncContract
from web3.types import RPCEndpoint, TxReceipt

from tradingflow.chain.pool_math import sqrt_from_price
from tradingflow.core.evm import ZERO_ADDRESS
from tradingflow.core.money import MAX_UINT256, from_human

# Account indexes of anvil's development phrase; 0 is left to whoever uses the market.
DEPLOYER = 9
POOL_FEE = 3000
BASE_DECIMALS = 18
QUOTE_DECIMALS = 6
FULL_RANGE = (-887_220, 887_220)  # the widest ticks divisible by 60, the tick spacing of this fee
OBSERVATIONS = 300  # enough for a five-minute average at a block a second
FAR_FUTURE = 2**40
RECEIPT_TIMEOUT_S = 60


@dataclass(frozen=True)
class LocalMarket:
    """Addresses of one deployment. `base_token` has 18 decimals and a price in `quote_token`, which has 6."""

    factory: str
    swap_router: str
    quoter: str
    position_manager: str
    weth: str
    base_token: str
    quote_token: str
    pool: str
    fee: int

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "LocalMarket":
        return cls(**json.loads(text))


class Artifacts:
    """Compiled contracts by name: ours and the published ones of Uniswap."""

    _UNISWAP: Mapping[str, str] = {
        "UniswapV3Factory": "v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json",
        "UniswapV3Pool": "v3-core/artifacts/contracts/UniswapV3Pool.sol/UniswapV3Pool.json",
        "NonfungiblePositionManager": "v3-periphery/artifacts/contracts/NonfungiblePositionManager.sol/"
        "NonfungiblePositionManager.json",
        "SwapRouter": "v3-periphery/artifacts/contracts/SwapRouter.sol/SwapRouter.json",
        "QuoterV2": "v3-periphery/artifacts/contracts/lens/QuoterV2.sol/QuoterV2.json",
        "UniswapV2Factory": "v2-core/build/UniswapV2Factory.json",
        "UniswapV2Pair": "v2-core/build/UniswapV2Pair.json",
        "UniswapV2Router02": "v2-periphery/build/UniswapV2Router02.json",
    }

    def __init__(self, repository: Path) -> None:
        self._contracts = repository / "contracts"

    def load(self, name: str) -> dict[str, Any]:
        """`abi` and `bytecode` (0x hex) of one contract."""
        published = self._UNISWAP.get(name)
        path = self._contracts / (f"node_modules/@uniswap/{published}" if published else f"artifacts/{name}.json")
        artifact: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not artifact["bytecode"].startswith("0x"):
            artifact["bytecode"] = "0x" + artifact["bytecode"]
        return artifact


class Deployer:
    """Sends from one of anvil's unlocked accounts and waits for each receipt."""

    def __init__(self, web3: AsyncWeb3[AsyncHTTPProvider], artifacts: Artifacts, account: str) -> None:
        self.web3 = web3
        self.account = account
        self._artifacts = artifacts

    async def deploy(self, name: str, *arguments: Any) -> AsyncContract:
        artifact = self._artifacts.load(name)
        factory = self.web3.eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
        receipt = await self.send(factory.constructor(*arguments))
        return self.at(name, str(receipt["contractAddress"]))

    def at(self, name: str, address: str) -> AsyncContract:
        checksummed = self.web3.to_checksum_address(address)
        return self.web3.eth.contract(address=checksummed, abi=self._artifacts.load(name)["abi"])

    async def send(self, call: Any) -> TxReceipt:
        """Raises RuntimeError when the transaction is mined as failed."""
        sent = await call.transact({"from": self.account})
        await self._mine_now()
        receipt = await self.web3.eth.wait_for_transaction_receipt(sent, timeout=RECEIPT_TIMEOUT_S, poll_latency=0.02)
        if receipt["status"] != 1:
            raise RuntimeError(f"transaction {sent.hex()} failed")
        return receipt

    async def _mine_now(self) -> None:
        """Do not wait for the next block where the chain mines by the clock."""
        await self.web3.provider.make_request(RPCEndpoint("evm_mine"), [])


async def deploy_market(
    rpc_url: str,
    repository: Path,
    *,
    price: Decimal = Decimal(2000),
    base_liquidity: Decimal = Decimal(1000),
    account_index: int = DEPLOYER,
) -> LocalMarket:
    """Deploy everything and open the pool at `price` (whole quote token for one whole base token).

    Liquidity is spread over the full range: `base_liquidity` whole base tokens and their worth in quote tokens.
    """
    web3 = AsyncWeb3(AsyncHTTPProvider(rpc_url))
    try:
        deployer = Deployer(web3, Artifacts(repository), (await web3.eth.accounts)[account_index])
        base = await deployer.deploy("TestToken", "Test Ether", "tETH", BASE_DECIMALS)
        quote = await deployer.deploy("TestToken", "Test Dollar", "tUSD", QUOTE_DECIMALS)
        contracts = await _deploy_contracts(deployer)
        pool = await _open_pool(deployer, contracts, base, quote, price)
        await _add_liquidity(deployer, contracts["position_manager"], base, quote, price, base_liquidity)
    finally:
        await web3.provider.disconnect()
    addresses = {name: str(contract.address) for name, contract in contracts.items()}
    return LocalMarket(**addresses, base_token=base.address, quote_token=quote.address, pool=pool.address, fee=POOL_FEE)


@dataclass(frozen=True)
class V2Exchange:
    """A V2 router and its one pair, of the market's two tokens."""

    router: str
    pair: str


async def open_v2_exchange(
    deployer: Deployer, market: LocalMarket, *, base: Decimal = Decimal(100), quote: Decimal = Decimal(200_000)
) -> V2Exchange:
    """Deploy Uniswap V2 beside the market, with a pair that holds these whole tokens, minted for it."""
    factory = await deployer.deploy("UniswapV2Factory", ZERO_ADDRESS)
    router = await deployer.deploy("UniswapV2Router02", factory.address, market.weth)
    amounts = {
        market.base_token: from_human(base, BASE_DECIMALS),
        market.quote_token: from_human(quote, QUOTE_DECIMALS),
    }
    for address, amount in amounts.items():
        token = deployer.at("TestToken", address)
        await deployer.send(token.functions.mint(deployer.account, amount))
        await deployer.send(token.functions.approve(router.address, amount))
    least = (0, 0, deployer.account, FAR_FUTURE)
    await deployer.send(router.functions.addLiquidity(*amounts, *amounts.values(), *least))
    pair = await factory.functions.getPair(*amounts).call()
    return V2Exchange(str(router.address), str(pair))


async def _deploy_contracts(deployer: Deployer) -> dict[str, AsyncContract]:
    weth = await deployer.deploy("TestWrappedNative")
    factory = await deployer.deploy("UniswapV3Factory")
    return {
        "factory": factory,
        "weth": weth,
        "swap_router": await deployer.deploy("SwapRouter", factory.address, weth.address),
        "quoter": await deployer.deploy("QuoterV2", factory.address, weth.address),
        # The descriptor only draws the position's picture; nothing here asks for it.
        "position_manager": await deployer.deploy(
            "NonfungiblePositionManager", factory.address, weth.address, ZERO_ADDRESS
        ),
    }


async def _open_pool(
    deployer: Deployer, contracts: dict[str, AsyncContract], base: AsyncContract, quote: AsyncContract, price: Decimal
) -> AsyncContract:
    token0, token1 = _sorted(base, quote)
    if base.address == token0.address:
        sqrt_price = sqrt_from_price(price, BASE_DECIMALS, QUOTE_DECIMALS)
    else:
        sqrt_price = sqrt_from_price(1 / price, QUOTE_DECIMALS, BASE_DECIMALS)
    create = contracts["position_manager"].functions.createAndInitializePoolIfNecessary
    await deployer.send(create(token0.address, token1.address, POOL_FEE, sqrt_price))
    address = await contracts["factory"].functions.getPool(token0.address, token1.address, POOL_FEE).call()
    pool = deployer.at("UniswapV3Pool", address)
    await deployer.send(pool.functions.increaseObservationCardinalityNext(OBSERVATIONS))
    return pool


async def _add_liquidity(
    deployer: Deployer,
    position_manager: AsyncContract,
    base: AsyncContract,
    quote: AsyncContract,
    price: Decimal,
    base_liquidity: Decimal,
) -> None:
    amounts = {
        base.address: from_human(base_liquidity, BASE_DECIMALS),
        quote.address: from_human((base_liquidity * price).quantize(Decimal(1)), QUOTE_DECIMALS),
    }
    for token in (base, quote):
        await deployer.send(token.functions.mint(deployer.account, amounts[token.address]))
        await deployer.send(token.functions.approve(position_manager.address, MAX_UINT256))
    token0, token1 = _sorted(base, quote)
    desired = (amounts[token0.address], amounts[token1.address])
    position = (token0.address, token1.address, POOL_FEE, *FULL_RANGE, *desired, 0, 0, deployer.account, FAR_FUTURE)
    await deployer.send(position_manager.functions.mint(position))


def _sorted(a: AsyncContract, b: AsyncContract) -> tuple[AsyncContract, AsyncContract]:
    """A pool's token0 is the one with the lower address."""
    return (a, b) if int(a.address, 16) < int(b.address, 16) else (b, a)
