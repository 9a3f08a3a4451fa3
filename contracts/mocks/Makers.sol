// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity ^0.8.26;

import {CapsuleCommittee} from "../CapsuleCommittee.sol";

/// @notice Makes committees, so that what a constructor announces can be read like what any other call announces.
contract CommitteeMaker {
    function make(address[] calldata members, uint256 threshold) external returns (address) {
        return address(new CapsuleCommittee(members, threshold));
    }
}
