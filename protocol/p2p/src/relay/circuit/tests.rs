#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use futures::task::noop_waker_ref;
use libp2p::PeerId;

use super::*;
use crate::{limits::RELAY_BUFFER, relay::meter::Meters};

/// One end of a circuit, as the relay sees it.
#[derive(Default)]
struct End {
    /// What it sends; then it is silent, has closed, or breaks.
    sends: VecDeque<u8>,
    has_closed: bool,
    is_broken: bool,
    /// How many more bytes it takes; it never says when it takes more.
    takes: usize,
    got: Vec<u8>,
    was_closed: bool,
    flushes: usize,
}

impl End {
    fn sending(bytes: usize) -> Self {
        Self { sends: (0..bytes).map(|at| at as u8).collect(), takes: usize::MAX, ..Self::default() }
    }
}

impl AsyncRead for End {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.sends.is_empty() {
            return match (self.is_broken, self.has_closed) {
                (true, _) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                (_, true) => Poll::Ready(Ok(0)),
                _ => Poll::Pending,
            };
        }
        let read = buf.len().min(self.sends.len());
        for (to, from) in buf.iter_mut().zip(self.sends.drain(..read)) {
            *to = from;
        }
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        assert!(!self.was_closed, "nothing is sent behind the close");
        let written = buf.len().min(self.takes);
        if written == 0 {
            return Poll::Pending;
        }
        self.takes -= written;
        self.got.extend_from_slice(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushes += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.was_closed = true;
        Poll::Ready(Ok(()))
    }
}

struct Scene {
    circuit: Circuit<End, End>,
    buffers: Arc<Buffers>,
    meters: Meters,
    peers: [PeerId; 2],
}

fn circuit(one: End, other: End) -> Scene {
    limited(one, other, None)
}

fn limited(one: End, other: End, bytes_per_second: Option<u64>) -> Scene {
    let buffers = Arc::<Buffers>::default();
    let meters = Meters::new(None);
    let peers = [PeerId::random(), PeerId::random()];
    let rate = bytes_per_second.map(Bandwidth::new).map(Arc::new);
    let carriage = Carriage { buffers: buffers.clone(), rate };
    let circuit = Circuit::new((one, meters.of(peers[0])), (other, meters.of(peers[1])), &carriage);
    Scene { circuit, buffers, meters, peers }
}

impl Scene {
    fn poll(&mut self) -> Poll<io::Result<()>> {
        Pin::new(&mut self.circuit).poll(&mut Context::from_waker(noop_waker_ref()))
    }

    /// As often as a circuit with so much to forward gives way.
    fn settle(&mut self) -> Poll<io::Result<()>> {
        (0..20).fold(Poll::Pending, |outcome, _| if outcome.is_pending() { self.poll() } else { outcome })
    }
}

