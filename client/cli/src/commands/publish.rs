//! `publish`: a local service, of streams or of datagrams, reachable under this device's key for as long as the command runs.

use crate::context::Context;
use crate::failure::Failure;
use crate::flows::{self, Side};
use crate::limits::{LOCAL_CONNECT_DEADLINE, MAX_STREAMS, RELAYS_LOOK};
use crate::local::Local;
use crate::parties::{parse_listed, parse_one_service};
use crate::pump::{End, pump};
use crate::when::spoken;
use clap::ValueEnum;
use serde::Serialize;
use std::fmt;
use tokio::task::JoinSet;
use tokio::time::timeout;
use windlass_client::{
    Client, DatagramPublication, Datagrams, Listed, Mode, PeerId, Policy, Publication, PublishError, Service,
    Stream,
};
use windlass_protocol::authorise::DEFAULT_MAX_AGE;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Service to publish: tcp/PORT or udp/PORT, the port callers ask for
    #[arg(long, value_name = "SERVICE", value_parser = parse_one_service)]
    service: Service,
    /// What serves it: HOST:PORT, or unix:PATH
    #[arg(long, value_name = "WHERE")]
    to: Local,
    /// To whom it is open
    #[arg(long, value_enum, default_value_t = ModeName::Private)]
    mode: ModeName,
    /// With private: a device id or fleet:N that needs no grant; may be repeated
    #[arg(long, value_name = "WHO", value_parser = parse_listed)]
    allow: Vec<Listed>,
    /// With private: only who is allowed here, grants on chain don't count
    #[arg(long)]
    no_grants: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum ModeName {
    /// To anyone, unenrolled callers too
    Public,
    /// To active devices of this device's fleet
    Protected,
    /// To devices with a grant on chain, or allowed here
    Private,
}

/// What happens while something is published.
#[derive(Serialize, Debug)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Published {
        service: String,
        device: String,
        to: Local,
        mode: &'static str,
        relays: Vec<String>,
    },
    /// Other nodes relay to this device than before.
    Relays {
        relays: Vec<String>,
    },
    Opened {
        stream: u64,
        peer: String,
        path: String,
    },
    Ended {
        stream: u64,
        #[serde(flatten)]
        end: End,
    },
    LocalFailed {
        stream: u64,
        peer: String,
        reason: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published { service, device, to, mode, relays } => {
                write!(
                    f,
                    "{service} of {device} leads to {to}, {mode}, through {}; Ctrl-C ends it",
                    relays.join(", ")
                )
            }
            Self::Relays { relays } if relays.is_empty() => {
                f.write_str("no node relays to this device now; still trying")
            }
            Self::Relays { relays } => write!(f, "now through {}", relays.join(", ")),
            Self::Opened { stream, peer, path } => write!(f, "stream {stream} opened by {peer}, {path}"),
            Self::Ended { stream, end } => write!(f, "stream {stream} {end}"),
            Self::LocalFailed { stream, peer, reason } => {
                write!(f, "stream {stream} of {peer}: the local service can't be reached: {reason}")
            }
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let code = match &error {
            PublishError::NotActive { .. } => "not_active",
            PublishError::AlreadyPublished(_) => "already_published",
            PublishError::TooMany(_) => "too_many",
            PublishError::MaxAge(_) => "max_age",
            PublishError::NoNode { .. } => "no_node",
            PublishError::NotReachable { .. } => "not_reachable",
            PublishError::Cold { .. } => "cold",
            PublishError::OtherTransport(_) => "usage",
            PublishError::Stopped => "stopped",
        };
        if error.is_proven_no() { Self::no(code, error) } else { Self::fault(code, error) }
    }
}

impl Args {
    fn policy(&self, max_age: Option<u64>) -> Result<Policy, Failure> {
        let private = self.mode == ModeName::Private;
        if !private && (!self.allow.is_empty() || self.no_grants) {
            return Err(Failure::fault("usage", "--allow and --no-grants are about --mode private"));
        }
        let mode = match self.mode {
            ModeName::Public => Mode::Public,
            ModeName::Protected => Mode::Protected,
            ModeName::Private => Mode::Private { grants: !self.no_grants, list: self.allow.clone() },
        };
        Ok(Policy { mode, max_age: max_age.unwrap_or(DEFAULT_MAX_AGE) })
    }

    fn check_transport(&self) -> Result<(), Failure> {
        match (self.service, &self.to) {
            (service @ Service::Datagram(_), Local::Unix(_)) => Err(Failure::fault(
                "usage",
                format!("Unix sockets carry streams, and {service} is of datagrams: --to HOST:PORT"),
            )),
            _ => Ok(()),
        }
    }

