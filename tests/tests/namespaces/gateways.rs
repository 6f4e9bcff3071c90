//! The gateways themselves: what a scenario shows is worth as much as what stands in the way in it.

use anyhow::{Context, bail, ensure};
use std::net::SocketAddr;
use std::time::Duration;
use windlass_tests::internet::{Gateway, Home, apart, host};
use windlass_tests::site::Site;
use windlass_tests::story::{SOON, curl};

/// How long to knock where nobody should answer.
const KNOCK: Duration = Duration::from_millis(400);

/// As whom a server on the internet sees what this home sends from this port.
async fn seen(home: &Home, port: u16, site: &Site) -> anyhow::Result<SocketAddr> {
    let url = format!("http://{}/you", site.address());
    let you = home.curl(&url, SOON, &["--local-port", &port.to_string()]).await?;
    Ok(String::from_utf8(you)?.parse()?)
}

#[test]
fn gateways_do_what_they_are_called() -> anyhow::Result<()> {
    apart(&gateways_do_what_they_are_called, async |internet| {
        let server = Site::start_at(host(1)).await?;
        let neighbour = internet.home(Gateway::Open)?;
        let kinds = [Gateway::Open, Gateway::Firewalled, Gateway::Moderate, Gateway::Strict];
        for kind in kinds {
            let home = internet.home(kind)?;
            let (site, url) = home.site().await?;
            let from_outside = neighbour.curl(&url, KNOCK, &[]).await.is_ok();
            ensure!(
                from_outside == (kind == Gateway::Open),
                "{kind:?}: reached from outside: {from_outside}"
            );
            let seen = seen(&home, 40_000, &server).await.with_context(|| format!("{kind:?}"))?;
            ensure!(seen.ip() == home.seen_as(), "{kind:?}: seen as {seen}, not {}", home.seen_as());
            ensure!((seen.port() == 40_000) == (kind != Gateway::Strict), "{kind:?}: seen as {seen}");
            site.finish(SOON).await?;
        }
        Ok(())
    })
}

#[test]
fn what_a_gateway_loses_is_lost_and_its_address_changes() -> anyhow::Result<()> {
    apart(&what_a_gateway_loses_is_lost_and_its_address_changes, async |internet| {
        let server = Site::start_at(host(1)).await?;
        let home = internet.home(Gateway::Moderate)?;
        let url = format!("http://{}/you", server.address());
        let before = seen(&home, 40_000, &server).await?;
        home.lose("meta l4proto tcp")?;
        if home.curl(&url, KNOCK, &[]).await.is_ok() {
            bail!("TCP passes where it is lost");
        }
        home.pass_all()?;
        home.change_own_address()?;
        let other = seen(&home, 40_001, &server).await?;
        ensure!(other.ip() == before.ip(), "one home is one address to others, not {other}");
        home.change_public_address()?;
        let after = seen(&home, 40_002, &server).await?;
        ensure!(after.ip() != before.ip(), "still {after}");
        // The server is on this very host, so what comes from nobody's address gets no answer.
        internet.darken(host(1))?;
        ensure!(curl(&url).await.is_ok(), "a dark host still reaches itself");
        if home.curl(&url, KNOCK, &[]).await.is_ok() {
            bail!("a dark host answers");
        }
        Ok(())
    })
}
