//! The table printed at the end: medians, and the spread that says how much to trust them.

use crate::workload::{Effort, Sample};
use std::fmt::Write as _;

/// Everything measured of one system.
#[derive(Default)]
pub struct Samples {
    megabytes_per_second: Vec<f64>,
    connect_milliseconds: Vec<f64>,
}

impl Samples {
    pub fn add(&mut self, sample: Sample) {
        self.megabytes_per_second.push(sample.megabytes_per_second);
        self.connect_milliseconds.extend(sample.connect_milliseconds);
    }
}

/// A Markdown table, a row per system.
pub fn render(rows: &[(&str, &Samples)], rounds: u32, effort: Effort) -> String {
    let mut text = String::from(
        "| system | one stream, MB/s | lowest–highest | connect + open + 1-byte echo, ms | 9 in 10 under |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    if effort.again > 0 {
        return render_warm(rows, rounds, effort);
    }
    for (label, samples) in rows {
        let throughput = sorted(&samples.megabytes_per_second);
        let connect = sorted(&samples.connect_milliseconds);
        let _ = writeln!(
            text,
            "| {label} | {:.0} | {:.0}–{:.0} | {:.2} | {:.2} |",
            quantile(&throughput, 0.5),
            quantile(&throughput, 0.0),
            quantile(&throughput, 1.0),
            quantile(&connect, 0.5),
            quantile(&connect, 0.9),
        );
    }
    let _ = writeln!(
        text,
        "\nMedians of {rounds} interleaved rounds, each {} MiB on one stream and {} connections, between processes \
         on loopback. Diallers that need a relay or a node are already connected to it when the clock starts.",
        effort.mebibytes, effort.connections,
    );
    text
}

/// The table of what connects for the second time.
fn render_warm(rows: &[(&str, &Samples)], rounds: u32, effort: Effort) -> String {
    let mut text = String::from(
        "| system | connect + open + 1-byte echo, the second time, ms | 1 in 10 under | 9 in 10 under |\n| --- | --- | --- | --- |\n",
    );
    for (label, samples) in rows {
        let connect = sorted(&samples.connect_milliseconds);
        let [low, middle, high] = [0.1, 0.5, 0.9].map(|share| quantile(&connect, share));
        let _ = writeln!(text, "| {label} | {middle:.2} | {low:.2} | {high:.2} |");
    }
    let _ = writeln!(
        text,
        "\nMedians of {rounds} interleaved rounds of {} endpoints each, which have connected before, closed that \
         connection, and kept what they know.",
        effort.again,
    );
    text
}

/// Smallest first.
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// The value below which `share` of the sorted values lie; NaN of none.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}
