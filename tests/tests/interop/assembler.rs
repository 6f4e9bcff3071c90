//! EVM code put together by hand, and the small contracts that histories use.

use alloy::primitives::{Address, Bytes, U256};

pub(crate) mod op {
    //! Opcodes by their names.
    pub(crate) const STOP: u8 = 0x00;
    pub(crate) const ADD: u8 = 0x01;
    pub(crate) const SUB: u8 = 0x03;
    pub(crate) const GT: u8 = 0x11;
    pub(crate) const ISZERO: u8 = 0x15;
    pub(crate) const AND: u8 = 0x16;
    pub(crate) const SHR: u8 = 0x1c;
    pub(crate) const CALLER: u8 = 0x33;
    pub(crate) const CALLVALUE: u8 = 0x34;
    pub(crate) const CALLDATALOAD: u8 = 0x35;
    pub(crate) const CALLDATASIZE: u8 = 0x36;
    pub(crate) const CALLDATACOPY: u8 = 0x37;
    pub(crate) const CODECOPY: u8 = 0x39;
    pub(crate) const RETURNDATASIZE: u8 = 0x3d;
    pub(crate) const RETURNDATACOPY: u8 = 0x3e;
    pub(crate) const MSTORE: u8 = 0x52;
    pub(crate) const SSTORE: u8 = 0x55;
    pub(crate) const JUMP: u8 = 0x56;
    pub(crate) const JUMPI: u8 = 0x57;
    pub(crate) const GAS: u8 = 0x5a;
    pub(crate) const JUMPDEST: u8 = 0x5b;
    pub(crate) const PUSH0: u8 = 0x5f;
    pub(crate) const DUP1: u8 = 0x80;
    pub(crate) const DUP2: u8 = 0x81;
    pub(crate) const LOG0: u8 = 0xa0;
    pub(crate) const LOG2: u8 = 0xa2;
    pub(crate) const RETURN: u8 = 0xf3;
    pub(crate) const CREATE2: u8 = 0xf5;
    pub(crate) const STATICCALL: u8 = 0xfa;
    pub(crate) const REVERT: u8 = 0xfd;
    pub(crate) const INVALID: u8 = 0xfe;
    pub(crate) const SELFDESTRUCT: u8 = 0xff;
}

use op::*;

/// Code being put together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Code(Vec<u8>);

impl Code {
    /// Appends opcodes.
    pub(crate) fn ops(mut self, ops: &[u8]) -> Self {
        self.0.extend_from_slice(ops);
        self
    }

    /// Appends the shortest push of `value`.
    pub(crate) fn push(self, value: u64) -> Self {
        self.push_word(U256::from(value))
    }

    /// Appends the shortest push of `value`.
    pub(crate) fn push_word(mut self, value: U256) -> Self {
        let bytes = value.to_be_bytes_trimmed_vec();
        self.0.push(PUSH0 + bytes.len() as u8);
        self.0.extend(bytes);
        self
    }

    /// Appends a push of an address.
    pub(crate) fn push_address(self, address: Address) -> Self {
        self.push_word(U256::from_be_slice(address.as_slice()))
    }

    /// Appends code that puts `bytes`, up to 32 of them at a time, into memory from 0 on.
    pub(crate) fn store_bytes(self, bytes: &[u8]) -> Self {
        bytes.chunks(32).enumerate().fold(self, |code, (index, chunk)| {
            let mut word = [0; 32];
            word[..chunk.len()].copy_from_slice(chunk);
            code.push_word(U256::from_be_bytes(word)).push(index as u64 * 32).ops(&[MSTORE])
        })
    }

    /// The code itself.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.0.into()
    }

    /// Creation code that deploys this.
    pub(crate) fn creation(self) -> Bytes {
        /// Bytes before the code that is deployed.
        const PREFIX: u8 = 12;
        let [high, low] = (self.0.len() as u16).to_be_bytes();
        let prefix =
            [0x61, high, low, 0x60, PREFIX, PUSH0, CODECOPY, 0x61, high, low, PUSH0, RETURN].to_vec();
        [prefix, self.0].concat().into()
    }
}

/// Stores each pair of words of its calldata, the first being the slot.
pub(crate) fn writer() -> Code {
    Code::default()
        .ops(&[PUSH0, JUMPDEST, DUP1, CALLDATASIZE, GT, ISZERO])
        .push(0x17)
        .ops(&[JUMPI, DUP1])
        .push(32)
        .ops(&[ADD, CALLDATALOAD, DUP2, CALLDATALOAD, SSTORE])
        .push(64)
        .ops(&[ADD])
        .push(1)
        .ops(&[JUMP, JUMPDEST, STOP])
}

/// Logs and returns its calldata, or reverts with it when its first byte is odd.
pub(crate) fn echo() -> Code {
    Code::default()
        .ops(&[CALLDATASIZE, PUSH0, PUSH0, CALLDATACOPY, PUSH0, CALLDATALOAD])
        .push(248)
        .ops(&[SHR])
        .push(1)
        .ops(&[AND])
        .push(0x18)
        .ops(&[JUMPI, PUSH0, CALLDATALOAD, CALLER, CALLDATASIZE, PUSH0, LOG2])
        .ops(&[CALLDATASIZE, PUSH0, RETURN, JUMPDEST, CALLDATASIZE, PUSH0, REVERT])
}

/// Creates (EIP-1014) what its calldata after the first word says, with that word as salt, and logs the address.
pub(crate) fn factory() -> Code {
    let size = |code: Code| code.push(32).ops(&[CALLDATASIZE, SUB]);
    size(size(Code::default()).push(32).ops(&[PUSH0, CALLDATACOPY, PUSH0, CALLDATALOAD]))
        .ops(&[PUSH0, CALLVALUE, CREATE2, PUSH0, MSTORE])
        .push(32)
        .ops(&[PUSH0, LOG0])
        .push(32)
        .ops(&[PUSH0, RETURN])
}

/// Destroys itself in favour of the address in its calldata.
pub(crate) fn destroyer() -> Code {
    Code::default().ops(&[PUSH0, CALLDATALOAD, SELFDESTRUCT])
}

/// Creation code that asks the precompiled contract at `address`, stores whether it answered, and logs the answer.
pub(crate) fn ask_precompile(address: u64, input: &[u8]) -> Bytes {
    Code::default()
        .store_bytes(input)
        .ops(&[PUSH0, PUSH0])
        .push(input.len() as u64)
        .ops(&[PUSH0])
        .push(address)
        .ops(&[GAS, STATICCALL, PUSH0, SSTORE, RETURNDATASIZE, PUSH0, PUSH0, RETURNDATACOPY])
        .ops(&[RETURNDATASIZE, PUSH0, LOG0, STOP])
        .into_bytes()
}

/// Creation code that never ends by itself.
pub(crate) fn endless() -> Bytes {
    Code::default().ops(&[JUMPDEST, PUSH0, JUMP]).into_bytes()
}
