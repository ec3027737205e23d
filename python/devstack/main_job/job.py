"""The main job itself, step by step, as a trader would do it; every step ends with a check against the chain."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from devstack.anvil import CHAIN_ID
from devstack.main_job.api import Api
from devstack.main_job.chain_truth import ChainTruth, ExecutedTrade
from devstack.main_job.deployment import Deployment, faucet
from devstack.main_job.flow import flow_document
from devstack.main_job.steps import Steps, require
from devstack.main_job.summary import Summary, TradeLine
from devstack.main_job.waiting import wait_for, wait_until_true
from devstack.main_job.wallet import Wallet
from devstack.uniswap import BASE_DECIMALS, QUOTE_DECIMALS, Artifacts

DEPOSIT_BASE = 5 * 10**BASE_DECIMALS
DEPOSIT_QUOTE = 10_000 * 10**QUOTE_DECIMALS
DEPLOY_TIMEOUT_S = 90
DISCOVER_TIMEOUT_S = 60
# Long enough for a service to be killed and come back several times on the way.
TRADING_TIMEOUT_S = 240
CYCLE_TIMEOUT_S = 6
SETTLE_TIMEOUT_S = 120
PORTFOLIO_TIMEOUT_S = 30
OPERATOR_DAYS = 30
OPEN_TRADES = ("requested", "submitted")


@dataclass
class Parts:
    """Everything the job works with."""

    accounts: Api
    worker: Api
    wallet: Wallet
    truth: ChainTruth
    deployment: Deployment
    artifacts: Artifacts
    min_cycles: int


class MainJob:
    """Plays the job once; fills the summary as it goes."""

    def __init__(self, parts: Parts, steps: Steps, summary: Summary) -> None:
        self._accounts = parts.accounts
        self._worker = parts.worker
        self._wallet = parts.wallet
        self._truth = parts.truth
        self._deployment = parts.deployment
        self._min_cycles = parts.min_cycles
        self._artifacts = parts.artifacts
        self._market = parts.deployment.market
        self._steps = steps
        self._summary = summary
        self._run_name = f"run_{int(time.time())}"
        self.flow_id = f"main_job_{self._run_name}"
        self._vault = ""
        self._vault_block = 0

    def play(self) -> None:
        """All steps; raises CheckFailed or ApiRefused at the first that is not true."""
        self.open_vault()
        self._register_flow()
        self._let_it_trade()
        self._stop_and_settle()
        self._check_trades()
        self._check_portfolio()
        self._check_events()

    def open_vault(self) -> str:
        """The steps up to a funded vault that the operator may trade through; its address."""
        self._sign_in()
        self._deploy_vault()
        self._fund_vault()
        self._see_discovery()
        return self._vault

    def resume_flow(self) -> None:
        """Let the flow trade on after the checks."""
        self._worker.post(f"/flows/{self.flow_id}/start")

    def _sign_in(self) -> None:
        with self._steps.step("sign in with a wallet (EIP-4361)") as say:
            request = {"address": self._wallet.address, "chain_id": CHAIN_ID}
            challenge = self._accounts.post("/auth/nonce", request)
            signature = self._wallet.sign_message(challenge["message"])
            tokens = self._accounts.post("/auth/login", {"message": challenge["message"], "signature": signature})
            self._refresh_token = tokens["refresh_token"]
            self._use_token(tokens["access_token"])
            me = self._accounts.get("/users/me")
            wallets = {wallet["address"] for wallet in me["wallets"]}
            require(self._wallet.address in wallets, f"/users/me lists {wallets}, not {self._wallet.address}")
            say(f"signed in as {self._wallet.address}")
            self._stop_earlier_flows()

    def _use_token(self, token: str) -> None:
        self._accounts.authorize(token, self._renew_token)
        self._worker.authorize(token, self._renew_token)

    def _renew_token(self) -> str:
        tokens = self._accounts.post("/auth/refresh", {"refresh_token": self._refresh_token})
        self._refresh_token = tokens["refresh_token"]
        token: str = tokens["access_token"]
        self._accounts.authorize(token)
        self._worker.authorize(token)
        return token

    def _stop_earlier_flows(self) -> None:
        for flow in self._worker.pages("/flows"):
            if flow["status"] == "running":
                self._worker.post(f"/flows/{flow['flow_id']}/stop")

    def _deploy_vault(self) -> None:
        with self._steps.step("deploy a vault over REST") as say:
            count_before = self._truth.vault_count()
            body = {"chain_id": CHAIN_ID, "request_key": self._run_name}
            task = self._accounts.post("/evm/vaults/create", body)
            again = self._accounts.post("/evm/vaults/create", body)
            require(task["task_id"] == again["task_id"], "the same request key made two deployments")
            self._vault = wait_for(
                lambda: self._deployed(task["task_id"], say), "the vault's deployment", timeout_s=DEPLOY_TIMEOUT_S
            )
            self._vault_block = self._truth.head()
            self._summary.vault_address = self._vault
            require(self._vault == task["predicted_address"], "the vault is not at its predicted address")
            require(self._truth.vault_owner(self._vault) == self._wallet.address, "the vault has another owner")
            made = self._truth.vault_count() - count_before
            require(made == 1, f"one vault was asked for, the factory made {made}")
            say(f"vault {self._vault}, owned by the trader")

    def _deployed(self, task_id: str, say: Any) -> str | None:
        task = self._accounts.get(f"/evm/vaults/tasks/{task_id}")
        say(f"deployment {task['status']}")
        require(task["status"] != "failed", f"the deployment failed: {task}")
        return task["predicted_address"] if task["status"] == "verified" else None

    def _fund_vault(self) -> None:
        with self._steps.step("allow the operator, set the policy, deposit") as say:
            market = self._market
            operator = self._accounts.get(f"/evm/vaults/{CHAIN_ID}/operator")["operator"]
            expires_at = datetime.now(UTC) + timedelta(days=OPERATOR_DAYS)
            policy = {
                "operator": {"operator": operator, "expires_at": expires_at.isoformat()},
                "routers": [{"router": market.swap_router, "kind": 1}],
                "tokens": [_allowed(market.base_token, DEPOSIT_BASE), _allowed(market.quote_token, DEPOSIT_QUOTE)],
            }
            self._owner_sends("policy", policy)
            say(f"operator {operator} may trade two tokens on one router")
            for token in (market.base_token, market.quote_token):
                self._accounts.post("/token/", {"chain_id": CHAIN_ID, "address": token})
            for token, amount in ((market.base_token, DEPOSIT_BASE), (market.quote_token, DEPOSIT_QUOTE)):
                self._wallet.send_all([faucet(self._artifacts, token, self._wallet.address, amount)])
                self._owner_sends("deposit", {"token": token, "amount": str(amount)})
                held = self._truth.balance(token, self._vault)
                require(held == amount, f"deposited {amount} of {token}, the vault holds {held}")
            value = self._portfolio_value()
            self._summary.vault_value_before = str(value)
            say(f"deposited; the vault is worth {value:,.2f}")

    def _owner_sends(self, action: str, body: dict[str, Any]) -> None:
        path = f"/evm/vaults/{CHAIN_ID}/{self._vault}/transactions/{action}"
        self._wallet.send_all(self._accounts.post(path, body)["transactions"])

    def _see_discovery(self) -> None:
        with self._steps.step("the Monitor discovers the vault and stores its events") as say:
            names = wait_for(self._vault_event_names, "the vault's stored events", timeout_s=DISCOVER_TIMEOUT_S)
            say(f"stored of the vault so far: {', '.join(sorted(names))}")

    def _vault_event_names(self) -> set[str] | None:
        names = {event["name"] for event in self._events_of(self._vault)}
        return names if {"UserDeposit", "OperatorSet"} <= names else None

    def _events_of(self, contract: str) -> list[dict[str, Any]]:
        return list(self._accounts.pages("/events", chain_id=CHAIN_ID, contract=contract, limit=500))

    def _register_flow(self) -> None:
        with self._steps.step("register the flow") as say:
            document = flow_document(self.flow_id, self._market, self._vault)
            self._worker.post("/flows/validate", document)
            flow = self._worker.post("/flows/execute", document)
            say(f"flow {flow['flow_id']} runs every {document['cycle_interval']}")

    def _let_it_trade(self) -> None:
        with self._steps.step(f"at least {self._min_cycles} cycles, one buy and one sell mined") as say:
            seen: set[str] = set()

            def enough() -> list[ExecutedTrade] | None:
                trades = self._truth.executed_trades(self._vault, self._vault_block)
                for trade in trades:
                    if trade.trade_id not in seen:
                        seen.add(trade.trade_id)
                        say(f"{self._side(trade)} mined in block {trade.block_number}: {trade.transaction_hash}")
                sides = {self._side(trade) for trade in trades}
                return trades if sides == {"buy", "sell"} and self._completed_cycles() >= self._min_cycles else None

            timeout_s = TRADING_TIMEOUT_S + self._min_cycles * CYCLE_TIMEOUT_S
            wait_for(enough, "enough cycles and trades", timeout_s=timeout_s)
            say(f"{self._completed_cycles()} cycles completed")

    def _completed_cycles(self) -> int:
        return sum(cycle["status"] == "completed" for cycle in self._worker.pages(f"/flows/{self.flow_id}/cycles"))

    def _side(self, trade: ExecutedTrade) -> str:
        return "buy" if trade.token_out == self._market.base_token else "sell"

    def _stop_and_settle(self) -> None:
        with self._steps.step("stop the flow and let open trades settle") as say:
            self._worker.post(f"/flows/{self.flow_id}/stop")
            wait_for(self._all_settled, "every trade to settle", timeout_s=SETTLE_TIMEOUT_S)
            self._summary.cycles_completed = self._completed_cycles()
            say("no trade is open any more")

    def _all_settled(self) -> bool | None:
        return None if any(trade["status"] in OPEN_TRADES for trade in self._trades()) else True

    def _trades(self) -> list[dict[str, Any]]:
        return list(self._accounts.pages("/trades", flow_id=self.flow_id, limit=500))

    def _check_trades(self) -> None:
        with self._steps.step("trade history equals the chain") as say:
            mined = wait_until_true(self._equal_trades, timeout_s=SETTLE_TIMEOUT_S)
            self._summary.trades = [self._line(trade) for trade in mined]
            say(f"{len(mined)} trades, each mined once, amounts and hashes equal")

    def _equal_trades(self) -> list[ExecutedTrade]:
        """A chain that lost its last blocks gives a settled trade back to the executor, which settles it anew."""
        require(self._all_settled(), "a trade is open again")
        stored = {trade["id"]: trade for trade in self._trades() if trade["status"] == "completed"}
        mined = self._truth.executed_trades(self._vault, self._vault_block)
        require(len({t.trade_id for t in mined}) == len(mined), "a trade id was mined twice")
        require(stored.keys() == {t.trade_id for t in mined}, f"stored {sorted(stored)}, mined {mined}")
        for trade in mined:
            require(self._truth.succeeded(trade.transaction_hash), f"{trade.transaction_hash} did not succeed")
            _require_equal(stored[trade.trade_id], trade)
        return mined

    def _line(self, trade: ExecutedTrade) -> TradeLine:
        bought = self._side(trade) == "buy"
        paid = Decimal(trade.amount_in).scaleb(-(QUOTE_DECIMALS if bought else BASE_DECIMALS))
        got = Decimal(trade.amount_out).scaleb(-(BASE_DECIMALS if bought else QUOTE_DECIMALS))
        names = ("tUSD", "tETH") if bought else ("tETH", "tUSD")
        price = paid / got if bought else got / paid
        return TradeLine(
            side=self._side(trade),
            trade_id=trade.trade_id,
            transaction_hash=trade.transaction_hash,
            block_number=trade.block_number,
            amount_in=f"{paid:f}",
            token_in=names[0],
            amount_out=f"{got:f}",
            token_out=names[1],
            price=f"{price:.6f}",
        )

    def _check_portfolio(self) -> None:
        with self._steps.step("portfolio equals the vault's balances on the chain") as say:
            portfolio = self._portfolio()
            held = {position["token"]: int(position["balance"]) for position in portfolio["positions"]}
            for token in (self._market.base_token, self._market.quote_token):
                on_chain = self._truth.balance(token, self._vault)
                require(held.get(token) == on_chain, f"portfolio says {held.get(token)} of {token}, chain {on_chain}")
            value = self._portfolio_value()
            self._summary.vault_value_after = str(value)
            say(f"the vault is worth {value:,.2f}")

    def _portfolio(self) -> dict[str, Any]:
        """As of the chain's head: what is answered may be some seconds older."""
        head = self._truth.head()

        def at_head() -> dict[str, Any]:
            found: dict[str, Any] = self._accounts.get(f"/evm/vaults/{CHAIN_ID}/{self._vault}/portfolio")
            require(found["block_number"] >= head, f"valued at block {found['block_number']}, the head is {head}")
            return found

        return wait_until_true(at_head, timeout_s=PORTFOLIO_TIMEOUT_S)

    def _portfolio_value(self) -> Decimal:
        portfolio = self._portfolio()
        require(portfolio["value"] is not None, f"the portfolio has no value: {portfolio}")
        self._summary.value_unit = portfolio["quote_symbol"]
        return Decimal(portfolio["value"])

    def _check_events(self) -> None:
        with self._steps.step("stored events equal the chain's logs") as say:
            head = self._truth.head()
            for contract in (self._vault, self._market.pool):
                expected = self._truth.logs(contract, self._deployment.start_block, head)
                wait_for(
                    lambda contract=contract, expected=expected: self._stored_up_to(contract, head, expected),  # type: ignore[misc]
                    f"{len(expected)} events of {contract} to be stored",
                    timeout_s=DISCOVER_TIMEOUT_S,
                )
                self._summary.events_stored += len(expected)
                say(f"{len(expected)} events of {contract}, nothing missing, nothing more")

    def _stored_up_to(self, contract: str, head: int, expected: set[Any]) -> bool | None:
        stored = {
            (event["transaction_hash"], event["log_index"])
            for event in self._events_of(contract)
            if event["block_number"] <= head
        }
        return True if stored == {(log.transaction_hash, log.log_index) for log in expected} else None


def _allowed(token: str, cap: int) -> dict[str, Any]:
    return {"token": token, "allowed": True, "per_trade_cap": str(cap), "per_day_cap": str(100 * cap)}


def _require_equal(stored: dict[str, Any], mined: ExecutedTrade) -> None:
    pairs = {
        "transaction_hash": mined.transaction_hash,
        "block_number": mined.block_number,
        "token_in": mined.token_in,
        "token_out": mined.token_out,
        "amount_in": str(mined.amount_in),
        "amount_out": str(mined.amount_out),
    }
    for name, value in pairs.items():
        require(stored[name] == value, f"trade {mined.trade_id}: stored {name} {stored[name]}, chain {value}")
