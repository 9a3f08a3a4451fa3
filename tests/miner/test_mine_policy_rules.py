"""Every rule of the policy: facts to which it agrees, facts to which it does not, and what it says of both."""

import base64
from dataclasses import replace
from datetime import datetime
from fractions import Fraction

import numpy as np
import pytest

from mine.errors import NotNowError, PolicyError
from mine.policy import Policy
from mine.policy.approval import Approval
from mine.policy.data_rules import best_offer
from mine.policy.facts import Facts, Offered, PastCampaign
from mine.policy.rules import judge, require
from mine.strategy import OwnRound
from sonar.chain.records import NATIVE, CampaignRecord, PayoutBase, Status, Terms, Verdict
from sonar.network import Graph
from sonar.network.frozen import dump_parameters
from sonar.protocol.spec import Encoding, Spec
from sonar.protocol.training import BackboneMap
from sonar.units import Address, CampaignId, Ppm, Wei, ether

OWNER, OTHER, CAPSULE, TOKEN, MINE = (Address("0x" + digit * 40) for digit in "12345")
ID = CampaignId(bytes([0xAB]) * 32)
CAMPAIGN = "0x" + "ab" * 32
NOON = datetime(2026, 11, 2, 12, 0).astimezone()
GWEI = 10**9
LEFT = Verdict.LEFT_OUT


def spec(features=3, **changes):
    values = {
        "name": "test",
        "features": tuple({"name": f"x{at}"} for at in range(features)),
        "classes": ("no", "yes"),
        "payout": {"target": 900_000},
    }
    return Spec.build(**{**values, **changes})


TERMS = Terms(
    token=NATIVE, bounty=ether(1), bond=ether("0.001"), slash=Ppm(100_000), target=Ppm(900_000),
    payout_base=PayoutBase.TARGET, min_gain=Ppm(1000), min_mines=2, round_size=8, max_rounds=20, round_seconds=300,
    settlement_seconds=86400, deadline=2_000_000_000,
)  # fmt: skip
RECORD = CampaignRecord(ID, OWNER, CAPSULE, Status.RUNNING, TERMS, Ppm(0), Ppm(0), Ppm(900_000), 0, Wei(0))
FACTS = Facts(
    mine=MINE, record=RECORD, spec=spec(), creator=OWNER, network_capsule=CAPSULE, round=0, settled=0, past=(), own=(),
    submitted=0, submitted_today=0, at_stake=Wei(0), balance=ether(1), gas_price=Wei(2 * GWEI),
    highest_fee=Wei(2 * GWEI), approval=None,
    training_seconds=0.5, now=NOON, offered=Offered("clinic", 1000, (("no", 600), ("yes", 400))),
)  # fmt: skip


def terms(**changes):
    return {"record": replace(RECORD, terms=replace(TERMS, **changes))}


def own(*verdicts, payout=0, ended=None):
    """This mine's rounds, the latest first."""
    ended = NOON.timestamp() if ended is None else ended
    return tuple(OwnRound(len(verdicts) - 1 - at, verdict, Wei(payout), ended) for at, verdict in enumerate(verdicts))


def alone(*verdicts, ended=None):
    """Facts of a mine to whose last rounds too few others came."""
    return {"own": tuple(replace(one, short=True) for one in own(*(verdicts or [LEFT]), ended=ended))}


def approval(*, approved=True, owner=OWNER, reason="for the study"):
    return {"approval": Approval(ID, approved, reason, owner, 0.0)}


def stated(**words):
    """Facts of a spec that states a purpose or licence, or something else."""
    return {"spec": spec(**words)}


def headed():
    """Facts of a campaign for a head on a public network of three features."""
    graph = Graph.model_validate({"takes": (3,), "layers": ({"op": "linear", "of": (0,), "units": 2},)})
    numbers = base64.b64encode(dump_parameters(np.zeros(graph.size))).decode()
    return stated(feature_map=BackboneMap(graph=graph, parameters=numbers))


def network(*accounts, mines=3):
    """Facts of a campaign for a network of three features, whose rounds keep so many mines."""
    graph = {"takes": (3,), "layers": ({"op": "linear", "of": (0,), "units": 2},)}
    terms = {"graph": graph, "accounts": accounts}
    declared = spec(mode="network", network=terms, encoding=Encoding.for_network())
    return {"spec": declared, "record": replace(RECORD, terms=replace(TERMS, min_mines=mines))}


