// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity ^0.8.26;

/// @title ISonar
/// @notice Escrow and settlement of federated-learning campaigns. A data scientist escrows a bounty for one model; mines
/// post encrypted gradients in rounds, each with a bond; the campaign's oracle (a Capsule) signs one settlement per
/// round; the contract turns the rise of the score into credits, which each account withdraws itself.
///
/// Units: scores, shares and the slashed part of a bond are parts per million (ppm, 1,000,000 = 100%); amounts are in
/// the smallest unit of the campaign's token (wei for the native coin, token address zero); bonds are always in wei of
/// the native coin; times are seconds since the Unix epoch, durations are seconds.
///
/// Nobody can move funds beyond these rules: there is no administrator, no upgrade and no push payment. Artifacts
/// (spec, models, gradients, products) are bytes on IPFS; the contract commits to their SHA-256 digests.
interface ISonar {
    // ----------------------------------------------------------------------------------------------------- types

    /// @notice Which denominator turns a rise of the score into a part of the bounty.
    /// @dev `Target`: `target`, the platform's formula, payout = (rise / target) x bounty. `Gain`: `target - startScore`,
    /// which spends the whole bounty when the target is reached.
    enum PayoutBase {
        Target,
        Gain
    }

    /// @notice `None`: no such campaign. `Running`: takes gradients until its deadline. `Finished`: target reached or
    /// the last permitted round settled, only to be closed. `Closed`: the remainder was credited to the owner.
    enum Status {
        None,
        Running,
        Finished,
        Closed
    }

    /// @notice The judge's word on one gradient. `Kept` returns the bond; `LeftOut` and `Unavailable` lose the campaign's
    /// `slash` of it to the owner; `Invalid` and `Copy` lose all of it to the owner.
    enum Verdict {
        LeftOut,
        Kept,
        Unavailable,
        Invalid,
        Copy
    }

    /// @notice The terms of a campaign, fixed when it is created; only the bounty can still rise.
    /// @param token the bounty's token, an ERC-20; zero for the native coin. Mines should trust it: campaigns in one token share what
    /// the contract holds of it, so one whose balances change by themselves may leave credits uncovered
    /// @param bounty the escrowed amount, in the token's smallest unit; `topUp` raises it
    /// @param bond what each gradient must carry, in wei
    /// @param slash the part of a bond that LeftOut and Unavailable lose, in ppm
    /// @param target the score at which the campaign is finished, in ppm; above the start score
    /// @param payoutBase the denominator of the payout formula
    /// @param minGain the least rise of the score with which a round may advance, in ppm
    /// @param minMines the least number of gradients that an advancing round keeps
    /// @param roundSize the most gradients a round takes, 1 to 64
    /// @param maxRounds the most rounds that are settled, at least 1
    /// @param roundSeconds how long a round stays open after its first gradient
    /// @param settlementSeconds how long the oracle has, from a round's closing time, before anyone may expire the round
    /// @param deadline the time from which no gradient is taken
    struct Terms {
        address token;
        uint128 bounty;
        uint96 bond;
        uint32 slash;
        uint32 target;
        PayoutBase payoutBase;
        uint32 minGain;
        uint8 minMines;
        uint8 roundSize;
        uint16 maxRounds;
        uint32 roundSeconds;
        uint32 settlementSeconds;
        uint40 deadline;
    }

    /// @notice The oracle's signed statement that it admitted a start model. Its EIP-712 digest is the campaign's id.
    /// @param spec SHA-256 of the campaign spec
    /// @param model SHA-256 of the encrypted start model
    /// @param key fingerprint of the Paillier public key of model version 0
    /// @param sealingKey the oracle's X25519 public key, to which gradients are sealed
    /// @param startScore the judge's score of the start model, in ppm
    /// @param oracle who signs this and every settlement of the campaign: an account, or a contract with EIP-1271. It is
    /// part of the id, so a signature that counts for one oracle cannot count for another that its signer also serves
    /// @param owner who may create the campaign
    /// @param validUntil the last second at which the campaign may be created
    struct Admission {
        bytes32 spec;
        bytes32 model;
        bytes32 key;
        bytes32 sealingKey;
        uint32 startScore;
        address oracle;
        address owner;
        uint40 validUntil;
    }

