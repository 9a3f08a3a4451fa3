"""What the chain tells of one campaign, read at one block: events, times, signatures, and the contract's own record."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sonar.chain.client import SonarClient
from sonar.chain.committee import Committee, read_committee
from sonar.chain.cursor import EventCursor
from sonar.chain.deploy import verify_deployment
from sonar.chain.errors import RpcUnavailableError, WrongChainError
from sonar.chain.events import CampaignCreated, Event, RoundSettled
from sonar.chain.lookups import Block, admission_signature, find_block, has_code, settlement_signature
from sonar.chain.records import NATIVE, CampaignRecord, RoundRecord
from sonar.chain.token import Token
from sonar.protocol.messages import Domain
from sonar.units import Address, CampaignId

__all__ = ["Story", "read_story"]

_READINGS = 5
"""How often a chain that changes while it is read is read anew."""


@dataclass(frozen=True, slots=True)
class Story:
    """A campaign as a node tells it, up to `block`.

    `times` are the Unix seconds of the blocks that have events, `signatures` the oracle's by transaction, without those
    that were sent through another contract. `oracle_is_contract` says whether the address of the oracle that the
    admission names has code, `committee` what it is if that is a `CapsuleCommittee`. `held` is what the contract has of
    native coin, and of the bounty's token, whoever's it is. `code_problem` says what is wrong with its own code.
    """

    domain: Domain
    campaign: CampaignId
    block: int
    events: tuple[Event, ...]
    times: Mapping[int, int]
    signatures: Mapping[bytes, bytes]
    record: CampaignRecord
    round: RoundRecord
    pending_owner: Address | None
    held: Mapping[Address, int]
    oracle_is_contract: bool
    committee: Committee | None
    code_problem: str | None


def read_story(client: SonarClient, campaign: CampaignId, start_block: int) -> Story:
    """Reads a campaign's story from a node; raises ChainError, ContractRevertError for an id that it does not know.

    It is read again where the chain was reorganised meanwhile: halves of two branches would not fit together.
    """
    for _ in range(_READINGS):
        head = client.block_number()
        before = _block(client, head)
        story = _read(client, campaign, start_block, head)
        if story is not None and _block(client, head).hash == before.hash:
            return story
    raise RpcUnavailableError(
        f"the node's chain changed each of the {_READINGS} times that it was read: ask again once it is in sync"
    )


def _read(client: SonarClient, campaign: CampaignId, start_block: int, head: int) -> Story | None:
    """The story up to block `head`; None where the events' blocks are not the chain's any more."""
    cursor = EventCursor(client, start_block, campaign=campaign)
    events: list[Event] = []
    times: dict[int, int] = {}
    record = client.campaign(campaign, block=head)  # of an id that it does not know, at once
    while (page := cursor.read_page(head)) is not None:
        events += page.events
        for number, block_hash in page.hashes.items():
            block = _block(client, number)
            if block.hash != block_hash:
                return None
            times[number] = block.time
    oracle = next((event.oracle for event in events if isinstance(event, CampaignCreated)), record.oracle)
    is_contract = has_code(client, oracle)
    return Story(
        domain=Domain(client.chain_id, client.address),
        campaign=campaign,
        block=head,
        events=tuple(events),
        times=times,
        signatures=_signatures(client, events),
        record=record,
        round=client.round(campaign, block=head),
        pending_owner=client.pending_owner(campaign, block=head),
        held=_held(client, record.terms.token, head),
        oracle_is_contract=is_contract,
        committee=_committee(client, oracle) if is_contract else None,
        code_problem=_code_problem(client),
    )


def _signatures(client: SonarClient, events: Iterable[Event]) -> dict[bytes, bytes]:
    signatures: dict[bytes, bytes] = {}
    for event in events:
        if isinstance(event, CampaignCreated):
            found = admission_signature(client, event.transaction)
        elif isinstance(event, RoundSettled):
            found = settlement_signature(client, event.transaction)
        else:
            continue
        if found is not None:
            signatures[event.transaction] = found
    return signatures


def _block(client: SonarClient, number: int) -> Block:
    block = find_block(client, number)
    if block is None:
        raise RpcUnavailableError(f"the node told of block {number}, and has no such block: is it in sync?")
    return block


def _held(client: SonarClient, token: Address, block: int) -> dict[Address, int]:
    """What the contract has of native coin and of a token; nothing of one that does not answer any more."""
    held: dict[Address, int] = {NATIVE: client.balance(client.address, block=block)}
    if token != NATIVE:
        try:
            held[token] = Token(client, token).balance(client.address, block=block)
        except WrongChainError:
            held[token] = 0
    return held


def _committee(client: SonarClient, oracle: Address) -> Committee | None:
    try:
        return read_committee(client.web3, oracle)
    except WrongChainError:
        return None


def _code_problem(client: SonarClient) -> str | None:
    try:
        verify_deployment(client.web3, client.address)
    except WrongChainError as error:
        return str(error)
    return None
