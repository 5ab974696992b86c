//! The common form of every benchmark's results.

use crate::host;
use anyhow::Result;
use serde::Serialize;

/// One metric beside one peer; lower is better.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// Our figure.
    pub ours: f64,
    /// Who else was measured.
    pub peer: String,
    /// The peer's figure.
    pub peer_value: f64,
    /// Ours over the peer's.
    pub ratio: f64,
    /// What the figures mean.
    pub note: String,
}

impl Row {
    /// A row; the ratio follows from the figures.
    pub fn new(
        metric: &str,
        unit: &str,
        ours: f64,
        peer: &str,
        peer_value: f64,
        note: &str,
    ) -> Self {
        Self {
            metric: metric.into(),
            unit: unit.into(),
            ours: round(ours),
            peer: peer.into(),
            peer_value: round(peer_value),
            ratio: if peer_value > 0.0 {
                (ours / peer_value * 1000.0).round() / 1000.0
            } else {
                0.0
            },
            note: note.into(),
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Prints the table and writes target/bench/NAME.json.
///
/// # Errors
/// When the file cannot be written.
pub fn publish(name: &str, rows: &[Row]) -> Result<()> {
    println!("{:14} {:>10} {:>12} {:>10} {:>7}  note", "metric", "ours", "peer", "theirs", "ratio");
    for row in rows {
        println!(
            "{:14} {:>10.1} {:>12} {:>10.1} {:>7.3}  {}",
            row.metric, row.ours, row.peer, row.peer_value, row.ratio, row.note
        );
    }
    let path = host::target("bench")?.join(format!("{name}.json"));
    host::write_whole(&path, &serde_json::to_vec_pretty(rows)?)?;
    println!("written to {}", path.display());
    Ok(())
}