    /// @notice One gradient of a round, as it entered the round's hash chain.
    /// @param mine who submitted it
    /// @param artifact SHA-256 of the gradient sealed to the oracle, as stored
    /// @param gradient SHA-256 of the gradient itself, unsealed
    struct Entry {
        address mine;
        bytes32 artifact;
        bytes32 gradient;
    }

    /// @notice The judge's result for one gradient, in the order of submission.
    /// @param verdict see `Verdict`
    /// @param weight the integer a_i with which the gradient entered the next model; 0 unless kept
    /// @param share the part of the round's payout in ppm; 0 unless kept
    struct Outcome {
        Verdict verdict;
        uint32 weight;
        uint32 share;
    }

    /// @notice The oracle's signed result of one round.
    /// @param campaign the campaign's id
    /// @param round the round's number, from 0
    /// @param head the round's head: the hash chain over its entries
    /// @param score the new score if the round advances, else the campaign's present score, in ppm
    /// @param exponent the e in: next model = model + sum of a_i x g_i / 2^e; 0 if the round does not advance
    /// @param model SHA-256 of the next encrypted model; zero: the round does not advance and the model stays
    /// @param key fingerprint of the next model's key; zero if the round does not advance
    /// @param product SHA-256 of the next model under this round's key; zero if the round does not advance
    /// @param modelCid where the next model is; empty if the round does not advance
    /// @param productCid where the product is; empty if the round does not advance
    /// @param outcomes one for every gradient of the round, in order
    struct Settlement {
        bytes32 campaign;
        uint32 round;
        bytes32 head;
        uint32 score;
        uint8 exponent;
        bytes32 model;
        bytes32 key;
        bytes32 product;
        string modelCid;
        string productCid;
        Outcome[] outcomes;
    }

    /// @notice What `getCampaign` answers.
    /// @param owner who gets the refund and slashed bonds
    /// @param oracle who signs the settlements
    /// @param status see `Status`
    /// @param terms as given at creation, with the bounty as topped up since
    /// @param startScore the admitted score of version 0, in ppm
    /// @param score the present score, in ppm
    /// @param base the denominator of the payout formula, in ppm
    /// @param version how many rounds have advanced the model
    /// @param paid what all rounds together have credited to mines, in the token's smallest unit
    struct Campaign {
        address owner;
        address oracle;
        Status status;
        Terms terms;
        uint32 startScore;
        uint32 score;
        uint32 base;
        uint16 version;
        uint256 paid;
    }

    /// @notice What `getRound` answers: the campaign's present round.
    /// @param number its number, from 0; equals the number of rounds settled or expired
    /// @param settled how many rounds have been settled (not expired)
    /// @param count how many gradients it holds
    /// @param head its hash chain so far: `keccak256(abi.encode(id, number))` when empty, then
    /// `keccak256(abi.encode(head, mine, artifact, gradient))` for each gradient
    /// @param openedAt when its first gradient came; 0 when empty
    /// @param closesAt when it takes no more gradients if it does not fill before; 0 when empty
    /// @param expiresAt from when anyone may expire it; 0 when empty
    /// @param open whether a gradient would be taken now
    struct Round {
        uint32 number;
        uint16 settled;
        uint8 count;
        bytes32 head;
        uint40 openedAt;
        uint40 closesAt;
        uint40 expiresAt;
        bool open;
    }

    // ---------------------------------------------------------------------------------------------------- events

    /// @notice A campaign was created and its bounty escrowed.
    event CampaignCreated(
        bytes32 indexed id,
        address indexed owner,
        address indexed oracle,
        Terms terms,
        Admission admission,
        string specCid,
        string modelCid
    );

    /// @notice A gradient entered a round at position `index`.
    event GradientSubmitted(
        bytes32 indexed id,
        uint32 indexed round,
        address indexed mine,
        uint8 index,
        bytes32 artifact,
        bytes32 gradient,
        string cid
    );

    /// @notice One gradient of a settled round: its verdict, its weight in the next model, its share of the round's
    /// payout in ppm, what its mine was credited (in the campaign's token) and what of its bond came back (in wei).
    event GradientJudged(
        bytes32 indexed id,
        uint32 indexed round,
        address indexed mine,
        uint8 index,
        Verdict verdict,
        uint32 weight,
        uint32 share,
        uint256 payout,
        uint256 bondReturned
    );

