//! The HTTP server that a device of the scenarios publishes: a page, a file, and an answer without end.

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path};
use axum::routing::get;
use futures::stream;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use windlass_protocol::{B256, keccak256};

/// What the page says.
pub const PAGE: &str = "<html><body>Hello from behind the relay.</body></html>\n";
/// Bytes of the file.
pub const FILE_BYTES: usize = 64 * 1024 * 1024;
/// How often the answer without end goes on.
const TICK: Duration = Duration::from_millis(20);

/// The running server. It ends when dropped.
#[derive(Debug)]
pub struct Site {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Site {
    /// Starts it on a free loopback port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// Starts it on a free port of this address.
    pub async fn start_at(host: IpAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route("/", get(async || PAGE))
            .route("/you", get(async |ConnectInfo(you): ConnectInfo<SocketAddr>| you.to_string()))
            .route("/file", get(async || file()))
            .route("/file/{bytes}", get(async |Path(bytes): Path<usize>| part(bytes)))
            .route("/endless", get(async || Body::from_stream(ticks())));
        let task = tokio::spawn(async move {
            // It only ends with an error when the listener fails, which the requests then show.
            let _ = axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await;
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The file's content: each 8 bytes are their own place, so no part can stand for another.
pub fn file() -> Vec<u8> {
    (0..FILE_BYTES as u64 / 8).flat_map(u64::to_le_bytes).collect()
}

/// The file's first bytes.
fn part(bytes: usize) -> Vec<u8> {
    let mut file = file();
    file.truncate(bytes);
    file
}

/// keccak256 of the file.
pub fn file_hash() -> B256 {
    keccak256(file())
}

fn ticks() -> impl futures::Stream<Item = std::io::Result<&'static str>> {
    stream::unfold((), |()| async {
        tokio::time::sleep(TICK).await;
        Some((Ok("tick\n"), ()))
    })
}
