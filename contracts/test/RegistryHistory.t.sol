// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {INameRegistrar} from "../src/interfaces/INameRegistrar.sol";
import {IRegistry} from "../src/interfaces/IRegistry.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {Layout} from "../src/lib/Layout.sol";
import {Base} from "./Base.sol";
import {FuzzSelector, Handler} from "./Handler.sol";

/// @notice Random lives of fleets, devices, grants and names.
contract RegistryHandler is Handler {
    using Layout for bytes32;
    using Layout for address;

    Person[] internal operators;
    mapping(uint48 fleet => Person) internal operatorOf;
    uint48 public fleets;

    address[] public devices;
    mapping(address id => Person) internal keyOf;
    mapping(address id => uint48) internal fleetOfDevice;
    /// Which device an address serves, the first time it serves one.
    mapping(address key => address) public servedFirst;
    bool public keyServedTwice;
    /// The record of a device when it became a tombstone.
    mapping(address id => bytes32) public tombstone;

    bytes32[] internal labels;
    mapping(bytes32 labelHash => Person) internal nameOwnerOf;
    mapping(bytes32 labelHash => string) internal labelOf;
    uint256 public feesPaid;

    bytes32[] internal grantKeys;
    mapping(bytes32 h => uint48) internal grantFleet;
    uint256 internal people;

    constructor(IRegistry registry_, INameRegistrar names_) {
        (registry, names) = (registry_, names_);
        for (uint256 i = 0; i < 3; ++i) {
            operators.push(newPerson());
        }
        createFleet(0);
        createFleet(1);
        for (uint256 i = 0; i < 4; ++i) {
            enrol(i);
            registerName(i);
            grant(i);
        }
    }

    function newPerson() internal returns (Person memory) {
        return person(string.concat("history", vm.toString(people++)));
    }

    function anyFleet(uint256 seed) internal view returns (uint48) {
        return uint48(pick(seed, fleets) + 1);
    }

    function anyDevice(uint256 seed) internal view returns (address) {
        return devices[pick(seed, devices.length)];
    }

    /// Mostly a device in this status, so that most calls make sense.
    function deviceIn(uint8 status, uint256 seed) internal view returns (address id) {
        uint256 start = pick(seed, devices.length);
        for (uint256 i = 0; i < devices.length; ++i) {
            id = devices[(start + i) % devices.length];
            if (deviceOf(id).status == status || isMischief(seed)) return id;
        }
    }

    function operatorOfDevice(address id, uint256 seed) internal view returns (address) {
        return isMischief(seed) ? operators[0].addr : operatorOf[fleetOfDevice[id]].addr;
    }

    function send(address from, bytes memory data) internal returns (bool) {
        return attempt(from, address(registry), 0, data);
    }

    // ---- fleets -----------------------------------------------------------------------------------------------

    function createFleet(uint256 seed) public counted("createFleet") {
        Person memory by = operators[pick(seed, operators.length)];
        if (!send(by.addr, abi.encodeCall(registry.createFleet, (uint16(seed % 2))))) return;
        operatorOf[++fleets] = by;
    }

    function transferFleet(uint256 seed) public counted("transferFleet") {
        uint48 fleet = anyFleet(seed);
        Person memory next = operators[pick(seed ^ 1, operators.length)];
        bytes memory proposal = abi.encodeCall(registry.proposeOperator, (fleet, next.addr));
        prepare(operatorOf[fleet].addr, address(registry), 0, proposal);
        if (fleetOf(fleet).flags == Layout.SLOW_REVOKE) vm.warp(block.timestamp + 48 hours);
        if (send(next.addr, abi.encodeCall(registry.acceptOperator, (fleet)))) operatorOf[fleet] = next;
        rememberTombstones();
    }

    function bumpPolicyEpoch(uint256 seed) public counted("bumpPolicyEpoch") {
        uint48 fleet = anyFleet(seed);
        address by = isMischief(seed) ? operators[0].addr : operatorOf[fleet].addr;
        send(by, abi.encodeCall(registry.bumpPolicyEpoch, (fleet)));
    }

    // ---- devices ----------------------------------------------------------------------------------------------

    function enrol(uint256 seed) public counted("enrol") {
        uint48 fleet = anyFleet(seed);
        Person memory by = operatorOf[fleet];
        Person memory who = isMischief(seed) && devices.length > 0 ? keyOf[anyDevice(seed)] : newPerson();
        uint40 deadline = uint40(block.timestamp + 1);
        uint40 validUntil = uint40(block.timestamp + 1 + seed % 1000 days);
        ISigned.Signature memory yes =
            signed(who, ENROL, abi.encode(who.addr, fleet, by.addr, validUntil, deadline));
        if (!send(by.addr, abi.encodeCall(registry.enrol, (fleet, who.addr, validUntil, deadline, yes)))) return;
        devices.push(who.addr);
        (keyOf[who.addr], fleetOfDevice[who.addr]) = (who, fleet);
        serve(who.addr, who.addr);
    }

    function rotate(uint256 seed) public counted("rotate") {
        address id = deviceIn(Layout.ACTIVE, seed);
        if (block.timestamp >= deviceOf(id).validUntil && !isMischief(seed)) {
            enrol(seed);
            current = "rotate";
            id = devices[devices.length - 1];
        }
        Person memory old = keyOf[id];
        Person memory next = isMischief(seed) ? keyOf[anyDevice(seed ^ 1)] : newPerson();
        uint40 deadline = uint40(block.timestamp + 1);
        ISigned.Signature memory yes = signed(next, ROTATE, abi.encode(id, old.addr, next.addr, deadline));
        if (!send(old.addr, abi.encodeCall(registry.rotate, (id, next.addr, deadline, yes)))) return;
        keyOf[id] = next;
        serve(next.addr, id);
    }

    function serve(address key, address id) internal {
        if (servedFirst[key] != address(0)) keyServedTwice = true;
        servedFirst[key] = id;
    }

    function suspend(uint256 seed) public counted("suspend") {
        address id = deviceIn(Layout.ACTIVE, seed);
        send(operatorOfDevice(id, seed), abi.encodeCall(registry.suspend, (id)));
    }

    function resume(uint256 seed) public counted("resume") {
        address id = deviceIn(Layout.SUSPENDED, seed);
        if (deviceOf(id).status != Layout.SUSPENDED) {
            id = deviceIn(Layout.ACTIVE, seed);
            bytes memory data = abi.encodeCall(registry.suspend, (id));
            prepare(operatorOf[fleetOfDevice[id]].addr, address(registry), 0, data);
        }
        send(operatorOfDevice(id, seed), abi.encodeCall(registry.resume, (id)));
    }

    function extend(uint256 seed) public counted("extend") {
        address id = deviceIn(Layout.ACTIVE, seed);
        uint40 validUntil = uint40(deviceOf(id).validUntil + seed % 1000 days);
        send(operatorOfDevice(id, seed), abi.encodeCall(registry.extend, (id, validUntil)));
    }

    function revoke(uint256 seed) public counted("revoke") {
        address id = anyDevice(seed);
        address by = seed % 2 == 0 ? keyOf[id].addr : operatorOfDevice(id, seed);
        if (tombstone[id] != 0) {
            enrol(seed);
            current = "revoke";
            id = devices[devices.length - 1];
            by = keyOf[id].addr;
        }
        send(by, abi.encodeCall(registry.revoke, (id)));
        rememberTombstones();
    }

    function cancelRevoke(uint256 seed) public counted("cancelRevoke") {
        address id = deviceIn(Layout.REVOKING, seed);
        if (deviceOf(id).status != Layout.REVOKING || tombstone[id] != 0) {
            id = makeRevoking();
        }
        uint40 validUntil = uint40(block.timestamp + seed % 1000 days);
        send(operatorOfDevice(id, seed), abi.encodeCall(registry.cancelRevoke, (id, validUntil)));
    }

    function makeRevoking() internal returns (address id) {
        uint48 fleet = 1;
        while (fleetOf(fleet).flags == 0) ++fleet;
        Person memory who = newPerson();
        Person memory by = operatorOf[fleet];
        uint40 deadline = uint40(block.timestamp + 1);
        ISigned.Signature memory yes = signed(who, ENROL, abi.encode(who.addr, fleet, by.addr, FOREVER, deadline));
        bytes memory data = abi.encodeCall(registry.enrol, (fleet, who.addr, FOREVER, deadline, yes));
        prepare(by.addr, address(registry), 0, data);
        id = who.addr;
        devices.push(id);
        (keyOf[id], fleetOfDevice[id]) = (who, fleet);
        serve(id, id);
        prepare(by.addr, address(registry), 0, abi.encodeCall(registry.revoke, (id)));
    }

    /// Notes every device that is a tombstone now, revoked or past its time.
    function rememberTombstones() internal {
        for (uint256 i = 0; i < devices.length; ++i) {
            Layout.Device memory d = deviceOf(devices[i]);
            bool isDead =
                d.status == Layout.REVOKED || (d.status == Layout.REVOKING && block.timestamp >= d.validUntil);
            if (isDead && tombstone[devices[i]] == 0) {
                tombstone[devices[i]] = registry.get(Layout.DEVICE, devices[i].toKey());
            }
        }
    }

    function wait(uint256 seed) public counted("wait") {
        vm.warp(block.timestamp + seed % 3 days);
        ++counts[current].successes;
        rememberTombstones();
    }

    // ---- grants -----------------------------------------------------------------------------------------------

    function grant(uint256 seed) public counted("grant") {
        uint48 fleet = anyFleet(seed);
        address by = isMischief(seed) ? operators[1].addr : operatorOf[fleet].addr;
        bytes32 h = keccak256(abi.encode(seed));
        uint40 expiry = uint40(block.timestamp + seed % 100 days);
        if (!send(by, abi.encodeCall(registry.grant, (fleet, h, expiry, 1)))) return;
        grantKeys.push(h);
        grantFleet[h] = fleet;
    }

    function revokeGrant(uint256 seed) public counted("revokeGrant") {
        if (grantKeys.length == 0) grant(seed | 1);
        current = "revokeGrant";
        if (grantKeys.length == 0) return;
        bytes32 h = grantKeys[grantKeys.length - 1];
        uint48 fleet = grantFleet[h];
        if (send(operatorOf[fleet].addr, abi.encodeCall(registry.revokeGrant, (fleet, h)))) grantKeys.pop();
    }

    // ---- names ------------------------------------------------------------------------------------------------

    function registerName(uint256 seed) public counted("registerName") {
        bool isRepeated = isMischief(seed) && labels.length > 0;
        string memory label = isRepeated
            ? labelOf[labels[pick(seed, labels.length)]]
            : string.concat("name-", vm.toString(labels.length));
        Person memory who = operators[pick(seed, operators.length)];
        bytes32 labelHash = keccak256(bytes(label));
        uint40 duration = uint40(GRACE + seed % 400 days);
        names.commit(names.commitmentOf(labelHash, who.addr, who.addr, 3, duration, bytes32(seed)));
        vm.warp(block.timestamp + MIN_AGE);
        uint256 fee = names.fee(label, duration);
        vm.deal(who.addr, fee);
        bytes memory data =
            abi.encodeCall(names.register, (label, who.addr, who.addr, 3, duration, bytes32(seed)));
        if (!attempt(who.addr, address(names), fee, data)) return;
        feesPaid += fee;
        if (bytes(labelOf[labelHash]).length == 0) labels.push(labelHash);
        (labelOf[labelHash], nameOwnerOf[labelHash]) = (label, who);
        rememberTombstones();
    }

    /// A name that is held, if any is, for acts of its owner.
    function heldName(uint256 seed) internal view returns (bytes32 labelHash) {
        uint256 start = pick(seed, labels.length);
        for (uint256 i = 0; i < labels.length; ++i) {
            labelHash = labels[(start + i) % labels.length];
            if (block.timestamp < registry.get(Layout.NAME, labelHash).toName().expiry) return labelHash;
        }
    }

    function transferName(uint256 seed) public counted("transferName") {
        bytes32 labelHash = heldName(seed);
        Person memory to = operators[pick(seed ^ 1, operators.length)];
        address by = isMischief(seed) ? to.addr : nameOwnerOf[labelHash].addr;
        bytes memory data = abi.encodeCall(names.transfer, (labelHash, to.addr));
        if (attempt(by, address(names), 0, data)) nameOwnerOf[labelHash] = to;
    }

    function setTarget(uint256 seed) public counted("setTarget") {
        bytes32 labelHash = heldName(seed);
        address by = isMischief(seed) ? operators[2].addr : nameOwnerOf[labelHash].addr;
        attempt(by, address(names), 0, abi.encodeCall(names.setTarget, (labelHash, anyDevice(seed), 1)));
    }

    function renewName(uint256 seed) public counted("renewName") {
        bytes32 labelHash = heldName(seed);
        uint40 duration = uint40(1 + seed % 10 days);
        uint256 fee = names.fee(labelOf[labelHash], duration);
        vm.deal(address(0xFEE), fee);
        bytes memory data = abi.encodeCall(names.renew, (labelOf[labelHash], duration));
        if (attempt(address(0xFEE), address(names), fee, data)) feesPaid += fee;
    }

    function withdrawFees(uint256) public counted("withdrawFees") {
        attempt(address(0xFEE), address(names), 0, abi.encodeCall(names.withdraw, ()));
    }

    // ---- what must hold ---------------------------------------------------------------------------------------

    function assertTombstones() external view {
        for (uint256 i = 0; i < devices.length; ++i) {
            bytes32 then = tombstone[devices[i]];
            if (then != 0) vm.assertEq(registry.get(Layout.DEVICE, devices[i].toKey()), then);
        }
    }

    function assertKeysServeOnce() external view {
        vm.assertFalse(keyServedTwice);
        for (uint256 i = 0; i < devices.length; ++i) {
            address key = deviceOf(devices[i]).key;
            vm.assertEq(key, keyOf[devices[i]].addr);
            vm.assertEq(servedFirst[key], devices[i]);
            address takenBy = registry.get(Layout.KEY_OF, key.toKey()).toKeyUse().device;
            vm.assertEq(takenBy, key == devices[i] ? address(0) : devices[i]);
            vm.assertEq(uint256(deviceOf(devices[i]).fleet), fleetOfDevice[devices[i]]);
        }
    }

    function assertNamesHaveOneOwner() external view {
        for (uint256 i = 0; i < labels.length; ++i) {
            Layout.NameOwner memory o = registry.get(Layout.NAME_OWNER, labels[i]).toNameOwner();
            vm.assertEq(o.owner, nameOwnerOf[labels[i]].addr);
        }
    }

    function assertFleetsHaveTheirOperator() external view {
        for (uint48 fleet = 1; fleet <= fleets; ++fleet) {
            vm.assertEq(fleetOf(fleet).operator, operatorOf[fleet].addr);
        }
        vm.assertEq(registry.get(Layout.FLEET_COUNT, 0), bytes32(uint256(fleets)));
    }
}

