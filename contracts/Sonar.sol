// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {ISonar} from "./interfaces/ISonar.sol";

/// @title Sonar
/// @notice See the documentation in {ISonar}.
/// @dev What a campaign has paid is a function of its score (`_paidAt`), so a campaign's escrow needs no counter: it is
/// the bounty less `_paidAt(score)`, and rounding can neither lose nor make a unit of it. Only `withdraw` sends value;
/// only `createCampaign`, `topUp` and `withdraw` call out, apart from the static call to an EIP-1271 oracle.
contract Sonar is ISonar, EIP712, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /*//////////////////////////////////////////////////////////////////////////
                                      CONSTANTS
    //////////////////////////////////////////////////////////////////////////*/

    /// @inheritdoc ISonar
    uint32 public constant override MIN_SETTLEMENT_SECONDS = 10 minutes;

    /// @dev Every window has an upper bound, so that every state has an exit within a lifetime.
    uint32 internal constant MAX_SETTLEMENT_SECONDS = 365 days;
    uint32 internal constant MAX_ROUND_SECONDS = 30 days;
    uint256 internal constant MAX_CAMPAIGN_SECONDS = 5 * 365 days;

    /// @dev Bounds the loops of `settleRound` and `expireRound`.
    uint8 internal constant MAX_ROUND_SIZE = 64;

    /// @dev 100% in parts per million.
    uint256 internal constant PPM = 1e6;

    /// @dev Stands for the native coin.
    address internal constant NATIVE = address(0);

    bytes32 internal constant ADMISSION_TYPEHASH = keccak256(
        "Admission(bytes32 spec,bytes32 model,bytes32 key,bytes32 sealingKey,uint32 startScore,address oracle,address owner,uint40 validUntil)"
    );

    bytes32 internal constant OUTCOME_TYPEHASH = keccak256("Outcome(uint8 verdict,uint32 weight,uint32 share)");

    bytes32 internal constant SETTLEMENT_TYPEHASH = keccak256(
        "Settlement(bytes32 campaign,uint32 round,bytes32 head,uint32 score,uint8 exponent,bytes32 model,bytes32 key,bytes32 product,string modelCid,string productCid,Outcome[] outcomes)Outcome(uint8 verdict,uint32 weight,uint32 share)"
    );

    /*//////////////////////////////////////////////////////////////////////////
                                       STORAGE
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev A campaign's moving part and the terms that it is compared with: one slot, all 32 bytes.
    struct Progress {
        uint32 round; // ─────────────┐ rounds settled or expired: the number of the present round
        uint16 settled; //            │ rounds settled
        uint16 version; //            │ rounds that advanced the model
        uint8 count; //               │ gradients in the present round
        uint40 openedAt; //           │ when its first gradient came; stale while it has none
        Status status; //             │
        uint32 score; //              │
        uint40 deadline; //           │
        uint32 roundSeconds; //       │
        uint16 maxRounds; //          │
        uint8 roundSize; //           │
        uint8 minMines; // ───────────┘
    }

    /// @dev Ten slots, of which a campaign in native coin that was never topped up nor offered uses five. `submitGradient`
    /// reads slots 0, 4, 5 and one of slot 6's, and writes the last three of them.
    struct Record {
        // slot 0
        address oracle; // ───────────┐
        uint96 bond; // ──────────────┘
        // slot 1
        address owner; // ────────────┐
        uint32 slash; //              │
        PayoutBase payoutBase; //     │
        bool isNative; //             │ whether slot 2 is zero, which spares most campaigns reading it
        bool toppedUp; // ────────────┘ whether slots 7 and 8 say what is paid
        // slot 2
        address token;
        // slot 3: everything that a payout depends on
        uint128 bounty; // ───────────┐
        uint32 startScore; //         │
        uint32 target; //             │
        uint32 minGain; //            │
        uint32 settlementSeconds; // ─┘
        // slot 4
        Progress progress;
        // slot 5: the hash chain over the present round's entries; stale while it has none, see `_head`
        bytes32 head;
        // slot 6: the round of each mine's last gradient, plus one
        mapping(address mine => uint32 roundPlusOne) lastSubmission;
        // slots 7 and 8: what a topped-up campaign pays, see `_paidAt`
        uint256 slope;
        uint256 offset;
        // slot 9: to whom the campaign is offered
        address pendingOwner;
    }

    mapping(bytes32 id => Record record) internal _records;

    /// @inheritdoc ISonar
    mapping(address token => mapping(address account => uint256 amount)) public override credit;

    /*//////////////////////////////////////////////////////////////////////////
                                     CONSTRUCTOR
    //////////////////////////////////////////////////////////////////////////*/

    constructor() EIP712("Sonar", "1") {}

    /*//////////////////////////////////////////////////////////////////////////
                           USER-FACING READ-ONLY FUNCTIONS
    //////////////////////////////////////////////////////////////////////////*/

    /// @inheritdoc ISonar
    function getCampaign(bytes32 id) external view override returns (Campaign memory campaign) {
        Record storage record = _existing(id);
        Progress memory progress = record.progress;
        campaign.owner = record.owner;
        campaign.oracle = record.oracle;
        campaign.status = progress.status;
        campaign.terms = Terms({
            token: record.token,
            bounty: record.bounty,
            bond: record.bond,
            slash: record.slash,
            target: record.target,
            payoutBase: record.payoutBase,
            minGain: record.minGain,
            minMines: progress.minMines,
            roundSize: progress.roundSize,
            maxRounds: progress.maxRounds,
            roundSeconds: progress.roundSeconds,
            settlementSeconds: record.settlementSeconds,
            deadline: progress.deadline
        });
        campaign.startScore = record.startScore;
        campaign.score = progress.score;
        campaign.base = _base(record);
        campaign.version = progress.version;
        campaign.paid = _paidAt(record, progress.score);
    }

    /// @inheritdoc ISonar
    function getRound(bytes32 id) external view override returns (Round memory round) {
        Record storage record = _existing(id);
        Progress memory progress = record.progress;
        round.number = progress.round;
        round.settled = progress.settled;
        round.count = progress.count;
        round.head = _head(id, record, progress);
        if (progress.count > 0) {
            round.openedAt = progress.openedAt;
            round.closesAt = _closesAt(progress);
            round.expiresAt = _expiresAt(record, progress);
        }
        round.open =
            progress.status == Status.Running && block.timestamp < progress.deadline && !_isRoundClosed(progress);
    }

    /// @inheritdoc ISonar
    function pendingOwner(bytes32 id) external view override returns (address) {
        return _existing(id).pendingOwner;
    }

    /// @inheritdoc ISonar
    function lastSubmission(bytes32 id, address mine) external view override returns (uint32) {
        return _existing(id).lastSubmission[mine];
    }

    /// @inheritdoc ISonar
    function quote(bytes32 id, uint32 score) external view override returns (uint256 payout) {
        Record storage record = _existing(id);
        uint32 current = record.progress.score;
        if (record.progress.status == Status.Running && score > current) {
            payout = _paidAt(record, score) - _paidAt(record, current);
        }
    }

    /// @inheritdoc ISonar
    function hashAdmission(Admission calldata admission) public view override returns (bytes32) {
        // All fields are atomic and static, so the ABI encoding of the struct is its EIP-712 encoding.
        return _hashTypedDataV4(keccak256(abi.encode(ADMISSION_TYPEHASH, admission)));
    }

    /// @inheritdoc ISonar
    function hashSettlement(Settlement calldata settlement) public view override returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    SETTLEMENT_TYPEHASH,
                    settlement.campaign,
                    settlement.round,
                    settlement.head,
                    settlement.score,
                    settlement.exponent,
                    settlement.model,
                    settlement.key,
                    settlement.product,
                    keccak256(bytes(settlement.modelCid)),
                    keccak256(bytes(settlement.productCid)),
                    _hashOutcomes(settlement.outcomes)
                )
            )
        );
    }

    /*//////////////////////////////////////////////////////////////////////////
                         USER-FACING STATE-CHANGING FUNCTIONS
    //////////////////////////////////////////////////////////////////////////*/

    /// @inheritdoc ISonar
    function createCampaign(
        Terms calldata terms,
        Admission calldata admission,
        bytes calldata signature,
        string calldata specCid,
        string calldata modelCid
    ) external payable override nonReentrant returns (bytes32 id) {
        id = hashAdmission(admission);

        // Check: the oracle admitted this caller's model, still does, and did not before.
        _checkAdmission(id, admission, signature);

        // Check: the terms are ones that can be kept.
        _checkTerms(terms, admission.startScore);

        // Check: a native bounty came with the call, and nothing came that would be stuck.
        _checkValue(terms.token, terms.bounty);

        // Effect: the campaign runs.
        _store(id, terms, admission);

        emit CampaignCreated(id, msg.sender, admission.oracle, terms, admission, specCid, modelCid);

        // Interaction: escrow an ERC-20 bounty. A token may call back, so what follows it comes after it in the log too.
        _pull(terms.token, terms.bounty);
    }

    /// @inheritdoc ISonar
    function submitGradient(bytes32 id, uint32 round, bytes32 artifact, bytes32 gradient, string calldata cid)
        external
        payable
        override
        returns (uint8 index)
    {
        Record storage record = _records[id];
        Progress memory progress = record.progress;

        // Check: the gradient was trained for the present round of a running campaign.
        _checkPresent(id, progress, round);

        // Check: the campaign and the round still take gradients.
        if (block.timestamp >= progress.deadline) {
            revert Sonar_DeadlinePassed(id, progress.deadline, block.timestamp);
        }
        if (_isRoundClosed(progress)) {
            revert Sonar_RoundClosed(id, round);
        }

        // Check: it is the caller's first one in this round.
        if (record.lastSubmission[msg.sender] == round + 1) {
            revert Sonar_AlreadySubmitted(id, round, msg.sender);
        }

        // Check: it carries the bond.
        if (msg.value != record.bond) {
            revert Sonar_WrongValue(msg.value, record.bond);
        }

        // Effect: the gradient is the round's next entry.
        index = progress.count;
        record.progress.count = index + 1;
        if (index == 0) {
            record.progress.openedAt = uint40(block.timestamp);
        }
        record.head = _chain(_head(id, record, progress), msg.sender, artifact, gradient);
        record.lastSubmission[msg.sender] = round + 1;

        emit GradientSubmitted(id, round, msg.sender, index, artifact, gradient, cid);
    }

    /// @inheritdoc ISonar
    function settleRound(Settlement calldata settlement, Entry[] calldata entries, bytes calldata signature)
        external
        override
    {
        bytes32 id = settlement.campaign;
        Record storage record = _records[id];
        Progress memory progress = record.progress;

        // Check: it is the present round of a running campaign, and the round takes no more gradients.
        _checkPending(id, progress, settlement.round);
        if (!_isRoundClosed(progress)) {
            revert Sonar_RoundOpen(id, progress.round, _closesAt(progress));
        }

        // Check: the entries are the round's, and the settlement is about them.
        bytes32 head = _checkEntries(id, record, progress.round, entries);
        if (settlement.head != head) {
            revert Sonar_WrongHead(id, settlement.head, head);
        }
        if (settlement.outcomes.length != entries.length) {
            revert Sonar_WrongOutcomeCount(settlement.outcomes.length, entries.length);
        }

        // Check: the oracle signed it.
        _checkSignature(record.oracle, hashSettlement(settlement), signature);

        // Check: it is a result that the terms allow.
        bool advances = settlement.model != bytes32(0);
        uint256 lastPaid = _checkResult(record, progress, settlement, advances);

        // Effect: the score rises, and with it what the campaign has paid.
        uint256 payout = 0;
        if (advances) {
            payout = _paidAt(record, settlement.score) - _paidAt(record, progress.score);
            progress.score = settlement.score;
            progress.version += 1;
        }

        // Effect: the next round opens, or the campaign is finished.
        progress.settled += 1;
        bool finished = settlement.score >= record.target || progress.settled == progress.maxRounds;
        if (finished) {
            progress.status = Status.Finished;
        }
        _openNextRound(record, progress);

        // Effect: everyone is credited.
        _creditRound(record, settlement, entries, payout, lastPaid);

        _emitSettled(settlement, payout);
        if (finished) {
            emit CampaignFinished(id, settlement.score);
        }
    }

    /// @inheritdoc ISonar
    function expireRound(bytes32 id, uint32 round, Entry[] calldata entries) external override {
        Record storage record = _records[id];
        Progress memory progress = record.progress;

        // Check: it is the present round of a running campaign, and the oracle had its time.
        _checkPending(id, progress, round);
        uint40 expiresAt = _expiresAt(record, progress);
        if (block.timestamp < expiresAt) {
            revert Sonar_RoundNotExpired(id, round, expiresAt);
        }

        // Check: the entries are the round's.
        _checkEntries(id, record, round, entries);

        // Effect: the next round opens on the same model.
        _openNextRound(record, progress);

        // Effect: every bond is credited back.
        uint256 bond = record.bond;
        for (uint256 i = 0; i < entries.length; ++i) {
            _credit(NATIVE, entries[i].mine, bond);
        }

        emit RoundExpired(id, round);
    }

    /// @inheritdoc ISonar
    function topUp(bytes32 id, uint128 amount) external payable override nonReentrant {
        Record storage record = _records[id];
        Progress memory progress = record.progress;

        // Check: the campaign runs, and its deadline is ahead.
        _checkRunning(id, progress);
        if (block.timestamp >= progress.deadline) {
            revert Sonar_DeadlinePassed(id, progress.deadline, block.timestamp);
        }

        // Check: it is an addition, and the sum fits its slot.
        uint128 bounty = record.bounty;
        if (amount == 0) {
            revert Sonar_AmountZero();
        }
        if (amount > type(uint128).max - bounty) {
            revert Sonar_BountyOverflow(bounty, amount);
        }

        // Check: a native addition came with the call, and nothing came that would be stuck.
        address token = _token(record);
        _checkValue(token, amount);

        // Effect: what is still to be earned rises, what was paid stays.
        _addToBounty(record, amount);
        emit BountyRaised(id, msg.sender, amount, bounty + amount);

        // Interaction: escrow an ERC-20 addition.
        _pull(token, amount);
    }

    /// @inheritdoc ISonar
    function transferCampaign(bytes32 id, address to) external override {
        Record storage record = _existing(id);

        // Check: the caller owns the campaign.
        _checkOwner(id, record.owner);

        // Effect: the campaign waits for its new owner.
        record.pendingOwner = to;
        emit CampaignTransferStarted(id, msg.sender, to);
    }

    /// @inheritdoc ISonar
    function acceptCampaign(bytes32 id) external override {
        Record storage record = _existing(id);

        // Check: the campaign was offered to the caller.
        if (msg.sender != record.pendingOwner) {
            revert Sonar_NotPendingOwner(id, msg.sender, record.pendingOwner);
        }

        // Effect: the caller owns it.
        address previousOwner = record.owner;
        record.owner = msg.sender;
        record.pendingOwner = address(0);
        emit CampaignTransferred(id, previousOwner, msg.sender);
    }

    /// @inheritdoc ISonar
    function close(bytes32 id) external override {
        Record storage record = _existing(id);
        Progress memory progress = record.progress;

        // Check: the caller owns the campaign.
        address owner = record.owner;
        _checkOwner(id, owner);

        // Check: it is not closed yet, nobody waits for a verdict, and nobody can still count on the bounty.
        if (progress.status == Status.Closed) {
            revert Sonar_WrongStatus(id, progress.status);
        }
        if (progress.count > 0) {
            revert Sonar_RoundPending(id, progress.round, progress.count);
        }
        if (progress.status == Status.Running && block.timestamp < progress.deadline && progress.version > 0) {
            revert Sonar_NotClosable(id, progress.deadline);
        }

        // Effect: the campaign is over, and the owner is credited what was not paid.
        record.progress.status = Status.Closed;
        uint256 refund = record.bounty - _paidAt(record, progress.score);
        _credit(_token(record), owner, refund);

        emit CampaignClosed(id, owner, refund);
    }

    /// @inheritdoc ISonar
    function withdraw(address token, address to) external override nonReentrant returns (uint256 amount) {
        // Check: there is somebody to pay, and something to pay with.
        if (to == address(0) || to == address(this)) {
            revert Sonar_InvalidReceiver(to);
        }
        amount = credit[token][msg.sender];
        if (amount == 0) {
            revert Sonar_NothingOwed(token, msg.sender);
        }

        // Effect: nothing is owed any more.
        credit[token][msg.sender] = 0;
        emit Withdrawn(token, msg.sender, to, amount);

        // Interaction: pay.
        if (token == NATIVE) {
            (bool sent,) = to.call{value: amount}("");
            if (!sent) {
                revert Sonar_TransferFailed(to, amount);
            }
        } else {
            IERC20(token).safeTransfer(to, amount);
        }
    }

    /*//////////////////////////////////////////////////////////////////////////
                             INTERNAL READ-ONLY FUNCTIONS
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev The record of a campaign that exists.
    function _existing(bytes32 id) internal view returns (Record storage record) {
        record = _records[id];
        if (record.progress.status == Status.None) {
            revert Sonar_CampaignUnknown(id);
        }
    }

    /// @dev The token of a campaign's bounty.
    function _token(Record storage record) internal view returns (address) {
        return record.isNative ? NATIVE : record.token;
    }

    /// @dev The denominator of the payout formula; never zero, because the target is above the start score.
    function _base(Record storage record) internal view returns (uint32) {
        return record.payoutBase == PayoutBase.Target ? record.target : record.target - record.startScore;
    }

    /// @dev What a campaign has paid in all once it is at `score`, which is not below its present score:
    /// bounty x rise / base, with rise = min(score, target) - start. It grows with the score, from zero to at most the
    /// bounty. A round's payout is the difference of two values, so the payouts of any sequence of rounds telescope.
    ///
    /// Each top-up steepens the line from the present score on: (slope x rise - offset) / base, see `_addToBounty`. For
    /// `PayoutBase.Gain` what it adds to the slope is rounded down, so that the line never passes the bounty; at the target
    /// the whole bounty is paid.
    function _paidAt(Record storage record, uint32 score) internal view returns (uint256) {
        uint32 target = record.target;
        uint256 rise = (score < target ? score : target) - record.startScore;
        if (!record.toppedUp) {
            return record.bounty * rise / _base(record);
        }
        if (record.payoutBase == PayoutBase.Gain && score >= target) {
            return record.bounty;
        }
        return (record.slope * rise - record.offset) / _base(record);
    }

    /// @dev What a verdict leaves of a bond.
    function _bondReturned(Record storage record, Verdict verdict, uint256 bond) internal view returns (uint256) {
        if (verdict == Verdict.Kept) {
            return bond;
        }
        if (verdict == Verdict.LeftOut || verdict == Verdict.Unavailable) {
            return bond - bond * record.slash / PPM;
        }
        return 0;
    }

    /// @dev When a round with at least one gradient stops to take gradients even if it is not full.
    function _closesAt(Progress memory progress) internal pure returns (uint40) {
        uint40 closesAt = progress.openedAt + progress.roundSeconds;
        return closesAt < progress.deadline ? closesAt : progress.deadline;
    }

    /// @dev From when a round with at least one gradient may be expired.
    function _expiresAt(Record storage record, Progress memory progress) internal view returns (uint40) {
        return _closesAt(progress) + record.settlementSeconds;
    }

    /// @dev Whether the present round is full or its time is over; an empty round waits for its first gradient.
    function _isRoundClosed(Progress memory progress) internal view returns (bool) {
        return progress.count > 0 && (progress.count == progress.roundSize || block.timestamp >= _closesAt(progress));
    }

    /// @dev The head of a round that has no entry yet.
    function _seed(bytes32 id, uint32 round) internal pure returns (bytes32) {
        return keccak256(abi.encode(id, round));
    }

    /// @dev The head of the present round. An empty round's is its seed: the slot still holds the last round's head.
    function _head(bytes32 id, Record storage record, Progress memory progress) internal view returns (bytes32) {
        return progress.count == 0 ? _seed(id, progress.round) : record.head;
    }

    /// @dev The head after one more entry.
    function _chain(bytes32 head, address mine, bytes32 artifact, bytes32 gradient) internal pure returns (bytes32) {
        return keccak256(abi.encode(head, mine, artifact, gradient));
    }

    /// @dev EIP-712: an array of structs is encoded as the hash of its elements' hashes.
    function _hashOutcomes(Outcome[] calldata outcomes) internal pure returns (bytes32) {
        bytes32[] memory hashes = new bytes32[](outcomes.length);
        for (uint256 i = 0; i < outcomes.length; ++i) {
            hashes[i] = keccak256(abi.encode(OUTCOME_TYPEHASH, outcomes[i]));
        }
        return keccak256(abi.encodePacked(hashes));
    }

    /// @dev Checks a signature of an account or, through EIP-1271, of a contract.
    function _checkSignature(address oracle, bytes32 digest, bytes calldata signature) internal view {
        if (!SignatureChecker.isValidSignatureNow(oracle, digest, signature)) {
            revert Sonar_BadSignature(oracle, digest);
        }
    }

    /// @dev Checks that the oracle admitted a model for the caller, in time, and that no campaign was made of it yet.
    function _checkAdmission(bytes32 id, Admission calldata admission, bytes calldata signature) internal view {
        if (admission.owner != msg.sender) {
            revert Sonar_AdmissionNotForCaller(msg.sender, admission.owner);
        }
        if (block.timestamp > admission.validUntil) {
            revert Sonar_AdmissionExpired(admission.validUntil, block.timestamp);
        }
        if (admission.oracle == address(0)) {
            revert Sonar_OracleZero();
        }
        _checkSignature(admission.oracle, id, signature);
        if (_records[id].progress.status != Status.None) {
            revert Sonar_CampaignExists(id);
        }
    }

    /// @dev Checks every term by itself; whether they are fair is for the mines to judge.
    function _checkTerms(Terms calldata terms, uint32 startScore) internal view {
        if (terms.bounty == 0) {
            revert Sonar_BountyZero();
        }
        if (terms.slash > PPM) {
            revert Sonar_SlashAboveOne(terms.slash);
        }
        if (terms.target > PPM || terms.target <= startScore) {
            revert Sonar_TargetOutOfRange(terms.target, startScore);
        }
        if (terms.roundSize == 0 || terms.roundSize > MAX_ROUND_SIZE) {
            revert Sonar_RoundSizeOutOfRange(terms.roundSize, MAX_ROUND_SIZE);
        }
        if (terms.minMines == 0 || terms.minMines > terms.roundSize) {
            revert Sonar_MinMinesOutOfRange(terms.minMines, terms.roundSize);
        }
        if (terms.minGain == 0 || terms.minGain > PPM - startScore) {
            revert Sonar_MinGainOutOfRange(terms.minGain, startScore);
        }
        if (terms.maxRounds == 0) {
            revert Sonar_MaxRoundsZero();
        }
        if (terms.roundSeconds == 0 || terms.roundSeconds > MAX_ROUND_SECONDS) {
            revert Sonar_RoundSecondsOutOfRange(terms.roundSeconds, MAX_ROUND_SECONDS);
        }
        if (terms.settlementSeconds < MIN_SETTLEMENT_SECONDS || terms.settlementSeconds > MAX_SETTLEMENT_SECONDS) {
            revert Sonar_SettlementSecondsOutOfRange(
                terms.settlementSeconds, MIN_SETTLEMENT_SECONDS, MAX_SETTLEMENT_SECONDS
            );
        }
        uint256 latest = block.timestamp + MAX_CAMPAIGN_SECONDS;
        if (terms.deadline <= block.timestamp || terms.deadline > latest) {
            revert Sonar_DeadlineOutOfRange(terms.deadline, block.timestamp, latest);
        }
    }

    /// @dev Checks that the call came with `amount` if that is due in native coin, and with nothing otherwise.
    function _checkValue(address token, uint256 amount) internal view {
        uint256 value = token == NATIVE ? amount : 0;
        if (msg.value != value) {
            revert Sonar_WrongValue(msg.value, value);
        }
    }

    /// @dev Checks that the caller owns the campaign.
    function _checkOwner(bytes32 id, address owner) internal view {
        if (msg.sender != owner) {
            revert Sonar_NotOwner(id, msg.sender, owner);
        }
    }

    /// @dev Checks that the campaign runs.
    function _checkRunning(bytes32 id, Progress memory progress) internal pure {
        if (progress.status == Status.None) {
            revert Sonar_CampaignUnknown(id);
        }
        if (progress.status != Status.Running) {
            revert Sonar_WrongStatus(id, progress.status);
        }
    }

    /// @dev Checks that the campaign runs and that `round` is its present round.
    function _checkPresent(bytes32 id, Progress memory progress, uint32 round) internal pure {
        _checkRunning(id, progress);
        if (progress.round != round) {
            revert Sonar_WrongRound(id, round, progress.round);
        }
    }

    /// @dev Checks that the campaign runs and that `round` is its present round and holds a gradient.
    function _checkPending(bytes32 id, Progress memory progress, uint32 round) internal pure {
        _checkPresent(id, progress, round);
        if (progress.count == 0) {
            revert Sonar_RoundEmpty(id, round);
        }
    }

    /// @dev Checks that the entries are exactly those of the present round; answers its head. The hash chain binds their
    /// number as well, so the loops over `entries` run at most `MAX_ROUND_SIZE` times once this has passed.
    function _checkEntries(bytes32 id, Record storage record, uint32 round, Entry[] calldata entries)
        internal
        view
        returns (bytes32 head)
    {
        head = record.head;
        bytes32 given = _seed(id, round);
        for (uint256 i = 0; i < entries.length; ++i) {
            Entry calldata entry = entries[i];
            given = _chain(given, entry.mine, entry.artifact, entry.gradient);
        }
        if (given != head) {
            revert Sonar_WrongHead(id, given, head);
        }
    }

    /// @dev Checks that a signed settlement is one that the terms allow: even the oracle cannot go beyond them.
    /// @return lastPaid the last index with a share; meaningless if the round does not advance
    function _checkResult(
        Record storage record,
        Progress memory progress,
        Settlement calldata settlement,
        bool advances
    ) internal view returns (uint256 lastPaid) {
        // A round that advances names all artifacts by digest; one that does not names none.
        bool consistent;
        if (advances) {
            consistent = settlement.key != bytes32(0) && settlement.product != bytes32(0);
        } else {
            consistent = settlement.key == bytes32(0) && settlement.product == bytes32(0) && settlement.exponent == 0
                && bytes(settlement.modelCid).length == 0 && bytes(settlement.productCid).length == 0;
        }
        if (!consistent) {
            revert Sonar_InconsistentSettlement(settlement.campaign, settlement.round);
        }

        uint256 lowest = progress.score;
        uint256 highest = progress.score;
        if (advances) {
            lowest += record.minGain;
            highest = PPM;
        }
        if (settlement.score < lowest || settlement.score > highest) {
            revert Sonar_ScoreOutOfRange(settlement.score, progress.score, record.minGain);
        }

        Outcome[] calldata outcomes = settlement.outcomes;
        uint256 kept = 0;
        uint256 sum = 0;
        for (uint256 i = 0; i < outcomes.length; ++i) {
            Outcome calldata outcome = outcomes[i];
            bool isKept = outcome.verdict == Verdict.Kept;
            uint256 share = outcome.share;
            // Kept if and only if it has a weight; only what was kept may have a share; none is kept without an advance.
            if (isKept != (outcome.weight > 0) || (!isKept && share > 0) || (isKept && !advances)) {
                revert Sonar_InconsistentOutcome(i);
            }
            if (isKept) {
                kept += 1;
            }
            if (share > 0) {
                sum += share;
                lastPaid = i;
            }
        }
        if (advances && kept < progress.minMines) {
            revert Sonar_TooFewKept(kept, progress.minMines);
        }
        if (advances && sum != PPM) {
            revert Sonar_WrongShareSum(sum, PPM);
        }
    }

    /*//////////////////////////////////////////////////////////////////////////
                           INTERNAL STATE-CHANGING FUNCTIONS
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev Writes a new campaign, whose terms were checked.
    function _store(bytes32 id, Terms calldata terms, Admission calldata admission) internal {
        Record storage record = _records[id];
        record.oracle = admission.oracle;
        record.bond = terms.bond;
        record.owner = admission.owner;
        record.slash = terms.slash;
        record.payoutBase = terms.payoutBase;
        record.isNative = terms.token == NATIVE;
        record.token = terms.token;
        record.bounty = terms.bounty;
        record.startScore = admission.startScore;
        record.target = terms.target;
        record.minGain = terms.minGain;
        record.settlementSeconds = terms.settlementSeconds;
        record.progress = Progress({
            round: 0,
            settled: 0,
            version: 0,
            count: 0,
            openedAt: 0,
            status: Status.Running,
            score: admission.startScore,
            deadline: terms.deadline,
            roundSeconds: terms.roundSeconds,
            maxRounds: terms.maxRounds,
            roundSize: terms.roundSize,
            minMines: terms.minMines
        });
        // Not needed by `_head`: the owner pays for the slot here, so that no mine has to.
        record.head = _seed(id, 0);
    }

    /// @dev Steepens what a running campaign pays from its present score on, by an addition to its bounty.
    function _addToBounty(Record storage record, uint128 amount) internal {
        if (!record.toppedUp) {
            record.toppedUp = true;
            record.slope = record.bounty;
        }
        // The addition's own line is `slope` x (rise - present rise) / base. With base `Gain` it leads to the whole amount
        // at the target, which is above the score of a running campaign.
        uint256 slope = amount;
        if (record.payoutBase == PayoutBase.Gain) {
            slope = slope * _base(record) / (record.target - record.progress.score);
        }
        record.slope += slope;
        record.offset += slope * (record.progress.score - record.startScore);
        record.bounty += amount;
    }

    /// @dev Takes what is due in an ERC-20 token from the caller, and refuses a token that delivers another amount. Native
    /// coin came with the call.
    function _pull(address token, uint256 amount) internal {
        if (token == NATIVE) {
            return;
        }
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = IERC20(token).balanceOf(address(this)) - before;
        if (received != amount) {
            revert Sonar_TokenDeliveredOtherAmount(token, received, amount);
        }
    }

    /// @dev Empties the round and writes what a settlement changes in `progress`.
    function _openNextRound(Record storage record, Progress memory progress) internal {
        Progress storage stored = record.progress;
        stored.round = progress.round + 1;
        stored.settled = progress.settled;
        stored.version = progress.version;
        stored.count = 0;
        stored.status = progress.status;
        stored.score = progress.score;
    }

    /// @dev Credits a settled round. The last mine with a share takes what rounding down left over, less than one unit
    /// per gradient.
    function _creditRound(
        Record storage record,
        Settlement calldata settlement,
        Entry[] calldata entries,
        uint256 payout,
        uint256 lastPaid
    ) internal {
        uint256 bond = record.bond;
        uint256 unpaid = payout;
        uint256 lost = 0;
        Outcome[] calldata outcomes = settlement.outcomes;
        for (uint256 i = 0; i < entries.length; ++i) {
            Outcome calldata outcome = outcomes[i];
            uint256 returned = _bondReturned(record, outcome.verdict, bond);
            lost += bond - returned;
            uint256 earned = i == lastPaid ? unpaid : payout * outcome.share / PPM;
            unpaid -= earned;
            _creditGradient(record, settlement, entries[i].mine, i, outcome, earned, returned);
        }
        if (lost > 0) {
            _credit(NATIVE, record.owner, lost);
        }
    }

    /// @dev Credits a mine what its gradient earned, and what comes back of its bond; tells how it was judged.
    function _creditGradient(
        Record storage record,
        Settlement calldata settlement,
        address mine,
        uint256 index,
        Outcome calldata outcome,
        uint256 earned,
        uint256 returned
    ) internal {
        if (record.isNative) {
            _credit(NATIVE, mine, earned + returned);
        } else {
            _credit(record.token, mine, earned);
            _credit(NATIVE, mine, returned);
        }
        _emitJudged(settlement, mine, index, outcome, earned, returned);
    }

    /// @dev The only way in which money changes hands: the receiver withdraws it.
    function _credit(address token, address account, uint256 amount) internal {
        if (amount > 0) {
            credit[token][account] += amount;
        }
    }

    /// @dev Tells how a gradient was judged.
    function _emitJudged(
        Settlement calldata settlement,
        address mine,
        uint256 index,
        Outcome calldata outcome,
        uint256 earned,
        uint256 returned
    ) internal {
        emit GradientJudged(
            settlement.campaign,
            settlement.round,
            mine,
            uint8(index),
            outcome.verdict,
            outcome.weight,
            outcome.share,
            earned,
            returned
        );
    }

    /// @dev Tells the result of a round.
    function _emitSettled(Settlement calldata settlement, uint256 payout) internal {
        emit RoundSettled(
            settlement.campaign,
            settlement.round,
            settlement.score,
            settlement.exponent,
            settlement.model,
            settlement.key,
            settlement.product,
            settlement.modelCid,
            settlement.productCid,
            payout
        );
    }
}
