// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";

/// @notice What the comparison calls of ERC-1056's registry.
interface IERC1056 {
    function identityOwner(address identity) external view returns (address);
    function validDelegate(address identity, bytes32 delegateType, address delegate) external view returns (bool);
    function changed(address identity) external view returns (uint256);
    function changeOwner(address identity, address newOwner) external;
    function addDelegate(address identity, bytes32 delegateType, address delegate, uint256 validity) external;
    function setAttribute(address identity, bytes32 name, bytes calldata value, uint256 validity) external;
}

/// @notice The gas of ERC-1056, to stand beside ours: the bytecode its authors publish, measured as Gas.t.sol measures
/// ours. "first" is an identity's first change ever, "again" one of an identity that was changed in an earlier block
/// by the same call, to another value. The figures go to `snapshots/erc1056.json`.
/// forge-config: default.isolate = true
contract Erc1056GasTest is Base {
    string private constant PUBLISHED =
        "node_modules/ethr-did-registry/artifacts/contracts/EthereumDIDRegistry.sol/EthereumDIDRegistry.json";
    bytes32 private constant DELEGATE_TYPE = "veriKey";
    bytes32 private constant ATTRIBUTE = "did/svc/HubService";

    IERC1056 private erc1056;
    address private identity;

    function setUp() public override {
        super.setUp();
        erc1056 = IERC1056(createFrom(PUBLISHED, ""));
        identity = person("identity").addr;
    }

    function measured(string memory what) private {
        uint256 gas = vm.lastCallGas().gasTotalUsed;
        vm.snapshotValue("erc1056", what, gas);
        vm.assertEq(erc1056.changed(identity), block.number);
        vm.roll(block.number + 1);
    }

    function test_changeOwner() public {
        address[2] memory owners = [person("second key").addr, person("third key").addr];
        vm.prank(identity);
        erc1056.changeOwner(identity, owners[0]);
        measured("changeOwner, first");
        vm.prank(owners[0]);
        erc1056.changeOwner(identity, owners[1]);
        measured("changeOwner, again");
        vm.assertEq(erc1056.identityOwner(identity), owners[1]);
    }

    function test_addDelegate() public {
        address[2] memory delegates = [person("delegate").addr, person("other delegate").addr];
        string[2] memory what = ["addDelegate, first", "addDelegate, again"];
        for (uint256 i = 0; i < 2; ++i) {
            vm.prank(identity);
            erc1056.addDelegate(identity, DELEGATE_TYPE, delegates[i], 365 days);
            measured(what[i]);
            vm.assertTrue(erc1056.validDelegate(identity, DELEGATE_TYPE, delegates[i]));
        }
    }

    /// A value of 32 bytes, as long as what our records of a name hold.
    function test_setAttribute() public {
        string[2] memory what = ["setAttribute, first", "setAttribute, again"];
        for (uint256 i = 0; i < 2; ++i) {
            vm.prank(identity);
            erc1056.setAttribute(identity, ATTRIBUTE, abi.encode(keccak256(bytes(what[i]))), 365 days);
            measured(what[i]);
        }
    }
}
