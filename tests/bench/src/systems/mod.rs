//! The systems measured, one file each.

pub mod iroh;
pub mod libp2p;
pub mod raw;
pub mod windlass;
