"""createCampaign: what it stores, what it escrows, and all that it refuses."""

import pytest
from eth_account import Account
from market import BOUNTY, DAY, HOUR, NATIVE, PPM, REENTRANT, Market, Status, refused

YEARS = 365 * DAY


# R217
def test_it_runs_with_the_terms_given_and_the_judges_start_score(market, sonar, owner):
    campaign, _ = market.create(owner, terms={"payoutBase": 1, "target": 900_000}, admission={"startScore": 250_000})
    record = sonar.getCampaign(campaign.id)
    assert record["terms"] == campaign.terms
    assert (record["owner"], record["status"]) == (owner, Status.RUNNING)
    assert (record["startScore"], record["score"], record["base"]) == (250_000, 250_000, 650_000)
    assert (record["version"], record["paid"]) == (0, 0)


# R502
def test_the_platforms_base_is_the_target(market, sonar, owner):
    campaign, _ = market.create(owner, terms={"payoutBase": 0, "target": 900_000})
    assert sonar.getCampaign(campaign.id)["base"] == 900_000


# R101, R107
def test_its_id_is_the_admissions_digest(market, sonar, owner):
    campaign, tx = market.create(owner)
    assert tx.return_value == campaign.id
    assert sonar.hashAdmission(campaign.admission) == campaign.id


# R217, R307
def test_its_first_round_is_open_and_empty(market, sonar, owner):
    campaign, _ = market.create(owner)
    present = sonar.getRound(campaign.id)
    assert (present["number"], present["settled"], present["count"]) == (0, 0, 0)
    assert present["head"] == campaign.head()
    assert (present["openedAt"], present["closesAt"], present["expiresAt"], present["open"]) == (0, 0, 0, True)


# R217, R909
def test_it_announces_everything_that_a_mine_needs(market, owner):
    campaign, tx = market.create(owner)
    (event,) = tx.events["CampaignCreated"]
    assert event["id"] == campaign.id
    assert (event["owner"], event["oracle"]) == (owner, market.oracle.address)
    assert event["terms"] == campaign.terms
    assert event["admission"] == campaign.admission
    assert (event["specCid"], event["modelCid"]) == ("cid of the spec", "cid of the model")


# R215
def test_it_escrows_a_native_bounty(chain, market, sonar, owner):
    before = chain.balance(owner)
    market.create(owner)
    assert (chain.balance(sonar), chain.balance(owner)) == (BOUNTY, before - BOUNTY)


# R216
def test_it_escrows_a_token_bounty(chain, market, sonar, owner, token):
    before = token.balanceOf(owner)
    market.create(owner, terms={"token": token.address})
    assert (token.balanceOf(sonar), token.balanceOf(owner)) == (BOUNTY, before - BOUNTY)
    assert chain.balance(sonar) == 0


# R216
def test_it_escrows_a_bounty_of_a_token_that_returns_nothing(market, sonar, owner, fund):
    token = fund("SilentToken", owner)
    market.create(owner, terms={"token": token.address})
    assert token.balanceOf(sonar) == BOUNTY


# R106
def test_the_oracle_may_be_a_contract(chain, market, sonar, owner):
    oracle = chain.deploy("ContractOracle", sender=owner)
    admission = market.admission(owner, oracle=oracle.address)
    digest = market.digest("Admission", admission)
    with refused("Sonar_BadSignature", oracle, digest):
        market.create(owner, admission=admission, signature=b"")
    oracle.approve(digest, sender=owner)
    market.create(owner, admission=admission, signature=b"")
    assert sonar.getCampaign(digest)["oracle"] == oracle.address


# The admission


# R203
def test_an_admission_serves_once(market, owner):
    campaign, _ = market.create(owner)
    with refused("Sonar_CampaignExists", campaign.id):
        market.create(owner, admission=campaign.admission)


# R203
def test_an_admission_serves_once_even_after_its_campaign_was_closed(market, owner):
    campaign, _ = market.create(owner)
    market.close(campaign)
    with refused("Sonar_CampaignExists", campaign.id):
        market.create(owner, admission=campaign.admission)


# R201
def test_an_admission_serves_no_other_account(market, owner, attacker):
    admission = market.admission(owner)
    with refused("Sonar_AdmissionNotForCaller", attacker, owner):
        market.create(owner, admission=admission, sender=attacker)


# R201, R204
def test_an_admission_with_another_owner_written_in_is_not_signed(market, owner, attacker):
    admission = market.admission(owner)
    signature = market.sign("Admission", admission)
    forged = admission | {"owner": attacker}
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Admission", forged)):
        market.create(attacker, admission=forged, signature=signature)


# R204
def test_an_admission_with_another_start_score_written_in_is_not_signed(market, owner):
    admission = market.admission(owner)
    signature = market.sign("Admission", admission)
    forged = admission | {"startScore": 0}
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Admission", forged)):
        market.create(owner, admission=forged, signature=signature)


