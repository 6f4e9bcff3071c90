//! One walk towards a place: whom to ask next, and when everybody near has been asked. Pure: it dials nobody.

use super::roster::{Contact, distance, place_of_peer};
use crate::limits::{ROUTE_HOLDERS, WALK_AT_ONCE, WALK_NODES};
use libp2p::PeerId;
use std::collections::BTreeMap;
use windlass_protocol::{B256, U256};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Fresh,
    Asked,
    Answered,
}

/// See the module.
pub(super) struct Search {
    place: B256,
    /// Whom we were told of and who hasn't failed, by distance.
    candidates: BTreeMap<U256, (Contact, State)>,
    /// Everybody that was asked: a node that failed isn't asked again because somebody names it once more.
    asked: Vec<PeerId>,
    under_way: usize,
}

impl Search {
    pub(super) fn new(place: B256, known: Vec<Contact>) -> Self {
        let mut search = Self { place, candidates: BTreeMap::new(), asked: Vec::new(), under_way: 0 };
        search.told(known);
        search
    }

    /// Whom to ask now: the nearest that wasn't, among those that a route would be held by.
    pub(super) fn next(&mut self) -> Option<Contact> {
        if self.under_way >= WALK_AT_ONCE || self.asked.len() >= WALK_NODES {
            return None;
        }
        let mut holders = self.candidates.values_mut().take(ROUTE_HOLDERS);
        let (contact, state) = holders.find(|(_, state)| *state == State::Fresh)?;
        *state = State::Asked;
        self.asked.push(contact.peer);
        self.under_way += 1;
        Some(contact.clone())
    }

    /// A node answered and named others; whoever calls has looked these up in the registry.
    pub(super) fn answered(&mut self, peer: &PeerId, nodes: Vec<Contact>) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some((_, state)) = self.find(peer) {
            *state = State::Answered;
        }
        self.told(nodes);
    }

    pub(super) fn failed(&mut self, peer: &PeerId) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(place) = place_of_peer(peer) {
            self.candidates.remove(&distance(place, self.place));
        }
    }

    /// Those near the place that answered, the nearest first: who is to hold the route.
    pub(super) fn holders(&self) -> Vec<Contact> {
        let answered = self.candidates.values().filter(|(_, state)| *state == State::Answered);
        answered.take(ROUTE_HOLDERS).map(|(contact, _)| contact.clone()).collect()
    }

    /// How many answered.
    pub(super) fn answers(&self) -> usize {
        self.candidates.values().filter(|(_, state)| *state == State::Answered).count()
    }

    /// Those of these that aren't candidates already: only they need to be looked up.
    pub(super) fn news(&self, mut nodes: Vec<Contact>) -> Vec<Contact> {
        nodes.retain(|contact| {
            let place = place_of_peer(&contact.peer).map(|place| distance(place, self.place));
            place.is_some_and(|place| !self.candidates.contains_key(&place))
                && !self.asked.contains(&contact.peer)
        });
        nodes
    }

    fn told(&mut self, nodes: Vec<Contact>) {
        for contact in self.news(nodes) {
            let Some(place) = place_of_peer(&contact.peer) else { continue };
            self.candidates.entry(distance(place, self.place)).or_insert((contact, State::Fresh));
        }
    }

    fn find(&mut self, peer: &PeerId) -> Option<&mut (Contact, State)> {
        let place = place_of_peer(peer)?;
        self.candidates.get_mut(&distance(place, self.place))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;
    use windlass_p2p::identity::peer_id_of;

    /// So many nodes, the nearest to the place first.
    fn nodes(place: B256, count: u8) -> Vec<Contact> {
        let contact = |seed: u8| Contact {
            peer: peer_id_of(&testing::key(seed).public_key()),
            addresses: vec!["/ip4/192.0.2.7/tcp/1".parse().unwrap()],
        };
        let mut nodes: Vec<Contact> = (1..=count).map(contact).collect();
        nodes.sort_by_key(|contact| distance(place_of_peer(&contact.peer).unwrap(), place));
        nodes
    }

    fn asked(search: &mut Search) -> Vec<PeerId> {
        std::iter::from_fn(|| search.next()).map(|contact| contact.peer).collect()
    }

    fn peers(nodes: &[Contact]) -> Vec<PeerId> {
        nodes.iter().map(|contact| contact.peer).collect()
    }

    #[test]
    fn it_ends_when_the_nearest_that_live_have_all_answered() {
        let place = B256::repeat_byte(0x3c);
        let nodes = nodes(place, 20);
        // It begins far away, and is told of nearer ones.
        let mut search = Search::new(place, nodes[16..].to_vec());
        assert_eq!(asked(&mut search), peers(&nodes[16..20]));
        search.answered(&nodes[16].peer, nodes[8..16].to_vec());
        assert_eq!(asked(&mut search), peers(&nodes[8..9]), "as many at once as may be, the nearest first");
        search.answered(&nodes[8].peer, nodes[..8].to_vec());
        for far in &nodes[17..20] {
            search.answered(&far.peer, Vec::new());
        }
        assert_eq!(asked(&mut search), peers(&nodes[..4]));
        search.failed(&nodes[0].peer);
        search.answered(&nodes[1].peer, nodes[..8].to_vec());
        assert_eq!(
            asked(&mut search),
            peers(&nodes[4..5]),
            "the next one for who failed, who isn't asked again"
        );
        for near in &nodes[2..5] {
            search.answered(&near.peer, Vec::new());
        }
        assert_eq!(asked(&mut search), []);
        assert_eq!(search.holders(), nodes[1..5]);
    }

    #[test]
    fn a_liar_that_names_ever_more_nodes_ends_nobodys_walk_late() {
        let place = B256::repeat_byte(0x3c);
        // The farthest first, and each names the next nearer one.
        let nodes = nodes(place, 200);
        let mut search = Search::new(place, nodes[199..].to_vec());
        let mut count = 0;
        while let Some(contact) = search.next() {
            count += 1;
            let at = nodes.iter().position(|node| *node == contact).unwrap();
            search.answered(&contact.peer, nodes[at.saturating_sub(1)..at].to_vec());
        }
        assert_eq!(count, WALK_NODES);
    }
}
