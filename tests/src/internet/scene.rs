//! A Windlass network on the open internet, a device that publishes a page and one that may open it, each in a home.
//!
//! Chain and nodes run on hosts of the internet; everything of a device runs in its home and knows of the rest what a
//! device knows: the chain spec, and where nodes are.

use super::{Home, Internet, host};
use crate::site::PAGE;
use crate::story::{Actor, Forward, NAME, SERVICE, SOON, Story};
use crate::windlass::{Running, Windlass, program};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use windlass_protocol::{B256, keccak256};
use windlass_testnet::network::Testnet;

/// How long one attempt at a page may take, unless it is tried again.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long one of many may take: what hangs on a dead connection is given up, as a person would.
const ONE_OF_MANY: Duration = Duration::from_secs(2);

/// The network, the homes and the devices in them.
#[derive(Debug)]
pub struct Scene {
    /// Everybody else.
    pub internet: Internet,
    /// Chain, nodes and who is enrolled.
    pub story: Story,
    /// Publishes the page.
    pub a: Resident,
    /// May open it.
    pub b: Resident,
    site: Running,
    /// Where the page is, in the first device's home.
    page_at: Option<String>,
    publish: Option<Running>,
}

/// A device in its home.
#[derive(Debug)]
pub struct Resident {
    /// Who it is.
    pub actor: Actor,
    /// Where it is.
    pub home: Home,
}

impl Resident {
    fn windlass(&self) -> Windlass {
        self.home.windlass(&self.actor.windlass)
    }
}

impl Scene {
    /// So many nodes, each at a host of its own, and both devices enrolled, one named, the other granted.
    pub async fn build(internet: Internet, nodes: u8, a: Home, b: Home) -> anyhow::Result<Self> {
        let hosts = (1..=nodes).map(|number| vec![host(number)]).collect();
        Self::over(internet, hosts, a, b).await
    }

    /// A node at each entry's addresses.
    pub async fn over(internet: Internet, hosts: Vec<Vec<IpAddr>>, a: Home, b: Home) -> anyhow::Result<Self> {
        let network = Testnet::builder(program("windlass-testnet")?).nodes(hosts.len()).hosts(hosts);
        let mut story = Story::over(network).await?;
        story.create_fleet().await?;
        let (publisher, caller) = (story.enrol("a").await?, story.enrol("b").await?);
        story.register_name(&publisher).await?;
        story.grant(&publisher, &caller).await?;
        let site = Running::start(a.command(program("site")?), "the site".to_owned())?;
        let (a, b) = (Resident { actor: publisher, home: a }, Resident { actor: caller, home: b });
        Ok(Self { internet, story, a, b, site, page_at: None, publish: None })
    }

    /// The first device publishes the page; returns through how many relays once it is reachable through so many.
    pub async fn publish(&mut self, relays: usize) -> anyhow::Result<usize> {
        self.publish_with(relays, &[]).await
    }

    /// The same with more arguments.
    pub async fn publish_with(&mut self, relays: usize, arguments: &[&str]) -> anyhow::Result<usize> {
        let to = match self.page_at.take() {
            Some(known) => known,
            None => {
                let site = self.site.event(SOON, |event| event["address"].is_string()).await?;
                site["address"].as_str().context("no address")?.to_owned()
            }
        };
        let mut words = vec!["publish", "--service", SERVICE, "--to", &to];
        words.extend(arguments);
        let mut running = self.a.windlass().start(&words)?;
        let event = running.event(SOON, |event| count(event) >= relays).await?;
        (self.publish, self.page_at) = (Some(running), Some(to));
        Ok(count(&event))
    }

    /// What publishes, for its events.
    pub fn publisher(&mut self) -> anyhow::Result<&mut Running> {
        self.publish.as_mut().context("nothing is published")
    }

    /// The second device forwards a local port to the page.
    pub async fn forward(&self) -> anyhow::Result<Forward> {
        self.forward_with(&[]).await
    }

    /// The same with more arguments.
    pub async fn forward_with(&self, arguments: &[&str]) -> anyhow::Result<Forward> {
        let target = format!("{NAME}:{SERVICE}");
        let mut words = vec!["forward", "--listen", "127.0.0.1:0", &target];
        words.extend(arguments);
        let mut running = self.b.windlass().start(&words)?;
        let event = running.event(SOON, |event| event["event"] == "listening").await?;
        let address = event["address"].as_str().context("no address in the forward's event")?.parse()?;
        Ok(Forward { running, address })
    }

    /// Fetches the page through a forward, once, and says how long that took.
    pub async fn page(&self, forward: &Forward) -> anyhow::Result<Duration> {
        self.page_once(forward, ATTEMPT).await
    }

    async fn page_once(&self, forward: &Forward, within: Duration) -> anyhow::Result<Duration> {
        let since = Instant::now();
        let page = self.b.home.curl(&format!("http://{}/", forward.address), within, &[]).await?;
        ensure!(page == PAGE.as_bytes(), "the page came back as {:?}", String::from_utf8_lossy(&page));
        Ok(since.elapsed())
    }

    /// Tries to fetch the page until it comes, and says how long that took from now on.
    pub async fn page_within(&self, forward: &Forward, within: Duration) -> anyhow::Result<Duration> {
        let since = Instant::now();
        loop {
            match self.page_once(forward, ONE_OF_MANY).await {
                Ok(_) => return Ok(since.elapsed()),
                Err(error) if since.elapsed() > within => return Err(error.context("not reached in time")),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Fetches the first bytes of the file through a forward; their hash, and bytes per second.
    pub async fn file(&self, forward: &Forward, bytes: usize) -> anyhow::Result<(B256, f64)> {
        let since = Instant::now();
        let url = format!("http://{}/file/{bytes}", forward.address);
        let file = self.b.home.curl(&url, Duration::from_secs(120), &[]).await?;
        ensure!(file.len() == bytes, "{} of {bytes} bytes came", file.len());
        Ok((keccak256(&file), bytes as f64 / since.elapsed().as_secs_f64()))
    }

    /// Opens streams until one takes a path that begins like this; that path, and how long it took from the first.
    pub async fn path_becomes(
        &self,
        forward: &mut Forward,
        beginning: &str,
        within: Duration,
    ) -> anyhow::Result<(String, Duration)> {
        let since = Instant::now();
        loop {
            let path = self.path(forward).await?;
            if path.starts_with(beginning) {
                return Ok((path, since.elapsed()));
            }
            ensure!(since.elapsed() < within, "after {within:?} streams still go {path}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Both ends anew, as new processes; the first one publishes through so many relays.
    pub async fn again(&mut self, relays: usize) -> anyhow::Result<Forward> {
        if let Some(publish) = self.publish.take() {
            publish.kill().await?;
        }
        self.publish(relays).await?;
        self.forward().await
    }

    /// How the next stream of this forward goes, as it says: fetches the page and reads the event.
    pub async fn path(&self, forward: &mut Forward) -> anyhow::Result<String> {
        self.page(forward).await?;
        let event = forward.running.event(SOON, |event| event["event"] == "opened").await?;
        Ok(event["path"].as_str().context("a stream without a path")?.to_owned())
    }
}

fn count(event: &Value) -> usize {
    event["relays"].as_array().map_or(0, Vec::len)
}
