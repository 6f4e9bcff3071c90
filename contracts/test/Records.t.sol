// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IRegistryRecords} from "../src/interfaces/IRegistry.sol";
import {Layout} from "../src/lib/Layout.sol";
import {Base} from "./Base.sol";
import {Vm} from "./Vm.sol";

/// @notice Registry's storage: who writes which kind, and that `Set` alone rebuilds it.
contract RecordsTest is Base {
    using Layout for address;

    bytes32 internal constant KEY = keccak256("key");

    function writerOf(uint8 kind) internal view returns (address) {
        if (kind >= Layout.NAME && kind <= Layout.REVERSE) return registry.nameRegistrar();
        if (kind >= Layout.NODE && kind <= Layout.COMMITTEE) return registry.nodeStaking();
        return address(0);
    }

    function test_put_by_whom_and_of_which_kind() public {
        address[4] memory callers =
            [registry.nameRegistrar(), registry.nodeStaking(), operator.addr, address(registry)];
        for (uint256 kind = 0; kind < 16; ++kind) {
            address writer = writerOf(uint8(kind));
            for (uint256 i = 0; i < callers.length; ++i) {
                bool allowed = callers[i] == writer;
                if (writer == address(0)) vm.expectRevert(IRegistryRecords.UnknownKind.selector);
                else if (!allowed) vm.expectRevert(IRegistryRecords.NotWriter.selector);
                vm.prank(callers[i]);
                registry.put(uint8(kind), KEY, bytes32(kind + 1));
                if (allowed) vm.assertEq(registry.get(uint8(kind), KEY), bytes32(kind + 1));
            }
        }
    }

    function test_get_knows_thirteen_kinds() public {
        for (uint8 kind = 0; kind <= Layout.FLEET_COUNT; ++kind) {
            registry.get(kind, KEY);
        }
        vm.expectRevert(IRegistryRecords.UnknownKind.selector);
        registry.get(Layout.FLEET_COUNT + 1, KEY);
    }

    function test_the_counterparts_are_fixed() public view {
        vm.assertEq(registry.nameRegistrar(), address(names));
        vm.assertEq(registry.predecessor(), address(0));
    }

    function test_a_write_that_changes_nothing_emits_nothing() public {
        address writer = registry.nameRegistrar();
        vm.prank(writer);
        registry.put(Layout.REVERSE, KEY, bytes32(uint256(7)));
        vm.recordLogs();
        vm.prank(writer);
        registry.put(Layout.REVERSE, KEY, bytes32(uint256(7)));
        vm.assertEq(vm.getRecordedLogs().length, 0);
        vm.prank(writer);
        registry.put(Layout.REVERSE, KEY, 0);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 1);
        vm.assertEq(logs[0].topics[1], Layout.slotOf(Layout.REVERSE, KEY));
        vm.assertEq(logs[0].data, abi.encode(bytes32(0)));
    }

    /// The layout's slot derivation against the storage itself, at slots computed the way Solidity documents.
    function test_records_lie_where_the_layout_says() public {
        uint48 fleet = fleetWithDevice(Layout.SLOW_REVOKE);
        bytes32 slot = keccak256(abi.encode(device.addr, uint256(0)));
        uint256 expected = uint256(uint160(device.addr)) + (uint256(fleet) << 160)
            + (uint256(START + 365 days) << 208) + (1 << 248);
        vm.assertEq(vm.load(address(registry), slot), bytes32(expected));

        slot = keccak256(abi.encode(fleet, uint256(2)));
        expected = uint256(uint160(operator.addr)) + (1 << 160) + (1 << 240);
        vm.assertEq(vm.load(address(registry), slot), bytes32(expected));
        vm.assertEq(vm.load(address(registry), bytes32(uint256(12))), bytes32(uint256(fleet)));

        Person memory next = person("next");
        rotate(device, device, next);
        slot = keccak256(abi.encode(next.addr, uint256(1)));
        expected = uint256(uint160(device.addr)) + (uint256(START) << 160);
        vm.assertEq(vm.load(address(registry), slot), bytes32(expected));

        as_(operator);
        registry.proposeOperator(fleet, next.addr);
        slot = keccak256(abi.encode(fleet, uint256(3)));
        expected = uint256(uint160(next.addr)) + (uint256(START + 48 hours) << 160);
        vm.assertEq(vm.load(address(registry), slot), bytes32(expected));

        as_(operator);
        registry.grant(fleet, KEY, FOREVER, 5);
        slot = keccak256(abi.encode(keccak256(abi.encode(fleet, KEY)), uint256(4)));
        expected = uint256(FOREVER) + (1 << 40) + (uint256(fleet) << 80) + (5 << 128);
        vm.assertEq(vm.load(address(registry), slot), bytes32(expected));
    }

    function testFuzz_records_pack_and_unpack(bytes32 word) public pure {
        vm.assertEq(Layout.pack(Layout.toDevice(word)), word);
        vm.assertEq(Layout.pack(Layout.toFleet(word)), word);
        vm.assertEq(Layout.pack(Layout.toName(word)), word);
        vm.assertEq(Layout.pack(Layout.toKeyUse(word)), word & bytes32(uint256(1 << 200) - 1));
        vm.assertEq(Layout.pack(Layout.toPendingOperator(word)), word & bytes32(uint256(1 << 200) - 1));
        vm.assertEq(Layout.pack(Layout.toNameOwner(word)), word & bytes32(uint256(1 << 200) - 1));
        vm.assertEq(Layout.pack(Layout.toNode(word)), word & bytes32(uint256(1 << 192) - 1));
    }

    function test_the_domain_can_be_asked_for() public view {
        (bytes1 fields, string memory domain, string memory version, uint256 chain, address verifier,,) =
            registry.eip712Domain();
        vm.assertEq(bytes32(fields), bytes32(bytes1(0x0f)));
        vm.assertEq(domain, "Registry");
        vm.assertEq(version, "1");
        vm.assertEq(chain, block.chainid);
        vm.assertEq(verifier, address(registry));
        (, domain,,,,,) = names.eip712Domain();
        vm.assertEq(domain, "NameRegistrar");
    }
}
