// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {ICapsuleCommittee} from "./interfaces/ICapsuleCommittee.sol";

/// @title CapsuleCommittee
/// @notice See the documentation in {ICapsuleCommittee}.
/// @dev Members are accounts: a member that is a contract could never sign.
contract CapsuleCommittee is ICapsuleCommittee {
    /// @dev Bounds what a settlement can cost whoever relays it.
    uint256 internal constant MAX_MEMBERS = 32;

    /// @dev r, s and v.
    uint256 internal constant SIGNATURE_LENGTH = 65;

    /// @inheritdoc ICapsuleCommittee
    uint256 public immutable override threshold;

    /// @inheritdoc ICapsuleCommittee
    mapping(address account => bool) public override isMember;

    address[] internal _members;

    /// @param members_ the members' addresses, strictly ascending, so that none stands there twice
    /// @param threshold_ how many of them must sign, at least one
    constructor(address[] memory members_, uint256 threshold_) {
        // Check: there is a committee, of a size that a settlement can bear.
        uint256 size = members_.length;
        if (size == 0 || size > MAX_MEMBERS) {
            revert CapsuleCommittee_SizeOutOfRange(size, MAX_MEMBERS);
        }
        if (threshold_ == 0 || threshold_ > size) {
            revert CapsuleCommittee_ThresholdOutOfRange(threshold_, size);
        }

        // Effect: its members are in, each once.
        address previous = address(0);
        for (uint256 i = 0; i < size; ++i) {
            address member = members_[i];
            if (member <= previous) {
                revert CapsuleCommittee_MembersNotAscending(i, member);
            }
            isMember[member] = true;
            previous = member;
        }
        _members = members_;
        threshold = threshold_;
        emit CommitteeFormed(members_, threshold_);
    }

    /// @inheritdoc ICapsuleCommittee
    function members() external view override returns (address[] memory) {
        return _members;
    }

    /// @inheritdoc ICapsuleCommittee
    function isValidSignature(bytes32 digest, bytes calldata signature)
        external
        view
        override
        returns (bytes4 magic)
    {
        return _isSigned(digest, signature) ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }

    /// @dev Whether `signature` is at least `threshold` signatures of `digest`, all by different members. Ascending
    /// signers cannot repeat, so there are never more signatures than members.
    function _isSigned(bytes32 digest, bytes calldata signature) internal view returns (bool) {
        uint256 length = signature.length;
        if (length % SIGNATURE_LENGTH != 0 || length < threshold * SIGNATURE_LENGTH) {
            return false;
        }
        address previous = address(0);
        for (uint256 start = 0; start < length; start += SIGNATURE_LENGTH) {
            bytes calldata part = signature[start:start + SIGNATURE_LENGTH];
            // Zero, and so not above `previous`, if it is no signature.
            (address signer,,) = ECDSA.tryRecover(digest, part);
            if (signer <= previous || !isMember[signer]) {
                return false;
            }
            previous = signer;
        }
        return true;
    }
}
