"""The policy that the guide shows is one the route takes, and names each of its parts."""

import re
from pathlib import Path

from tradingflow.account_manager.vault.schemas import PolicyRequest

GUIDE = (Path(__file__).resolve().parents[4] / "docs/guides/vault-policy.md").read_text(encoding="utf-8")


def test_the_policy_of_the_guide_is_one_the_route_takes() -> None:
    (body,) = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    assert PolicyRequest.model_validate_json(body).loss_cap is not None


def test_the_guide_has_a_row_for_each_part_of_a_policy() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^\n]* \| [^\n]* \| [^\n]* \|$", GUIDE, re.MULTILINE)
    assert set(PolicyRequest.model_fields) <= set(rows)
