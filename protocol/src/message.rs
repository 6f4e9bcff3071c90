//! The messages of Windlass's own libp2p protocols. One frame is an unsigned-varint length and that many
//! bytes of RLP; unknown trailing fields are ignored.

pub mod head;
pub mod nodes;
pub mod resolve;
pub mod route;
pub mod stream;
pub mod watch;

/// Most bytes of one frame.
pub const MAX_FRAME: usize = 64 * 1_024;

/// Protocol names.
pub mod names {
    /// Client to node: questions, one bundle back.
    pub const RESOLVE: &str = "/windlass/resolve/1";
    /// Client to node: slots to watch, pushes back.
    pub const WATCH: &str = "/windlass/watch/1";
    /// Device to node: publish and fetch routes.
    pub const ROUTE: &str = "/windlass/route/1";
    /// Node to node: who is nearest to a device, and the route of it that is held.
    pub const NODES: &str = "/windlass/nodes/1";
    /// Node to node: attestations.
    pub const HEAD: &str = "/windlass/head/1";
    /// Caller to device: open a service.
    pub const STREAM: &str = "/windlass/stream/1";
}

#[cfg(test)]
mod tests;
