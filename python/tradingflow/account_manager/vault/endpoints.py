from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends

from tradingflow.account_manager.dependencies import Reads, TheParts
from tradingflow.account_manager.fields import ChainId, EvmAddressField
from tradingflow.account_manager.pagination import Cursor, Limit, Page
from tradingflow.account_manager.performance.schemas import PerformanceResponse
from tradingflow.account_manager.portfolio import service as portfolio
from tradingflow.account_manager.portfolio.schemas import VaultPortfolio
from tradingflow.account_manager.vault import repository, service
from tradingflow.account_manager.vault.schemas import (
    AcceptedDeployment,
    CreateVaultRequest,
    DeploymentResponse,
    DepositRequest,
    EstimateRequest,
    EstimateResponse,
    OperationResponse,
    OperatorRequest,
    OperatorResponse,
    PolicyRequest,
    TransactionsResponse,
    VaultResponse,
    VaultSummary,
    WithdrawRequest,
)
from tradingflow.account_manager.vault.transactions import TransactionBuilder
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

DEPLOY_TASK = "vault.deploy"

router = APIRouter(prefix="/evm/vaults", tags=["vaults"], responses=error_responses(401, 403, 429, 404, 409, 503))


@router.post("/create", status_code=202)
async def create_vault(
    body: CreateVaultRequest, user: CurrentUser, parts: TheParts, background: BackgroundTasks
) -> AcceptedDeployment:
    """Ask for a vault. The answer names the task to poll and the address the vault will have (CREATE2)."""
    accepted = await service.request_deployment(parts, user, body)
    if accepted.is_new:
        background.add_task(parts.jobs.send_soon, DEPLOY_TASK, str(accepted.deployment.id))
    answer = DeploymentResponse.model_validate(accepted.deployment)
    return AcceptedDeployment(
        **answer.model_dump(by_alias=False) | {"id": answer.task_id}, gas_estimate=accepted.gas_estimate
    )


@router.post("/estimate")
async def estimate_vault(body: EstimateRequest, user: CurrentUser, parts: TheParts, session: Reads) -> EstimateResponse:
    """What a vault would take to create, before asking for one."""
    return await service.estimate(session, parts, user, body)


@router.get("/tasks/{task_id}")
async def read_task(task_id: UUID, user: CurrentUser, session: Reads) -> DeploymentResponse:
    """How far a deployment is."""
    return DeploymentResponse.model_validate(await service.read_deployment(session, user.user_id, task_id))


@router.get("")
async def list_vaults(user: CurrentUser, session: Reads) -> list[VaultSummary]:
    """The caller's vaults on all chains, oldest first."""
    return [VaultSummary.model_validate(vault) for vault in await repository.vaults_of(session, user.user_id)]


@router.get("/investor/{chain_id}/{address}")
async def list_investor_vaults(
    chain_id: ChainId, address: EvmAddressField, user: CurrentUser, session: Reads
) -> list[VaultSummary]:
    """The caller's vaults that one of the caller's wallets owns on a chain."""
    vaults = await service.vaults_of_wallet(session, user.user_id, chain_id, address)
    return [VaultSummary.model_validate(vault) for vault in vaults]


@router.get("/{chain_id}/operator")
async def read_operator(chain_id: ChainId, user: CurrentUser, parts: TheParts, session: Reads) -> OperatorResponse:
    """The address that trades for vaults on this chain once their owner allows it."""
    return OperatorResponse(chain_id=chain_id, operator=await service.operator(session, parts, chain_id))


@router.get("/{chain_id}/{vault}")
async def read_vault(
    chain_id: ChainId, vault: EvmAddressField, user: CurrentUser, parts: TheParts, session: Reads
) -> VaultResponse:
    """A vault's settings and policy as the chain has them now."""
    return await service.read_vault(session, parts, user.user_id, chain_id, vault)


@router.get("/{chain_id}/{vault}/portfolio")
async def read_vault_portfolio(
    chain_id: ChainId, vault: EvmAddressField, user: CurrentUser, parts: TheParts
) -> VaultPortfolio:
    """Balances and values of one vault, at most five seconds old."""
    return await portfolio.value_vault(parts, user.user_id, chain_id, vault)


@router.get("/{chain_id}/{vault}/performance")
async def read_vault_performance(
    chain_id: ChainId, vault: EvmAddressField, user: CurrentUser, parts: TheParts, session: Reads
) -> PerformanceResponse:
    """Profit (first in, first out), time-weighted return and drawdown of one vault, and the profit of its flows."""
    own = await service.own_vault(session, user.user_id, chain_id, vault)
    await session.close()  # the connection shall not wait for the report
    return await parts.reporter.of_vault(own)


@router.get("/{chain_id}/{vault}/operations")
async def list_operations(
    chain_id: ChainId,
    vault: EvmAddressField,
    user: CurrentUser,
    session: Reads,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[OperationResponse]:
    """Deposits, withdrawals, trades and policy changes of a vault, newest first."""
    return await service.operations(session, user.user_id, chain_id, vault, cursor, limit)


async def _builder(
    chain_id: ChainId, vault: EvmAddressField, user: CurrentUser, parts: TheParts, session: Reads
) -> TransactionBuilder:
    return await service.builder(session, parts, user.user_id, chain_id, vault)


Builder = Annotated[TransactionBuilder, Depends(_builder)]
_TRANSACTIONS = "/{chain_id}/{vault}/transactions"


@router.post(_TRANSACTIONS + "/deposit")
async def build_deposit(body: DepositRequest, build: Builder) -> TransactionsResponse:
    """Approval and deposit; the zero address deposits native currency."""
    return TransactionsResponse(transactions=await build.deposit(body.token, body.amount))


@router.post(_TRANSACTIONS + "/withdraw")
async def build_withdraw(body: WithdrawRequest, build: Builder) -> TransactionsResponse:
    """A withdrawal; possible at any time, also while trading is paused."""
    return TransactionsResponse(transactions=await build.withdraw(body))


@router.post(_TRANSACTIONS + "/policy")
async def build_policy(chain_id: ChainId, body: PolicyRequest, build: Builder, session: Reads) -> TransactionsResponse:
    """Operator, routers, tokens with their caps, cool-down and loss cap in one transaction."""
    default = await repository.operator_address(session, chain_id)
    known_tokens: set[str] = set()
    if body.loss_cap:
        known_tokens = await repository.owners_tokens(session, chain_id, build.vault, build.owner)
    await session.close()  # the connection shall not wait for the chain
    return TransactionsResponse(transactions=await build.policy(body, default, known_tokens))


@router.post(_TRANSACTIONS + "/operator")
async def build_operator(
    chain_id: ChainId, body: OperatorRequest, build: Builder, session: Reads
) -> TransactionsResponse:
    """Let an operator trade inside the policy until a time."""
    default = await repository.operator_address(session, chain_id)
    await session.close()  # the connection shall not wait for the chain
    return TransactionsResponse(transactions=await build.operator(body, default))


@router.post(_TRANSACTIONS + "/pause")
async def build_pause(build: Builder) -> TransactionsResponse:
    """Stop all trading at once."""
    return TransactionsResponse(transactions=await build.pause())


@router.post(_TRANSACTIONS + "/unpause")
async def build_unpause(build: Builder) -> TransactionsResponse:
    """Let trading go on."""
    return TransactionsResponse(transactions=await build.unpause())


@router.post(_TRANSACTIONS + "/revoke-operator")
async def build_revoke_operator(build: Builder) -> TransactionsResponse:
    """End the operator's power at once."""
    return TransactionsResponse(transactions=await build.revoke_operator())
