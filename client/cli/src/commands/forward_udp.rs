//! `forward` of a datagram service: a local UDP socket, each of whose senders has a flow of its own.

use super::forward::{EVENTS, Event, Remote};
use crate::context::Context;
use crate::failure::Failure;
use crate::flows::{Side, carry};
use crate::limits::{FIRST_POLL, FLOW_QUEUE, MAX_STREAMS, REFUSED_PAUSE};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use windlass_client::{Client, MAX_DATAGRAM_BYTES};

struct Flow {
    number: u64,
    datagrams: mpsc::Sender<Box<[u8]>>,
    used: Instant,
}

/// The flows of one socket, by sender.
struct Flows {
    client: Arc<Client>,
    remote: Remote,
    socket: Arc<UdpSocket>,
    events: mpsc::Sender<Event>,
    flows: HashMap<SocketAddr, Flow>,
    tasks: JoinSet<(SocketAddr, u64)>,
    count: u64,
}

impl Flows {
    /// Passes a datagram on to its sender's flow, a new one if there is none. What finds the flow's queue full is lost.
    fn pass_on(&mut self, from: SocketAddr, datagram: &[u8]) {
        if !self.flows.contains_key(&from) {
            self.begin(from);
        }
        if let Some(flow) = self.flows.get_mut(&from) {
            flow.used = Instant::now();
            let _ = flow.datagrams.try_send(datagram.into());
        }
    }

    fn begin(&mut self, from: SocketAddr) {
        if self.flows.len() >= MAX_STREAMS {
            // Whoever is silent longest makes room: its queue ends, and so does its flow.
            let longest = self.flows.iter().min_by_key(|(_, flow)| flow.used).map(|(address, _)| *address);
            longest.map(|address| self.flows.remove(&address));
        }
        self.count += 1;
        let (datagrams, inbox) = mpsc::channel(FLOW_QUEUE);
        let side = Side::Sender { inbox, socket: self.socket.clone(), address: from };
        let (client, remote, events) = (self.client.clone(), self.remote.clone(), self.events.clone());
        let number = self.count;
        self.tasks.spawn(async move {
            open_and_carry(client, remote, side, number, events).await;
            (from, number)
        });
        self.flows.insert(from, Flow { number, datagrams, used: Instant::now() });
    }

    fn ended(&mut self, from: SocketAddr, number: u64) {
        // Its sender may have another flow by now.
        if self.flows.get(&from).is_some_and(|flow| flow.number == number) {
            self.flows.remove(&from);
        }
    }
}

/// Serves senders until nobody reads our output.
pub(super) async fn serve(
    context: &Context,
    client: &Arc<Client>,
    socket: UdpSocket,
    remote: &Remote,
) -> Result<(), Failure> {
    let (events, mut happened) = mpsc::channel(EVENTS);
    let mut flows = Flows {
        client: client.clone(),
        remote: remote.clone(),
        socket: Arc::new(socket),
        events,
        flows: HashMap::new(),
        tasks: JoinSet::new(),
        count: 0,
    };
    let socket = flows.socket.clone();
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, from)) => flows.pass_on(from, &buffer[..length]),
                Err(error) => {
                    context.output.note(&format!("a datagram couldn't be taken: {error}"));
                    sleep(FIRST_POLL).await;
                }
            },
            Some(event) = happened.recv() => context.output.print(&event)?,
            Some(ended) = flows.tasks.join_next() => if let Ok((from, number)) = ended {
                flows.ended(from, number);
            },
        }
    }
}

/// One flow. Events can't be told any more once the command ends.
async fn open_and_carry(
    client: Arc<Client>,
    remote: Remote,
    side: Side,
    number: u64,
    events: mpsc::Sender<Event>,
) {
    let datagrams = match client.open_datagrams(&remote.target, remote.service).await {
        Ok(datagrams) => datagrams,
        Err(error) => {
            let Failure { code, message, .. } = Failure::from(error);
            let _ = events.send(Event::Refused { stream: number, code: code.into_owned(), message }).await;
            // Its sender goes on, and nodes needn't be asked for each datagram.
            sleep(REFUSED_PAUSE).await;
            return;
        }
    };
    drop(client);
    let (peer, path) = (datagrams.peer().to_string(), datagrams.path().to_string());
    let _ = events.send(Event::Opened { stream: number, peer, path }).await;
    let end = carry(datagrams, side).await;
    let _ = events.send(Event::Ended { stream: number, end }).await;
}