    /// @notice A round was settled. `payout` is what its mines were credited together, in the campaign's token.
    event RoundSettled(
        bytes32 indexed id,
        uint32 indexed round,
        uint32 score,
        uint8 exponent,
        bytes32 model,
        bytes32 key,
        bytes32 product,
        string modelCid,
        string productCid,
        uint256 payout
    );

    /// @notice A round that stayed unsettled was given up: every bond was credited back, the model stays.
    event RoundExpired(bytes32 indexed id, uint32 indexed round);

    /// @notice `from` added `amount` to a campaign's bounty, which is `bounty` since.
    event BountyRaised(bytes32 indexed id, address indexed from, uint128 amount, uint128 bounty);

    /// @notice The owner offered a campaign to `pendingOwner`; zero takes the offer back.
    event CampaignTransferStarted(bytes32 indexed id, address indexed owner, address indexed pendingOwner);

    /// @notice A campaign was accepted by its new owner.
    event CampaignTransferred(bytes32 indexed id, address indexed previousOwner, address indexed newOwner);

    /// @notice A campaign reached its target or its last round; it takes no more gradients.
    event CampaignFinished(bytes32 indexed id, uint32 score);

    /// @notice A campaign was closed and `refund` credited to its owner, in the campaign's token.
    event CampaignClosed(bytes32 indexed id, address indexed owner, uint256 refund);

    /// @notice `account` withdrew `amount` of `token` to `to`.
    event Withdrawn(address indexed token, address indexed account, address indexed to, uint256 amount);

    // ---------------------------------------------------------------------------------------------------- errors

    error Sonar_CampaignExists(bytes32 id);
    error Sonar_CampaignUnknown(bytes32 id);
    /// @notice The campaign's status does not allow the call.
    error Sonar_WrongStatus(bytes32 id, Status status);
    error Sonar_NotOwner(bytes32 id, address caller, address owner);
    error Sonar_NotPendingOwner(bytes32 id, address caller, address pendingOwner);
    /// @notice The admission names another owner than the caller.
    error Sonar_AdmissionNotForCaller(address caller, address owner);
    error Sonar_AdmissionExpired(uint40 validUntil, uint256 time);
    /// @notice The oracle did not sign this digest.
    error Sonar_BadSignature(address oracle, bytes32 digest);
    error Sonar_OracleZero();
    error Sonar_BountyZero();
    error Sonar_AmountZero();
    /// @notice The bounty and what is to be added to it do not fit into 128 bits.
    error Sonar_BountyOverflow(uint128 bounty, uint128 amount);
    error Sonar_WrongValue(uint256 sent, uint256 required);
    /// @notice The token delivered less (or more) than was asked for.
    error Sonar_TokenDeliveredOtherAmount(address token, uint256 received, uint256 required);
    error Sonar_SlashAboveOne(uint32 slash);
    error Sonar_TargetOutOfRange(uint32 target, uint32 startScore);
    error Sonar_RoundSizeOutOfRange(uint8 roundSize, uint8 maximum);
    error Sonar_MinMinesOutOfRange(uint8 minMines, uint8 roundSize);
    /// @notice The least gain is zero, or no score reaches it: it is at most 1,000,000 less the start score.
    error Sonar_MinGainOutOfRange(uint32 minGain, uint32 startScore);
    error Sonar_MaxRoundsZero();
    error Sonar_RoundSecondsOutOfRange(uint32 roundSeconds, uint32 maximum);
    error Sonar_SettlementSecondsOutOfRange(uint32 settlementSeconds, uint32 minimum, uint32 maximum);
    error Sonar_DeadlineOutOfRange(uint40 deadline, uint256 time, uint256 latest);
    error Sonar_WrongRound(bytes32 id, uint32 given, uint32 current);
    error Sonar_DeadlinePassed(bytes32 id, uint40 deadline, uint256 time);
    /// @notice The round is full or its time is over; it waits for its settlement.
    error Sonar_RoundClosed(bytes32 id, uint32 round);
    error Sonar_AlreadySubmitted(bytes32 id, uint32 round, address mine);
    error Sonar_RoundEmpty(bytes32 id, uint32 round);
    /// @notice The round still takes gradients.
    error Sonar_RoundOpen(bytes32 id, uint32 round, uint40 closesAt);
    error Sonar_RoundNotExpired(bytes32 id, uint32 round, uint40 expiresAt);
    /// @notice The entries (or the settlement's head) are not those of the round.
    error Sonar_WrongHead(bytes32 id, bytes32 given, bytes32 current);
    error Sonar_WrongOutcomeCount(uint256 outcomes, uint256 entries);
    /// @notice A round that advances must raise the score by at least `minGain`, to at most 1,000,000; one that does not
    /// must not change it.
    error Sonar_ScoreOutOfRange(uint32 score, uint32 current, uint32 minGain);
    error Sonar_TooFewKept(uint256 kept, uint8 minMines);
    error Sonar_WrongShareSum(uint256 sum, uint256 required);
    /// @notice A gradient that was not kept carries a weight or a share, or a kept one has no weight.
    error Sonar_InconsistentOutcome(uint256 index);
    /// @notice A round that advances lacks its key or product, or one that does not names any, an exponent or a CID.
    error Sonar_InconsistentSettlement(bytes32 id, uint32 round);
    error Sonar_RoundPending(bytes32 id, uint32 round, uint8 count);
    /// @notice The owner cannot close yet: not finished, not past the deadline, and a round has advanced the model.
    error Sonar_NotClosable(bytes32 id, uint40 deadline);
    error Sonar_NothingOwed(address token, address account);
    /// @notice The receiver is the zero address or the contract itself, where nobody could get at the amount.
    error Sonar_InvalidReceiver(address to);
    error Sonar_TransferFailed(address to, uint256 amount);

