"""Amounts as people write them."""

import pytest

from sonar.errors import ConfigError
from sonar.units import ether


@pytest.mark.parametrize("amount", ["1e99999999999", "nan", "inf", "-1", "0.0000000000000000001", "x"])
def test_an_amount_that_no_account_can_hold_is_refused(amount: str) -> None:
    with pytest.raises(ConfigError, match="ether"):
        ether(amount)
