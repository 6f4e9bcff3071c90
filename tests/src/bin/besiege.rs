//! `besiege`: opens many connections to one address, over TCP or QUIC, and never gets on with any. For tests only. It says
//! when it begins and how many it opened once it has, goes on holding them, and says how many the other side closed, or
//! over QUIC how many datagrams it answered with, when its standard input closes.

use clap::Parser;
use futures::StreamExt;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use windlass_tests::initials::initials;

/// Connections being opened at a time.
const AT_ONCE: usize = 256;
/// Time for one to open.
const OPEN_WITHIN: Duration = Duration::from_secs(3);
/// Between two bytes of a connection that drips.
const DRIP: Duration = Duration::from_millis(400);
/// What a handshake begins with: it drips in byte by byte.
const BEGINNING: &[u8] = b"\x13/multistream/1.0.0\n\x07/noise\n";
/// Sockets that first packets of QUIC come from.
const SOCKETS: usize = 64;
/// First packets sent at once, and the pause after them: as fast as a socket takes them in without losing most.
const BURST: (usize, Duration) = (64, Duration::from_millis(10));

/// Many connections that come to nothing.
#[derive(Parser)]
struct Arguments {
    /// Whom to besiege
    #[arg(long)]
    target: SocketAddr,
    /// How many connections
    #[arg(long)]
    connections: usize,
    /// Say the beginning of a handshake, slowly, instead of nothing
    #[arg(long)]
    drip: bool,
    /// Over QUIC: the first packet of each handshake and nothing more
    #[arg(long)]
    quic: bool,
}

static OPENED: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static CLOSED: AtomicU64 = AtomicU64::new(0);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let packets = match initials(if arguments.quic { arguments.connections } else { 0 }).await {
        Ok(packets) => packets,
        Err(error) => {
            eprintln!("besiege: {error:#}");
            return ExitCode::from(2);
        }
    };
    println!("{}", serde_json::json!({ "begins": true }));
    if arguments.quic {
        begin_handshakes(arguments.target, &packets).await;
    } else {
        connect(arguments.target, arguments.connections, arguments.drip).await;
    }
    println!("{}", report());
    let (mut stdin, mut buffer) = (tokio::io::stdin(), [0; 64]);
    while stdin.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    println!("{}", report());
    ExitCode::SUCCESS
}

fn report() -> serde_json::Value {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    serde_json::json!({ "opened": count(&OPENED), "failed": count(&FAILED), "closed": count(&CLOSED) })
}

async fn connect(target: SocketAddr, connections: usize, drip: bool) {
    let siege = futures::stream::iter(0..connections).for_each_concurrent(AT_ONCE, async |_| {
        match tokio::time::timeout(OPEN_WITHIN, TcpStream::connect(target)).await {
            Ok(Ok(stream)) => {
                OPENED.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(hold(stream, drip));
            }
            _ => {
                FAILED.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    siege.await;
}

async fn hold(mut stream: TcpStream, drip: bool) {
    let (mut reader, mut writer) = stream.split();
    let closed = async {
        let mut buffer = [0; 256];
        while reader.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    let dripping = async {
        for byte in BEGINNING.iter().take_while(|_| drip) {
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(DRIP).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        () = closed => {}
        () = dripping => {}
    }
    CLOSED.fetch_add(1, Ordering::Relaxed);
}

/// Sends first packets from many sockets, and counts the datagrams that come back.
async fn begin_handshakes(target: SocketAddr, packets: &[Vec<u8>]) {
    let mut sockets = Vec::with_capacity(SOCKETS);
    while sockets.len() < SOCKETS {
        let Ok(socket) = UdpSocket::bind("0.0.0.0:0").await else { break };
        let socket = Arc::new(socket);
        tokio::spawn(count_answers(socket.clone()));
        sockets.push(socket);
    }
    for (number, (packet, socket)) in packets.iter().zip(sockets.iter().cycle()).enumerate() {
        let counter = if socket.send_to(packet, target).await.is_ok() { &OPENED } else { &FAILED };
        counter.fetch_add(1, Ordering::Relaxed);
        if number % BURST.0 == BURST.0 - 1 {
            tokio::time::sleep(BURST.1).await;
        }
    }
}

async fn count_answers(socket: Arc<UdpSocket>) {
    let mut buffer = [0; 2048];
    while socket.recv(&mut buffer).await.is_ok() {
        CLOSED.fetch_add(1, Ordering::Relaxed);
    }
}