# R101, R102
def test_an_admission_for_another_contract_is_not_signed_for_this_one(chain, market, owner):
    other = Market(chain.deploy("Sonar", sender=owner), market.oracle.key)
    admission = market.admission(owner)
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Admission", admission)):
        market.create(owner, admission=admission, signature=other.sign("Admission", admission))


# R101, R102
def test_an_admission_for_another_chain_is_not_signed_for_this_one(market, owner):
    admission = market.admission(owner)
    signature = market.sign("Admission", admission, chain_id=4242)
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Admission", admission)):
        market.create(owner, admission=admission, signature=signature)


# R204
def test_an_admission_signed_by_another_oracle_is_refused(market, owner):
    admission = market.admission(owner)
    signature = market.sign("Admission", admission, signer=Account.create())
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Admission", admission)):
        market.create(owner, admission=admission, signature=signature)


# R105
def test_a_signatures_malleable_twin_is_refused(market, owner):
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    admission = market.admission(owner)
    signature = market.sign("Admission", admission)
    twin = signature[:32] + (order - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    twin += bytes([55 - signature[64]])
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Admission", admission)):
        market.create(owner, admission=admission, signature=twin)


# R105
@pytest.mark.parametrize(
    "signature", [b"", b"\x01" * 64, b"\x01" * 65, bytes(65)], ids=lambda s: f"{len(s)} of {s[:1].hex()}"
)
def test_bytes_that_are_no_signature_are_refused(market, owner, signature):
    admission = market.admission(owner)
    with refused("Sonar_BadSignature", market.oracle.address, market.digest("Admission", admission)):
        market.create(owner, admission=admission, signature=signature)


# R202
def test_an_admission_serves_until_its_last_second(chain, market, owner):
    admission = market.admission(owner)
    chain.at(admission["validUntil"])
    market.create(owner, admission=admission)


# R202
def test_an_admission_expires_after_its_last_second(chain, market, owner):
    admission = market.admission(owner)
    terms = {"deadline": admission["validUntil"] + DAY}
    chain.at(admission["validUntil"] + 1)
    with refused("Sonar_AdmissionExpired", admission["validUntil"], admission["validUntil"] + 1):
        market.create(owner, terms=terms, admission=admission)


# R204
def test_it_needs_an_oracle(market, owner):
    with refused("Sonar_OracleZero"):
        market.create(owner, admission={"oracle": NATIVE})


# The terms

SMALLEST = {
    "bounty": 1, "bond": 0, "slash": 0, "target": 1, "minGain": 1, "minMines": 1, "roundSize": 1, "maxRounds": 1,
    "roundSeconds": 1, "settlementSeconds": 600,
}  # fmt: skip
LARGEST = {
    "bond": 2**96 - 1, "slash": PPM, "target": PPM, "minGain": 1, "minMines": 64, "roundSize": 64,
    "maxRounds": 2**16 - 1, "roundSeconds": 30 * DAY, "settlementSeconds": 365 * DAY,
}  # fmt: skip


# R205, R206, R207, R208, R209, R210, R211, R212, R213
@pytest.mark.parametrize(("extreme", "start"), [(SMALLEST, 0), (LARGEST, PPM - 1)], ids=["smallest", "largest"])
def test_the_extremes_of_all_terms_are_allowed(market, sonar, owner, extreme, start):
    campaign = market.running(owner, start, **extreme)
    assert sonar.getCampaign(campaign.id)["terms"] == campaign.terms


# R210
def test_the_least_gain_may_be_all_that_is_left_to_a_perfect_score(market, sonar, owner):
    campaign = market.running(owner, 0, minGain=PPM)
    assert sonar.getCampaign(campaign.id)["terms"]["minGain"] == PPM


# R205, R206, R207, R208, R209, R210, R211, R212, R213
@pytest.mark.parametrize(
    ("terms", "error", "arguments"),
    [
        ({"bounty": 0}, "Sonar_BountyZero", []),
        ({"slash": PPM + 1}, "Sonar_SlashAboveOne", [PPM + 1]),
        ({"target": PPM + 1}, "Sonar_TargetOutOfRange", [PPM + 1, 100_000]),
        ({"target": 100_000}, "Sonar_TargetOutOfRange", [100_000, 100_000]),
        ({"target": 99_999}, "Sonar_TargetOutOfRange", [99_999, 100_000]),
        ({"roundSize": 0}, "Sonar_RoundSizeOutOfRange", [0, 64]),
        ({"roundSize": 65}, "Sonar_RoundSizeOutOfRange", [65, 64]),
        ({"minMines": 0}, "Sonar_MinMinesOutOfRange", [0, 3]),
        ({"minMines": 4}, "Sonar_MinMinesOutOfRange", [4, 3]),
        ({"minGain": 0}, "Sonar_MinGainOutOfRange", [0, 100_000]),
        ({"minGain": 900_001}, "Sonar_MinGainOutOfRange", [900_001, 100_000]),
        ({"minGain": 2**32 - 1}, "Sonar_MinGainOutOfRange", [2**32 - 1, 100_000]),
        ({"maxRounds": 0}, "Sonar_MaxRoundsZero", []),
        ({"roundSeconds": 0}, "Sonar_RoundSecondsOutOfRange", [0, 30 * DAY]),
        ({"roundSeconds": 30 * DAY + 1}, "Sonar_RoundSecondsOutOfRange", [30 * DAY + 1, 30 * DAY]),
        ({"settlementSeconds": 599}, "Sonar_SettlementSecondsOutOfRange", [599, 600, 365 * DAY]),
        (
            {"settlementSeconds": 365 * DAY + 1},
            "Sonar_SettlementSecondsOutOfRange",
            [365 * DAY + 1, 600, 365 * DAY],
        ),
    ],
)
def test_terms_out_of_range_are_refused(market, owner, terms, error, arguments):
    with refused(error, *arguments):
        market.create(owner, terms=terms)


# R214
def test_a_deadline_must_be_in_the_future(chain, market, owner):
    time = chain.now() + HOUR
    chain.at(time)
    with refused("Sonar_DeadlineOutOfRange", time, time, time + 5 * YEARS):
        market.create(owner, terms={"deadline": time})


# R214
def test_a_deadline_one_second_ahead_is_allowed(chain, market, owner):
    time = chain.now() + HOUR
    chain.at(time)
    market.create(owner, terms={"deadline": time + 1})


# R214
def test_a_deadline_may_be_five_years_ahead_and_no_more(chain, market, owner):
    time = chain.now() + HOUR
    admissions = [market.admission(owner, validUntil=time + DAY) for _ in range(2)]
    chain.at(time)
    with refused("Sonar_DeadlineOutOfRange", time + 5 * YEARS + 1, time, time + 5 * YEARS):
        market.create(owner, terms={"deadline": time + 5 * YEARS + 1}, admission=admissions[0])
    chain.at(time + 10)
    market.create(owner, terms={"deadline": time + 10 + 5 * YEARS}, admission=admissions[1])


# The money


# R215
@pytest.mark.parametrize("value", [0, BOUNTY - 1, BOUNTY + 1])
def test_a_native_bounty_must_come_exactly(market, owner, value):
    with refused("Sonar_WrongValue", value, BOUNTY):
        market.create(owner, value=value)


# R215
def test_coin_sent_along_with_a_token_bounty_is_refused(market, owner, token):
    with refused("Sonar_WrongValue", 1, 0):
        market.create(owner, terms={"token": token.address}, value=1)


# R216
@pytest.mark.parametrize(
    ("contract", "received"),
    [("FeeToken", BOUNTY - BOUNTY // 100), ("GenerousToken", BOUNTY + 1)],
    ids=["less", "more"],
)
def test_a_token_that_delivers_another_amount_is_refused(market, owner, fund, contract, received):
    token = fund(contract, owner)
    with refused("Sonar_TokenDeliveredOtherAmount", token, received, BOUNTY):
        market.create(owner, terms={"token": token.address})


# R216
def test_a_token_that_says_no_is_refused(market, owner, fund):
    token = fund("FalseToken", owner)
    with refused("SafeERC20FailedOperation", token):
        market.create(owner, terms={"token": token.address})


# R216
def test_a_token_that_reverts_is_refused(market, owner, fund):
    token = fund("PausableToken", owner)
    token.pause(True, sender=owner)
    with refused("Paused"):
        market.create(owner, terms={"token": token.address})


# R216
def test_a_token_bounty_that_was_not_approved_is_refused(market, sonar, owner, token):
    token.approve(sonar, BOUNTY - 1, sender=owner)
    with refused("ERC20InsufficientAllowance", sonar, BOUNTY - 1, BOUNTY):
        market.create(owner, terms={"token": token.address})


# R906, R902
def test_a_token_cannot_create_a_second_campaign_out_of_one_delivery(market, sonar, owner, fund):
    token = fund("CallbackToken", owner)
    token.mint(token, BOUNTY, sender=owner)
    inner = market.admission(token)
    call = sonar.createCampaign.encode(
        market.terms(token=token.address),
        inner,
        market.sign("Admission", inner),
        "cid",
        "cid",
    )
    token.arm(sonar, call, sender=owner)
    market.create(owner, terms={"token": token.address})
    assert token.answer() == REENTRANT
    assert not token.succeeded()
    assert token.balanceOf(sonar) == BOUNTY


# R903
def test_donated_coin_and_tokens_count_for_nobody(market, sonar, owner, token, attacker):
    token.mint(sonar, BOUNTY, sender=attacker)
    with refused("ERC20InsufficientBalance", attacker, 0, BOUNTY):
        token.approve(sonar, BOUNTY, sender=attacker)
        market.create(attacker, terms={"token": token.address})
    market.create(owner, terms={"token": token.address})
    assert token.balanceOf(sonar) == 2 * BOUNTY
    assert market.credits(owner, attacker, token=token) == [0, 0]
