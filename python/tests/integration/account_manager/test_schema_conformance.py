"""Schemathesis over the whole OpenAPI document, against the running process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx

from devstack.anvil import CHAIN_ID, Anvil
from tests.integration.account_manager.conftest import sign, wallet
from tests.integration.account_manager.test_server_process import running_server

CASES_AN_OPERATION = 5
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance"
CHECKS += ",response_schema_conformance,negative_data_rejection,missing_required_header,ignored_auth"
# A loaded machine may take longer over the document than httpx waits by itself.
ANSWER_S = 60.0
# What may end the session a run is signed in with: these have a run, and a session, of their own.
ENDING = ("/auth/logout", "/users/me", "/auth/sessions/{session_id}")


def test_no_server_error_and_no_answer_outside_the_schema(
    database_url: str, redis_url: str, rabbitmq_url: str, anvil: Anvil, tmp_path: Path
) -> None:
    """The whole document, in two runs."""
    with running_server(database_url, redis_url, rabbitmq_url, anvil, SIGN_IN_LIMIT="100000/minute") as url:
        operations = sum(
            len(methods) for methods in httpx.get(f"{url}/openapi.json", timeout=ANSWER_S).json()["paths"].values()
        )
        tested = _tested(url, "--exclude-path", tmp_path) + _tested(url, "--include-path", tmp_path)
    assert tested == operations


def _tested(url: str, option: str, directory: Path) -> int:
    """Run schemathesis with `option` for each of ENDING; returns how many operations were tested."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
    command += ["-H", f"Authorization: Bearer {_access_token(url)}", "--checks", CHECKS, "--seed", "1"]
    command += ["--max-examples", str(CASES_AN_OPERATION), "--workers", "1", "--no-color"]
    for path in ENDING:
        command += [option, path]
    run = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", run.stdout)
    assert tested is not None, run.stdout[-2000:]
    return int(tested.group(1))


def _access_token(url: str) -> str:
    account = wallet(1)
    nonce = httpx.post(
        f"{url}/auth/nonce", json={"address": account.address, "chain_id": CHAIN_ID}, timeout=ANSWER_S
    ).json()
    body = {"message": nonce["message"], "signature": sign(account, nonce["message"])}
    token: str = httpx.post(f"{url}/auth/login", json=body, timeout=ANSWER_S).json()["access_token"]
    return token
