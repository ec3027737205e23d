// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// @title A plain token whose parts the odd tokens below replace
/// @dev The kinds follow the token integration checklist of Trail of Bits and its list of tokens met in the wild.
abstract contract OddToken {
    mapping(address holder => uint256) internal _balances;
    mapping(address holder => mapping(address spender => uint256)) public allowance;
    uint256 public totalSupply;

    function mint(address to, uint256 amount) external {
        _balances[to] += amount;
        totalSupply += amount;
    }

    function decimals() external view virtual returns (uint8) {
        return 18;
    }

    function balanceOf(address holder) external view virtual returns (uint256) {
        return _balances[holder];
    }

    function approve(address spender, uint256 amount) external virtual returns (bool) {
        allowance[msg.sender][spender] = amount;
        return true;
    }

    function transfer(address to, uint256 amount) external virtual returns (bool) {
        _move(msg.sender, to, amount);
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) external virtual returns (bool) {
        _spend(from, amount);
        _move(from, to, amount);
        return true;
    }

    function _spend(address from, uint256 amount) internal virtual {
        allowance[from][msg.sender] -= amount;
    }

    function _move(address from, address to, uint256 amount) internal virtual {
        _balances[from] -= amount;
        _balances[to] += amount;
    }
}

/// @dev Like USDT and BNB: the calls answer nothing.
contract NoReturnToken {
    mapping(address holder => uint256) public balanceOf;
    mapping(address holder => mapping(address spender => uint256)) public allowance;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function approve(address spender, uint256 amount) external {
        allowance[msg.sender][spender] = amount;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        allowance[from][msg.sender] -= amount;
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @dev Like PAXG: one per cent of each transfer goes elsewhere.
contract FeeToken is OddToken {
    function _move(address from, address to, uint256 amount) internal override {
        uint256 fee = amount / 100;
        super._move(from, address(0xfee), fee);
        super._move(from, to, amount - fee);
    }
}

/// @dev Takes the fee on top, from the sender.
contract SenderFeeToken is OddToken {
    function _move(address from, address to, uint256 amount) internal override {
        super._move(from, to, amount);
        super._move(from, address(0xfee), amount / 100);
    }
}

/// @dev Like AMPL: balances change without a transfer.
contract RebasingToken is OddToken {
    uint256 private _percent = 100;

    function rebase(uint256 percent) external {
        _percent = percent;
    }

    function balanceOf(address holder) external view override returns (uint256) {
        return _balances[holder] * _percent / 100;
    }

    function _move(address from, address to, uint256 amount) internal override {
        super._move(from, to, amount * 100 / _percent);
    }
}

/// @dev Like USDC and USDT: some addresses may not hold it.
contract BlocklistToken is OddToken {
    mapping(address holder => bool) public blocked;

    function setBlocked(address holder, bool is_) external {
        blocked[holder] = is_;
    }

    function _move(address from, address to, uint256 amount) internal override {
        require(!blocked[from] && !blocked[to], "blocked");
        super._move(from, to, amount);
    }
}

/// @dev Like BNB and ZIL: its admin can stop it.
contract PausableToken is OddToken {
    bool private _stopped;

    function setStopped(bool is_) external {
        _stopped = is_;
    }

    function _move(address from, address to, uint256 amount) internal override {
        require(!_stopped, "stopped");
        super._move(from, to, amount);
    }
}

/// @dev Like USDT and KNC: an approval cannot be changed from one value to another.
contract ApprovalRaceToken is OddToken {
    function approve(address spender, uint256 amount) external override returns (bool) {
        require(amount == 0 || allowance[msg.sender][spender] == 0, "approve zero first");
        allowance[msg.sender][spender] = amount;
        return true;
    }
}

/// @dev Like BNB: zero can neither be approved nor moved.
contract NoZeroToken is OddToken {
    function approve(address spender, uint256 amount) external override returns (bool) {
        require(amount != 0, "zero approval");
        allowance[msg.sender][spender] = amount;
        return true;
    }

    function _move(address from, address to, uint256 amount) internal override {
        require(amount != 0, "zero transfer");
        super._move(from, to, amount);
    }
}

/// @dev Like UNI and COMP: amounts are of 96 bits, and an approval of the largest number means for ever.
contract Uint96Token is OddToken {
    function approve(address spender, uint256 amount) external override returns (bool) {
        require(amount == type(uint256).max || amount <= type(uint96).max, "96 bits");
        allowance[msg.sender][spender] = amount == type(uint256).max ? type(uint96).max : amount;
        return true;
    }

    function _move(address from, address to, uint256 amount) internal override {
        require(amount <= type(uint96).max, "96 bits");
        super._move(from, to, amount);
    }
}

/// @dev Like EURS and ZRX: a failed transfer answers false.
contract FalseOnFailureToken is OddToken {
    function transfer(address to, uint256 amount) external override returns (bool) {
        if (_balances[msg.sender] < amount) return false;
        _move(msg.sender, to, amount);
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) external override returns (bool) {
        if (_balances[from] < amount || allowance[from][msg.sender] < amount) return false;
        _spend(from, amount);
        _move(from, to, amount);
        return true;
    }
}

/// @dev Like Tether Gold: a good transfer answers false.
contract FalseOnSuccessToken is OddToken {
    function transfer(address to, uint256 amount) external override returns (bool) {
        _move(msg.sender, to, amount);
        return false;
    }
}

/// @dev Like cUSDCv3: the largest number means the whole balance.
contract MaxMeansAllToken is OddToken {
    function _move(address from, address to, uint256 amount) internal override {
        super._move(from, to, amount == type(uint256).max ? _balances[from] : amount);
    }
}

/// @dev Like DSToken: the holder needs no allowance for its own tokens, and the largest allowance is never used up.
contract SelfSpenderToken is OddToken {
    function _spend(address from, uint256 amount) internal override {
        if (from != msg.sender) super._spend(from, amount);
    }
}

/// @dev Keeps what was approved even when it is spent.
contract StickyAllowanceToken is OddToken {
    function _spend(address from, uint256 amount) internal view override {
        require(allowance[from][msg.sender] >= amount, "allowance");
    }
}

/// @dev Its balance cannot be asked for.
contract BlindToken is OddToken {
    function balanceOf(address) external pure override returns (uint256) {
        revert("blind");
    }
}

/// @dev Does nothing but fail.
contract RevertingToken is OddToken {
    function transfer(address, uint256) external pure override returns (bool) {
        revert("broken");
    }

    function transferFrom(address, address, uint256) external pure override returns (bool) {
        revert("broken");
    }
}

/// @dev Whole units only.
contract NoDecimalsToken is OddToken {
    function decimals() external pure override returns (uint8) {
        return 0;
    }
}

/// @dev More decimals than any price has.
contract ManyDecimalsToken is OddToken {
    function decimals() external pure override returns (uint8) {
        return 36;
    }
}

/// @dev Its name is markup, and no string at all by the standard (MKR).
contract OddNameToken is OddToken {
    bytes32 public constant name = "<script>alert(1)</script>";
    bytes32 public constant symbol = "\xff\xfe";
}

/// @dev One set of balances behind two addresses (as TUSD once had).
contract SecondAddress {
    OddTwinToken private immutable _twin;

    constructor(OddTwinToken twin) {
        _twin = twin;
    }

    function balanceOf(address holder) external view returns (uint256) {
        return _twin.balanceOf(holder);
    }

    function allowance(address holder, address spender) external view returns (uint256) {
        return _twin.allowance(holder, spender);
    }

    function approve(address spender, uint256 amount) external returns (bool) {
        return _twin.approveFor(msg.sender, spender, amount);
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        return _twin.moveFor(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        return _twin.moveFor(from, to, amount);
    }
}

contract OddTwinToken is OddToken {
    SecondAddress public immutable second = new SecondAddress(this);

    function approveFor(address holder, address spender, uint256 amount) external returns (bool) {
        require(msg.sender == address(second), "second only");
        allowance[holder][spender] = amount;
        return true;
    }

    function moveFor(address from, address to, uint256 amount) external returns (bool) {
        require(msg.sender == address(second), "second only");
        _move(from, to, amount);
        return true;
    }
}
