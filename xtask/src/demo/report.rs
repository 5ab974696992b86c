//! `report.json`: what each step did, and the figures.

use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// Sizes and memory, for the table of budgets.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// Size of the UKI.
    pub uki_bytes: u64,
    /// Size of the base image inside it.
    pub base_bytes: u64,
    /// Executable programs in the base image.
    pub executables: usize,
    /// Resident set of PID 1, the larger of both boards.
    pub pid1_rss_kib: u64,
    /// Memory in use on the idle compute board, kernel included.
    pub compute_idle_kib: u64,
    /// The same of the storage board.
    pub storage_idle_kib: u64,
}

#[derive(Debug, Clone, Serialize)]
struct Step {
    name: String,
    ok: bool,
    seconds: f64,
    detail: String,
}

/// The growing report. Steps are printed as they happen.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    ok: bool,
    steps: Vec<Step>,
    /// Filled in once the box idles.
    pub figures: Figures,
    #[serde(skip)]
    path: PathBuf,
}

impl Report {
    /// An empty report that will be written to `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, ..Self::default() }
    }

    /// Runs one step, prints its result and keeps it.
    ///
    /// # Errors
    /// The step's own.
    pub fn step<T>(&mut self, name: &str, run: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
        println!("[{}] {name} ...", self.steps.len() + 1);
        let start = Instant::now();
        let result = run();
        let seconds = (start.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        let (ok, detail) = match &result {
            Ok((_, detail)) => (true, detail.clone()),
            Err(err) => (false, format!("{err:#}")),
        };
        println!("    {} after {seconds:.1} s: {detail}", if ok { "ok" } else { "FAILED" });
        self.steps.push(Step { name: name.into(), ok, seconds, detail });
        result.map(|(value, _)| value)
    }

    /// Writes the report.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(&mut self, error: Option<&anyhow::Error>) -> Result<()> {
        self.ok = error.is_none() && self.steps.iter().all(|step| step.ok);
        std::fs::write(&self.path, serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}
