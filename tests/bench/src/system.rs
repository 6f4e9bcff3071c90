//! What a system must offer to be measured, and the list of those that are. A new one is a file in
//! `systems` and a line in `ALL`.

use crate::systems::{iroh, libp2p, raw, windlass};
use anyhow::{Result, anyhow};
use futures::future::BoxFuture;
use std::any::Any;
use tokio::io::{AsyncRead, AsyncWrite};

/// Every system, in the order of the table.
pub const ALL: &[&dyn System] = &[
    &raw::Tcp,
    &windlass::Windlass { relayed: false },
    &libp2p::Stock { relayed: false },
    &iroh::Iroh { relayed: false },
    &windlass::Windlass { relayed: true },
    &libp2p::Stock { relayed: true },
    &iroh::Iroh { relayed: true },
];

/// The system with this label.
pub fn named(label: &str) -> Result<&'static dyn System> {
    ALL.iter().find(|system| system.label() == label).copied().ok_or_else(|| anyhow!("no system '{label}'"))
}

/// An ordered stream of bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}
pub type Stream = Box<dyn Duplex>;

/// A part that runs until it is dropped.
pub struct Running {
    /// How the next part reaches this one.
    pub contact: String,
    /// What must stay alive for it to go on.
    pub alive: Box<dyn Any + Send>,
}

/// One way to carry a stream between two processes.
pub trait System: Sync {
    /// Its name in the table and on the command line.
    fn label(&self) -> &'static str;
    /// Whether its two ends need anything between or beside them: a relay, or a whole network.
    fn has_network(&self) -> bool;
    /// Starts that.
    fn network(&self) -> BoxFuture<'_, Result<Running>>;
    /// Starts accepting; each stream is given to `workload::serve`.
    fn listen<'a>(&'a self, network: Option<&'a str>) -> BoxFuture<'a, Result<Running>>;
    /// Readies one dialling endpoint, its standing connection to the network included: what a device has
    /// before it wants anything. Endpoints with different numbers, from 0 below [`DIALLERS`], may live side by side.
    fn dialler<'a>(
        &'a self,
        network: Option<&'a str>,
        number: usize,
    ) -> BoxFuture<'a, Result<Box<dyn Dialler>>>;
}

/// Endpoints that may dial at a time.
pub const DIALLERS: usize = 20;

/// An endpoint that connects to one listener.
pub trait Dialler: Send {
    /// Connects to the listener and opens a stream: what the clock measures.
    fn open<'a>(&'a mut self, contact: &'a str) -> BoxFuture<'a, Result<Stream>>;
    /// Has no connection to the listener any more, and keeps everything else it has or knows; off the clock.
    fn disconnect(&mut self) -> BoxFuture<'_, Result<()>>;
    /// Closes the endpoint, off the clock.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}
