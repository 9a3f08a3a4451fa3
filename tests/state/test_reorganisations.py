"""Whatever the chain took back in between, the database ends as if only its last history had ever been."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import case, select
from stored import AUDIT_KEY, signed, submission, version

from capsule.state import Final, State, Told
from capsule.state import tables as t
from sonar.chain.heads import entries_head
from sonar.units import CampaignId, digest_of

CAMPAIGNS = [CampaignId(bytes([number]) * 32) for number in range(2)]
LONGEST = 12

Fact = tuple[str, CampaignId, int]
"""What happened, to which campaign, and which of two gradients it is about."""


def posted(number: int, which: int) -> Any:
    """The one gradient of the round that has the number of its block."""
    return submission(number, 0, number, f"gradient {which}")


def head(campaign: CampaignId, number: int, which: int) -> bytes:
    """The head of a round with that gradient."""
    return entries_head(campaign, number, [posted(number, which).entry])


@dataclass
class Chain:
    """A history, block by block, in which each thing happens as often as the contract lets it.

    What is settled is the round that was posted in the same block.
    """

    blocks: list[list[Fact]] = field(default_factory=list)

    def add(self, wanted: list[Fact]) -> None:
        self.blocks.append([])
        for kind, campaign, which in wanted:
            seen = {(one, whose) for block in self.blocks for one, whose, _ in block}
            created, over = ("created", campaign) in seen, ("over", campaign) in seen
            now = {(one, whose): gradient for one, whose, gradient in self.blocks[-1]}
            if (created == (kind != "created")) and not over and (kind, campaign) not in now:
                if kind == "settled":
                    if ("submitted", campaign) not in now:
                        self.blocks[-1].append(("submitted", campaign, which))
                    which = now.get(("submitted", campaign), which)
                self.blocks[-1].append((kind, campaign, which))

    def hash(self, number: int) -> bytes:
        """What tells a block from every other."""
        return digest_of(repr(self.blocks[: number + 1]).encode())

    def told(self, first: int, last: int) -> Told:
        """What the blocks from `first` up to without `last` tell; a round, and a version, is one of its block alone."""
        found: dict[str, list[Any]] = {kind: [] for kind in ("created", "submitted", "settled", "expired", "over")}
        for number in range(first, last):
            for kind, campaign, which in self.blocks[number]:
                found[kind].append(
                    {
                        "created": (campaign, number),
                        "submitted": (campaign, posted(number, which)),
                        "settled": Final(campaign, number, head(campaign, number, which), number, version(number + 1)),
                        "expired": (campaign, number, number),
                        "over": (campaign, number),
                    }[kind]
                )
        checkpoints = ((last - 1, self.hash(last - 1)),)
        return Told(last, **{kind: tuple(facts) for kind, facts in found.items()}, checkpoints=checkpoints)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in which every round is signed for both of the gradients that it may have."""
    file = tmp_path_factory.mktemp("template") / "capsule.db"
    state = State(file)
    state.audit.begin(AUDIT_KEY)
    for campaign in CAMPAIGNS:
        for number in range(LONGEST):
            for which in range(2):
                state.add_round(campaign, signed(number, head(campaign, number, which)), {})
    state.close()
    return file


def opened(template: Path, file: Path) -> State:
    shutil.copy(template, file)
    state = State(file)
    state.audit.unlock(AUDIT_KEY)
    return state


def dump(state: State) -> dict[str, list[Any]]:
    """All that the chain told, without the times at which it was read."""
    columns = {
        table: [column for column in table.c if column.name not in {"time", "ended", "delivered"}]
        for table in (t.campaigns, t.submissions, t.versions, t.rounds)
    }
    # Where a settlement waits for the chain, its block is only where it was final before.
    told = case((t.rounds.c.state == "signed", None), else_=t.rounds.c.block)
    columns[t.rounds] = [told if column is t.rounds.c.block else column for column in columns[t.rounds]]
    with state._reading() as db:
        return {table.name: sorted(map(tuple, db.execute(select(*columns[table]))), key=repr) for table in columns}


FACTS = st.tuples(
    st.sampled_from(["created", "submitted", "submitted", "settled", "expired", "over"]),
    st.sampled_from(CAMPAIGNS),
    st.integers(0, 1),
)
BLOCKS = st.lists(st.lists(FACTS, max_size=5), min_size=1, max_size=5)


@given(histories=st.lists(st.tuples(st.integers(0, LONGEST), BLOCKS, st.integers(1, 4)), min_size=1, max_size=4))
def test_following_through_reorganisations_ends_where_following_the_last_history_does(
    template: Path, histories: list[tuple[int, list[list[Fact]], int]]
) -> None:
    chain, read = Chain(), 0
    with tempfile.TemporaryDirectory() as directory:
        state, fresh = (opened(template, Path(directory) / name) for name in ("followed.db", "fresh.db"))
        for height, blocks, page in histories:
            kept = min(height, len(chain.blocks))
            if kept < read:
                assert state.rewind(kept, since=state.position())
                read = kept
            del chain.blocks[kept:]
            for block in blocks[: LONGEST - kept]:
                chain.add(block)
            while read < len(chain.blocks):
                last = min(read + page, len(chain.blocks))
                assert state.follow(chain.told(read, last), since=state.position())
                read = last
        if chain.blocks:
            assert fresh.follow(chain.told(0, len(chain.blocks)), since=None)
        assert dump(state) == dump(fresh)
        position = state.position()
        assert (0 if position is None else position.block) == len(chain.blocks)
        assert all(known == chain.hash(number) for number, known in state.checkpoints())
        state.verify_audit()
        state.close()
        fresh.close()