#[test]
fn a_half_that_closes_closes_one_half() {
    let mut scene = circuit(End { has_closed: true, ..End::sending(100_000) }, End::sending(10));
    assert!(scene.settle().is_pending());
    assert!(scene.circuit.other.was_closed && !scene.circuit.one.was_closed);
    assert_eq!(scene.circuit.other.got.len(), 100_000);
    assert!(scene.circuit.other.got.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    // The other direction still works.
    scene.circuit.other.sends.extend([7; 5]);
    assert!(scene.settle().is_pending());
    assert_eq!(scene.circuit.one.got.len(), 15);
    scene.circuit.other.has_closed = true;
    assert!(matches!(scene.settle(), Poll::Ready(Ok(()))));
    assert!(scene.circuit.one.was_closed);
}

#[test]
fn what_was_sent_is_flushed_when_nothing_follows() {
    let mut scene = circuit(End::sending(1), End::sending(0));
    assert!(scene.poll().is_pending());
    assert_eq!(scene.circuit.other.flushes, 1);
    assert!(scene.poll().is_pending());
    assert_eq!(scene.circuit.other.flushes, 1, "once");
}

#[test]
fn a_receiver_that_never_reads_costs_one_buffer_and_its_sender_is_not_read_on() {
    let mut scene = circuit(End::sending(10 * RELAY_BUFFER), End { takes: 100, ..End::default() });
    assert!(scene.settle().is_pending());
    assert_eq!(scene.circuit.other.got.len(), 100);
    assert_eq!(scene.circuit.one.sends.len(), 9 * RELAY_BUFFER, "one buffer was read");
    // The one that is stuck, and the one that the idle direction looked into and gave back.
    assert_eq!(scene.buffers.made(), 2);
    // It goes on where it was.
    scene.circuit.other.takes = usize::MAX;
    assert!(scene.settle().is_pending());
    assert_eq!(scene.circuit.other.got.len(), 10 * RELAY_BUFFER);
    assert!(scene.circuit.other.got.iter().enumerate().all(|(at, byte)| *byte == at as u8));
}

#[test]
fn idle_circuits_share_one_buffer() {
    let buffers = Arc::<Buffers>::default();
    let carriage = Carriage { buffers: buffers.clone(), rate: None };
    let meters = Meters::new(None);
    let meter = meters.of(PeerId::random());
    let mut circuits: Vec<_> = (0..100)
        .map(|_| Circuit::new((End::sending(9), meter.clone()), (End::sending(9), meter.clone()), &carriage))
        .collect();
    for circuit in &mut circuits {
        assert!(Pin::new(circuit).poll(&mut Context::from_waker(noop_waker_ref())).is_pending());
    }
    assert_eq!(buffers.made(), 1);
}

#[test]
fn an_end_that_breaks_breaks_the_circuit() {
    for breaks in [0, 1] {
        let mut ends = [End::sending(5), End::sending(5)];
        ends[breaks].is_broken = true;
        let [one, other] = ends;
        let mut scene = circuit(one, other);
        assert!(matches!(scene.settle(), Poll::Ready(Err(_))));
        assert!(
            !scene.circuit.one.was_closed && !scene.circuit.other.was_closed,
            "no end is taken for orderly"
        );
    }
}

#[test]
fn one_that_always_has_more_gives_way() {
    let mut scene = circuit(End::sending(4 * RELAY_TURN), End::sending(3));
    assert!(scene.poll().is_pending());
    assert_eq!(scene.circuit.other.got.len(), RELAY_TURN);
    assert_eq!(scene.circuit.one.got.len(), 3, "nor does it keep its other direction waiting");
}

#[test]
fn each_end_is_metered_for_what_it_sent() {
    let mut scene = circuit(End::sending(700), End::sending(3));
    assert!(scene.settle().is_pending());
    let usage = scene.meters.usage();
    assert!(usage.by_peer.contains(&(scene.peers[0], 700)), "{usage:?}");
    assert!(usage.by_peer.contains(&(scene.peers[1], 3)), "{usage:?}");
    assert_eq!(scene.circuit.moved().load(Ordering::Relaxed), 703);
}

#[tokio::test]
async fn a_rate_holds_back_what_is_over_it_and_loses_nothing() {
    // Its burst is one quantum, and the next takes four seconds.
    let mut scene = limited(
        End { has_closed: true, ..End::sending(2 * RELAY_QUANTUM) },
        End { has_closed: true, ..End::sending(0) },
        Some(RELAY_QUANTUM as u64 / 4),
    );
    assert!(scene.settle().is_pending());
    assert!(scene.circuit.other.got.len() <= RELAY_QUANTUM);
    assert!(scene.circuit.one.sends.len() >= RELAY_QUANTUM, "what may not pass is not read");
    let mut scene = limited(
        End { has_closed: true, ..End::sending(20 * RELAY_QUANTUM) },
        End { has_closed: true, ..End::sending(0) },
        Some(200 * RELAY_QUANTUM as u64),
    );
    let begun = std::time::Instant::now();
    (&mut scene.circuit).await.unwrap();
    assert_eq!(scene.circuit.other.got.len(), 20 * RELAY_QUANTUM);
    assert!(begun.elapsed() >= std::time::Duration::from_millis(40), "{:?}", begun.elapsed());
}
