// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity ^0.8.26;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

import {Actor} from "./Actors.sol";

/// @notice A token that behaves. Anyone may mint.
contract HonestToken is ERC20("Honest", "HON") {
    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }
}

/// @notice Keeps one per cent of every transfer between accounts.
contract FeeToken is HonestToken {
    function _update(address from, address to, uint256 amount) internal override {
        uint256 fee = from == address(0) ? 0 : amount / 100;
        super._update(from, to, amount - fee);
        if (fee > 0) {
            super._update(from, address(this), fee);
        }
    }
}

/// @notice Behaves until it is told to keep one per cent of every transfer.
contract LateFeeToken is HonestToken {
    bool public charging;

    function charge() external {
        charging = true;
    }

    function _update(address from, address to, uint256 amount) internal override {
        uint256 fee = charging && from != address(0) ? amount / 100 : 0;
        super._update(from, to, amount - fee);
        if (fee > 0) {
            super._update(from, address(this), fee);
        }
    }
}

/// @notice Delivers more than was asked for.
contract GenerousToken is HonestToken {
    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        _mint(to, 1);
        return super.transferFrom(from, to, amount);
    }
}

/// @notice Says no without a revert, and moves nothing.
contract FalseToken is HonestToken {
    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return false;
    }
}

/// @notice Takes bounties but can be told to refuse every transfer afterwards.
contract PausableToken is HonestToken {
    error Paused();

    bool public paused;

    function pause(bool yes) external {
        paused = yes;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (paused) {
            revert Paused();
        }
        super._update(from, to, amount);
    }
}

/// @notice Moves as asked but returns nothing, like some of the oldest tokens.
contract SilentToken {
    mapping(address account => uint256) public balanceOf;

    function mint(address account, uint256 amount) external {
        balanceOf[account] += amount;
    }

    function approve(address, uint256) external {}

    function transfer(address to, uint256 amount) external {
        _move(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external {
        _move(from, to, amount);
    }

    function _move(address from, address to, uint256 amount) private {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @notice Calls somebody back during every transfer, once armed, and remembers how that ended.
contract CallbackToken is HonestToken {
    address public target;
    bytes public data;
    bool public succeeded;
    bytes public answer;

    function arm(address target_, bytes calldata data_) external {
        target = target_;
        data = data_;
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (target != address(0) && from != address(0)) {
            (succeeded, answer) = target.call(data);
        }
    }
}

/// @notice Behaves as it pleases today: what was escrowed while it was honest is withdrawn while it is not, and the other
/// way round. Is an account, too, and can hold what others hold.
contract MoodyToken is HonestToken, Actor {
    enum Mood {
        Honest,
        Fee,
        Generous,
        False,
        Silent,
        Reverting,
        Reentering
    }

    error InBadMood();

    Mood public mood;
    address public target;
    bytes public data;
    bool public succeeded;
    bytes public answer;

    function setMood(Mood mood_) external {
        mood = mood_;
    }

    function arm(address target_, bytes calldata data_) external {
        target = target_;
        data = data_;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        _refuse();
        return _deliver(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        _refuse();
        if (mood != Mood.False) {
            _spendAllowance(from, msg.sender, amount);
        }
        return _deliver(from, to, amount);
    }

    function _refuse() private view {
        if (mood == Mood.Reverting) {
            revert InBadMood();
        }
    }

    function _deliver(address from, address to, uint256 amount) private returns (bool) {
        if (mood == Mood.False) {
            return false;
        }
        uint256 fee = mood == Mood.Fee ? amount / 100 : 0;
        _transfer(from, to, amount - fee);
        if (fee > 0) {
            _transfer(from, address(this), fee);
        }
        if (mood == Mood.Generous) {
            _mint(to, 1);
        } else if (mood == Mood.Reentering && target != address(0)) {
            (succeeded, answer) = target.call(data);
        } else if (mood == Mood.Silent) {
            assembly ("memory-safe") {
                return(0, 0)
            }
        }
        return true;
    }
}
