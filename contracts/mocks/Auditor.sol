// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity ^0.8.26;

/// @notice Puts many questions in one call, so that a test can look at everything after every step.
contract Auditor {
    /// @param target whom to ask
    /// @param data the call; if there is none, the question is how much coin the target holds
    struct Question {
        address target;
        bytes data;
    }

    /// @notice The answers' bytes; for a question that reverts, those of the revert.
    function ask(Question[] calldata questions) external view returns (bytes[] memory answers) {
        answers = new bytes[](questions.length);
        for (uint256 i = 0; i < questions.length; ++i) {
            Question calldata question = questions[i];
            if (question.data.length == 0) {
                answers[i] = abi.encode(question.target.balance);
            } else {
                (, answers[i]) = question.target.staticcall(question.data);
            }
        }
    }
}
