// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice The cheat codes of forge that the script uses.
interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
    function readFile(string calldata path) external view returns (string memory);
    function parseJsonBytes(string calldata json, string calldata key) external pure returns (bytes memory);
}

/// @notice What the script does with Registry.
interface IRegistry {
    function createFleet(uint16 flags) external returns (uint48);
    function get(uint8 kind, bytes32 key) external view returns (bytes32);
}

/// @title A round with `forge script --broadcast`: deploys Registry from the committed artifact, writes and reads.
contract Round {
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    /// What forge looks for in a script.
    bool public constant IS_SCRIPT = true;

    error NotDeployed();
    error NoRecord();

    function run() external returns (address registry) {
        string memory artifact = VM.readFile("../../../contracts/artifacts/Registry.json");
        bytes memory code = bytes.concat(
            VM.parseJsonBytes(artifact, ".bytecode"), abi.encode(msg.sender, address(0), address(0))
        );
        VM.startBroadcast();
        assembly {
            registry := create(0, add(code, 32), mload(code))
        }
        if (registry.code.length == 0) revert NotDeployed();
        IRegistry(registry).createFleet(0);
        VM.stopBroadcast();
        if (IRegistry(registry).get(2, bytes32(uint256(1))) == 0) revert NoRecord();
    }
}
