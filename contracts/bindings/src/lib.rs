//! windlass-contracts
