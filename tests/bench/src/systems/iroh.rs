//! iroh: QUIC direct, or only through an iroh-relay on loopback (plain HTTP, no rate limits). Nothing
//! outside this machine is asked: no address look-up, no public relays.

use crate::system::{Dialler, Running, Stream, System};
use crate::workload;
use anyhow::{Context, Result, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use iroh::endpoint::{Connection, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode, RelayUrl};
use iroh_relay::server::{RelayConfig, Server, ServerConfig};
use std::net::{Ipv4Addr, SocketAddr};

const ALPN: &[u8] = b"windlass-bench/1";

pub struct Iroh {
    pub relayed: bool,
}

impl System for Iroh {
    fn label(&self) -> &'static str {
        if self.relayed { "iroh 1.4 through iroh-relay" } else { "iroh 1.4, direct (QUIC)" }
    }

    fn has_network(&self) -> bool {
        self.relayed
    }

    fn network(&self) -> BoxFuture<'_, Result<Running>> {
        async {
            let mut config = ServerConfig::default();
            config.relay = Some(RelayConfig::new((Ipv4Addr::LOCALHOST, 0)));
            let server = Server::spawn(config).await?;
            let address = server.http_addr().context("the relay has no HTTP address")?;
            Ok(Running { contact: format!("http://{address}"), alive: Box::new(server) })
        }
        .boxed()
    }

    fn listen<'a>(&'a self, relay: Option<&'a str>) -> BoxFuture<'a, Result<Running>> {
        async move {
            let endpoint = bind(relay).await?;
            let contact = serde_json::to_string(&own_address(&endpoint, relay)?)?;
            let accepting = tokio::spawn(accept(endpoint));
            Ok(Running { contact, alive: Box::new(accepting) })
        }
        .boxed()
    }

    fn dialler<'a>(&'a self, relay: Option<&'a str>, _: usize) -> BoxFuture<'a, Result<Box<dyn Dialler>>> {
        async move { Ok(Box::new(One { endpoint: bind(relay).await?, connection: None }) as Box<dyn Dialler>) }
            .boxed()
    }
}

/// An endpoint with one way out: loopback when there is no relay, the relay when there is one.
async fn bind(relay: Option<&str>) -> Result<Endpoint> {
    let builder = Endpoint::builder(presets::Minimal).clear_ip_transports().alpns(vec![ALPN.to_vec()]);
    match relay {
        Some(url) => {
            let endpoint = builder.relay_mode(RelayMode::custom([url.parse::<RelayUrl>()?])).bind().await?;
            endpoint.online().await;
            Ok(endpoint)
        }
        None => Ok(builder.bind_addr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.bind().await?),
    }
}

fn own_address(endpoint: &Endpoint, relay: Option<&str>) -> Result<EndpointAddr> {
    let address = EndpointAddr::new(endpoint.id());
    match relay {
        Some(url) => Ok(address.with_relay_url(url.parse()?)),
        None => match endpoint.bound_sockets().first() {
            Some(socket) => Ok(address.with_ip_addr(*socket)),
            None => bail!("the endpoint is bound to no socket"),
        },
    }
}

async fn accept(endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await?;
            while let Ok((send, receive)) = connection.accept_bi().await {
                tokio::spawn(workload::serve(tokio::io::join(receive, send)));
            }
            anyhow::Ok(())
        });
    }
}

struct One {
    endpoint: Endpoint,
    // Dropping a connection closes its streams.
    connection: Option<Connection>,
}

impl Dialler for One {
    fn open<'a>(&'a mut self, contact: &'a str) -> BoxFuture<'a, Result<Stream>> {
        async move {
            let address: EndpointAddr = serde_json::from_str(contact)?;
            let connection = self.endpoint.connect(address, ALPN).await?;
            let (send, receive) = connection.open_bi().await?;
            self.connection = Some(connection);
            Ok(Box::new(tokio::io::join(receive, send)) as Stream)
        }
        .boxed()
    }

    fn disconnect(&mut self) -> BoxFuture<'_, Result<()>> {
        async {
            if let Some(connection) = self.connection.take() {
                connection.close(0u32.into(), b"");
                connection.closed().await;
            }
            Ok(())
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move { self.endpoint.close().await }.boxed()
    }
}