    // ----------------------------------------------------------------------------------------------------- calls

    /// @notice Escrows a bounty and opens a campaign whose id is the admission's EIP-712 digest. Anyone may call with
    /// an admission that names them as owner. Native bounty: send exactly `terms.bounty`; ERC-20: approve it, send none.
    /// @param terms the campaign's terms; the spec repeats them, and mines compare
    /// @param admission the oracle's statement about the start model
    /// @param signature the oracle's signature of the admission
    /// @param specCid where the spec is (its digest is in the admission)
    /// @param modelCid where the start model is (its digest is in the admission)
    /// @return id the campaign's id
    /// @dev Reverts: Sonar_AdmissionNotForCaller, Sonar_AdmissionExpired, Sonar_OracleZero, Sonar_BadSignature,
    /// Sonar_CampaignExists, Sonar_BountyZero, Sonar_SlashAboveOne, Sonar_TargetOutOfRange,
    /// Sonar_RoundSizeOutOfRange, Sonar_MinMinesOutOfRange, Sonar_MinGainOutOfRange, Sonar_MaxRoundsZero,
    /// Sonar_RoundSecondsOutOfRange, Sonar_SettlementSecondsOutOfRange, Sonar_DeadlineOutOfRange, Sonar_WrongValue,
    /// Sonar_TokenDeliveredOtherAmount, and whatever the token reverts with.
    function createCampaign(
        Terms calldata terms,
        Admission calldata admission,
        bytes calldata signature,
        string calldata specCid,
        string calldata modelCid
    ) external payable returns (bytes32 id);

    /// @notice Posts a gradient into the present round, with exactly the campaign's bond. Anyone may call, once a round.
    /// @param id the campaign
    /// @param round the round that the gradient was trained for
    /// @param artifact SHA-256 of the sealed gradient
    /// @param gradient SHA-256 of the unsealed gradient
    /// @param cid where the sealed gradient is
    /// @return index the gradient's position in the round
    /// @dev Reverts: Sonar_CampaignUnknown, Sonar_WrongStatus, Sonar_WrongRound, Sonar_DeadlinePassed,
    /// Sonar_RoundClosed, Sonar_AlreadySubmitted, Sonar_WrongValue.
    function submitGradient(bytes32 id, uint32 round, bytes32 artifact, bytes32 gradient, string calldata cid)
        external
        payable
        returns (uint8 index);

    /// @notice Settles the present round with the oracle's signature. Anyone may relay it, also after the settlement
    /// window as long as nobody has expired the round.
    /// @param settlement the oracle's result
    /// @param entries the round's gradients in order, as their events carried them
    /// @param signature the oracle's signature of the settlement
    /// @dev Reverts: Sonar_CampaignUnknown, Sonar_WrongStatus, Sonar_WrongRound, Sonar_RoundEmpty, Sonar_RoundOpen,
    /// Sonar_WrongHead, Sonar_WrongOutcomeCount, Sonar_BadSignature, Sonar_InconsistentSettlement,
    /// Sonar_ScoreOutOfRange, Sonar_InconsistentOutcome, Sonar_TooFewKept, Sonar_WrongShareSum.
    function settleRound(Settlement calldata settlement, Entry[] calldata entries, bytes calldata signature) external;

