//! windlass-testnet
