// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {INameRegistrar} from "../src/interfaces/INameRegistrar.sol";
import {IRegistry} from "../src/interfaces/IRegistry.sol";
import {ISigned} from "../src/interfaces/ISigned.sol";
import {Layout} from "../src/lib/Layout.sol";
import {VM, Vm} from "./Vm.sol";

/// @notice A deployment of the committed artifacts, people with keys, and the statements they sign. Every test starts
/// from a fresh one.
abstract contract Base {
    using Layout for bytes32;
    using Layout for address;
    using Layout for uint48;

    Vm internal constant vm = VM;

    uint40 internal constant FOREVER = type(uint40).max;
    uint40 internal constant START = 1_800_000_000;
    uint40 internal constant SOON = START + 1 hours;

    uint40 internal constant MIN_AGE = 60;
    uint40 internal constant MAX_AGE = 24 hours;
    uint40 internal constant GRACE = 30 days;
    uint96 internal constant FEE_THREE = 0.6 ether;
    uint96 internal constant FEE_FOUR = 0.1 ether;
    uint96 internal constant FEE_FIVE = 0.01 ether;

    /// Somebody with a key.
    struct Person {
        address addr;
        uint256 key;
    }

    IRegistry internal registry;
    INameRegistrar internal names;
    address internal treasury = address(0x7EA);
    Person internal operator = person("operator");
    Person internal stranger = person("stranger");
    Person internal device = person("device");

    function setUp() public virtual {
        vm.warp(START);
        (registry, names) = deploy(address(0));
        vm.deal(operator.addr, 100 ether);
        vm.deal(stranger.addr, 100 ether);
    }

    /// Registry and NameRegistrar as `contracts/artifacts` has them, with their predicted addresses.
    function deploy(address predecessor) internal returns (IRegistry r, INameRegistrar n) {
        uint64 nonce = vm.getNonce(address(this));
        address namesAt = vm.computeCreateAddress(address(this), nonce + 1);
        address stakingAt = vm.computeCreateAddress(address(this), nonce + 2);
        r = IRegistry(create("Registry", abi.encode(namesAt, stakingAt, predecessor)));
        n = INameRegistrar(
            create(
                "NameRegistrar",
                abi.encode(
                    r,
                    treasury,
                    INameRegistrar.Ages(MIN_AGE, MAX_AGE, GRACE),
                    INameRegistrar.Fees(FEE_THREE, FEE_FOUR, FEE_FIVE)
                )
            )
        );
        vm.assertEq(address(n), namesAt);
    }

    function create(string memory contractName, bytes memory arguments) internal returns (address) {
        return createFrom(string.concat("artifacts/", contractName, ".json"), arguments);
    }

    function createFrom(string memory file, bytes memory arguments) internal returns (address made) {
        string memory json = vm.readFile(file);
        bytes memory code = bytes.concat(vm.parseJsonBytes(json, ".bytecode"), arguments);
        assembly ("memory-safe") {
            made := create(0, add(code, 0x20), mload(code))
            if iszero(made) {
                returndatacopy(0, 0, returndatasize())
                revert(0, returndatasize())
            }
        }
    }

    function person(string memory label) internal pure returns (Person memory) {
        uint256 key = uint256(keccak256(bytes(label))) >> 1;
        return Person(VM.addr(key), key);
    }

    // ---- signatures -------------------------------------------------------------------------------------------

    function sign(Person memory who, bytes32 digest) internal pure returns (ISigned.Signature memory) {
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(who.key, digest);
        return ISigned.Signature(r, s, v);
    }

    function digestFor(address target, string memory domain, bytes32 structHash) internal view returns (bytes32) {
        bytes32 domainType =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 separator = keccak256(
            abi.encode(domainType, keccak256(bytes(domain)), keccak256("1"), block.chainid, target)
        );
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }

    /// `who` signs the struct `typed` with these words for the registry.
    function signed(Person memory who, string memory typed, bytes memory words)
        internal
        view
        returns (ISigned.Signature memory)
    {
        bytes32 structHash = keccak256(bytes.concat(keccak256(bytes(typed)), words));
        return sign(who, digestFor(address(registry), "Registry", structHash));
    }

    function signedName(Person memory who, string memory typed, bytes memory words)
        internal
        view
        returns (ISigned.Signature memory)
    {
        bytes32 structHash = keccak256(bytes.concat(keccak256(bytes(typed)), words));
        return sign(who, digestFor(address(names), "NameRegistrar", structHash));
    }

    string internal constant ENROL =
        "Enrol(address device,uint48 fleet,address operator,uint40 validUntil,uint40 deadline)";
    string internal constant ROTATE = "Rotate(address device,address oldKey,address newKey,uint40 deadline)";

    function consent(Person memory who, address id, uint48 fleet, address by, uint40 validUntil)
        internal
        view
        returns (ISigned.Signature memory)
    {
        return signed(who, ENROL, abi.encode(id, fleet, by, validUntil, SOON));
    }

    function rotation(Person memory who, address id, address oldKey, address newKey)
        internal
        view
        returns (ISigned.Signature memory)
    {
        return signed(who, ROTATE, abi.encode(id, oldKey, newKey, SOON));
    }

    // ---- steps that most tests need ---------------------------------------------------------------------------

    function createFleet(Person memory by, uint16 flags) internal returns (uint48) {
        vm.prank(by.addr);
        return registry.createFleet(flags);
    }

    function enrol(uint48 fleet, Person memory by, Person memory who, uint40 validUntil) internal {
        ISigned.Signature memory c = consent(who, who.addr, fleet, by.addr, validUntil);
        vm.prank(by.addr);
        registry.enrol(fleet, who.addr, validUntil, SOON, c);
    }

    /// A fleet of `operator` with `device` enrolled in it for a year.
    function fleetWithDevice(uint16 flags) internal returns (uint48 fleet) {
        fleet = createFleet(operator, flags);
        enrol(fleet, operator, device, START + 365 days);
    }

    function rotate(Person memory id, Person memory from, Person memory to) internal {
        ISigned.Signature memory c = rotation(to, id.addr, from.addr, to.addr);
        vm.prank(from.addr);
        registry.rotate(id.addr, to.addr, SOON, c);
    }

    /// Commits, waits and registers for a year, paid by the owner.
    function registerName(Person memory owner, string memory label, address target, uint8 kind) internal {
        uint40 duration = 365 days;
        bytes32 secret = keccak256("secret");
        names.commit(names.commitmentOf(keccak256(bytes(label)), owner.addr, target, kind, duration, secret));
        vm.warp(block.timestamp + MIN_AGE);
        uint256 fee = names.fee(label, duration);
        vm.prank(owner.addr);
        names.register{value: fee}(label, owner.addr, target, kind, duration, secret);
    }

    // ---- what is written --------------------------------------------------------------------------------------

    function deviceOf(address id) internal view returns (Layout.Device memory) {
        return registry.get(Layout.DEVICE, id.toKey()).toDevice();
    }

    function fleetOf(uint48 fleet) internal view returns (Layout.Fleet memory) {
        return registry.get(Layout.FLEET, fleet.toKey()).toFleet();
    }

    function nonceOf(uint48 fleet) internal view returns (uint40) {
        return fleetOf(fleet).nonce;
    }

    function assertStatus(address id, uint8 status) internal view {
        vm.assertEq(uint256(deviceOf(id).status), uint256(status));
    }

    function as_(Person memory who) internal {
        vm.prank(who.addr);
    }

    /// The next call is by `who` and must be refused by this very rule.
    function refused(Person memory who, bytes4 rule) internal {
        vm.expectRevert(rule);
        vm.prank(who.addr);
    }
}
