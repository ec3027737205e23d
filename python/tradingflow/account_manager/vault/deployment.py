"""Deploying a vault: queued → signed → broadcast → mined → verified, resumed at any point by `advance`.

A verified vault whose creation a reorg took out is under way again: back to broadcast, until it is verified anew.

Anyone may create anyone's vault at its predicted address, and a new vault allows nothing. So a vault that is there
already counts as mined; what makes it ours to show is that code, owner and registry are verified on chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from tradingflow.account_manager.relayer import repository as transactions
from tradingflow.account_manager.relayer.relayer import Call, Intent, Mined, Relayer, StateBlock, Taken, state_block
from tradingflow.account_manager.relayer.steps import Step
from tradingflow.account_manager.relayer.transitions import DECIDED, DeploymentStatus, TransactionStatus
from tradingflow.account_manager.vault import deployment_repository as repository
from tradingflow.chain.client import ChainClient
from tradingflow.chain.factory import VaultFactoryContract, clone_code
from tradingflow.chain.transactions import block_hash, estimate_gas, head_number
from tradingflow.chain.vault import VaultContract
from tradingflow.core.errors import Refused
from tradingflow.core.logging import get_logger
from tradingflow.db.models import Transaction, VaultDeployment

log = get_logger(__name__)

PURPOSE = "vault_deployment"
GAS_HEADROOM_PERCENT = 120


class VaultDeployer:
    """Advances deployments on all chains with the signers of its relayer."""

    def __init__(self, relayer: Relayer) -> None:
        self._relayer = relayer

    async def advance(self, deployment_id: UUID) -> None:
        """One step or several; what is left is left to the next call. Raises DependencyUnavailable."""
        async with self._relayer.sessions() as session:
            deployment = await repository.find(session, deployment_id)
        if deployment is None:
            log.warning("no such deployment", deployment_id=str(deployment_id))
            return
        try:
            await self._advance(deployment)
        except Refused as refusal:
            if deployment.status == DeploymentStatus.QUEUED:
                await self._fail(deployment, refusal.code, refusal.detail)
            else:
                log.warning("deployment cannot go on now", deployment_id=str(deployment.id), code=refusal.code)

    async def _advance(self, deployment: VaultDeployment) -> None:
        if deployment.status == DeploymentStatus.QUEUED:
            await self._begin(deployment)
        elif deployment.status in (DeploymentStatus.SIGNED, DeploymentStatus.BROADCAST):
            await self._follow(deployment)
        elif deployment.status == DeploymentStatus.MINED:
            await self._verify(deployment)

    # ------------------------------------------------------------------ queued → signed → broadcast

    async def _begin(self, deployment: VaultDeployment) -> None:
        factory = VaultFactoryContract(self._client(deployment))
        if await factory.is_vault(deployment.predicted_address):
            await self._move(deployment, DeploymentStatus.MINED)
            await self.advance(deployment.id)
            return
        transaction = await self._prepare(deployment, factory)
        if transaction is not None:
            self._relayer.reached(Step.PREPARED)
            await self._broadcast(deployment, transaction)
            await self.advance(deployment.id)

    async def _prepare(self, deployment: VaultDeployment, factory: VaultFactoryContract) -> Transaction | None:
        """None when another executor was faster."""
        signer = await self._choose_signer(deployment)
        data = factory.encode_create(deployment.owner_address, deployment.salt)
        gas, fees, _ = await asyncio.gather(
            estimate_gas(self._client(deployment), sender=signer, to=factory.address, data=data),
            self._relayer.fees(deployment.chain_id),
            self._relayer.ensure_nonces(deployment.chain_id, signer),
        )
        call = Call(factory.address, data, gas * GAS_HEADROOM_PERCENT // 100)
        intent = Intent(PURPOSE, str(deployment.id), deployment.chain_id)
        async with self._relayer.sessions() as session, session.begin():
            await repository.lock(session, deployment.id)
            if not await repository.move(session, deployment.id, DeploymentStatus.SIGNED):
                return None
            transaction = await self._relayer.prepare(session, intent, signer, call, fees)
            self._relayer.reached(Step.PREPARED_BEFORE_COMMIT)
        return transaction

    async def _broadcast(self, deployment: VaultDeployment, transaction: Transaction) -> None:
        outcome = await self._relayer.broadcast(transaction)
        if outcome.is_held:
            async with self._relayer.sessions.begin() as session:
                await repository.record_sent(session, deployment.id, transaction.hash)

    # ------------------------------------------------------------------ broadcast → mined

    async def _follow(self, deployment: VaultDeployment) -> None:
        async with self._relayer.sessions() as session:
            attempts = await transactions.slot_attempts(session, PURPOSE, str(deployment.id))
        outcome = await self._relayer.look(attempts)
        if isinstance(outcome, Mined):
            await self._settle(deployment, attempts, outcome)
        elif isinstance(outcome, Taken):
            await self._start_over(deployment, attempts)
        elif self._relayer.is_overdue(attempts[-1]) and await self._replace(deployment, attempts):
            return
        elif self._relayer.is_silent(attempts[-1]):
            await self._broadcast(deployment, attempts[-1])

    async def _settle(self, deployment: VaultDeployment, attempts: Sequence[Transaction], mined: Mined) -> None:
        receipt = mined.receipt
        depth = await head_number(self._client(deployment)) - receipt.block_number + 1
        if depth < self._relayer.settings.trade_confirmations:
            return
        async with self._relayer.sessions() as session, session.begin():
            await repository.lock(session, deployment.id)
            # A revert may mean that somebody else created it first: verification tells.
            moved = await repository.move(
                session, deployment.id, DeploymentStatus.MINED, transaction_hash=receipt.transaction_hash
            )
            if moved:
                await transactions.record_mined(session, attempts, receipt)
        await self.advance(deployment.id)

    async def _start_over(self, deployment: VaultDeployment, attempts: Sequence[Transaction]) -> None:
        async with self._relayer.sessions() as session, session.begin():
            row = await repository.lock(session, deployment.id)
            current = await transactions.slot_attempts(session, PURPOSE, str(deployment.id))
            if row.status != deployment.status or current[-1].id != attempts[-1].id:
                return  # another executor has started over already, or seen it mined
            await transactions.set_status(session, [a.id for a in attempts], TransactionStatus.REPLACED)
            await repository.move(session, deployment.id, DeploymentStatus.QUEUED)

    async def _replace(self, deployment: VaultDeployment, attempts: Sequence[Transaction]) -> bool:
        """Whether another attempt was sent."""
        latest = attempts[-1]
        factory = VaultFactoryContract(self._client(deployment))
        data = factory.encode_create(deployment.owner_address, deployment.salt)
        call = Call(factory.address, data, latest.gas_limit)
        try:
            fees = self._relayer.replacement_fees(attempts, call, await self._relayer.fees(deployment.chain_id))
            if fees is None:
                return False
            async with self._relayer.sessions() as session, session.begin():
                await repository.lock(session, deployment.id)
                replacement = await self._relayer.prepare_replacement(session, call, latest, fees)
        except IntegrityError:
            return True  # another executor replaced this attempt in the meantime
        except Refused as refusal:
            log.warning("vault creation cannot be replaced now", deployment_id=str(deployment.id), code=refusal.code)
            return False
        await self._broadcast(deployment, replacement)
        return True

    # ------------------------------------------------------------------ mined → verified

    async def _verify(self, deployment: VaultDeployment) -> None:
        client = self._client(deployment)
        factory = VaultFactoryContract(client)
        address = deployment.predicted_address
        async with self._relayer.sessions() as session:
            attempts = await transactions.slot_attempts(session, PURPOSE, str(deployment.id))
        decided = next((attempt for attempt in attempts if attempt.status in DECIDED), None)
        if not await factory.is_vault(address, block=await self._block_of(decided)):
            await self._end_uncreated(deployment, attempts, decided)
            return
        vault = VaultContract(client, address)
        implementation, owner, code = await asyncio.gather(
            factory.implementation(), vault.owner(), client.code_at(address)
        )
        if not code:
            log.warning("code of a new vault is not visible yet", deployment_id=str(deployment.id), vault=address)
            return
        if owner != deployment.owner_address or code != clone_code(implementation, deployment.owner_address):
            await self._fail(deployment, "verification_failed", f"code or owner of {address} is not what was asked for")
            return
        created_block = await factory.created_block(deployment.owner_address, address)
        async with self._relayer.sessions() as session, session.begin():
            if await repository.move(session, deployment.id, DeploymentStatus.VERIFIED):
                await repository.add_vault(session, deployment, factory.address, created_block)
        log.info("vault verified", chain_id=deployment.chain_id, vault=address)
        self._relayer.reached(Step.SETTLED)

    async def _block_of(self, decided: Transaction | None) -> StateBlock:
        """The block to look for the vault in: that of our own transaction, where we have one."""
        if decided is None or decided.block_number is None:
            return "latest"
        head = await head_number(self._relayer.chains[decided.chain_id])
        return state_block(decided.block_number, head - decided.block_number + 1)

    async def _end_uncreated(
        self, deployment: VaultDeployment, attempts: Sequence[Transaction], decided: Transaction | None
    ) -> None:
        """There is no vault: our transaction did not create it, or a reorg has taken out what did."""
        address = deployment.predicted_address
        if decided is None or decided.block_number is None:
            log.warning("a vault that was there already is gone", deployment_id=str(deployment.id), vault=address)
            await self._move(deployment, DeploymentStatus.QUEUED)
            return
        found = await block_hash(self._client(deployment), decided.block_number)
        if found is None:
            return  # a node that is behind knows no block there yet: that is no reorg
        if found == decided.block_hash:
            await self._fail(deployment, "not_created", f"the factory did not create a vault at {address}")
            return
        log.warning("block of a vault's creation was reorganised away", deployment_id=str(deployment.id), vault=address)
        async with self._relayer.sessions.begin() as session:
            await repository.reopen(session, deployment.id, attempts)

    # ------------------------------------------------------------------ helpers

    async def _choose_signer(self, deployment: VaultDeployment) -> str:
        """Whoever has the least to do pays: a new vault does not care who created it. Raises Refused `no_operator`."""
        addresses = self._relayer.signers.addresses
        if not addresses:
            raise Refused("no_operator", "this executor holds no operator key")
        async with self._relayer.sessions() as session:
            return await transactions.least_busy(session, deployment.chain_id, addresses)

    async def _move(self, deployment: VaultDeployment, target: DeploymentStatus) -> None:
        async with self._relayer.sessions() as session, session.begin():
            await repository.move(session, deployment.id, target)

    async def _fail(self, deployment: VaultDeployment, code: str, detail: str) -> None:
        """End it, unless another executor has moved it since we looked: then what we found may be its doing."""
        async with self._relayer.sessions() as session, session.begin():
            row = await repository.lock(session, deployment.id)
            if row.status != deployment.status:
                return
            await repository.move(
                session, deployment.id, DeploymentStatus.FAILED, failure_code=code, failure_detail=detail
            )
        log.warning("vault deployment failed", deployment_id=str(deployment.id), code=code)

    def _client(self, deployment: VaultDeployment) -> ChainClient:
        client = self._relayer.chains.get(deployment.chain_id)
        if client is None:
            raise Refused("unknown_chain", f"chain {deployment.chain_id} is not served")
        return client