LEARNS = (
    "it trains a network: this mine would learn the model, and its Capsule every single change of this mine's, from "
    "which records can be made out"
)
GIVEN = (
    "its owner is given all that this mine's kept gradients add to the model, to the last bit: of one round that is "
    "its gradient"
)
POOR = {"record": replace(RECORD, terms=replace(TERMS, bounty=Wei(1000)))}
BATCHES = {"spec": spec(training={"batch_size": 50})}
# rule, settings, facts to which it agrees and its sentence, facts to which it does not and its sentence
CASES = [
    ("capsule", {}, {}, f"its Capsule {CAPSULE} is the one that the network file names",
     {"network_capsule": OTHER}, (f"its Capsule {CAPSULE} is not trusted: add it to `capsules` in [accept] if you do "
     "trust it, or as a table [committees.0x...] if it is one")),
    ("capsule", {"accept": {"capsules": [CAPSULE]}}, {"network_capsule": None},
     f"its Capsule {CAPSULE} is in `capsules` in [accept]",
     {"record": replace(RECORD, oracle=OTHER), "network_capsule": OTHER}, f"its Capsule {OTHER} is not trusted"),
    ("capsule", {"accept": {"refuse_capsules": [CAPSULE]}, "committees": {OTHER: {"members": [OWNER], "threshold": 1}}},
     {"record": replace(RECORD, oracle=OTHER)}, f"its Capsule {OTHER} is a trusted committee: 1 of 1 sign",
     {}, f"its Capsule {CAPSULE} is in `refuse_capsules` in [accept]"),
    ("owner", {"accept": {"owners": [OWNER.lower()]}}, {"creator": OTHER},
     f"it belongs to {OWNER}, whom the policy lists",
     {"record": replace(RECORD, owner=OTHER)}, f"it belongs to {OTHER}: add that to `owners` in [accept] to take it"),
    ("owner", {"accept": {"refuse_owners": [OTHER]}}, {}, f"it belongs to {OWNER}, whom the policy allows",
     {"creator": OTHER}, f"{OTHER}, who began or owns it, is in `refuse_owners` in [accept]"),
    ("purpose", {"accept": {"purposes": ["Research"]}}, stated(purpose="research"), "its purpose 'research' is allowed",
     stated(purpose="advertising"),
     "its purpose is 'advertising', but `purposes` in [accept] lists only 'Research'"),
    ("purpose", {"accept": {"purposes": ["research"]}}, stated(purpose="research"), "its purpose 'research' is allowed",
     stated(purpose=""), "it states no purpose, but `purposes` in [accept] lists only 'research'"),
    ("purpose", {"accept": {"refuse_purposes": ["military"]}}, stated(purpose=""),
     "it states no purpose, and none is asked",
     stated(purpose="Military"), "its purpose 'Military' is in `refuse_purposes` in [accept]"),
    ("licence", {"accept": {"licences": ["CC-BY-4.0", "MIT"]}}, stated(licence="MIT"), "its licence 'MIT' is allowed",
     stated(licence="proprietary"),
     "its licence is 'proprietary', but `licences` in [accept] lists only 'CC-BY-4.0', 'MIT'"),
    ("licence", {"accept": {"refuse_licences": ["proprietary"]}}, stated(licence="MIT"),
     "its licence 'MIT' is allowed",
     stated(licence="proprietary"), "its licence 'proprietary' is in `refuse_licences` in [accept]"),
    ("mode", {}, {}, "its model stays encrypted: this mine never reads it",
     network(), (f'{LEARNS}: add "network" to `modes` in [accept] to take it')),
    ("mode", {"accept": {"modes": ["network"]}}, network(),
     f"{LEARNS}; the policy allows that, and this mine's signature accepts the spec",
     {}, 'it trains an encrypted linear model: add "encrypted-linear" to `modes` in [accept] to take it'),
    ("mode", {"accept": {"backbones": True}}, headed(), "its model stays encrypted", None, None),
    ("mode", {}, {}, "its model stays encrypted", headed(),
     ("it trains a head on a public network of its owner's choosing, which could be made to single out records: set "
      "`backbones = true` in [accept] to take it")),
    ("mode", {"accept": {"modes": ["network"]}}, network(MINE), f"{LEARNS}; the policy allows that",
     network(OTHER), f"its terms name the 1 accounts that may train it, and not {MINE}"),
    ("mode", {"accept": {"modes": ["network"], "min_mines_of_networks": 4}}, network(mines=4), f"{LEARNS}; the policy",
     network(mines=3), ("it trains a network, and its rounds may keep 3 mines: from the weights before and after, each "
     "would learn the sum of the others' changes: lower `min_mines_of_networks` 4 in [accept] to take it")),
    ("mode", {"accept": {"modes": ["encrypted-linear", "network"]}, "privacy": {"mode": "on"}}, network(),
     "it trains a network: this mine would learn the model, and its Capsule changes that are noised; the policy allows",
     network(OTHER), f"its terms name the 1 accounts that may train it, and not {MINE}"),
    ("attribution", {}, {},
     "its owner is told how much of the model is this mine's: one number, at the campaign's end",
     stated(attribution="open"),
     f"{GIVEN}: set `open_attribution = true` in [accept] if she may see that"),
    ("attribution", {"accept": {"open_attribution": True}}, stated(attribution="open"),
     f"{GIVEN}; `open_attribution` in [accept] allows it", None, None),
    ("attribution", {}, network(), "a network does not split by its mines", None, None),
    ("mines", {}, {}, "its rounds keep 2 mines or more, and 2 are wanted",
     terms(min_mines=1),
     "its rounds may keep 1 mine, and the policy wants 2 at least: lower `min_mines` in [accept] to take it"),
    ("realised pay", {"accept": {"min_realised_pay": 50}}, {"past": (PastCampaign(Wei(100), Wei(60)),)},
     "its owner's 1 earlier campaign paid 60% of what they promised, and 50% is asked",
     {"past": (PastCampaign(Wei(100), Wei(60)), PastCampaign(Wei(900), Wei(3)))},
     "its owner's 2 earlier campaigns paid 6% of what they promised, less than `min_realised_pay` 50 in [accept]"),
    ("realised pay", {"accept": {"min_realised_pay": 100}}, {},
     "its owner has no earlier campaign in this coin that was judged",
     {"past": (PastCampaign(Wei(1000), Wei(999)),)}, "less than `min_realised_pay` 100"),
    ("approval", {}, {}, "the policy asks for no approval",
     approval(approved=False), f"you denied it (for the study): `mine approve {CAMPAIGN[:14]}` takes that back"),
    ("approval", {"accept": {"approval": True}}, approval(), "you approved it: for the study",
     {}, f"it waits for your word: `mine approve {CAMPAIGN[:14]}` or `mine deny {CAMPAIGN[:14]}`"),
    ("approval", {"accept": {"approval": True}}, approval(), "you approved it: for the study",
     approval(owner=OTHER),
     f"you approved it when {OTHER} owned it, and now {OWNER} does: `mine approve {CAMPAIGN[:14]}`"),
    ("approval", {"accept": {"approval": True}}, approval(reason=""), "you approved it", None, None),
    ("token", {}, {}, "it pays in native coin",
     terms(token=TOKEN), f"it pays in the token {TOKEN}: add it to `tokens` in [money] to take it"),
    ("token", {"money": {"tokens": [TOKEN]}}, terms(token=TOKEN),
     f"it pays in the token {TOKEN}, which `tokens` in [money] lists",
     terms(token=OTHER), f"it pays in the token {OTHER}"),
    ("bounty left", {"money": {"min_bounty_left": "0.5"}}, {"record": replace(RECORD, paid=ether("0.5"))},
     "0.5 ether of its bounty is left, and 0.5 is asked",
     {"record": replace(RECORD, paid=ether("0.6"))},
     "0.4 ether of its bounty is left, less than `min_bounty_left` 0.5 in [money]"),
    ("payout", {"money": {"min_payout": "0.04"}}, {},
     "about 0.0625 ether, and 0.04 is asked; no round has been judged yet: with 2 in it the first may pay many times",
     {"before": 7}, "ether, less than `min_payout` 0.04 in [money]; no round has been judged yet: with 7 in it"),
    ("payout", {"money": {"min_payout": "0.01"}}, {"settled": 1, "present": 3},
     "ether, and 0.01 is asked; reckoned from 1 round before, with 4 in this one",
     {"settled": 5, "own": own(LEFT)}, "less than `min_payout` 0.01 in [money]; reckoned from 5 rounds before"),
    ("gain", {}, {},
     "posting costs about 0.000144 ether for gas and 0.00002 of the bond, no more than the expected pay",
     POOR, "more than the 0.000000000000000062 ether of pay expected: allow it by `work_at_a_loss` in [money]"),
    ("gain", {"money": {"work_at_a_loss": True}}, POOR, "which `work_at_a_loss` in [money] allows",
     {"record": replace(RECORD, score=Ppm(900_000))}, "it pays nothing any more, since its score"),
    ("gain", {"money": {"work_at_a_loss": True}}, POOR, "which `work_at_a_loss` in [money] allows",
     {"record": replace(RECORD, start_score=Ppm(1), score=Ppm(1), terms=replace(TERMS, bounty=Wei(1)))},
     "its bounty, 1 wei, is too small to pay for a higher score"),
    ("gain", {}, terms(token=TOKEN), "which cannot be compared with pay in a token",
     {"gas_price": Wei(10**6 * GWEI)}, "posting costs about 72 ether for gas"),
    ("bond", {}, terms(bond=ether("0.01")), "its bond is 0.01 ether, and at most 0.01 are allowed",
     terms(bond=ether("0.02")), "its bond is 0.02 ether, above `max_bond` 0.01 in [money]"),
    ("stake", {"money": {"bond_budget": "0.005"}}, {"at_stake": ether("0.004")},
     "0.004 ether are at stake now, 0.005 with it, and at most 0.005 are allowed",
     {"at_stake": ether("0.0041")},
     "0.0041 ether are at stake now, 0.0051 with it, above `bond_budget` 0.005 in [money]: waiting for verdicts"),
    ("others", {}, {},
     "its round has 0 of the 2 gradients it needs; 0.0001 ether of the bond is lost if no other comes",
     alone(), ("too few came to its last round with this mine's: another mine may go first, until Mon 12:10 "
     "(`post_first` in [money])")),
    ("others", {}, {**alone(), "present": 1}, "with this one its round has 2 of the 2 gradients it needs",
     alone(LEFT, LEFT, LEFT), "too few came to its last 3 rounds with this mine's: another mine may go first"),
    ("others", {}, alone(ended=NOON.timestamp() - 600), "0.0001 ether of the bond is lost if no other comes",
     alone(*[LEFT] * 5, ended=0.0), "rounds with this mine's: another mine must go first (`post_first`"),
    ("others", {"money": {"post_first": "always"}}, alone(), "is lost if no other comes", None, None),
    ("others", {"money": {"post_first": "never"}}, {"present": 1}, "with this one its round has 2 of the 2 gradients",
     {}, "0 of the 2 gradients it needs, and `post_first` in [money] is \"never\": another mine must go first"),
    ("others", {}, {**alone(), **terms(min_mines=3), "present": 1}, "its round has 1 of the 3 gradients it needs",
     None, None),
    ("others", {"money": {"post_first": "never"}}, terms(slash=Ppm(0)), "0 ether of the bond is lost", None, None),
    ("lost bond", {}, {"own": own(LEFT, Verdict.COPY)},
     "its judge has not taken the whole bond of this mine's last gradient",
     {"own": own(None, Verdict.COPY, LEFT)}, ("its judge found this mine's last gradient copy and took the bond "
     "(`leave_when_bond_is_lost` in [money]): look into it first")),
    ("lost bond", {"money": {"leave_when_bond_is_lost": False}}, {"own": own(Verdict.INVALID)},
     "and took the bond, for which the policy does not leave", None, None),
    ("gas", {"money": {"max_gas_gwei": 30}}, {"gas_price": Wei(30 * GWEI)},
     "gas costs 30 gwei now, and at most 30 are allowed",
     {"gas_price": Wei(31 * GWEI)},
     "gas costs 31 gwei now, above `max_gas_gwei` 30 in [money]: waiting until it is cheaper"),
    ("funds", {}, {"balance": ether("0.00124")},
     f"the account {MINE} holds 0.00124 ether, and bond and gas of a gradient take 0.00124",
     {"balance": ether("0.0012")},
     f"the account {MINE} holds 0.0012 ether, and bond and gas of a gradient take 0.00124: fund it, and it trains"),
    ("hours", {}, {}, "at any hour", None, None),
    ("hours", {"work": {"hours": ["09:00-17:00"]}}, {}, "it is Mon 12:00, within `hours` in [work]",
     {"now": NOON.replace(hour=17)}, "it is Mon 17:00, outside `hours` in [work]: waiting until Tue 09:00"),
    ("training", {"work": {"longest_training": "20m"}}, {"training_seconds": 1200.0},
     "a training is estimated to take 20 min, and 20m are allowed",
     {"training_seconds": 1300.0},
     "a training is estimated to take 22 min, above `longest_training` 20m in [work]"),
    ("submissions", {"work": {"max_submissions": 3}}, {"submitted": 2},
     "this mine has made 2 gradients for it, and 3 may be",
     {"submitted": 3}, "this mine has made 3 gradients for it, as many as `max_submissions` 3 in [work] allows"),
    ("submissions today", {"work": {"max_submissions_per_day": 1}}, {"submitted_today": 0},
     "this mine has made 0 gradients today, and 1 may be",
     {"submitted_today": 1}, ("this mine has made 1 gradient today, as many as `max_submissions_per_day` 1 in [work] "
     "allows: waiting for midnight")),
    ("unpaid rounds", {"work": {"max_unpaid_rounds": 2}}, {"own": own(None, Verdict.KEPT, payout=1)},
     "it left no work of this mine's unpaid lately, and 2 in a row are too many",
     {"own": own(None, LEFT)},
     "its last 2 rounds paid this mine nothing (`max_unpaid_rounds` 2 in [work])"),
    ("rest", {}, {"own": own(LEFT), "round": 1}, "it need not rest",
     {"own": own(LEFT, LEFT, LEFT), "round": 4}, ("its last 3 rounds paid this mine nothing: it is left alone until "
     "round 5, or for 600 s")),
    ("rest", {}, {"own": own(LEFT, LEFT, LEFT, ended=NOON.timestamp() - 601), "round": 4}, "it need not rest",
     {"own": own(LEFT, LEFT), "round": 2}, "it is left alone until round 3, or for 300 s"),
    ("rest", {"work": {"back_off": False}}, {"own": own(LEFT, LEFT), "round": 2},
     "its last 2 rounds paid this mine nothing, for which the policy leaves out no round", None, None),
    ("data set", {}, {}, "the data set 'clinic' fits, and is free for every campaign",
     {"offered": None, "unfit": "there is no data set: add one with `mine add`"},
     "there is no data set: add one with `mine add`"),
    ("data set", {"data": {"only_listed": True}, "datasets": {"clinic": {}}}, {},
     "the data set 'clinic' fits, and [datasets.clinic] allows this campaign",
     {"offered": Offered("other", 1000)},
     "the data set 'other' has no table [datasets.other], which `only_listed` in [data] asks for"),
    ("data set", {"datasets": {"clinic": {"owners": [OWNER]}}}, {}, "[datasets.clinic] allows this campaign",
     {"record": replace(RECORD, owner=OTHER)}, (f"the data set 'clinic' is not for {OTHER}: add that to `owners` in "
     "[datasets.clinic] to allow it")),
    ("data set", {"datasets": {"clinic": {"refuse_owners": [OTHER]}}}, {}, "[datasets.clinic] allows this campaign",
     {"creator": OTHER}, f"the data set 'clinic' is not for {OTHER}, who is in `refuse_owners` in [datasets.clinic]"),
    ("data set", {"datasets": {"clinic": {"campaigns": [CAMPAIGN.upper().replace("X", "x")]}}}, {},
     "[datasets.clinic] allows this campaign",
     {"record": replace(RECORD, id=CampaignId(bytes(32)))}, ("the data set 'clinic' is not for this campaign: add "
     f"0x{'00' * 32} to `campaigns` in [datasets.clinic] to allow it")),
    ("data set", {"datasets": {"clinic": {"refuse_campaigns": ["0x" + "00" * 32]}}}, {},
     "[datasets.clinic] allows this campaign",
     {"record": replace(RECORD, id=CampaignId(bytes(32)))},
     "the data set 'clinic' is not for this campaign, which is in `refuse_campaigns` in [datasets.clinic]"),
    ("data set", {"datasets": {"clinic": {"purposes": ["research"]}}}, stated(purpose="Research"),
     "[datasets.clinic] allows this campaign",
     stated(purpose="advertising"), ("the data set 'clinic' is not for the purpose 'advertising': `purposes` in "
     "[datasets.clinic] lists what it is for")),
    ("records", {}, {"offered": Offered("clinic", 100)}, "100 records, at least 100 are wanted",
     {"offered": Offered("clinic", 99)},
     "99 records are fewer than `min_records` 100 in [data]: each would show in the gradient"),
    ("features", {}, {"spec": spec(500)}, "1000 records are at least twice the 500 features",
     {"spec": spec(501)}, ("1000 records are fewer than 1002, twice the 501 features (`records_per_feature` 2 in "
     "[data]): each would show in the gradient")),
    ("features", {"data": {"records_per_feature": 10}}, {"spec": spec(100)},
     "1000 records are at least 10 times the 100 features",
     {"spec": spec(101)}, ("1000 records are fewer than 1010, 10 times the 101 features (`records_per_feature` 10 in "
     "[data]): each would show in the gradient")),
    ("features", {"data": {"records_per_feature": 0}}, {"spec": spec(2000)}, "records are at least 0 times the 2000",
     {"spec": spec(5, feature_map={"kind": "polynomial", "degree": 3}), "offered": Offered("clinic", 109)},
     "109 records are fewer than 110, twice the 55 features of its polynomial map: each would show in the gradient"),
    ("features", {"data": {"records_per_feature": 1}},
     {"spec": spec(feature_map={"kind": "fourier", "count": 500, "gamma": 1.0})},
     "1000 records are at least twice the 500 features of its fourier map",
     {"spec": spec(feature_map={"kind": "fourier", "count": 501, "gamma": 1.0})},
     "1000 records are fewer than 1002, twice the 501 features of its fourier map"),
    ("batch", {}, {}, "every step is on all records",
     BATCHES, ("it trains on batches of 50 records, fewer than `min_records` 100 in [data]: each would show in the "
     "gradient")),
    ("batch", {}, network(), "32 records, and posts the change by all of them: single ones", None, None),
    ("batch", {"data": {"min_records": 50}}, BATCHES, "it trains on batches of 50 records, at least 50 are wanted",
     None, None),
    ("classes", {}, {}, "the smallest class 'yes' has 400 records, at least 5 are wanted",
     {"offered": Offered("clinic", 1000, (("no", 996), ("yes", 4)))},
     "the class 'yes' has 4 record(s), fewer than `min_class_records` 5 in [data]: the gradient holds their sum"),
    ("classes", {},
     {"spec": spec(5, feature_map={"kind": "polynomial", "degree": 3}),
      "offered": Offered("clinic", 1000, (("no", 978), ("yes", 22)))},
     "the smallest class 'yes' has 22 records, at least 22 are wanted",
     {"spec": spec(5, feature_map={"kind": "polynomial", "degree": 3}),
      "offered": Offered("clinic", 1000, (("no", 979), ("yes", 21)))},
     ("the class 'yes' has 21 record(s), fewer than 22: the gradient holds 55 sums of a polynomial map over them, "
      "which would tell 5 inputs of each")),
    ("classes", {}, {"offered": Offered("clinic", 1000)}, "it predicts numbers, so no class is small", None, None),
    ("privacy", {}, {}, "sums without noise are sealed to the Capsule (`mode` in [privacy])", None, None),
    ("privacy", {"privacy": {"mode": "on"}}, {}, ("with 1000 records, 3 features and epsilon 1 a model of this data "
     "set alone is expected to lose 0.1 points of accuracy to the noise"),
     {"spec": spec(40), "offered": Offered("clinic", 100)}, "more than `max_loss` 0.1 in [privacy]"),
    ("privacy", {"privacy": {"mode": "on"}}, {"offered": Offered("clinic", 1000, (), Fraction(1, 50))},
     "epsilon 0.9 of a budget of 3 is spent before",
     {"offered": Offered("clinic", 1000, (), Fraction(1, 6))}, "above the budget of 3 in [privacy] of the policy"),
    ("privacy", {"privacy": {"mode": "on"}}, {"offered": Offered("clinic", 1000, (), Fraction(1, 6), True)},
     "a statistic that was released before serves it, at no further cost",
     BATCHES, "batches of 50 records, each of which would need noise of its own"),
    ("privacy", {}, network(), "changes of its network without noise are sealed to the Capsule", None, None),
    ("privacy", {"privacy": {"mode": "on"}}, network(),
     ("each round costs epsilon 1 anew; with 1000 records in 32 batches and 8 parameters its noise is 0.072 times as "
      "long as all that the records can add; epsilon 0 of a budget of 3 is spent before, which leaves 7 rounds"),
     {**network(), "offered": Offered("clinic", 10)}, (
         "with 10 records in 1 batch and 8 parameters its noise is 1.3 times as long as all that the records can add, "
         "more than `max_noise` 1 in [privacy]: it takes more records, a smaller network or a larger `round_epsilon`")),
    ("privacy", {"privacy": {"mode": "on", "max_noise": 0.07}}, {**network(), "offered": Offered("clinic", 1100)},
     "in 35 batches and 8 parameters its noise is 0.069 times as long", network(),
     ("more than `max_noise` 0.07 in [privacy]: it takes more records, a smaller network or a larger `round_epsilon`, "
      "or a campaign of larger batches")),
    ("privacy", {"privacy": {"mode": "on", "round_epsilon": 0.5}}, network(), "which leaves 27 rounds",
     {**network(), "offered": Offered("clinic", 1000, (), Fraction(37, 200))},
     ("each round of a network costs epsilon 0.5 anew, and this one would bring what was told of data set 'clinic' "
      "from epsilon 3 to 3.06 at delta 1e-06, above the budget of 3 in [privacy] of the policy")),
    ("privacy", {"privacy": {"mode": "on"}},
     {**network(), "offered": Offered("clinic", 1000, (), Fraction(1, 6), True)},
     "this round is paid for: its gradient costs no more", None, None),
]  # fmt: skip
PASSING = {"stake", "others", "gas", "funds", "hours", "submissions today", "rest"}


