//! `forward`: a local socket, each of whose connections becomes a stream to a device's service. Of datagram services, each
//! of whose senders: see `forward_udp`.

use super::forward_udp;
use crate::context::Context;
use crate::failure::Failure;
use crate::limits::MAX_STREAMS;
use crate::local::{Listener, Local, Socket, port_taken};
use crate::parties::parse_one_service;
use crate::proof::{Proof, ShownDevice};
use crate::pump::{End, pump};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use windlass_client::{Client, Service, Target, VerifiedSpec};

/// Events waiting to be printed; a slow reader of them slows new streams down, never the bytes of old ones.
pub(super) const EVENTS: usize = 64;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Where to listen: HOST:PORT, port 0 taking a free one, or unix:PATH
    #[arg(long, value_name = "WHERE", default_value = "127.0.0.1:0")]
    listen: Local,
    /// Device and service, like pump-7:tcp/8080, 0x…:8080 or pump-7:udp/53
    #[arg(value_name = "TARGET:SERVICE")]
    remote: Remote,
}

/// A device's service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Remote {
    pub(super) target: Target,
    pub(super) service: Service,
}

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected a device and a service, like pump-7:tcp/8080";
        let (target, service) = text.split_once(':').ok_or_else(|| expected.to_owned())?;
        let target = target.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { target, service: parse_one_service(service)? })
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
pub(super) enum Event {
    Listening {
        address: Local,
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
    let (ear, address) = listen(&arguments).await?;
    let client = Arc::new(context.device_client(&spec, key).await?);
    let listening = first_look(&client, &spec, address, &arguments.remote).await?;
    context.output.print(&listening)?;
    let served = match ear {
        Ear::Streams(listener) => serve(context, &client, &listener, &arguments.remote).await,
        Ear::Datagrams(socket) => forward_udp::serve(context, &client, socket, &arguments.remote).await,
    };
    if let Some(client) = Arc::into_inner(client) {
        client.shutdown().await;
    }
    served
}

/// Where local programs are listened to.
enum Ear {
    Streams(Listener),
    Datagrams(UdpSocket),
}

async fn listen(arguments: &Args) -> Result<(Ear, Local), Failure> {
    match (arguments.remote.service, &arguments.listen) {
        (Service::Stream(_), local) => {
            let (listener, bound) = Listener::bind(local).await?;
            Ok((Ear::Streams(listener), bound))
        }
        (Service::Datagram(_), Local::Internet(address)) => {
            let failed = |error| port_taken(*address, &error);
            let socket = UdpSocket::bind(address).await.map_err(failed)?;
            let bound = socket.local_addr().map_err(failed)?;
            Ok((Ear::Datagrams(socket), Local::Internet(bound)))
        }
        (service @ Service::Datagram(_), Local::Unix(_)) => Err(Failure::fault(
            "usage",
            format!("Unix sockets carry streams, and {service} is of datagrams: --listen HOST:PORT"),
        )),
    }
}

/// A target that leads nowhere is said before anybody connects.
async fn first_look(
    client: &Client,
    spec: &VerifiedSpec,
    address: Local,
    remote: &Remote,
) -> Result<Event, Failure> {
    let resolved = client.resolve(&remote.target).await?;
    super::resolve::standing(&resolved)
        .map_err(|refusal| super::resolve::no_standing(&remote.target, refusal))?;
    Ok(Event::Listening {
        address,
        remote: remote.to_string(),
        device: ShownDevice::new(resolved.device, &resolved.record),
        proof: Box::new(Proof::new(&resolved.provenance, spec.publisher())),
    })
}

/// Serves connections until nobody reads our output.
async fn serve(
    context: &Context,
    client: &Arc<Client>,
    listener: &Listener,
    remote: &Remote,
) -> Result<(), Failure> {
    let (events, mut happened) = mpsc::channel(EVENTS);
    let mut streams = JoinSet::new();
    let mut count = 0;
    loop {
        tokio::select! {
            accepted = listener.accept(), if streams.len() < MAX_STREAMS => match accepted {
                Ok(socket) => {
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
    socket: Socket,
    number: u64,
    events: mpsc::Sender<Event>,
) {
    let stream = match client.open(&remote.target, remote.service).await {
        Ok(stream) => stream,
        Err(error) => {
            socket.reset();
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
        assert_eq!("pump-7:udp/53".parse::<Remote>().unwrap().service, Service::Datagram(53));
        for text in ["pump-7", "pump-7:", ":tcp/80", "Pump:tcp/80", "pump-7:all", "pump-7:tcp/0"] {
            assert!(text.parse::<Remote>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn what_datagrams_cannot_be_forwarded_from_is_said() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let arguments =
            |listen: &str| Args { listen: listen.parse().unwrap(), remote: "pump-7:udp/53".parse().unwrap() };
        for (from, code, word) in
            [(address.as_str(), "listen", "another port"), ("unix:a.sock", "usage", "HOST:PORT")]
        {
            let Err(failure) = listen(&arguments(from)).await else { panic!("{from}") };
            assert_eq!((failure.code.as_ref(), failure.exit_code()), (code, 2));
            assert!(failure.message.contains(word) && !failure.message.contains('\n'), "{}", failure.message);
        }
    }
}
