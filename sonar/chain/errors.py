"""What can go wrong between this program and the chain.

    ChainError                     4   (exit code)
    |-- RpcUnavailableError            nothing answers at the RPC address, or what answers is not an Ethereum node
    |   `-- RpcTooMuchError            the answer is too large, or not there in time: a smaller question may have one
    |-- WrongChainError                another chain, or no (or another) contract at the address
    |-- UnfundedAccountError           the account cannot pay the value and the gas
    |-- FeeLimitError                  the chain asks for more per gas than the caller wants to pay
    |-- TransactionTimeoutError        sent, but not in a block yet
    `-- TransactionFailedError         refused or reverted
        `-- ContractRevertError        reverted by the contract, with its decoded reason

This module needs neither web3 nor the ABI; `sonar.chain._artifact` decodes the bytes.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sonar.chain.records import NATIVE
from sonar.errors import SonarError, printable
from sonar.units import format_ppm

__all__ = [
    "ChainError", "ContractRevertError", "FeeLimitError", "RpcTooMuchError", "RpcUnavailableError",
    "TransactionFailedError", "TransactionTimeoutError", "UnfundedAccountError", "WrongChainError",
]  # fmt: skip


class ChainError(SonarError):
    """Something went wrong between this program and the chain."""

    exit_code = 4


class RpcUnavailableError(ChainError):
    """The RPC endpoint does not answer, or not like an Ethereum node."""


class RpcTooMuchError(RpcUnavailableError):
    """The endpoint's answer is larger than is taken, or did not come in time: it may have one to a smaller question."""


class WrongChainError(ChainError):
    """The endpoint serves another chain, or the contract's address holds no or other code."""


class UnfundedAccountError(ChainError):
    """The account cannot pay for the transaction."""


class FeeLimitError(ChainError):
    """The chain asks for more per gas than the caller's limit allows; it may ask for less later."""


class TransactionTimeoutError(ChainError):
    """The transaction was sent, but is in no block yet; it may still be mined."""


class TransactionFailedError(ChainError):
    """The node refused the transaction, or it was mined and reverted."""


class ContractRevertError(TransactionFailedError):
    """The contract refused the call; `name` is its error's name, `arguments` the evidence it gave."""

    def __init__(self, name: str, arguments: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.arguments: dict[str, Any] = dict(arguments or {})
        super().__init__(describe(name, self.arguments))


def describe(name: str, arguments: Mapping[str, Any]) -> str:
    """The sentence for a contract error."""
    shown = _Shown({key: _show(name, key, value) for key, value in arguments.items()})
    sentence = _SENTENCES.get(name)
    if sentence is not None:
        return sentence.format_map(shown)
    listed = ", ".join(f"{key} {value}" for key, value in shown.items())
    return f"the contract refused the call: {name or 'no reason given'}{f' ({listed})' if listed else ''}"


class _Shown(dict[str, str]):
    """Arguments as text; one that an unexpected contract leaves out shows as a question mark."""

    def __missing__(self, key: str) -> str:
        return "?"


def _show(name: str, key: str, value: Any) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int):
        if key in _PPM_ARGUMENTS.get(name, ()):
            return format_ppm(value)
        if key in _TIME_ARGUMENTS:
            return _time(value)
        if key == "status":
            return _STATUS.get(value, str(value))
    if key == "token" and value == NATIVE:
        return "zero (the native coin)"
    if key == "pendingOwner" and value == NATIVE:
        return "nobody"
    # A stranger's contract, such as a token, may write the reason: none of it may steer a terminal.
    return printable(value, _LONGEST)