def finding(rule, settings, changes):
    (found,) = [one for one in judge(Policy(**settings), replace(FACTS, **changes)) if one.rule == rule]
    return found


@pytest.mark.parametrize(("rule", "settings", "agreed", "why", "refused", "why_not"), CASES,
                         ids=[f"{case[0]}-{at}" for at, case in enumerate(CASES)])  # fmt: skip
def test_a_rule_agrees_and_refuses_each_with_its_sentence(rule, settings, agreed, why, refused, why_not):
    found = finding(rule, settings, agreed)
    assert found.ok, found.text
    assert why in found.text
    if refused is not None:
        found = finding(rule, settings, refused)
        assert not found.ok
        assert why_not in found.text
        if rule in PASSING:
            assert found.passing


def test_every_rule_is_tried_in_both_ways_and_agrees_to_the_facts_that_all_start_from():
    names = [one.rule for one in judge(Policy(), FACTS)]
    assert len(set(names)) == len(names)
    assert set(names) == {case[0] for case in CASES} == {case[0] for case in CASES if case[4] is not None}
    assert all(one.ok for one in judge(Policy(), FACTS))
    require(judge(Policy(), FACTS))


def test_every_setting_of_the_rules_tables_is_tried():
    tried = {(table, name) for case in CASES for table, settings in case[1].items() for name in settings}
    elsewhere = {
        ("money", "withdraw_above"),
        ("money", "withdraw_tokens"),
        ("data", "on_bad_records"),
        ("work", "threads"),
        ("work", "memory_gib"),
        ("work", "niceness"),
        ("work", "confirmations"),
    }
    defaults = {("accept", "min_mines"), ("money", "max_bond"), ("data", "min_class_records")}
    for table in ("accept", "data", "money", "work"):
        names = {(table, name) for name in type(getattr(Policy(), table)).model_fields}
        assert names <= tried | elsewhere | defaults


def test_all_lasting_refusals_are_told_at_once_and_passing_ones_only_when_alone():
    facts = replace(FACTS, **terms(min_mines=1, bond=ether(1)), gas_price=Wei(10**4 * GWEI))
    with pytest.raises(PolicyError, match=r"its rounds may keep 1 mine.*; its bond is 1 ether") as caught:
        require(judge(Policy(), facts))
    assert not isinstance(caught.value, NotNowError)
    assert "gwei" not in str(caught.value)
    with pytest.raises(NotNowError, match="gas costs 400 gwei now"):
        require(judge(Policy(money={"work_at_a_loss": True}), replace(FACTS, gas_price=Wei(400 * GWEI))))


def test_the_largest_data_set_that_the_rules_allow_is_taken():
    policy = Policy(datasets={"large": {"owners": [OTHER]}})
    offers = [Offered("small", 200), Offered("large", 900), Offered("middle", 500)]
    assert best_offer(policy, FACTS, offers).offered.name == "middle"
    assert best_offer(policy, FACTS, offers[1:2]).offered.name == "large"
    assert best_offer(policy, replace(FACTS, offered=None), []).offered is None
