// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity ^0.8.26;

import {HonestToken} from "./Tokens.sol";

/// @notice Approves and moves as asked but returns nothing, and changes an allowance only to or from zero.
contract StubbornToken {
    error ChangeToZeroFirst();

    mapping(address account => uint256) public balanceOf;
    mapping(address owner => mapping(address spender => uint256)) public allowance;

    function mint(address account, uint256 amount) external {
        balanceOf[account] += amount;
    }

    function approve(address spender, uint256 amount) external {
        if (amount > 0 && allowance[msg.sender][spender] > 0) {
            revert ChangeToZeroFirst();
        }
        allowance[msg.sender][spender] = amount;
    }

    function transfer(address to, uint256 amount) external {
        _move(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external {
        allowance[from][msg.sender] -= amount;
        _move(from, to, amount);
    }

    function _move(address from, address to, uint256 amount) private {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @notice Says yes to every approval and remembers none, and calls itself whatever makes a terminal or a page obey.
contract LyingToken is HonestToken {
    function approve(address, uint256) public pure override returns (bool) {
        return true;
    }

    function name() public pure override returns (string memory) {
        return "<script>alert(1)</script>";
    }

    function symbol() public pure override returns (string memory) {
        return "\x1b[2J\x1b[31mUSD\x00\n";
    }

    function decimals() public pure override returns (uint8) {
        return 255;
    }
}
