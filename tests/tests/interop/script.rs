//! Random EVM programs that get somewhere: the stack never runs dry, memory stays small, and in the end
//! everything left on the stack is stored.
//!
//! Opcodes that read what two chains can't share are left out: BLOCKHASH and PREVRANDAO, since block hashes
//! and the stand-in for a beacon chain's randomness differ.

use crate::assembler::{Code, op};
use alloy::primitives::{Address, Bytes, U256};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Opcodes that only work on the stack or read: what they take and what they give.
const PLAIN: &[(u8, usize, usize)] = &[
    (0x01, 2, 1), // ADD
    (0x02, 2, 1), // MUL
    (0x03, 2, 1), // SUB
    (0x04, 2, 1), // DIV
    (0x05, 2, 1), // SDIV
    (0x06, 2, 1), // MOD
    (0x07, 2, 1), // SMOD
    (0x08, 3, 1), // ADDMOD
    (0x09, 3, 1), // MULMOD
    (0x0a, 2, 1), // EXP
    (0x0b, 2, 1), // SIGNEXTEND
    (0x10, 2, 1), // LT
    (0x12, 2, 1), // SLT
    (0x13, 2, 1), // SGT
    (0x14, 2, 1), // EQ
    (0x15, 1, 1), // ISZERO
    (0x17, 2, 1), // OR
    (0x18, 2, 1), // XOR
    (0x19, 1, 1), // NOT
    (0x1a, 2, 1), // BYTE
    (0x1b, 2, 1), // SHL
    (0x1d, 2, 1), // SAR
    (0x1e, 1, 1), // CLZ
    (0x30, 0, 1), // ADDRESS
    (0x31, 1, 1), // BALANCE
    (0x32, 0, 1), // ORIGIN
    (0x33, 0, 1), // CALLER
    (0x34, 0, 1), // CALLVALUE
    (0x35, 1, 1), // CALLDATALOAD
    (0x38, 0, 1), // CODESIZE
    (0x3a, 0, 1), // GASPRICE
    (0x3b, 1, 1), // EXTCODESIZE
    (0x3d, 0, 1), // RETURNDATASIZE
    (0x3f, 1, 1), // EXTCODEHASH
    (0x41, 0, 1), // COINBASE
    (0x42, 0, 1), // TIMESTAMP
    (0x43, 0, 1), // NUMBER
    (0x45, 0, 1), // GASLIMIT
    (0x46, 0, 1), // CHAINID
    (0x47, 0, 1), // SELFBALANCE
    (0x48, 0, 1), // BASEFEE
    (0x49, 1, 1), // BLOBHASH
    (0x4a, 0, 1), // BLOBBASEFEE
    (0x50, 1, 0), // POP
    (0x54, 1, 1), // SLOAD
    (0x55, 2, 0), // SSTORE
    (0x58, 0, 1), // PC
    (0x59, 0, 1), // MSIZE
    (0x5a, 0, 1), // GAS
    (0x5c, 1, 1), // TLOAD
    (0x5d, 2, 0), // TSTORE
    (0x80, 1, 2), // DUP1
    (0x83, 4, 5), // DUP4
    (0x90, 2, 2), // SWAP1
    (0x93, 5, 5), // SWAP4
];

/// Opcodes whose arguments are places in memory: how many of those, how many words below, what they give.
const IN_MEMORY: &[(u8, usize, usize, usize)] = &[
    (0x20, 2, 0, 1), // KECCAK256
    (0x37, 3, 0, 0), // CALLDATACOPY
    (0x39, 3, 0, 0), // CODECOPY
    (0x51, 1, 0, 1), // MLOAD
    (0x52, 1, 1, 0), // MSTORE
    (0x53, 1, 1, 0), // MSTORE8
    (0x5e, 3, 0, 0), // MCOPY
    (0xa0, 2, 0, 0), // LOG0
    (0xa1, 2, 1, 0), // LOG1
    (0xa4, 2, 4, 0), // LOG4
];

/// Bytes of memory that a script's arguments reach.
const MEMORY: u64 = 160;
/// The first slot of what is left on the stack in the end.
const LEFT_OVER: u64 = 0x100;

struct Script<'a> {
    rng: &'a mut StdRng,
    known: &'a [Address],
    code: Code,
    height: usize,
}

