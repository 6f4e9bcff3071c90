//! `chain renew`: the publisher signs the chain spec anew, so that devices which know nothing later are let in again.

use super::chain::ShownSpec;
use super::parse_address;
use crate::chain::{Chain, ChainError};
use crate::context::{Context, refuse_existing};
use crate::deploy::{TermsError, ascending};
use crate::failure::Failure;
use crate::state;
use std::path::PathBuf;
use windlass_client::{Clock, SecretKey, SystemClock, VerifiedSpec, Walked};
use windlass_protocol::Address;
use windlass_protocol::head::MAX_CLOCK_SKEW;
use windlass_protocol::spec::{ChainSpec, RenewalError, SignedSpec, verify_renewal};

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Chain spec to write; never overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Addresses of those who attest heads now, separated by commas [default: the committee that nodes prove]
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',', value_parser = parse_address)]
    committee: Vec<Address>,
    /// Key that signed the present spec [default: --key]
    #[arg(long, value_name = "FILE")]
    publisher_key: Option<PathBuf>,
    /// Its version [default: one above the present one's]
    #[arg(long, value_name = "N")]
    spec_version: Option<u64>,
    /// Its date, in Unix seconds: this committee is in office then [default: now]
    #[arg(long, value_name = "SECONDS")]
    date: Option<u64>,
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), Failure> {
    refuse_existing(&arguments.out)?;
    let present = context.newest_spec()?;
    let publisher = publisher_key(context, &arguments, &present)?;
    check_chain(context, &present).await?;
    let now = SystemClock.unix_seconds();
    if let Some(date) = arguments.date.filter(|date| *date > now.saturating_add(MAX_CLOCK_SKEW)) {
        return Err(Failure::fault("chain_spec", RenewalError::Ahead { date, now }));
    }
    let (present, members, date) = match ascending(arguments.committee.clone()) {
        Ok(named) => (present, named, arguments.date.unwrap_or(now)),
        Err(TermsError::CommitteeSize(0)) => proven(context, present, arguments.date, now).await?,
        Err(error) => return Err(error.into()),
    };
    let version = arguments.spec_version.unwrap_or(present.version.saturating_add(1));
    let (renewed, bytes) = renew(&present, &publisher, version, members, date, now)
        .map_err(|error| Failure::fault("chain_spec", error))?;
    state::write_new(&arguments.out, &bytes).map_err(|error| {
        Failure::fault("chain_spec", format!("can't write {}: {error}", arguments.out.display()))
    })?;
    context.output.print(&ShownSpec::new(&renewed).written(arguments.out))?;
    context
        .output
        .note("put it in the place of each node's spec_file: devices get it from there within seconds");
    Ok(())
}

/// The key that may sign; said before anybody types a passphrase for another.
fn publisher_key(context: &Context, arguments: &Args, present: &VerifiedSpec) -> Result<SecretKey, Failure> {
    let path = arguments.publisher_key.as_deref().map_or_else(|| context.key_file(), Ok)?;
    let publisher = present.publisher();
    if let Ok(address) = windlass_keyfile::address(path)
        && address != publisher
    {
        let message = format!(
            "the key in {} is {address}'s, and the chain spec is published by {publisher}: only that key renews it",
            path.display()
        );
        return Err(Failure::fault("not_the_publisher", message));
    }
    context.open_key(path, &context.passphrase)
}

