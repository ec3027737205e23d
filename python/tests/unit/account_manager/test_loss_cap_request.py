"""A loss cap is set whole, or lifted by the zero address alone."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tradingflow.account_manager.vault.schemas import PolicyRequest
from tradingflow.core.evm import ZERO_ADDRESS

SOURCE = "0x" + "11" * 20
WHOLE = {"price_source": SOURCE, "cap": "250000000", "window_s": 86_400}
YEAR_S = 365 * 86_400


def requested(loss_cap: object) -> PolicyRequest:
    return PolicyRequest.model_validate({"loss_cap": loss_cap})


def test_a_cap_is_an_exact_number_of_base_units() -> None:
    cap = requested(WHOLE).loss_cap
    assert cap is not None
    assert (cap.price_source, cap.cap, cap.window_s) == (SOURCE, 250_000_000, 86_400)


def test_left_out_and_null_both_leave_the_cap_as_it_is() -> None:
    assert PolicyRequest.model_validate({}).loss_cap is None
    assert requested(None).loss_cap is None


def test_the_zero_address_alone_lifts_the_cap() -> None:
    cap = requested({"price_source": ZERO_ADDRESS}).loss_cap
    assert cap is not None
    assert (cap.cap, cap.window_s) == (None, None)


@pytest.mark.parametrize("window_s", [60, YEAR_S])
def test_the_vaults_own_bounds_of_a_window_are_taken(window_s: int) -> None:
    assert requested(WHOLE | {"window_s": window_s}).loss_cap is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"window_s": 59}, "60"),
        ({"window_s": YEAR_S + 1}, str(YEAR_S)),
        ({"cap": None}, "needs `cap` and `window_s`"),
        ({"window_s": None}, "needs `cap` and `window_s`"),
        ({"cap": "0"}, "loss above 0"),
        ({"cap": 250_000_000}, "must be a string"),
        ({"cap": str(2**256)}, "256"),
        ({"price_source": ZERO_ADDRESS}, "leave `cap` and `window_s` out"),
        ({"price_source": "0xAb5801a7D398351b8bE11C439e05C5B3259aeC9b"}, "checksum"),
    ],
)
def test_what_the_vault_would_refuse_or_nobody_can_mean_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        requested(WHOLE | changes)
