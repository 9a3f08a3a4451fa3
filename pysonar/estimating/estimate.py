"""What a campaign costs, takes and stores, from what is known before it is paid for."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pysonar._terms import address
from pysonar.creation import Plan, make_plan
from pysonar.errors import TermsError
from pysonar.estimating.gas import Gas
from pysonar.estimating.gas import gas_price as price_now
from pysonar.estimating.networks import judging_seconds
from pysonar.estimating.speed import Speed, layout_of, training_seconds
from pysonar.models import Model
from sonar.chain.records import NATIVE
from sonar.protocol.payloads import encode_validation
from sonar.syft.keys import MAX_KEY_BITS
from sonar.units import Wei, round_ether

if TYPE_CHECKING:
    from pysonar.session import Sonar

__all__ = ["Estimate", "estimate"]

_HEADER_BYTES = 330
"""Of a tensor of ciphertexts, with its lengths."""
_BOX_BYTES = 330
"""What sealing adds, with the context that every box begins with."""
_START_SECONDS = 1.0
"""A mine trains in a process of its own, which starts, restricts itself and loads its engine."""
_ROUND_SECONDS = 5.0
"""What a round takes besides: a mine sees it and posts, the Capsule sees its end, signs and relays."""


_PUBLISHING_SECONDS = 1.5
"""What creating a campaign takes besides encryption: storing, the Capsule's admission, a block."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A campaign of so many `mines`, each of which posts in every one of `rounds` rounds, all of them kept.

    Gas, in units of gas: the owner's to create, close and withdraw; one mine's over the campaign; of all settlements,
    which the Capsule sends. `gas_price` is in wei. Bytes: what the campaign stores in all, and what one mine moves in
    a round. Seconds: until the campaign is on chain, of one training, of one round, and of all. `key_bits` is the
    length of the Capsule's keys.

    >>> import numpy as np, pysonar
    >>> X, y = np.random.default_rng(0).normal(size=(400, 8)), np.arange(400) % 2
    >>> told = pysonar.estimate(
    ...     pysonar.LinearClassifier(8, 2), (X, y), pysonar.ether(1), 0.9, "2h", mines=4, key_bits=2048)
    >>> print(str(told).splitlines()[1].strip())
    you pay  up to the bounty, and 0.000265306 ether for 265,306 gas
    """

    mines: int
    rounds: int
    key_bits: int
    bounty: Wei
    gas_price: Wei
    owner_gas: int
    mine_gas: int
    settlement_gas: int
    model_bytes: int
    gradient_bytes: int
    validation_bytes: int
    stored_bytes: int
    mine_bytes: int
    publishing_seconds: float
    training_seconds: float
    round_seconds: float
    seconds: float

    @property
    def owner_cost(self) -> Wei:
        """What the owner pays for gas, in wei; the bounty comes to that, as far as it is earned."""
        return Wei(self.owner_gas * self.gas_price)

    @property
    def mine_cost(self) -> Wei:
        """What one mine pays for gas over the campaign, in wei."""
        return Wei(self.mine_gas * self.gas_price)

    @property
    def settlement_cost(self) -> Wei:
        """What the Capsule, or whoever relays its settlements, pays for gas, in wei."""
        return Wei(self.settlement_gas * self.gas_price)

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("assumed", f"{self.mines} mines, {self.rounds} rounds, keys of {self.key_bits} bits"),
            ("you pay", f"up to the bounty, and {round_ether(self.owner_cost)} ether for {self.owner_gas:,} gas"),
            ("a mine pays", f"{round_ether(self.mine_cost)} ether for {self.mine_gas:,} gas"),
            ("the Capsule pays", f"{round_ether(self.settlement_cost)} ether for {self.settlement_gas:,} gas"),
            ("stored", f"{self.stored_bytes / 1e6:.2f} MB, of which a mine moves {self.mine_bytes / 1e6:.2f} a round"),
            ("until it runs", f"{self.publishing_seconds:.0f} s"),
            ("a training", f"{self.training_seconds:.0f} s on a machine like this one"),
            ("a round", f"{self.round_seconds:.0f} s"),
            ("all", f"{self.seconds:.0f} s"),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name:>16}  {value}" for name, value in self._rows())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in self._rows())
        return f"<table>{rows}</table>"


def estimate(
    model: Model,
    validation: Any,
    bounty: int,
    target: float,
    deadline: Any,
    *,
    mines: int,
    rounds_run: int = 3,
    records: int | None = None,
    sonar: "Sonar | None" = None,
    key_bits: int | None = None,
    gas_price: int | None = None,
    **options: Any,
) -> Estimate:
    """What the campaign that `create_campaign` would make of the same arguments costs, takes and stores.

    `mines` is how many take part, `rounds_run` how many rounds it takes, both your guess: two or three rounds bring
    most of what there is. `records` is how many each mine has, which counts for a network; unless given as many as the
    validation set has, or the spec asks for. A session `sonar` tells the price of gas on its chain and the length of
    its Capsule's keys; else they are 1 gwei and 3072 bits unless given. Work is timed on this machine by small samples,
    and mines are taken to be like it; a round with fewer mines than its `round_size` waits for `round_seconds`. Nothing
    is sent or published. Raises what `create_campaign` raises for arguments that cannot work.

    >>> import numpy as np, pysonar
    >>> X, y = np.random.default_rng(0).normal(size=(400, 8)), np.arange(400) % 2
    >>> told = pysonar.estimate(
    ...     pysonar.LinearClassifier(8, 2), (X, y), pysonar.ether(1), 0.9, "2h", mines=4, rounds_run=2, key_bits=2048)
    >>> told.owner_gas, told.mine_gas, told.settlement_gas
    (265306, 147598, 308392)
    >>> told.stored_bytes < 150_000
    True
    """
    token = address(options["token"], "token") if options.get("token") is not None else NATIVE
    now = int(time.time()) if sonar is None else sonar.now()
    options.pop("token", None)
    plan = make_plan(
        model, validation, bounty=bounty, token=token, target=target, deadline=deadline, now=now, **options
    )
    least, most = plan.spec.rounds.min_mines, plan.spec.rounds.max_rounds
    if _whole(mines, "mines", 1) < least or not 1 <= _whole(rounds_run, "rounds_run", 0) <= most:
        raise TermsError(
            f"{mines} mines and {rounds_run} rounds are not what this campaign can have: it needs {least} mines or "
            f"more, and ends after {most} rounds"
        )
    if key_bits is None:
        key_bits = 3072 if sonar is None else sonar.capsule.info().key_bits
    if gas_price is None:
        gas_price = 10**9 if sonar is None else price_now(sonar.client)
    if records is None:
        records = max(plan.spec.min_records, len(plan.labels))
    return _estimate(
        plan, mines, rounds_run, _whole(records, "records", 1), _whole(key_bits, "key_bits", 512, MAX_KEY_BITS),
        Wei(_whole(gas_price, "gas_price", 0)),
    )  # fmt: skip


def _whole(given: Any, what: str, least: int, most: int = 10**18) -> int:
    """A whole number in bounds; raises TermsError."""
    number = isinstance(given, int | np.integer) and not isinstance(given, bool)
    if not number or not least <= given <= most:
        raise TermsError(f"{what} is {given!r:.100}: give a whole number, {least} at least" + (
            "" if most == 10**18 else f" and {most} at most"))  # fmt: skip
    return int(given)


def _estimate(plan: Plan, mines: int, rounds: int, records: int, key_bits: int, gas_price: Wei) -> Estimate:
    spec, gas, speed = plan.spec, Gas.of(plan.terms.token), Speed.measured(key_bits)
    layout, size = layout_of(spec, key_bits), (2 * key_bits + 7) // 8
    rows = spec.shape[0]
    taking = min(mines, spec.rounds.round_size)
    model_ciphertexts, gradient_ciphertexts = rows * layout.blocks, layout.plaintexts(rows)
    model = _HEADER_BYTES + model_ciphertexts * size + key_bits // 8
    gradient = _HEADER_BYTES + gradient_ciphertexts * size
    validation = _BOX_BYTES + len(encode_validation(plan.features, plan.labels))
    # Each gradient is stored sealed and, once it is kept and settled, open; each round leaves its product and a model.
    stored = (
        len(spec.to_bytes()) + model + validation + rounds * (taking * (2 * gradient + _BOX_BYTES) + gradient + model)
    )
    publishing = _PUBLISHING_SECONDS + speed.table + model_ciphertexts * speed.encryption
    training = (
        _START_SECONDS + speed.table + training_seconds(spec, key_bits, records)
        + gradient_ciphertexts * speed.encryption
    )  # fmt: skip
    judging = (
        (taking + 1) * gradient_ciphertexts * speed.decryption + speed.table + model_ciphertexts * speed.encryption
    )
    if spec.network is not None:
        judging += judging_seconds(spec.network.graph, len(plan.labels), taking)
    waiting = 0 if mines >= spec.rounds.round_size else spec.rounds.round_seconds
    round_seconds = _ROUND_SECONDS + training + waiting + judging
    return Estimate(
        mines=mines, rounds=rounds, key_bits=key_bits, bounty=plan.terms.bounty, gas_price=gas_price,
        owner_gas=gas.create + gas.close + gas.withdraw,
        mine_gas=gas.submit_first + (rounds - 1) * gas.submit + gas.withdraw,
        settlement_gas=sum(gas.settlement(taking, taking if number == 0 else 0) for number in range(rounds)),
        model_bytes=model, gradient_bytes=gradient, validation_bytes=validation, stored_bytes=stored,
        mine_bytes=model + gradient + _BOX_BYTES,
        publishing_seconds=publishing, training_seconds=training, round_seconds=round_seconds,
        seconds=publishing + rounds * round_seconds,
    )  # fmt: skip
