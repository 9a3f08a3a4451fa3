"""A campaign on a fresh contract, played by hand: what the chain tests start from."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from eth_account.signers.local import LocalAccount

from sonar.chain import calls
from sonar.chain.client import Receipt, SonarClient, entries_head
from sonar.chain.committee import Committee
from sonar.chain.records import NATIVE, Admission, Entry, Outcome, PayoutBase, Settlement, Terms, Verdict
from sonar.protocol.committee import join_signatures
from sonar.protocol.messages import Domain, hash_admission, sign_admission, sign_settlement
from sonar.units import Address, CampaignId, Cid, KeyId, Ppm, digest_of, ether


@dataclass
class Panel:
    """A deployed committee and those of its members who sign: an oracle like an account."""

    committee: Committee
    signers: list[LocalAccount]

    @property
    def address(self) -> str:
        """Where the committee is."""
        return self.committee.address


Oracle = LocalAccount | Panel


def signed(by: Callable[[LocalAccount], bytes], oracle: Oracle) -> bytes:
    """The oracle's signature of what `by` signs for one account."""
    if isinstance(oracle, Panel):
        return join_signatures({Address(signer.address): by(signer) for signer in oracle.signers})
    return by(oracle)


@dataclass
class Stage:
    """One campaign with its actors."""

    owner: SonarClient
    oracle: Oracle
    domain: Domain
    id: CampaignId
    terms: Terms
    admission: Admission
    created: Receipt

    def submit(self, mine: SonarClient, name: str, number: int = 0, cid: str = "bafkreigradient") -> Receipt:
        """Posts a gradient whose digests come from `name`."""
        return mine.transact(self.submission(name, number, cid))

    def submission(self, name: str, number: int = 0, cid: str = "bafkreigradient") -> calls.Call:
        """The call that posts a gradient."""
        entry = self.entry(NATIVE, name)
        return calls.submit_gradient(self.id, number, entry.artifact, entry.gradient, Cid(cid), self.terms.bond)

    def entry(self, mine: str, name: str) -> Entry:
        """The entry that `submit` makes."""
        return Entry(Address(mine), digest_of(f"sealed {name}".encode()), digest_of(name.encode()))

    def settlement(self, entries: list[Entry], score: int, number: int = 0) -> Settlement:
        """A settlement that keeps all entries at equal shares."""
        share, rest = divmod(1_000_000, len(entries))
        outcomes = tuple(Outcome(Verdict.KEPT, 1, Ppm(share + (rest if i == 0 else 0))) for i in range(len(entries)))
        return Settlement(
            self.id, number, entries_head(self.id, number, entries), Ppm(score), 2, digest_of(b"next"),
            KeyId(digest_of(b"key")), digest_of(b"product"), Cid("bafkreinext"), Cid("bafkreiproduct"), outcomes,
        )  # fmt: skip

    def settle(self, relayer: SonarClient, settlement: Settlement, entries: list[Entry]) -> Receipt:
        """Relays a settlement that the oracle signs."""
        signature = signed(lambda account: sign_settlement(self.domain, settlement, account), self.oracle)
        return relayer.transact(calls.settle_round(settlement, entries, signature))


def _play(client: SonarClient, oracle: Oracle, **changes: object) -> Stage:
    """Creates a campaign for the client's account."""
    assert client.account is not None
    now = client.now()
    terms = Terms(
        NATIVE, ether(1), ether("0.01"), Ppm(100_000), Ppm(800_000), PayoutBase.TARGET,
        Ppm(1_000), 2, 4, 10, 600, 600, now + 7200,
    )  # fmt: skip
    terms = replace(terms, **changes)  # type: ignore[arg-type]
    admission = Admission(
        digest_of(b"spec"), digest_of(b"model"), KeyId(digest_of(b"key 0")), digest_of(b"sealing"), Ppm(100_000),
        Address(oracle.address), Address(client.account.address), now + 3600,
    )  # fmt: skip
    domain = Domain(client.chain_id, client.address)
    signature = signed(lambda account: sign_admission(domain, admission, account), oracle)
    call = calls.create_campaign(terms, admission, signature, Cid("bafkreispec"), Cid("bafkreimodel"))
    created = client.transact(call)
    return Stage(client, oracle, domain, hash_admission(domain, admission), terms, admission, created)


@pytest.fixture
def stage(client_for: Callable[..., SonarClient], new_account: Callable[..., LocalAccount]) -> Callable[..., Stage]:
    """Makes campaigns on a fresh contract; keyword arguments change their terms."""

    def make(**changes: object) -> Stage:
        return _play(client_for(new_account()), new_account(), **changes)

    return make


@pytest.fixture
def play() -> Callable[..., Stage]:
    """Creates a campaign for a client's account with an oracle; keyword arguments change its terms."""
    return _play


@pytest.fixture(scope="session")
def panel() -> Callable[[Committee, list[LocalAccount]], Panel]:
    """Makes an oracle of a committee and those of its members who sign."""
    return Panel


@pytest.fixture
def mines(
    client_for: Callable[..., SonarClient], new_account: Callable[..., LocalAccount]
) -> Callable[[int], list[SonarClient]]:
    """Makes funded mines."""
    return lambda count: [client_for(new_account()) for _ in range(count)]