/// Where an RPC URL is at hand, it is of the spec's chain. One that doesn't answer says nothing about that.
async fn check_chain(context: &Context, present: &VerifiedSpec) -> Result<(), Failure> {
    let Ok(url) = context.rpc() else { return Ok(()) };
    match Chain::of_spec(url, present).await {
        Err(error @ (ChainError::OtherChain { .. } | ChainError::Url(_))) => Err(error.into()),
        Err(error) => {
            context.output.note(&format!("the chain isn't asked whether it is the spec's: {error}"));
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// The committee that the nodes prove to be in office, and when it is: now, or as late as they prove it.
async fn proven(
    context: &Context,
    present: VerifiedSpec,
    date: Option<u64>,
    now: u64,
) -> Result<(VerifiedSpec, Vec<Address>, u64), Failure> {
    let client = context.reader(&present).await?;
    let answer = client.ask(Vec::new()).await;
    // A node may have brought a newer one, which this one then renews.
    let (walked, present) = (client.committee(), (*client.spec()).clone());
    client.shutdown().await;
    answer.map_err(|error| {
        let failure = Failure::from(error);
        let message = format!(
            "{}; where the present committee can't be proven any more, name it with --committee",
            failure.message
        );
        Failure { message, ..failure }
    })?;
    let date = in_office(&present, &walked, date, now)?;
    Ok((present, walked.members, date))
}

/// A date at which this committee is proven to be in office.
fn in_office(spec: &ChainSpec, walked: &Walked, date: Option<u64>, now: u64) -> Result<u64, Failure> {
    let last = spec.epoch_start(walked.through.saturating_add(1)).saturating_sub(1);
    let date = date.unwrap_or(now.min(last));
    if (walked.from..=walked.through).contains(&spec.epoch_at(date)) {
        return Ok(date);
    }
    let first = spec.epoch_start(walked.from);
    let message = format!(
        "the committee is proven to be in office from {first} to {last}, which the date {date} is not in (Unix seconds): give another --date, or name the committee with --committee"
    );
    Err(Failure::fault("chain_spec", message))
}

/// Signs the next version and has it judged as devices and nodes will.
fn renew(
    present: &VerifiedSpec,
    publisher: &SecretKey,
    version: u64,
    committee: Vec<Address>,
    date: u64,
    now: u64,
) -> Result<(VerifiedSpec, Vec<u8>), RenewalError> {
    let spec = ChainSpec { version, committee, date, ..(**present).clone() };
    let bytes = SignedSpec::sign(&spec, publisher).to_bytes();
    Ok((verify_renewal(&bytes, present, now)?, bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::deploy::tests::example_spec;
    use windlass_protocol::spec::{SpecError, SuccessionError, verify_spec};

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_bytes(&[byte; 32]).unwrap()
    }

    fn present() -> VerifiedSpec {
        verify_spec(&SignedSpec::sign(&example_spec(), &key(8)).to_bytes(), key(8).address()).unwrap()
    }

    #[test]
    fn only_committee_version_and_date_change() {
        let (present, members) = (present(), vec![key(5).address().0]);
        let now = present.date + 1_000;
        let (renewed, bytes) = renew(&present, &key(8), 2, members.clone(), now, now).unwrap();
        let expected = ChainSpec { version: 2, committee: members, date: now, ..example_spec() };
        assert_eq!(*renewed, expected);
        assert_eq!(verify_spec(&bytes, key(8).address()).unwrap(), renewed);
    }

    #[test]
    fn what_no_device_would_adopt_is_not_written() {
        let (present, members) = (present(), vec![key(5).address().0]);
        let now = present.date + 1_000;
        let renewed = |publisher, version, date| {
            renew(&present, &key(publisher), version, members.clone(), date, now).unwrap_err()
        };
        use RenewalError::{Ahead, Spec, Succession};
        assert!(matches!(renewed(9, 2, now), Spec(SpecError::Publisher { .. })));
        assert!(matches!(renewed(8, 1, now), Succession(SuccessionError::NotHigher { .. })));
        assert!(matches!(renewed(8, 0, now), Succession(SuccessionError::NotHigher { .. })));
        assert!(matches!(renewed(8, 2, now + 61), Ahead { .. }));
        assert!(matches!(renewed(8, 2, present.date - 1), Succession(SuccessionError::Earlier { .. })));
    }

    #[test]
    fn the_date_is_one_at_which_the_committee_is_proven() {
        let spec = present();
        let walked = |from, through| Walked { members: Vec::new(), from, through };
        let now = spec.date;
        let epoch = spec.epoch_at(now);
        assert_eq!(in_office(&spec, &walked(0, epoch), None, now), Ok(now));
        assert_eq!(in_office(&spec, &walked(epoch, epoch + 3), None, now), Ok(now));
        // No head of this epoch is proven yet: the last second of the one before is.
        let last = spec.epoch_start(epoch) - 1;
        assert_eq!(in_office(&spec, &walked(0, epoch - 1), None, now), Ok(last));
        assert_eq!(in_office(&spec, &walked(0, epoch), Some(last), now), Ok(last));
        // A chain whose clock was put forward, and dates stated at which others were in office.
        for (from, through, date) in
            [(epoch + 1, epoch + 2, None), (epoch, epoch, Some(last)), (0, epoch - 1, Some(now))]
        {
            let failure = in_office(&spec, &walked(from, through), date, now).unwrap_err();
            assert!(failure.message.contains("--committee") && !failure.message.contains('\n'));
        }
    }
}
