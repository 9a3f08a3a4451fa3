// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity ^0.8.26;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

/// @title ICapsuleCommittee
/// @notice An oracle of several Capsules: a digest is signed once `threshold` of its members signed it. Members and
/// threshold are fixed when it is deployed, so whoever trusts a committee's address trusts these members, for good.
/// Members sign the same digests as a Capsule that works alone. A campaign's id commits to its oracle, so what they
/// sign for one committee does not count for another.
interface ICapsuleCommittee is IERC1271 {
    /// @notice A committee was deployed.
    event CommitteeFormed(address[] members, uint256 threshold);

    /// @notice There are no members, or more than `maximum`.
    error CapsuleCommittee_SizeOutOfRange(uint256 size, uint256 maximum);
    /// @notice The threshold is zero, or more than the members.
    error CapsuleCommittee_ThresholdOutOfRange(uint256 threshold, uint256 size);
    /// @notice A member's address is not above the one before it (for the first: above zero).
    error CapsuleCommittee_MembersNotAscending(uint256 index, address member);

    /// @notice How many members must sign.
    function threshold() external view returns (uint256);

    /// @notice The members, in ascending order of their addresses.
    function members() external view returns (address[] memory);

    /// @notice Whether an account is a member.
    function isMember(address account) external view returns (bool);

    /// @notice EIP-1271. `signature` is the members' signatures of `digest`, 65 bytes each (r, s, v), one after the other
    /// in ascending order of their signers' addresses: at least `threshold`, every one of them valid.
    /// @return magic 0x1626ba7e if the committee signed, else 0xffffffff, whatever the digest and the signature
    function isValidSignature(bytes32 digest, bytes calldata signature)
        external
        view
        override
        returns (bytes4 magic);
}
