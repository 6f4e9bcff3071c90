//! `resolve`: from a name or id to a device that may act, and to where it is.

use crate::context::Context;
use crate::failure::Failure;
use crate::proof::{Proof, ShownDevice};
use crate::when::spoken;
use serde::Serialize;
use std::fmt;
use windlass_client::{Client, Clock, Multiaddr, Refusal, Resolved, SystemClock, Target, VerifiedSpec};
use windlass_protocol::authorise::judge_device;
use windlass_protocol::route::VerifiedRoute;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A name, or a device id (0x…)
    target: Target,
}

/// What a look-up found.
#[derive(Serialize)]
pub(crate) struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(flatten)]
    device: ShownDevice,
    route: Option<ShownRoute>,
    proof: Proof,
}

#[derive(Serialize)]
struct ShownRoute {
    relays: Vec<String>,
    direct: Vec<String>,
    /// Unix seconds.
    issued_at: u64,
    /// Seconds.
    ttl: u64,
}

impl ShownRoute {
    fn new(route: &VerifiedRoute) -> Self {
        let route = route.route();
        let texts = |addresses: &[windlass_protocol::Bytes]| {
            let parsed = addresses.iter().filter_map(|bytes| Multiaddr::try_from(bytes.to_vec()).ok());
            parsed.map(|address| address.to_string()).collect()
        };
        Self {
            relays: texts(&route.relays),
            direct: texts(&route.direct),
            issued_at: route.issued_at,
            ttl: route.ttl,
        }
    }
}

impl Shown {
    pub(crate) fn new(resolved: &Resolved, spec: &VerifiedSpec) -> Self {
        Self {
            name: resolved.name.as_ref().map(ToString::to_string),
            device: ShownDevice::new(resolved.device, &resolved.record),
            route: resolved.route.as_ref().map(ShownRoute::new),
            proof: Proof::new(&resolved.provenance, spec.publisher()),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            writeln!(f, "name      {name}")?;
        }
        writeln!(f, "{}", self.device)?;
        match &self.route {
            None => writeln!(f, "route     none: it publishes nothing now")?,
            Some(route) => {
                for address in route.relays.iter().chain(&route.direct) {
                    writeln!(f, "route     {address}")?;
                }
                writeln!(f, "          signed by its key, good for {}", spoken(route.ttl))?;
            }
        }
        write!(f, "{}", self.proof)
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), Failure> {
    let resolved = look_up(context, &arguments.target).await?;
    // What was found is shown in any case; that the device may not act is an answer, too.
    match standing(&resolved) {
        Ok(()) => Ok(()),
        Err(refusal) => Err(no_standing(&arguments.target, refusal)),
    }
}

/// Resolves and prints.
pub(crate) async fn look_up(context: &Context, target: &Target) -> Result<Resolved, Failure> {
    let spec = context.spec()?;
    let client: Client = context.reader(&spec).await?;
    let resolved = client.resolve(target).await;
    client.shutdown().await;
    let resolved = resolved?;
    context.output.print(&Shown::new(&resolved, &spec))?;
    Ok(resolved)
}

/// Whether the device may act now.
pub(crate) fn standing(resolved: &Resolved) -> Result<(), Refusal> {
    judge_device(&resolved.record, resolved.provenance.timestamp, SystemClock.unix_seconds())
}

/// A proven no about a device that exists.
pub(crate) fn no_standing(target: &Target, refusal: Refusal) -> Failure {
    let code = match refusal {
        Refusal::Revoked => "revoked",
        Refusal::Suspended => "suspended",
        Refusal::Expired => "expired",
        _ => "refused",
    };
    Failure::no(code, format!("{target}: {refusal}"))
}
