"""Errors of the mine.

MineError                       9
|-- ApartError                  the process that reads and trains has no answer, or cannot be started
|-- DataError                   a data set that cannot be read or trained on
|   |-- SchemaMismatchError     a data set that does not fit a campaign's features and classes
|   `-- SourceAwayError         a server that does not answer now, or does not let the mine in
|-- PolicyError                 a campaign or round that this mine's owner does not want to take part in
|   `-- BudgetError             a statistic or round that would cost more than is left of a data set's privacy budget
|   `-- NotNowError             only for now: the hour, the price of gas, a budget, an approval to come
`-- LedgerError                 the mine's own records: unknown version, impossible step, home in use
    `-- AuditError              the audit log is not the one that the mine wrote
        `-- UnreadableLogError  what it is cannot be told, since its file cannot be read
"""

from sonar.errors import SonarError

__all__ = [
    "ApartError",
    "AuditError",
    "BudgetError",
    "DataError",
    "LedgerError",
    "MineError",
    "NotNowError",
    "PolicyError",
    "SchemaMismatchError",
    "SourceAwayError",
    "UnreadableLogError",
]


class MineError(SonarError):
    """The mine cannot do what was asked."""

    exit_code = 9


class ApartError(MineError):
    """What reads records and trains could not do it; `lasting` where it would be the same again."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


class DataError(MineError):
    """A data set cannot be read, or a value in it cannot be trained on."""


class SchemaMismatchError(DataError):
    """A data set does not have what a campaign needs; the message lists every reason."""


class SourceAwayError(DataError):
    """The server of a data set does not answer, or lets the mine in no more; it may by itself, so it is asked again."""


class PolicyError(MineError):
    """The owner's policy does not allow this campaign, or cannot be read."""


class NotNowError(PolicyError):
    """The owner's policy does not allow it now; what it waits for may come by itself. `rules` are those that refuse."""

    def __init__(self, message: str, rules: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.rules = rules


class BudgetError(PolicyError):
    """A noised statistic, or a network's round, would cost more than what is left of a data set's privacy budget."""


class LedgerError(MineError):
    """The mine's records cannot be used as they are."""


class AuditError(LedgerError):
    """The audit log is not the one that the mine wrote; `line` is the first that differs, where that is known."""

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class UnreadableLogError(AuditError):
    """The audit log's file cannot be read, and what stands in it must not be taken for lost."""
