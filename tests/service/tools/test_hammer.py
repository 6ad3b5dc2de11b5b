"""A short turn of the hammer at the ledger."""

from tools.hammer import hammer


def test_clients_at_the_same_accounts_leave_a_ledger_that_adds_up():
    result = hammer(clients=6, seconds=1.5, seed=7)

    assert result.failures == []
    assert result.violations == []
    assert result.done["held"] > 0
    assert result.done["settled a batch"] > 0
    assert result.entries > 0
