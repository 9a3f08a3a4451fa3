"""The oracle of the machine: what the contract owes to whom.

Every call first checks and raises `Refusal`, then writes; so a refused call has changed nothing. The ledger also holds
every account's coin and tokens, because nobody may end with anything that it does not give.
"""

from collections import Counter
from copy import copy, deepcopy

from machine.rules import (
    CLOSED,
    COPY,
    FINISHED,
    KEPT,
    LEFT_OUT,
    MAX_BOUNTY,
    NATIVE,
    PPM,
    RUNNING,
    UNAVAILABLE,
    Campaign,
    Refusal,
    check_entries,
    check_result,
    check_terms,
)
from machine.wire import ZERO, Admission, Call, admission_digest, chained, encode, seeded, settlement_digest

__all__ = ["Ledger"]

PAYABLE = {"createCampaign", "submitGradient", "topUp"}
GUARDED = {"createCampaign", "topUp", "withdraw"}


class Ledger:
    """One contract's books, and the wallets around it."""

    def __init__(self, sonar, domain):
        self.sonar = sonar
        self.domain = domain
        self.campaigns = {}
        self.credits = Counter()
        self.wallets = Counter()
        """By (token, account); the contract's own is among them."""
        self.donations = Counter()
        self.tokens = {}
        self.approved = set()
        """(token, account) whose tokens the contract may take."""
        self.receivers = {}
        """How contracts take coin, unless gladly: "refuse" or "reenter"."""
        self.signed = set()
        """(oracle, digest, signature) that an oracle made."""
        self.consents = {}
        """Of oracles that sign without signatures: the digests that they approved."""
        self.unwell = set()
        """Those of them that sign nothing at present."""
        self.armed = {}
        """What an account calls when it is called back."""
        self.callbacks = {}
        """How the last such call of an account ended: whether it succeeded, and its bytes."""
        self.encode_refusal = None
        self._events = []
        self._entered = False

    def copy(self):
        """Books of its own with the same contents."""
        duplicate = copy(self)
        duplicate.campaigns = deepcopy(self.campaigns)
        duplicate.tokens = deepcopy(self.tokens)
        duplicate.consents = deepcopy(self.consents)
        for name in ("credits", "wallets", "donations", "signed", "unwell", "armed", "callbacks"):
            setattr(duplicate, name, getattr(self, name).copy())
        return duplicate

    # -------------------------------------------------------------------------------------------------------- calls

    def perform(self, call, sender, value, time):
        """Does a call at a time; answers its result and its events, or raises Refusal."""
        self._events = []
        return self._perform(call, sender, value, time), self._events

    def _perform(self, call: Call, sender, value, time):
        if value and call.method not in PAYABLE:
            raise Refusal
        if call.method not in GUARDED:
            answer = getattr(self, f"_{call.method}")(sender, value, time, *call.arguments)
        elif self._entered:
            raise Refusal("ReentrancyGuardReentrantCall")
        else:
            self._entered = True
            try:
                answer = getattr(self, f"_{call.method}")(sender, value, time, *call.arguments)
            finally:
                self._entered = False
        self._move(NATIVE, sender, self.sonar, value)
        return answer

    def _createCampaign(self, sender, value, time, terms, admission: Admission, signature, spec_cid, model_cid):
        id_ = admission_digest(self.domain, admission)
        if admission.owner != sender:
            raise Refusal("Sonar_AdmissionNotForCaller", sender, admission.owner)
        if time > admission.valid_until:
            raise Refusal("Sonar_AdmissionExpired", admission.valid_until, time)
        if admission.oracle == 0:
            raise Refusal("Sonar_OracleZero")
        self._check_signature(admission.oracle, id_, signature)
        if id_ in self.campaigns:
            raise Refusal("Sonar_CampaignExists", id_)
        check_terms(terms, admission.start_score, time)
        self._check_value(terms.token, terms.bounty, value)
        self._check_pull(terms.token, sender, terms.bounty)

        start = admission.start_score
        lines = [(terms.bounty, start)]
        head = seeded(id_, 0)
        self.campaigns[id_] = Campaign(id_, sender, admission.oracle, terms, start, start, head, lines)
        self._emit("CampaignCreated", id_, sender, admission.oracle, terms, admission, spec_cid, model_cid)
        self._pull(terms.token, sender, terms.bounty, time)
        return (id_,)

    def _submitGradient(self, sender, value, time, id_, number, artifact, gradient, cid):
        campaign = self._present(id_, number)
        if time >= campaign.terms.deadline:
            raise Refusal("Sonar_DeadlinePassed", id_, campaign.terms.deadline, time)
        if campaign.is_round_closed(time):
            raise Refusal("Sonar_RoundClosed", id_, number)
        if campaign.last_submission.get(sender) == number + 1:
            raise Refusal("Sonar_AlreadySubmitted", id_, number, sender)
        if value != campaign.terms.bond:
            raise Refusal("Sonar_WrongValue", value, campaign.terms.bond)

        index = len(campaign.entries)
        if index == 0:
            campaign.opened_at = time
        entry = (sender, artifact, gradient)
        campaign.entries.append(entry)
        campaign.head = chained(campaign.head, entry)
        campaign.last_submission[sender] = number + 1
        self._emit("GradientSubmitted", id_, number, sender, index, artifact, gradient, cid)
        return (index,)

    def _settleRound(self, sender, value, time, settlement, entries, signature):
        campaign = self._pending(settlement.campaign, settlement.round)
        if not campaign.is_round_closed(time):
            raise Refusal("Sonar_RoundOpen", campaign.id, campaign.round, campaign.closes_at)
        check_entries(campaign, entries)
        if settlement.head != campaign.head:
            raise Refusal("Sonar_WrongHead", campaign.id, settlement.head, campaign.head)
        if len(settlement.outcomes) != len(entries):
            raise Refusal("Sonar_WrongOutcomeCount", len(settlement.outcomes), len(entries))
        if any(outcome.verdict > COPY for outcome in settlement.outcomes):
            raise Refusal
        self._check_signature(campaign.oracle, settlement_digest(self.domain, settlement), signature)
        check_result(campaign, settlement)

        payout = campaign.quote(settlement.score)
        if settlement.model != ZERO:
            campaign.score = settlement.score
            campaign.version += 1
            # Each addition's slope is rounded down by less than one, and so is the sum.
            exact = campaign.ideal(campaign.score)
            assert exact - 1 - len(campaign.additions) < campaign.paid + payout <= exact, "the formula is another"
        campaign.paid += payout
        campaign.settled += 1
        finished = campaign.score >= campaign.terms.target or campaign.settled == campaign.terms.max_rounds
        if finished:
            campaign.status = FINISHED
        self._judge(campaign, settlement, payout)
        campaign.round += 1
        campaign.entries = []
        campaign.head = seeded(campaign.id, campaign.round)
        self._emit("RoundSettled", campaign.id, *settlement[1:2], *settlement[3:10], payout)
        if finished:
            self._emit("CampaignFinished", campaign.id, settlement.score)
        return ()

    def _expireRound(self, sender, value, time, id_, number, entries):
        campaign = self._pending(id_, number)
        if time < campaign.expires_at:
            raise Refusal("Sonar_RoundNotExpired", id_, number, campaign.expires_at)
        check_entries(campaign, entries)

        for mine, _, _ in campaign.entries:
            self.credits[NATIVE, mine] += campaign.terms.bond
        campaign.round += 1
        campaign.entries = []
        campaign.head = seeded(id_, campaign.round)
        self._emit("RoundExpired", id_, number)
        return ()

    def _topUp(self, sender, value, time, id_, amount):
        campaign = self._running(id_)
        terms = campaign.terms
        if time >= terms.deadline:
            raise Refusal("Sonar_DeadlinePassed", id_, terms.deadline, time)
        if amount == 0:
            raise Refusal("Sonar_AmountZero")
        if amount + terms.bounty > MAX_BOUNTY:
            raise Refusal("Sonar_BountyOverflow", terms.bounty, amount)
        self._check_value(terms.token, amount, value)
        self._check_pull(terms.token, sender, amount)

        before = campaign.paid_at(campaign.score), [campaign.quote(score) for score in campaign.some_scores()]
        campaign.add(amount)
        after = campaign.paid_at(campaign.score), [campaign.quote(score) for score in campaign.some_scores()]
        assert before[0] == after[0] == campaign.paid, "a top-up changed what was paid"
        assert all(new >= old for old, new in zip(before[1], after[1], strict=True)), "a top-up lowered a payout"
        self._emit("BountyRaised", id_, sender, amount, terms.bounty + amount)
        self._pull(terms.token, sender, amount, time)
        return ()

    def _transferCampaign(self, sender, value, time, id_, to):
        campaign = self._owned(id_, sender)
        campaign.pending_owner = to
        self._emit("CampaignTransferStarted", id_, sender, to)
        return ()

    def _acceptCampaign(self, sender, value, time, id_):
        campaign = self._existing(id_)
        if sender != campaign.pending_owner:
            raise Refusal("Sonar_NotPendingOwner", id_, sender, campaign.pending_owner)
        self._emit("CampaignTransferred", id_, campaign.owner, sender)
        campaign.owner, campaign.pending_owner = sender, 0
        return ()

    def _close(self, sender, value, time, id_):
        campaign = self._owned(id_, sender)
        if campaign.status == CLOSED:
            raise Refusal("Sonar_WrongStatus", id_, CLOSED)
        if campaign.entries:
            raise Refusal("Sonar_RoundPending", id_, campaign.round, len(campaign.entries))
        if campaign.status == RUNNING and time < campaign.terms.deadline and campaign.version > 0:
            raise Refusal("Sonar_NotClosable", id_, campaign.terms.deadline)

        campaign.status = CLOSED
        campaign.refund = campaign.terms.bounty - campaign.paid
        self.credits[campaign.terms.token, sender] += campaign.refund
        self._emit("CampaignClosed", id_, sender, campaign.refund)
        return ()

    def _withdraw(self, sender, value, time, token, to):
        amount = self.credits[token, sender]
        if to in (0, self.sonar):
            raise Refusal("Sonar_InvalidReceiver", to)
        if amount == 0:
            raise Refusal("Sonar_NothingOwed", token, sender)
        if token == NATIVE:
            if self.receivers.get(to) == "refuse":
                raise Refusal("Sonar_TransferFailed", to, amount)
        elif self.tokens[token].mood == "false":
            raise Refusal("SafeERC20FailedOperation", token)
        elif self.tokens[token].mood == "reverting":
            raise Refusal("InBadMood")

        self.credits[token, sender] = 0
        self._emit("Withdrawn", token, sender, to, amount)
        self._move(token, self.sonar, to, amount)
        if token == NATIVE and self.receivers.get(to) == "reenter":
            self._call_back(to, time)
        if token != NATIVE and self.tokens[token].mood == "reentering":
            self._call_back(token, time)
        return (amount,)

    # ------------------------------------------------------------------------------------------------------ the rules

    def _existing(self, id_):
        if id_ not in self.campaigns:
            raise Refusal("Sonar_CampaignUnknown", id_)
        return self.campaigns[id_]

    def _owned(self, id_, sender):
        campaign = self._existing(id_)
        if sender != campaign.owner:
            raise Refusal("Sonar_NotOwner", id_, sender, campaign.owner)
        return campaign

    def _running(self, id_):
        campaign = self._existing(id_)
        if campaign.status != RUNNING:
            raise Refusal("Sonar_WrongStatus", id_, campaign.status)
        return campaign

    def _present(self, id_, number):
        campaign = self._running(id_)
        if campaign.round != number:
            raise Refusal("Sonar_WrongRound", id_, number, campaign.round)
        return campaign

    def _pending(self, id_, number):
        campaign = self._present(id_, number)
        if not campaign.entries:
            raise Refusal("Sonar_RoundEmpty", id_, number)
        return campaign

    def _check_signature(self, oracle, digest, signature):
        consents = self.consents.get(oracle)
        if consents is None:
            valid = (oracle, digest, signature) in self.signed
        else:
            valid = oracle not in self.unwell and digest in consents
        if not valid:
            raise Refusal("Sonar_BadSignature", oracle, digest)

    def _check_value(self, token, amount, value):
        required = amount if token == NATIVE else 0
        if value != required:
            raise Refusal("Sonar_WrongValue", value, required)

    def _check_pull(self, token, account, amount):
        """Whether the token delivers what is asked for, and lets the contract have it."""
        if token == NATIVE:
            return
        if token not in self.tokens:
            raise Refusal
        mood = self.tokens[token].mood
        if mood == "reverting":
            raise Refusal("InBadMood")
        if mood == "false":
            raise Refusal("SafeERC20FailedOperation", token)
        if self.tokens[token].allowances and (token, account) not in self.approved:
            raise Refusal("ERC20InsufficientAllowance", self.sonar, 0, amount)
        received = self._delivered(token, amount)
        if received != amount:
            raise Refusal("Sonar_TokenDeliveredOtherAmount", token, received, amount)

    def _judge(self, campaign, settlement, payout):
        terms = campaign.terms
        paid = [i for i, outcome in enumerate(settlement.outcomes) if outcome.share]
        parts = [payout * outcome.share // PPM for outcome in settlement.outcomes]
        if paid:
            parts[paid[-1]] += payout - sum(parts)
        lost = 0
        for index, (entry, outcome, earned) in enumerate(
            zip(campaign.entries, settlement.outcomes, parts, strict=True)
        ):
            slashed = terms.bond
            if outcome.verdict == KEPT:
                slashed = 0
            elif outcome.verdict in (LEFT_OUT, UNAVAILABLE):
                slashed = terms.bond * terms.slash // PPM
            lost += slashed
            returned = terms.bond - slashed
            self.credits[terms.token, entry[0]] += earned
            self.credits[NATIVE, entry[0]] += returned
            self._emit("GradientJudged", campaign.id, campaign.round, entry[0], index, *outcome, earned, returned)
        self.credits[NATIVE, campaign.owner] += lost

    # ---------------------------------------------------------------------------------------------- money and tokens

    def _emit(self, name, *arguments):
        self._events.append((name, arguments))

    def _delivered(self, token, amount):
        mood = self.tokens[token].mood
        return amount + 1 if mood == "generous" else amount - amount // 100 if mood == "fee" else amount

    def _pull(self, token, account, amount, time):
        if token == NATIVE:
            return
        self._move(token, account, self.sonar, amount)
        if self.tokens[token].mood == "reentering":
            self._call_back(token, time)

    def _move(self, token, source, to, amount):
        """Lets coin or tokens change hands, as the token likes it."""
        delivered = self._delivered(token, amount) if token != NATIVE else amount
        self.wallets[token, source] -= amount
        self.wallets[token, to] += delivered
        if delivered < amount:
            self.wallets[token, token] += amount - delivered

    def donate(self, token, source, amount):
        """Coin that is forced in, or tokens sent, without a call of the contract."""
        before = self.wallets[token, self.sonar]
        self._move(token, source, self.sonar, amount)
        self.donations[token] += self.wallets[token, self.sonar] - before

    def _call_back(self, account, time):
        call = self.armed.get(account)
        if call is None:
            return
        try:
            self.callbacks[account] = (True, encode(*self._perform(call, account, 0, time)))
        except Refusal as refusal:
            self.callbacks[account] = (False, self.encode_refusal(refusal))

    # ----------------------------------------------------------------------------------------------------- invariants

    def check(self):
        """The books add up, for each token and each closed campaign."""
        owed = Counter(self.donations)
        for (token, _), amount in self.credits.items():
            owed[token] += amount
        for campaign in self.campaigns.values():
            if campaign.status == CLOSED:
                assert campaign.paid + campaign.refund == campaign.terms.bounty, "a closed campaign kept or made money"
            else:
                assert 0 <= campaign.paid <= campaign.terms.bounty, "a campaign paid more than it had"
                owed[campaign.terms.token] += campaign.terms.bounty - campaign.paid
                owed[NATIVE] += campaign.terms.bond * len(campaign.entries)
        for token in (NATIVE, *self.tokens):
            assert owed[token] == self.wallets[token, self.sonar], f"{token:#x}: owed {owed[token]}, not what is there"
