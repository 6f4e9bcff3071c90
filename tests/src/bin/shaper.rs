//! `shaper`: a hop that delays, loses and reorders the packets routed into its interface, and hands them back to the
//! kernel to be routed on. For tests only. It says the interface's name when it is up, and what came of all packets when
//! its standard input closes.

use clap::Parser;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio_tun::Tun;
use windlass_tests::internet::shaping::{Road, Shaper};

/// Bytes of the largest packet.
const MTU: usize = 1500;

/// A bad road.
#[derive(Parser)]
struct Arguments {
    /// Milliseconds that each packet takes
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// How many in a thousand are lost
    #[arg(long, default_value_t = 0)]
    lost: u32,
    /// How many in a thousand overtake those under way
    #[arg(long, default_value_t = 0)]
    reordered: u32,
    /// Packets under way at most
    #[arg(long, default_value_t = 10_000)]
    most: usize,
    /// What the fates of packets are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shaper: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let tun = Tun::builder().name("shaper").mtu(MTU as i32).up().build()?.remove(0);
    println!("{}", serde_json::json!({ "interface": tun.name() }));
    let road = Road {
        delay: Duration::from_millis(arguments.delay),
        lost_per_mille: arguments.lost,
        reordered_per_mille: arguments.reordered,
        most: arguments.most,
    };
    let mut shaper = Shaper::new(road, arguments.seed);
    let (mut packet, mut word) = (vec![0; MTU], [0; 1]);
    let mut stdin = tokio::io::stdin();
    loop {
        let due = shaper.next_at().map(tokio::time::Instant::from_std);
        tokio::select! {
            received = tun.recv(&mut packet) => shaper.enter(Instant::now(), &packet[..received?]),
            () = async { tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)).await }, if due.is_some() => {}
            read = stdin.read(&mut word) => if read? == 0 { break },
        }
        while let Some(packet) = shaper.leave(Instant::now()) {
            tun.send(&packet).await?;
        }
    }
    let fates = shaper.fates();
    let fates = serde_json::json!({
        "passed": fates.passed, "lost": fates.lost, "reordered": fates.reordered, "crowded": fates.crowded,
    });
    println!("{fates}");
    Ok(())
}
