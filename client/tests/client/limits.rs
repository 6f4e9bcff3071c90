//! A small device's limits: what is beyond them is refused by name, and what is within works as ever.

use crate::{
    fake_node::{FakeNode, Manner},
    streams::lamp,
    world::{SERVICE, World, key},
};
use windlass_client::{
    Client, Limits, Mode, OpenError, Policy, PublishError, Question, Service, Source, StartError,
};

fn public() -> Policy {
    Policy { mode: Mode::Public, ..Policy::default() }
}

#[tokio::test]
async fn a_limit_of_none_or_beyond_the_most_stops_the_start() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let most = Limits::default();
    let wrong: [(&str, Limits); 7] = [
        ("live_streams", Limits { live_streams: 0, ..most }),
        ("publications", Limits { publications: 0, ..most }),
        ("judging", Limits { judging: 0, ..most }),
        ("kept_answers", Limits { kept_answers: 0, ..most }),
        ("watched_nodes", Limits { watched_nodes: most.watched_nodes + 1, ..most }),
        ("reservations", Limits { reservations: 0, ..most }),
        ("live_streams", Limits { live_streams: most.live_streams + 1, ..most }),
    ];
    for (expected, limits) in wrong {
        let builder = Client::builder(world.spec.clone(), key(21)).nodes([node.multiaddr.clone()]);
        let refused = builder.limits(limits).start().await;
        assert!(matches!(&refused, Err(StartError::Limit { name, .. }) if *name == expected), "{refused:?}");
    }
}

#[tokio::test]
async fn a_small_device_holds_no_more_than_it_may() {
    let world = World::new();
    let node = FakeNode::start(&world, 10, Manner::Honest).await;
    let limits = Limits { live_streams: 2, publications: 1, kept_answers: 1, ..Limits::embedded() };
    let build = |seed| Client::builder(world.spec.clone(), key(seed)).nodes([node.multiaddr.clone()]);
    let small = build(20).limits(limits).start().await.unwrap();
    let caller = build(21).start().await.unwrap();
    let mut publication = small.publish(SERVICE, public()).await.unwrap();
    let second = small.publish(Service::Stream(1), public()).await;
    assert!(matches!(second, Err(PublishError::TooMany(1))), "{:?}", second.err());

    let lamp = lamp();
    let mut held = Vec::new();
    for _ in 0..2 {
        let (opened, accepted) = tokio::join!(caller.open(&lamp, SERVICE), publication.accept());
        held.push((opened.unwrap(), accepted.unwrap()));
    }
    let third = caller.open(&lamp, SERVICE).await.unwrap_err();
    assert!(matches!(third, OpenError::Busy { .. }), "{third}");
    held.pop();
    let (opened, accepted) = tokio::join!(caller.open(&lamp, SERVICE), publication.accept());
    assert!(opened.is_ok() && accepted.is_some(), "there is room again");

    // One answer is kept: the last one.
    let (fleet, other) = (vec![Question::Fleet(7)], vec![Question::Fleet(8)]);
    for (questions, expected) in
        [(&fleet, Source::Asked), (&fleet, Source::Kept), (&other, Source::Asked), (&fleet, Source::Asked)]
    {
        assert_eq!(small.ask(questions.clone()).await.unwrap().provenance.source, expected);
    }
    drop(held);
    small.shutdown().await;
    caller.shutdown().await;
}
