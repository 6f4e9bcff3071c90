//! Whether an address can be reached from outside: AutoNAT v2 as the libp2p specification has it (`autonat/autonat-v2.md`).
//!
//! A device names an address of its own and a nonce; the node dials that address, as somebody the device has no connection
//! with, and says the nonce there. Our server dials nothing but the IP address that the request itself came from, so nobody
//! can point it at somebody else, and it never has to ask for bytes as a proof of good will. Neither side keeps a handler on
//! any connection: requests are streams like all others.

mod server;
mod wire;

pub use server::Server;
pub use wire::AutonatError;

use futures::AsyncWriteExt;
use libp2p::{Multiaddr, StreamProtocol};

use crate::{
    frame::{read_frame_of, write_frame},
    streams::PeerStream,
};
use wire::{MAX_DIAL_BACK, MAX_MESSAGE, Reply};

/// What a device speaks to a node.
pub const DIAL_REQUEST: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-request");

/// What whoever dials back speaks to the device.
pub const DIAL_BACK: StreamProtocol = StreamProtocol::new("/libp2p/autonat/2/dial-back");

/// What a node says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was dialled and the nonce was said there. Counts only if it was heard, too.
    Reached,
    /// It was dialled, in vain.
    NotReached,
    /// It wasn't dialled: not where the request came from, too many requests, or no device that is served.
    NotTried,
}

/// Asks a node, on a stream of [`DIAL_REQUEST`], to dial one address and say this nonce there.
pub async fn ask(stream: &mut PeerStream, address: &Multiaddr, nonce: u64) -> Result<Answer, AutonatError> {
    write_frame(stream, &wire::encode_request(std::slice::from_ref(address), nonce)).await?;
    let reply = wire::decode_reply(&read_frame_of(stream, MAX_MESSAGE).await?)?;
    Ok(match reply {
        Reply::Dialled { index: 0, reached: true } => Answer::Reached,
        Reply::Dialled { .. } => Answer::NotReached,
        Reply::Refused | Reply::Rejected | Reply::Internal | Reply::WantsData => Answer::NotTried,
    })
}

/// Reads the nonce that somebody says on a stream of [`DIAL_BACK`].
pub async fn hear(stream: &mut PeerStream) -> Result<u64, AutonatError> {
    wire::decode_dial_back(&read_frame_of(stream, MAX_DIAL_BACK).await?)
}

/// Says on the same stream that the nonce was heard.
pub async fn acknowledge(stream: &mut PeerStream) -> Result<(), AutonatError> {
    // The one status there is, which proto3 writes as nothing.
    write_frame(stream, &[]).await?;
    Ok(stream.close().await.map_err(crate::frame::FrameError::Io)?)
}

#[cfg(test)]
mod tests;