/// A random program as creation code, which may call, and pay, the addresses that are known.
pub(crate) fn random(rng: &mut StdRng, known: &[Address]) -> Bytes {
    let mut script = Script { rng, known, code: Code::default(), height: 0 };
    for _ in 0..script.rng.random_range(5..60) {
        script.step();
    }
    script.end()
}

impl Script<'_> {
    fn step(&mut self) {
        match self.rng.random_range(0..20) {
            0..=9 => {
                let (op, takes, gives) = *PLAIN.choose(self.rng).expect("not empty");
                self.have(takes);
                self.emit(op, takes, gives);
            }
            10..=14 => {
                let (op, places, below, gives) = *IN_MEMORY.choose(self.rng).expect("not empty");
                self.have(below);
                (0..places).for_each(|_| self.place());
                self.emit(op, places + below, gives);
            }
            15 | 16 => self.push_any(),
            17 | 18 => self.call(),
            _ => self.create(),
        }
    }

    fn emit(&mut self, op: u8, takes: usize, gives: usize) {
        self.code = std::mem::take(&mut self.code).ops(&[op]);
        self.height = self.height - takes + gives;
    }

    fn push(&mut self, value: U256) {
        self.code = std::mem::take(&mut self.code).push_word(value);
        self.height += 1;
    }

    fn have(&mut self, words: usize) {
        while self.height < words {
            self.push_any();
        }
    }

    fn place(&mut self) {
        let place = self.rng.random_range(0..MEMORY);
        self.push(U256::from(place));
    }

    fn push_any(&mut self) {
        let value = match self.rng.random_range(0..6) {
            0 => U256::ZERO,
            1 => U256::MAX,
            2 => U256::from(1) << self.rng.random_range(0..256usize),
            3 => U256::from_be_slice(self.address().as_slice()),
            4 => U256::from_be_bytes(self.rng.random::<[u8; 32]>()),
            _ => U256::from(self.rng.random_range(0..8u8)),
        };
        self.push(value);
    }

    fn address(&mut self) -> Address {
        match self.rng.random_range(0..4) {
            0 => Address::with_last_byte(self.rng.random_range(1..=0x12)),
            _ => *self.known.choose(self.rng).expect("somebody is known"),
        }
    }

    /// Calls somebody in one of the four ways, and keeps whether it went well.
    fn call(&mut self) {
        let op = *[0xf1, 0xf2, 0xf4, op::STATICCALL].choose(self.rng).expect("not empty");
        (0..4).for_each(|_| self.place());
        let takes = if op == 0xf1 || op == 0xf2 {
            let value = self.rng.random_range(0..3u8);
            self.push(U256::from(value));
            7
        } else {
            6
        };
        let (to, gas) = (self.address(), self.rng.random_range(0..80_000u32));
        self.push(U256::from_be_slice(to.as_slice()));
        self.push(U256::from(gas));
        self.emit(op, takes, 1);
    }

    /// Creates something from what happens to be in memory, in one of the two ways.
    fn create(&mut self) {
        let op = if self.rng.random() { 0xf0 } else { op::CREATE2 };
        let takes = if op == op::CREATE2 {
            let salt = self.rng.random_range(0..2u8);
            self.push(U256::from(salt));
            4
        } else {
            3
        };
        (0..2).for_each(|_| self.place());
        let value = self.rng.random_range(0..2u8);
        self.push(U256::from(value));
        self.emit(op, takes, 1);
    }

    fn end(mut self) -> Bytes {
        let left = self.height.min(12);
        for slot in 0..left as u64 {
            self.code = std::mem::take(&mut self.code).push(LEFT_OVER + slot).ops(&[op::SSTORE]);
        }
        let (place, heir) = (self.rng.random_range(0..MEMORY), self.address());
        let code = self.code;
        let ended = match self.rng.random_range(0..10) {
            0 => code.push(place).push(0).ops(&[op::REVERT]),
            1 => code.ops(&[op::INVALID]),
            2 => code.push_address(heir).ops(&[op::SELFDESTRUCT]),
            3 => code,
            4 => code.ops(&[op::STOP]),
            _ => code.push(place).push(0).ops(&[op::RETURN]),
        };
        ended.into_bytes()
    }
}