def _time(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return str(seconds)


_LONGEST = 200
_PPM_ARGUMENTS = {
    "Sonar_SlashAboveOne": ("slash",),
    "Sonar_TargetOutOfRange": ("target", "startScore"),
    "Sonar_ScoreOutOfRange": ("score", "current", "minGain"),
    "Sonar_MinGainOutOfRange": ("minGain", "startScore"),
}
_TIME_ARGUMENTS = ("validUntil", "time", "deadline", "latest", "closesAt", "expiresAt")
_STATUS = {0: "unknown", 1: "running", 2: "finished", 3: "closed"}

_SENTENCES = {
    "Sonar_CampaignExists": "campaign {id} exists: an admission makes one campaign, ask the Capsule for another",
    "Sonar_CampaignUnknown": "the contract knows no campaign {id}: check the id and the network file",
    "Sonar_WrongStatus": "campaign {id} is {status}, which does not allow this",
    "Sonar_NotOwner": "campaign {id} belongs to {owner}, not to {caller}: use the owner's account",
    "Sonar_NotPendingOwner": (
        "campaign {id} is offered to {pendingOwner}, not to {caller}: ask its owner to offer it to this account"
    ),
    "Sonar_AdmissionNotForCaller": "the admission is for {owner}, not for {caller}: use the account that asked for it",
    "Sonar_AdmissionExpired": "the admission was valid until {validUntil}, but it is {time}: ask for another",
    "Sonar_BadSignature": "{digest} is not signed by the campaign's oracle {oracle}: ask the Capsule to sign it",
    "Sonar_OracleZero": "the oracle is the zero address: name the Capsule's address",
    "Sonar_BountyZero": "the bounty is zero: give more than nothing",
    "Sonar_AmountZero": "the amount is zero: add more than nothing",
    "Sonar_BountyOverflow": "the bounty {bounty} and {amount} more are above 2^128 - 1: add less",
    "Sonar_WrongValue": "{sent} wei was sent with the transaction, but exactly {required} wei is required",
    "Sonar_TokenDeliveredOtherAmount": (
        "token {token} delivered {received} instead of {required}: tokens that take a fee cannot be bounties"
    ),
    "Sonar_SlashAboveOne": "a slashed part of {slash} is more than the whole bond: give at most 100%",
    "Sonar_TargetOutOfRange": "target {target} is not above the start score {startScore} and at most 100%: raise it",
    "Sonar_RoundSizeOutOfRange": "a round of {roundSize} gradients is not possible: give 1 to {maximum}",
    "Sonar_MinMinesOutOfRange": "at least {minMines} kept mines cannot come from rounds of {roundSize}: give 1 to that",
    "Sonar_MinGainOutOfRange": (
        "a least gain of {minGain} is nothing or out of reach from {startScore}: choose one that a score can reach"
    ),
    "Sonar_MaxRoundsZero": "the campaign permits no round: give at least 1",
    "Sonar_RoundSecondsOutOfRange": "rounds of {roundSeconds} s are not possible: give 1 to {maximum} s",
    "Sonar_SettlementSecondsOutOfRange": (
        "a settlement window of {settlementSeconds} s is not possible: give {minimum} to {maximum} s"
    ),
    "Sonar_DeadlineOutOfRange": "deadline {deadline} is not after the present {time} and at most {latest}: change it",
    "Sonar_WrongRound": "campaign {id} is in round {current}, not {given}: read its present round again",
    "Sonar_DeadlinePassed": "campaign {id} ended at {deadline} and it is {time}: it takes no more gradients",
    "Sonar_RoundClosed": "round {round} of campaign {id} takes no more gradients: wait for its settlement",
    "Sonar_AlreadySubmitted": "mine {mine} has a gradient in round {round} of campaign {id} already: one a round",
    "Sonar_RoundEmpty": "round {round} of campaign {id} has no gradients",
    "Sonar_RoundOpen": "round {round} of campaign {id} takes gradients until it is full or it is {closesAt}",
    "Sonar_RoundNotExpired": "round {round} of campaign {id} may be settled until {expiresAt}: expire it after that",
    "Sonar_WrongHead": "the entries make head {given}, but campaign {id} has {current}: read the round's events again",
    "Sonar_WrongOutcomeCount": "the settlement has {outcomes} outcomes for {entries} gradients",
    "Sonar_ScoreOutOfRange": (
        "score {score} does not fit the present {current}: an advancing round rises by at least {minGain}, "
        "any other keeps the score"
    ),
    "Sonar_TooFewKept": "{kept} gradients are kept, but an advancing round keeps at least {minMines}",
    "Sonar_WrongShareSum": "the shares sum to {sum}, not to {required}",
    "Sonar_InconsistentOutcome": "outcome {index} has a weight or share that its verdict does not allow",
    "Sonar_InconsistentSettlement": "the settlement of round {round} of campaign {id} contradicts its own verdict",
    "Sonar_RoundPending": "round {round} of campaign {id} holds {count} gradients: wait until it is settled or expired",
    "Sonar_NotClosable": "campaign {id} has paid for a round and runs until {deadline}: close it after that",
    "Sonar_NothingOwed": "account {account} is owed nothing in token {token}",
    "Sonar_InvalidReceiver": "{to} is no account that could take the amount: name another",
    "Sonar_TransferFailed": "{to} did not take {amount} wei: withdraw to an account that accepts payments",
    "CapsuleCommittee_SizeOutOfRange": "a committee of {size} members is not possible: give 1 to {maximum}",
    "CapsuleCommittee_ThresholdOutOfRange": "{threshold} of {size} members cannot sign: give 1 to {size}",
    "CapsuleCommittee_MembersNotAscending": "member {index} {member} is not above the one before: sort them, each once",
    "ReentrancyGuardReentrantCall": "the contract was entered again during its own call",
    "SafeERC20FailedOperation": "token {token} refused the transfer: check balance and allowance",
    "Error": "the contract refused the call: {reason}",
    "Panic": "the contract stopped with panic code {code}",
}
