// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity ^0.8.26;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

/// @notice An account that is a contract: does whatever it is told, and takes coin.
contract Actor {
    /// @notice Calls `target` with the value that came along; reverts as the call reverts.
    function execute(address target, bytes calldata data) external payable returns (bytes memory answer) {
        bool succeeded;
        (succeeded, answer) = target.call{value: msg.value}(data);
        if (!succeeded) {
            assembly ("memory-safe") {
                revert(add(answer, 0x20), mload(answer))
            }
        }
    }

    receive() external payable virtual {}
}

/// @notice Refuses coin.
contract RejectingActor is Actor {
    error NoThanks();

    receive() external payable override {
        revert NoThanks();
    }
}

/// @notice Burns all gas that it gets with coin.
contract GasBurningActor is Actor {
    receive() external payable override {
        while (true) {}
    }
}

/// @notice Calls back into whoever pays it, and insists on success when told to.
contract ReenteringActor is Actor {
    bytes public data;
    bool public succeeded;
    bytes public answer;

    function arm(bytes calldata data_) external {
        data = data_;
    }

    receive() external payable override {
        if (data.length > 0) {
            (succeeded, answer) = msg.sender.call(data);
        }
    }
}

/// @notice An oracle that is a contract (EIP-1271): a digest is signed if it was approved, whatever the signature.
contract ContractOracle is IERC1271 {
    mapping(bytes32 digest => bool) public approved;

    function approve(bytes32 digest) external {
        approved[digest] = true;
    }

    /// @inheritdoc IERC1271
    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        return approved[digest] ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}

/// @notice An oracle that signs what it approved while it is well; else it reverts, answers too little, or burns the gas.
contract MoodyOracle is IERC1271 {
    enum Mood {
        Honest,
        Reverting,
        Short,
        Burning
    }

    Mood public mood;
    mapping(bytes32 digest => bool) public approved;

    function setMood(Mood mood_) external {
        mood = mood_;
    }

    function approve(bytes32 digest) external {
        approved[digest] = true;
    }

    /// @inheritdoc IERC1271
    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        require(mood != Mood.Reverting, "not today");
        if (mood == Mood.Short) {
            assembly ("memory-safe") {
                mstore(0, shl(224, 0x1626ba7e))
                return(0, 4)
            }
        }
        if (mood == Mood.Burning) {
            assembly ("memory-safe") {
                invalid()
            }
        }
        return approved[digest] ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}

/// @notice Forces coin upon anybody, also upon contracts that cannot receive any.
contract Donor {
    function force(address to) external payable {
        // The creation code "push the address, self-destruct": its coin goes to the address without a call.
        bytes memory code = abi.encodePacked(hex"73", to, hex"ff");
        assembly ("memory-safe") {
            if iszero(create(callvalue(), add(code, 0x20), mload(code))) {
                revert(0, 0)
            }
        }
    }
}