    /// @notice Gives up a closed round whose settlement window has passed: bonds are credited back and the next round
    /// opens on the same model. Anyone may call.
    /// @dev Reverts: Sonar_CampaignUnknown, Sonar_WrongStatus, Sonar_WrongRound, Sonar_RoundEmpty,
    /// Sonar_RoundNotExpired, Sonar_WrongHead.
    function expireRound(bytes32 id, uint32 round, Entry[] calldata entries) external;

    /// @notice Adds to the bounty of a running campaign, before its deadline. Anyone may call; what is not paid in the end
    /// goes to the campaign's owner. Native bounty: send exactly `amount`; ERC-20: approve it, send none.
    ///
    /// The addition pays for what is still to come, and never lowers what any rise of the score pays: with `PayoutBase`
    /// `Target` it pays (rise / target) x amount; with `Gain`, (rise / (target - present score)) x amount, so that the
    /// whole bounty is still spent when the target is reached.
    /// @dev Reverts: Sonar_CampaignUnknown, Sonar_WrongStatus, Sonar_DeadlinePassed, Sonar_AmountZero,
    /// Sonar_BountyOverflow, Sonar_WrongValue, Sonar_TokenDeliveredOtherAmount, and whatever the token reverts with.
    function topUp(bytes32 id, uint128 amount) external payable;

    /// @notice Offers a campaign to another account, which becomes its owner when it accepts; zero takes the offer back.
    /// Only the owner, at any time. Credits that the owner has stay the owner's.
    /// @dev Reverts: Sonar_CampaignUnknown, Sonar_NotOwner.
    function transferCampaign(bytes32 id, address to) external;

    /// @notice Makes the caller, to whom the campaign was offered, its owner, also of one that was closed meanwhile.
    /// @dev Reverts: Sonar_CampaignUnknown, Sonar_NotPendingOwner.
    function acceptCampaign(bytes32 id) external;

    /// @notice Ends a campaign and credits what is left of its bounty to its owner. Only the owner, with no round
    /// pending, and only once it is finished, past its deadline, or as long as no round has advanced (cancel).
    /// @dev Reverts: Sonar_CampaignUnknown, Sonar_NotOwner, Sonar_WrongStatus, Sonar_RoundPending, Sonar_NotClosable.
    function close(bytes32 id) external;

    /// @notice Sends everything that the caller is owed in `token` (zero: native coin) to `to`.
    /// @return amount what was sent
    /// @dev Reverts: Sonar_InvalidReceiver, Sonar_NothingOwed, Sonar_TransferFailed, and whatever the token reverts with.
    function withdraw(address token, address to) external returns (uint256 amount);

    // ----------------------------------------------------------------------------------------------------- views

    /// @notice The shortest settlement window a campaign may have, in seconds.
    function MIN_SETTLEMENT_SECONDS() external view returns (uint32);

    /// @notice The campaign's terms and state. Reverts: Sonar_CampaignUnknown.
    function getCampaign(bytes32 id) external view returns (Campaign memory);

    /// @notice The campaign's present round. Reverts: Sonar_CampaignUnknown.
    function getRound(bytes32 id) external view returns (Round memory);

    /// @notice To whom the campaign is offered; zero if to nobody. Reverts: Sonar_CampaignUnknown.
    function pendingOwner(bytes32 id) external view returns (address);

    /// @notice The round in which `mine` last submitted, plus one; 0 if never. Reverts: Sonar_CampaignUnknown.
    function lastSubmission(bytes32 id, address mine) external view returns (uint32);

    /// @notice What a round that lifts the present score to `score` would pay, in the token's smallest unit, whether or
    /// not a round still can; 0 for a score that is not above the present one and for a campaign that does not run.
    /// Reverts: Sonar_CampaignUnknown.
    function quote(bytes32 id, uint32 score) external view returns (uint256 payout);

    /// @notice What `account` can withdraw of `token` (zero: native coin).
    function credit(address token, address account) external view returns (uint256);

    /// @notice The EIP-712 digest of an admission, which is its campaign's id.
    function hashAdmission(Admission calldata admission) external view returns (bytes32);

    /// @notice The EIP-712 digest of a settlement.
    function hashSettlement(Settlement calldata settlement) external view returns (bytes32);
}
