// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ISigned} from "../src/interfaces/ISigned.sol";
import {Base} from "./Base.sol";

/// @notice One signed call, tried in every wrong way and then in the right one. All arguments of signed calls are static,
/// so the calldata is the arguments, the deadline and the signature in a row.
abstract contract Signed is Base {
    /// The order of secp256k1: `(r, n − s)` with the other `v` is the malleable twin of a signature.
    uint256 private constant N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    /// What is signed and how it is sent.
    struct Statement {
        address target;
        string domain;
        /// The EIP-712 struct, and its words before nonce and deadline.
        string typed;
        bytes words;
        /// The call, and its arguments before the deadline.
        bytes4 selector;
        bytes arguments;
        /// The nonce as it is in the struct, or empty where the act itself can't happen twice.
        bytes nonce;
    }

    function forRegistry(string memory typed, bytes memory words, bytes4 selector, uint48 fleet)
        internal
        view
        returns (Statement memory)
    {
        return Statement(address(registry), "Registry", typed, words, selector, words, abi.encode(nonceOf(fleet)));
    }

    function forNames(string memory typed, bytes memory words, bytes4 selector, uint256 nonce)
        internal
        view
        returns (Statement memory)
    {
        return
            Statement(address(names), "NameRegistrar", typed, words, selector, words, abi.encode(nonce));
    }

    function signatureOf(Person memory who, Statement memory s, uint40 deadline, address contractAt)
        internal
        view
        returns (ISigned.Signature memory)
    {
        bytes memory words = bytes.concat(keccak256(bytes(s.typed)), s.words, s.nonce, abi.encode(deadline));
        return sign(who, digestFor(contractAt, s.domain, keccak256(words)));
    }

    function send(Statement memory s, uint40 deadline, ISigned.Signature memory signature)
        internal
        returns (bool done, bytes4 rule)
    {
        bytes memory why;
        vm.prank(stranger.addr);
        (done, why) = s.target.call(bytes.concat(s.selector, s.arguments, abi.encode(deadline, signature)));
        if (why.length >= 4) rule = bytes4(why);
    }

    function assertRefused(Statement memory s, uint40 deadline, ISigned.Signature memory signature, bytes4 rule)
        internal
    {
        (bool done, bytes4 named) = send(s, deadline, signature);
        vm.assertFalse(done);
        vm.assertEq(bytes32(named), bytes32(rule), s.typed);
    }

    /// Every forgery is refused, the genuine statement is carried out once, and its replay is refused by `replayRule`.
    function assertOnlyBy(Person memory signer, Statement memory s, bytes4 replayRule) internal {
        bytes4 bad = ISigned.BadSignature.selector;
        ISigned.Signature memory good = signatureOf(signer, s, SOON, s.target);

        assertRefused(s, SOON, signatureOf(person("forger"), s, SOON, s.target), bad);
        assertRefused(s, SOON + 1, good, bad);
        assertRefused(s, SOON, signatureOf(signer, s, SOON, address(0xBAD)), bad);
        assertRefused(s, SOON, ISigned.Signature(good.r, bytes32(N - uint256(good.s)), 55 - good.v), bad);
        assertRefused(s, SOON, ISigned.Signature(good.r, good.s, good.v - 27), bad);
        assertRefused(s, SOON, ISigned.Signature(0, 0, 27), bad);
        uint40 now_ = uint40(block.timestamp);
        assertRefused(s, now_, signatureOf(signer, s, now_, s.target), ISigned.DeadlinePassed.selector);

        uint256 chain = block.chainid;
        vm.chainId(chain + 1);
        assertRefused(s, SOON, good, bad);
        vm.chainId(chain);

        (bool done,) = send(s, SOON, good);
        vm.assertTrue(done, s.typed);
        assertRefused(s, SOON, good, replayRule);
    }
}
