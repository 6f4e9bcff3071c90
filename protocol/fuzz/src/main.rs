//! Feeds targets for as long as one likes: `windlass-fuzz [TARGET|all] [SECONDS] [SEED]`. An input that breaks a target is
//! written to its folder under `corpus/`, where the tests find it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use windlass_fuzz::{Dice, Target, corpus, kept, mutate, targets};
use windlass_protocol::keccak256;

/// Inputs that led further are kept in memory, up to so many a target.
const POOL: usize = 4_096;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = arguments.first().map_or("all", String::as_str);
    let seconds = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    let seed = arguments.get(2).and_then(|text| text.parse().ok()).unwrap_or(1);
    let chosen: Vec<Target> =
        targets().into_iter().filter(|target| wanted == "all" || target.name == wanted).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = targets().iter().map(|target| target.name).collect();
        eprintln!("no target {wanted}; there are: all, {}", names.join(", "));
        return ExitCode::from(2);
    }
    let mut broken = 0;
    for target in &chosen {
        match feed(target, Duration::from_secs(seconds), seed) {
            Ok((runs, taken)) => println!("{:<16} {runs} inputs, {taken} taken", target.name),
            Err(said) => {
                println!("{:<16} BROKEN: {said}", target.name);
                broken += 1;
            }
        }
    }
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many inputs there were, and how many were taken; or where the input is that broke it.
fn feed(target: &Target, lasting: Duration, seed: u64) -> Result<(u64, u64), String> {
    let mut pool = (target.seeds)();
    pool.extend(kept(target).map_err(|error| error.to_string())?);
    let (mut dice, until) = (Dice::new(seed), Instant::now() + lasting);
    let (mut runs, mut taken) = (0, 0);
    while Instant::now() < until {
        let (input, other) = (dice.below(pool.len()), dice.below(pool.len()));
        let bytes = mutate(&mut dice, &pool[input], &pool[other]);
        runs += 1;
        match catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes))) {
            Ok(false) => {}
            Ok(true) => {
                taken += 1;
                if pool.len() < POOL {
                    pool.push(bytes);
                }
            }
            Err(_) => return Err(keep(target, &bytes)),
        }
    }
    Ok((runs, taken))
}

fn keep(target: &Target, bytes: &[u8]) -> String {
    let folder = corpus().join(target.name);
    let path = folder.join(format!("{:x}", keccak256(bytes)));
    match std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, bytes)) {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("an input of {} bytes, which can't be written: {error}", bytes.len()),
    }
}
