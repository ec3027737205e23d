// SPDX-License-Identifier: UNLICENSED
pragma solidity 0.8.37;

/// A contract wallet that accepts what its one key signed.
contract KeyWallet {
    address public immutable key;

    constructor(address key_) {
        key = key_;
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        if (signature.length != 65) return 0xffffffff;
        bytes32 r = bytes32(signature[0:32]);
        bytes32 s = bytes32(signature[32:64]);
        address signer = ecrecover(hash, uint8(signature[64]), r, s);
        return signer != address(0) && signer == key ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}

contract KeyWalletFactory {
    function create(address key, bytes32 salt) external returns (address) {
        return address(new KeyWallet{salt: salt}(key));
    }

    function predict(address key, bytes32 salt) external view returns (address) {
        bytes32 code = keccak256(abi.encodePacked(type(KeyWallet).creationCode, abi.encode(key)));
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(this), salt, code)))));
    }
}

/// Answers in ways that must not count as consent.
contract OddWallet {
    uint256 public immutable mood;

    constructor(uint256 mood_) {
        mood = mood_;
    }

    fallback() external {
        uint256 mood_ = mood;
        assembly ("memory-safe") {
            switch mood_
            case 0 { return(0, 0) }
            case 1 { revert(0, 0) }
            case 2 {
                mstore(0, shl(224, 0x1626ba7e))
                return(0, 4)
            }
            case 3 {
                mstore(0, 1)
                return(0, 32)
            }
            case 4 {
                mstore(0, or(shl(224, 0x1626ba7e), 1))
                return(0, 32)
            }
            default { for {} 1 {} {} }
        }
    }
}
