//! A node's part: dials where the request came from, and nowhere else, for those whom the node's relay serves.
//!
//! Each attempt is a swarm of its own with a key of its own, made for it and gone with it: what the device sees is somebody it
//! never met, and what it answers reaches nothing of the node's.

use std::{convert::Infallible, future::Future, net::IpAddr, num::NonZeroUsize, sync::Arc, time::Instant};

use futures::{AsyncWriteExt, StreamExt};
use libp2p::{Multiaddr, PeerId, Swarm, identity::secp256k1};
use tokio::{task::JoinSet, time::timeout};
use windlass_protocol::SecretKey;

use super::{
    DIAL_BACK, DIAL_REQUEST,
    wire::{
        AutonatError, MAX_DIAL_BACK, MAX_MESSAGE, Reply, Request, decode_request, encode_dial_back,
        encode_reply,
    },
};
use crate::{
    frame::{FrameError, read_frame_of, write_frame},
    limits,
    path::ip_of,
    punch::bare,
    relay::{Policy, Rates, Standing},
    streams::{AlreadyAccepting, Control, Incoming, OpenError, PeerStream},
    swarm::{DeviceBehaviour, DeviceConfig, device_swarm},
};

/// See the module.
pub struct Server {
    incoming: Incoming,
    desk: Arc<Desk>,
}

struct Desk {
    policy: Arc<dyn Policy>,
    rates: Rates,
}

impl Server {
    /// Begins to accept requests on every connection of `control`'s swarm. It answers those whom the policy has served.
    pub fn new(control: &Control, policy: Arc<dyn Policy>) -> Result<Self, AlreadyAccepting> {
        let queue = NonZeroUsize::new(limits::AUTONAT_AT_ONCE).unwrap_or(NonZeroUsize::MIN);
        let rates = Rates::new(limits::AUTONAT_PER_SECOND, limits::AUTONAT_BURST);
        Ok(Self { incoming: control.accept(DIAL_REQUEST, queue)?, desk: Arc::new(Desk { policy, rates }) })
    }

    /// Answers until `stopped`. A request beyond the bound is dropped at once, which resets its stream.
    pub async fn run(mut self, stopped: impl Future<Output = ()>) {
        let mut answers = JoinSet::new();
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => break,
                Some(stream) = self.incoming.next() => {
                    if answers.len() < limits::AUTONAT_AT_ONCE {
                        answers.spawn(serve(self.desk.clone(), stream));
                    }
                }
                Some(_) = answers.join_next() => {}
            }
        }
        answers.shutdown().await;
    }
}

async fn serve(desk: Arc<Desk>, mut stream: PeerStream) {
    let peer = stream.peer();
    // Charged for the stream: who opens and says nothing pays as well.
    if !desk.rates.admit(peer, Instant::now()) {
        return;
    }
    let served = timeout(limits::AUTONAT_DEADLINE, async {
        let request = decode_request(&read_frame_of(&mut stream, MAX_MESSAGE).await?)?;
        // A circuit's other end is where the relay says it is: nothing is dialled on that word.
        let ip = stream.ip().filter(|_| !stream.path().is_relayed());
        let reply = desk.reply(peer, ip, request).await;
        write_frame(&mut stream, &encode_reply(reply)).await?;
        stream.close().await.map_err(FrameError::Io)?;
        Ok::<(), AutonatError>(())
    });
    if let Ok(Err(error)) = served.await {
        tracing::debug!(%peer, %error, "a request to dial back came to nothing");
    }
}

impl Desk {
    async fn reply(&self, peer: PeerId, ip: Option<IpAddr>, request: Request) -> Reply {
        match self.policy.standing(peer).await {
            Ok(Standing::Served(_)) => {}
            Ok(_) => return Reply::Rejected,
            Err(_) => return Reply::Internal,
        }
        let is_there = |address: &Multiaddr| ip.is_some() && ip_of(address) == ip;
        let places = request.addresses.iter().enumerate();
        let mut fit = places.filter_map(|(at, address)| Some((at, bare(address).filter(is_there)?)));
        let Some((index, address)) = fit.next() else { return Reply::Refused };
        let tried = timeout(limits::AUTONAT_DIAL, dial_back(peer, address, request.nonce)).await;
        match tried {
            Ok(Ok(())) => Reply::Dialled { index, reached: true },
            Ok(Err(DialBackError::Own)) => Reply::Internal,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "an address of a device isn't reached");
                Reply::Dialled { index, reached: false }
            }
            Err(_) => Reply::Dialled { index, reached: false },
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum DialBackError {
    /// Nothing that the device could do anything about.
    #[error("no swarm to dial from")]
    Own,
    #[error(transparent)]
    Open(Box<OpenError>),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Dials one address of a peer as nobody in particular, and says the nonce there.
async fn dial_back(peer: PeerId, address: Multiaddr, nonce: u64) -> Result<(), DialBackError> {
    let key = SecretKey::from_bytes(&secp256k1::SecretKey::generate().to_bytes());
    let key = key.map_err(|_| DialBackError::Own)?;
    let (mut swarm, control) =
        device_swarm(&key, &DeviceConfig::new(AGENT)).map_err(|_| DialBackError::Own)?;
    let said = async {
        let opened = control.open(peer, vec![address], DIAL_BACK, limits::AUTONAT_DIAL).await;
        let mut stream = opened.map_err(|error| DialBackError::Open(Box::new(error)))?;
        write_frame(&mut stream, &encode_dial_back(nonce)).await?;
        read_frame_of(&mut stream, MAX_DIAL_BACK).await?;
        Ok(())
    };
    tokio::select! {
        said = said => said,
        never = drive(&mut swarm) => match never {},
    }
}

async fn drive(swarm: &mut Swarm<DeviceBehaviour>) -> Infallible {
    loop {
        swarm.select_next_some().await;
    }
}

/// It says nothing of the node.
const AGENT: &str = "windlass-dial-back/1";
