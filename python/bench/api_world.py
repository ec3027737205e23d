"""The rows `bench-api` reads: users with a wallet, a vault, fresh valuations, a flow and trades each."""
# ruff: noqa: S608 - every piece of SQL stands in this file

from __future__ import annotations

from uuid import UUID

import asyncpg

USER = UUID(int=1)
BENCH_CHAIN = 31337
TRADES_OF_USER = 100

_PK = "('00000000-0000-0000-0000-' || lpad(to_hex(u), 12, '0'))::uuid"
_ADDRESS = "decode(lpad(to_hex(u), 40, '0'), 'hex')"
SEED = (
    f"INSERT INTO users (id) SELECT {_PK} FROM generate_series(1, $1) u",
    f"INSERT INTO wallets (id, user_id, address) SELECT {_PK}, {_PK}, {_ADDRESS} FROM generate_series(1, $1) u",
    f"""INSERT INTO vaults (id, user_id, chain_id, address, owner_address, factory, created_block)
        SELECT {_PK}, {_PK}, {BENCH_CHAIN}, {_ADDRESS}, {_ADDRESS}, {_ADDRESS}, 1 FROM generate_series(1, $1) u""",
    f"""INSERT INTO flows (id, user_id, flow_id, status, mode, current_version)
        SELECT {_PK}, {_PK}, 'flow', 'running', 'live', 1 FROM generate_series(1, $1) u""",
    f"""INSERT INTO vault_valuations (vault_id, taken_at, block_number, positions, value)
        SELECT {_PK}, now() + interval '1 day' - n * interval '1 minute', n, '[
            {{"token": "0x00000000000000000000000000000000000000AA", "symbol": "ETH", "decimals": 18,
              "balance": "1000000000000000000", "amount": "1", "price": "2000", "value": "2000", "reason": null}},
            {{"token": "0x00000000000000000000000000000000000000Bb", "symbol": "USD", "decimals": 6,
              "balance": "5000000", "amount": "5", "price": "1", "value": "5", "reason": null}}]'::jsonb, 2005
        FROM generate_series(1, $1) u, generate_series(1, 10) n""",
    f"""INSERT INTO tokens (id, chain_id, address, symbol, name, decimals)
        SELECT {_PK}, {BENCH_CHAIN}, {_ADDRESS}, 'TOK' || u, 'Token', 18 FROM generate_series(1, $1) u""",
)
TRADES = f"""INSERT INTO trades (id, user_id, flow_pk, version, cycle, node_id, chain_id, vault_address, router, path,
        token_in, token_out, amount_in, slippage_bps, status, amount_out, created_at, settled_at)
    SELECT decode(lpad(to_hex(u), 24, '0') || lpad(to_hex(n), 40, '0'), 'hex'), {_PK}, {_PK}, 1, n, 'swap',
        {BENCH_CHAIN}, {_ADDRESS}, {_ADDRESS}, ''::bytea, {_ADDRESS}, {_ADDRESS}, 1000000000000000000, 50,
        'completed', 2000000000,
        now() - n * interval '1 minute', now()
    FROM generate_series(1, $1) u, generate_series(1, $2) n"""


async def fill(dsn: str, users: int) -> int:
    """Returns how many trades there are."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in SEED:
            await connection.execute(statement, users, timeout=600)
        await connection.execute(TRADES, users, TRADES_OF_USER, timeout=600)
        await connection.execute("VACUUM ANALYZE", timeout=600)
        return users * TRADES_OF_USER
    finally:
        await connection.close()
