"""A campaign that predicts numbers, from its admission to its settlement, on encrypted gradients."""

from typing import Any

import numpy as np
import pytest

from sonar.chain.records import Verdict
from sonar.protocol.payloads import design_matrix, encode_validation, scaled_targets
from sonar.protocol.spec import Payout, Rounds, Spec
from sonar.syft import Obfuscator, Statistics, apply_map, dump_gradient, training_map


@pytest.fixture
def spec() -> Spec:
    return Spec.build(
        name="prices", metric="r2", features=tuple({"name": f"f{i}"} for i in range(4)), payout=Payout(target=990_000),
        targets=({"name": "price", "offset": 50.0, "scale": 20.0},), rounds=Rounds(round_size=3, round_seconds=60),
    )  # fmt: skip


def draw(seed: int, records: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(records, 4))
    prices = 50 + 20 * features @ np.array([0.5, -0.3, 0.2, 0.1]) + 5 * rng.normal(size=records)
    return features, prices[:, None]


def gradient(campaign: Any, seed: int, *, shuffled: bool = False) -> bytes:
    spec, model = campaign.draft.parsed, campaign.model()
    features, prices = draw(seed, 300)
    if shuffled:
        prices = np.random.default_rng(seed).permutation(prices)
    statistics = Statistics.empty(*spec.shape)
    statistics = statistics.add_batch(design_matrix(spec, features), scaled_targets(spec, prices)) or statistics
    trained = apply_map(
        training_map(statistics, epochs=20, rate=1.0, l2=1e-3), model, map_bits=spec.encoding.map_bits,
        gradient_bound=spec.encoding.gradient_bound, obfuscator=Obfuscator(model.key),
    )  # fmt: skip
    return dump_gradient(trained)


def test_a_regression_is_admitted_judged_by_r2_and_settled(world: Any, scientist: Any, spec: Spec) -> None:
    campaign = scientist.campaign(spec, validation=encode_validation(*draw(1, 200)))
    assert campaign.world.chain.campaign(campaign.id).score == 0
    for seed in (2, 3):
        campaign.submit(data=gradient(campaign, seed))
    campaign.submit(data=gradient(campaign, 4, shuffled=True))
    for _ in range(4):
        world.worker.step()
    report = scientist.client.round(campaign.id, 0)
    assert [outcome.verdict for outcome in report.settlement.outcomes] == [Verdict.KEPT] * 2 + [Verdict.LEFT_OUT]
    assert 600_000 < report.settlement.score < 960_000
    assert sum(outcome.share for outcome in report.settlement.outcomes) == 1_000_000
