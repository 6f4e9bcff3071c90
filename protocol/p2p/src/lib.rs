//! windlass-p2p