/// @notice After any history, these hold.
contract RegistryHistoryTest is Base {
    RegistryHandler internal handler;

    function setUp() public override {
        super.setUp();
        handler = new RegistryHandler(registry, names);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[17] memory all = [
            handler.createFleet.selector,
            handler.transferFleet.selector,
            handler.bumpPolicyEpoch.selector,
            handler.enrol.selector,
            handler.rotate.selector,
            handler.suspend.selector,
            handler.resume.selector,
            handler.extend.selector,
            handler.revoke.selector,
            handler.cancelRevoke.selector,
            handler.wait.selector,
            handler.grant.selector,
            handler.revokeGrant.selector,
            handler.registerName.selector,
            handler.transferName.selector,
            handler.setTarget.selector,
            handler.renewName.selector
        ];
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), new bytes4[](all.length + 1));
        for (uint256 i = 0; i < all.length; ++i) {
            targets[0].selectors[i] = all[i];
        }
        targets[0].selectors[all.length] = handler.withdrawFees.selector;
    }

    /// One campaign for all of them: the mirror of `Set` equals storage, a tombstone is for ever, a key serves once and
    /// no device changes its fleet, a name and a fleet have the owner they were given, fees are conserved.
    function invariant_registry_history() public view {
        handler.assertMirrored();
        handler.assertTombstones();
        handler.assertKeysServeOnce();
        handler.assertNamesHaveOneOwner();
        handler.assertFleetsHaveTheirOperator();
        vm.assertEq(address(names).balance + treasury.balance, handler.feesPaid());
        vm.assertEq(address(registry).balance, 0);
    }

    function afterInvariant() external view {
        handler.requireBusy();
    }
}
