// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IRegistryRecords} from "../src/interfaces/IRegistry.sol";
import {Base} from "./Base.sol";
import {Vm} from "./Vm.sol";

/// @notice What every random history needs: it makes calls, counts how many succeeded, and follows `Set` as a node does.
/// A history that hardly does anything proves nothing, so it is refused: see `requireBusy`.
abstract contract Handler is Base {
    struct Count {
        uint256 calls;
        uint256 successes;
    }

    string[] internal actions;
    mapping(string action => Count) internal counts;
    string internal current;

    bytes32[] internal slots;
    mapping(bytes32 slot => bool) internal isKnown;
    mapping(bytes32 slot => bytes32) internal mirror;
    /// A slot of Registry that was written without a `Set`, if there ever was one.
    bool public missedSet;

    modifier counted(string memory action) {
        current = action;
        if (counts[action].calls++ == 0) actions.push(action);
        _;
    }

    function attempt(address from, address to, uint256 value, bytes memory data) internal returns (bool done) {
        done = prepare(from, to, value, data);
        if (done) ++counts[current].successes;
    }

    /// A call that only makes the counted one possible.
    function prepare(address from, address to, uint256 value, bytes memory data) internal returns (bool done) {
        vm.recordLogs();
        vm.record();
        vm.prank(from);
        (done,) = to.call{value: value}(data);
        (, bytes32[] memory written) = vm.accesses(address(registry));
        follow(vm.getRecordedLogs());
        for (uint256 i = 0; done && i < written.length; ++i) {
            if (!isKnown[written[i]]) missedSet = true;
        }
    }

    function follow(Vm.Log[] memory logs) private {
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter != address(registry) || logs[i].topics[0] != IRegistryRecords.Set.selector) continue;
            bytes32 slot = logs[i].topics[1];
            if (!isKnown[slot]) slots.push(slot);
            isKnown[slot] = true;
            mirror[slot] = abi.decode(logs[i].data, (bytes32));
        }
    }

    /// The mirror of `Set` is the storage.
    function assertMirrored() external view {
        vm.assertFalse(missedSet);
        for (uint256 i = 0; i < slots.length; ++i) {
            vm.assertEq(mirror[slots[i]], vm.load(address(registry), slots[i]));
        }
    }

    /// Prints calls and successes per action, and refuses a history in which an action succeeded in under 30 %.
    function requireBusy() external view {
        for (uint256 i = 0; i < actions.length; ++i) {
            Count memory c = counts[actions[i]];
            print(actions[i], c.calls, c.successes);
            vm.assertGe(c.successes * 10, c.calls * 3, actions[i]);
        }
    }

    function print(string memory action, uint256 calls, uint256 successes) private view {
        address console = 0x000000000000000000636F6e736F6c652e6c6f67;
        (bool ignored,) = console.staticcall(
            abi.encodeWithSignature("log(string,string,uint256,uint256)", "calls, successes:", action, calls, successes)
        );
        ignored;
    }

    function pick(uint256 seed, uint256 length) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed))) % length;
    }

    /// One in eight attempts goes wrong on purpose.
    function isMischief(uint256 seed) internal pure returns (bool) {
        return uint256(keccak256(abi.encode("mischief", seed))) % 8 == 0;
    }
}

/// @notice What forge asks a suite of invariants for.
struct FuzzSelector {
    address addr;
    bytes4[] selectors;
}