    fn mode_name(&self) -> &'static str {
        match self.mode {
            ModeName::Public => "public",
            ModeName::Protected => "protected",
            ModeName::Private => "private",
        }
    }
}

/// What is published, whichever it carries.
enum Published {
    Streams(Publication),
    Datagrams(DatagramPublication),
}

/// What a caller opened.
enum Accepted {
    Stream(Stream),
    Datagrams(Datagrams),
}

impl Published {
    async fn begin(client: &Client, service: Service, policy: Policy) -> Result<Self, PublishError> {
        match service {
            Service::Stream(_) => client.publish(service, policy).await.map(Self::Streams),
            Service::Datagram(_) => client.publish_datagrams(service, policy).await.map(Self::Datagrams),
        }
    }

    /// The next caller. Cancel-safe.
    async fn accept(&mut self) -> Option<Accepted> {
        match self {
            Self::Streams(publication) => publication.accept().await.map(Accepted::Stream),
            Self::Datagrams(publication) => publication.accept().await.map(Accepted::Datagrams),
        }
    }

    fn relays(&self) -> Vec<PeerId> {
        match self {
            Self::Streams(publication) => publication.relays(),
            Self::Datagrams(publication) => publication.relays(),
        }
    }
}

impl Accepted {
    /// Who is there, and by which path.
    fn other_end(&self) -> (String, String) {
        match self {
            Self::Stream(stream) => (stream.peer().to_string(), stream.path().to_string()),
            Self::Datagrams(datagrams) => (datagrams.peer().to_string(), datagrams.path().to_string()),
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), Failure> {
    let policy = arguments.policy(context.max_age())?;
    arguments.check_transport()?;
    let spec = context.spec()?;
    let key = context.key()?;
    let client = context.device_client(&spec, key).await?;
    let mut publication = Published::begin(&client, arguments.service, policy).await?;
    context.output.print(&published(&client, &publication, &arguments))?;
    if !context.output.json {
        context.output.note(&format!(
            "revocations bite within {} here",
            spoken(context.max_age().unwrap_or(DEFAULT_MAX_AGE))
        ));
    }
    let served = serve(context, &mut publication, &arguments.to).await;
    drop(publication);
    client.shutdown().await;
    served
}

fn published(client: &Client, publication: &Published, arguments: &Args) -> Event {
    Event::Published {
        service: arguments.service.to_string(),
        device: client.device_id().to_string(),
        to: arguments.to.clone(),
        mode: arguments.mode_name(),
        relays: shown(&publication.relays()),
    }
}

fn shown(relays: &[PeerId]) -> Vec<String> {
    relays.iter().map(ToString::to_string).collect()
}

/// Serves streams until the client ends or nobody reads our output.
async fn serve(context: &Context, publication: &mut Published, to: &Local) -> Result<(), Failure> {
    let mut streams: JoinSet<Event> = JoinSet::new();
    let mut count = 0;
    let mut relays = publication.relays();
    let mut look = tokio::time::interval(RELAYS_LOOK);
    loop {
        tokio::select! {
            accepted = publication.accept(), if streams.len() < MAX_STREAMS => {
                let Some(accepted) = accepted else { return Ok(()) };
                count += 1;
                let (peer, path) = accepted.other_end();
                context.output.print(&Event::Opened { stream: count, peer, path })?;
                streams.spawn(connect(accepted, to.clone(), count));
            }
            _ = look.tick() => {
                let now = publication.relays();
                if now != relays {
                    context.output.print(&Event::Relays { relays: shown(&now) })?;
                    relays = now;
                }
            }
            Some(ended) = streams.join_next() => {
                // A task can't be cancelled here, and one that panicked has been reported by the runtime.
                if let Ok(event) = ended {
                    context.output.print(&event)?;
                }
            }
        }
    }
}

async fn connect(accepted: Accepted, to: Local, number: u64) -> Event {
    let (peer, _) = accepted.other_end();
    let silent = || format!("{to}: no answer within {} s", LOCAL_CONNECT_DEADLINE.as_secs());
    let ended = match (accepted, &to) {
        (Accepted::Stream(stream), _) => match timeout(LOCAL_CONNECT_DEADLINE, to.connect()).await {
            Ok(Ok(socket)) => Ok(pump(stream, socket).await),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(silent()),
        },
        (Accepted::Datagrams(datagrams), Local::Internet(address)) => match Side::server(*address).await {
            Ok(side) => Ok(flows::carry(datagrams, side).await),
            Err(error) => Err(format!("{to}: {error}")),
        },
        // Refused before anything was published.
        (Accepted::Datagrams(_), Local::Unix(_)) => Err(format!("{to}: carries no datagrams")),
    };
    match ended {
        Ok(end) => Event::Ended { stream: number, end },
        Err(reason) => Event::LocalFailed { stream: number, peer, reason },
    }
}
