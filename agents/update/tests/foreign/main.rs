//! Repositories of another writer, the TUF project's own Python library: good ones are read, bad ones are
//! refused with the right word. `write.py` says what is in each.

use goblin_agent_update::fetch::Fetcher;
use goblin_agent_update::{UpdateError, walk};
use goblin_core_manifest::client::{Client, TrustedState};
use goblin_core_manifest::time::Instant;
use goblin_core_manifest::tuf::TufError;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What `write.py` takes for now, seconds since 1970.
const NOW: Instant = Instant::from_unix_s(1_800_000_000);
/// What every good repository offers.
const TARGET: &str = "releases/2/manifest.json";
const CONTENT: &[u8] = b"{\"a\": \"manifest\"}\n";
/// Fewer cases than this are a writer that was cut short.
const CASES_MIN: usize = 25;

/// The Python that `cargo xtask setup` put the library into.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let python = root.join("target/python-tuf/bin/python3");
    python.exists().then_some(python)
}

/// Meets one state of a repository as a board does, and reads what it offers.
fn meet(state: &TrustedState, folder: &Path) -> (TrustedState, Result<Vec<u8>, UpdateError>) {
    let fetcher = Fetcher::new(&folder.display().to_string(), Duration::ZERO);
    let mut client = Client::new(state.clone(), NOW).expect("the state is our own");
    let walked = walk(&mut client, &fetcher);
    let offered = walked.and_then(|()| {
        let target = client.offered()?.targets.get(TARGET).cloned();
        let target = target.ok_or(TufError::Unnamed { file: TARGET.into() })?;
        let wanted = client.wanted_target(TARGET, &target)?;
        let bytes = fetcher.read(&wanted.path, wanted.bytes_max)?;
        target.check(TARGET, &bytes)?;
        Ok(bytes)
    });
    (client.state().clone(), offered)
}

/// The name of the variant.
fn word(err: &UpdateError) -> String {
    let text = match err {
        UpdateError::Tuf(err) => format!("{err:?}"),
        other => format!("{other:?}"),
    };
    text.chars().take_while(char::is_ascii_alphanumeric).collect()
}

#[test]
fn repositories_of_python_tuf_are_read_or_refused_as_they_should() {
    let Some(python) = python() else {
        println!(
            "skipped 1: python-tuf is not in target/python-tuf, `cargo xtask setup` puts it there"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/write.py");
    let out = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let cases = std::fs::read(folder.path().join("cases.json")).unwrap();
    let cases: Vec<(String, u32, String)> = serde_json::from_slice(&cases).unwrap();
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for (name, states, expected) in cases {
        let folder = folder.path().join(&name);
        let trust = std::fs::read(folder.join("trust.json")).unwrap();
        let mut state = match TrustedState::from_root(&trust) {
            Ok(state) => state,
            Err(err) => {
                wrong.push(format!("{name}: its first root: {err}"));
                continue;
            }
        };
        for number in 1..=states {
            let (after, offered) = meet(&state, &folder.join(number.to_string()));
            state = after;
            let expected = if number < states { "good" } else { &expected };
            let got = match &offered {
                Ok(bytes) if bytes == CONTENT => "good".to_owned(),
                Ok(_) => "other content".to_owned(),
                Err(err) => word(err),
            };
            println!(
                "{name}/{number}: {got}{}",
                offered.err().map_or(String::new(), |e| format!(": {e}"))
            );
            if got != expected {
                wrong.push(format!("{name}/{number}: {got} instead of {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
