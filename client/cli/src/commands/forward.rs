//! `forward`: a local port, each of whose connections becomes a stream to a device's service.

use crate::context::Context;
use crate::failure::Failure;
use crate::limits::MAX_STREAMS;
use crate::parties::parse_stream_service;
use crate::proof::{Proof, ShownDevice};
use crate::pump::{End, pump, reset};
use serde::Serialize;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use windlass_client::{Client, Service, Target, VerifiedSpec};

/// Events waiting to be printed; a slow reader of them slows new streams down, never the bytes of old ones.
const EVENTS: usize = 64;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Local socket address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Device and service, like pump-7:tcp/8080 or 0x…:8080
    #[arg(value_name = "TARGET:SERVICE")]
    remote: Remote,
}

/// A device's service.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Remote {
    target: Target,
    service: Service,
}

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected a device and a service, like pump-7:tcp/8080";
        let (target, service) = text.split_once(':').ok_or_else(|| expected.to_owned())?;
        let target = target.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { target, service: parse_stream_service(service)? })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.target, self.service)
    }
}

/// What happens while a port is forwarded.
#[derive(Serialize, Debug)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Listening {
        address: SocketAddr,
        remote: String,
        #[serde(flatten)]
        device: ShownDevice,
        proof: Box<Proof>,
    },
    Opened {
        stream: u64,
        peer: String,
        path: String,
    },
    Refused {
        stream: u64,
        code: String,
        message: String,
    },
    Ended {
        stream: u64,
        #[serde(flatten)]
        end: End,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening { address, remote, device, proof } => {
                writeln!(f, "{address} leads to {remote}; Ctrl-C ends it")?;
                write!(f, "{device}\n{proof}")
            }
            Self::Opened { stream, peer, path } => write!(f, "stream {stream} opened to {peer}, {path}"),
            Self::Refused { stream, message, .. } => write!(f, "stream {stream} not opened: {message}"),
            Self::Ended { stream, end } => write!(f, "stream {stream} {end}"),
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), Failure> {
    let spec = context.spec()?;
    let key = context.key()?;
    // Before anything on the network: a port in use is said at once.
    let (listener, address) = listen(arguments.listen).await?;
    let client = Arc::new(context.device_client(&spec, key).await?);
    let listening = first_look(&client, &spec, address, &arguments.remote).await?;
    context.output.print(&listening)?;
    let served = serve(context, &client, &listener, &arguments.remote).await;
    if let Some(client) = Arc::into_inner(client) {
        client.shutdown().await;
    }
    served
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |error: std::io::Error| {
        let hint = "choose another port, or 0 for a free one";
        Failure::fault("listen", format!("can't listen on {address}: {error}; {hint}"))
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// A target that leads nowhere is said before anybody connects.
async fn first_look(
    client: &Client,
    spec: &VerifiedSpec,
    address: SocketAddr,
    remote: &Remote,
) -> Result<Event, Failure> {
    let resolved = client.resolve(&remote.target).await?;
    super::resolve::standing(&resolved)
        .map_err(|refusal| super::resolve::no_standing(&remote.target, refusal))?;
    Ok(Event::Listening {
        address,
        remote: remote.to_string(),
        device: ShownDevice::new(resolved.device, &resolved.record),
        proof: Box::new(Proof::new(&resolved.provenance, spec)),
    })
}

/// Serves connections until nobody reads our output.
async fn serve(
    context: &Context,
    client: &Arc<Client>,
    listener: &TcpListener,
    remote: &Remote,
) -> Result<(), Failure> {
    let (events, mut happened) = mpsc::channel(EVENTS);
    let mut streams = JoinSet::new();
    let mut count = 0;
    loop {
        tokio::select! {
            accepted = listener.accept(), if streams.len() < MAX_STREAMS => match accepted {
                Ok((socket, _)) => {
                    count += 1;
                    streams.spawn(carry(client.clone(), remote.clone(), socket, count, events.clone()));
                }
                // The caller left again, or this process is out of descriptors until a stream ends.
                Err(error) => {
                    context.output.note(&format!("a connection couldn't be taken: {error}"));
                    tokio::time::sleep(crate::limits::FIRST_POLL).await;
                }
            },
            Some(event) = happened.recv() => context.output.print(&event)?,
            Some(_) = streams.join_next() => {}
        }
    }
}

/// One connection: opens a stream for it and copies. Events can't be told any more once the command ends.
async fn carry(
    client: Arc<Client>,
    remote: Remote,
    socket: TcpStream,
    number: u64,
    events: mpsc::Sender<Event>,
) {
    let stream = match client.open(&remote.target, remote.service).await {
        Ok(stream) => stream,
        Err(error) => {
            reset(&socket);
            let Failure { code, message, .. } = Failure::from(error);
            let _ = events.send(Event::Refused { stream: number, code: code.into_owned(), message }).await;
            return;
        }
    };
    drop(client);
    let (peer, path) = (stream.peer().to_string(), stream.path().to_string());
    let _ = events.send(Event::Opened { stream: number, peer, path }).await;
    let end = pump(stream, socket).await;
    let _ = events.send(Event::Ended { stream: number, end }).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_remote_is_a_target_and_a_service() {
        let remote: Remote = "pump-7:tcp/8080".parse().unwrap();
        assert_eq!((remote.to_string().as_str(), remote.service), ("pump-7:tcp/8080", Service::Stream(8080)));
        let id = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        assert_eq!(format!("{id}:80").parse::<Remote>().unwrap().target, Target::Device(id.parse().unwrap()));
        for text in ["pump-7", "pump-7:", ":tcp/80", "Pump:tcp/80", "pump-7:udp/53", "pump-7:tcp/0"] {
            assert!(text.parse::<Remote>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_said() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let failure = listen(address).await.unwrap_err();
        assert_eq!((failure.code.as_ref(), failure.exit_code()), ("listen", 2));
        assert!(failure.message.contains(&address.to_string()) && failure.message.contains("another port"));
    }
}
