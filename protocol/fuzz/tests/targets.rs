//! Every target over its seeds, the inputs kept for it, and seeded mutations of both; the long form is the program.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use windlass_fuzz::{Dice, kept, mutate, targets};

/// Mutations of each target: a second or two of all of them together.
const MUTATIONS: usize = 400;

fn mutations() -> usize {
    let stated = std::env::var("WINDLASS_MUTATIONS").ok();
    stated.map_or(MUTATIONS, |text| text.parse().expect("WINDLASS_MUTATIONS is a number"))
}

#[test]
fn every_seed_is_taken_and_every_kept_input_does_no_harm() {
    let mut names = BTreeSet::new();
    for target in targets() {
        assert!(names.insert(target.name), "{} twice", target.name);
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty());
        for (place, seed) in seeds.iter().enumerate() {
            assert!((target.run)(seed), "{}: seed {place} is refused", target.name);
        }
        for input in kept(&target).unwrap() {
            (target.run)(&input);
        }
    }
    assert!(names.len() > 25, "{names:?}");
}

#[test]
fn no_cut_extended_or_empty_input_does_harm() {
    for target in targets() {
        for seed in (target.seeds)() {
            let step = (seed.len() / 200).max(1);
            for length in (0..seed.len()).step_by(step) {
                (target.run)(&seed[..length]);
            }
            (target.run)(&[&seed[..], &[0]].concat());
            (target.run)(&[&seed[..], &seed[..]].concat());
        }
        for hostile in [&[][..], &[0xff; 9], &[0xf8], &[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]
        {
            assert!(!(target.run)(hostile), "{}: {hostile:x?}", target.name);
        }
    }
}

/// Mutated inputs break nothing; and enough of them get past the door for that to mean something.
#[test]
fn mutations_break_nothing() {
    let mut refused_all = Vec::new();
    for target in targets() {
        let mut pool = (target.seeds)();
        pool.extend(kept(&target).unwrap());
        let mut dice = Dice::new(0x005e_ed00);
        let (mut taken, mut changed) = (0, 0);
        for _ in 0..mutations() {
            let (input, other) = (dice.below(pool.len()), dice.below(pool.len()));
            let bytes = mutate(&mut dice, &pool[input], &pool[other]);
            changed += usize::from(bytes != pool[input]);
            taken += usize::from((target.run)(&bytes));
        }
        assert!(changed * 10 > mutations() * 8, "{}: {changed} of {} changed", target.name, mutations());
        if taken == 0 {
            refused_all.push(target.name);
        }
    }
    // What is signed, hashed or has a fixed length takes nothing that was changed: the others take some.
    assert!(refused_all.len() < targets().len() / 2, "{refused_all:?}");
}
