//! A console that was told a sample status.

use goblin_console::model::{Event, Key, Model};
use goblin_console::orders::Action;
use goblin_console::release::Release;
use goblin_console::{content, text};
use goblin_core_types::BoxStatus;
use std::path::Path;

/// Friday 20 November 2026, 16:42 UTC.
pub const NOW: u64 = 1_795_192_920;

/// A status from `tests/data`.
pub fn sample(name: &str) -> BoxStatus {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A console that knows `status`.
pub fn console(status: BoxStatus) -> Model {
    let mut model = Model::new(Release::default());
    model.step(Event::Tick { unix_s: NOW, mono_s: 100 });
    for event in Model::events_of(status) {
        model.step(event);
    }
    model
}

/// Presses keys; returns the orders that came out.
#[allow(dead_code, reason = "not every test file presses keys")]
pub fn press(model: &mut Model, keys: &[Key]) -> Vec<Action> {
    keys.iter().flat_map(|key| model.step(Event::Key(*key))).collect()
}

/// The visible text.
#[allow(dead_code, reason = "not every test file reads the text")]
pub fn visible(model: &Model) -> String {
    text::lines(&content::screen(model)).join("\n")
}
