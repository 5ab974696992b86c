//! The client of release metadata as a program, for the TUF project's conformance suite (`CLIENT-CLI.md`
//! there): `init`, `refresh` and `download`. What boards do with a repository is what this does.
//!
//! Keys other than ed25519 never count, and delegations are refused: tests about these are not passed.

use goblin_agent_update::fetch::Fetcher;
use goblin_core_manifest::client::{Client, TrustedState, Wanted};
use goblin_core_manifest::time::Instant;
use goblin_core_manifest::tuf::TufError;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

type Done<T = ()> = Result<T, Box<dyn Error>>;

/// Folder of metadata inside a repository.
const METADATA: &str = "metadata";

/// What was asked for: options by name, each as often as it was given, then the command and its argument.
struct Asked {
    options: BTreeMap<String, Vec<String>>,
    words: Vec<String>,
}

impl Asked {
    fn new(mut args: impl Iterator<Item = String>) -> Done<Self> {
        let (mut options, mut words) = (BTreeMap::<String, Vec<String>>::new(), Vec::new());
        while let Some(arg) = args.next() {
            match arg.strip_prefix("--") {
                Some(name) => {
                    let value = args.next().ok_or("an option without its value")?;
                    options.entry(name.to_owned()).or_default().push(value);
                }
                None => words.push(arg),
            }
        }
        Ok(Self { options, words })
    }

    fn one(&self, name: &str) -> Done<&str> {
        let values = self.options.get(name).map_or(&[][..], |values| values);
        Ok(values.first().ok_or_else(|| format!("--{name} is missing"))?)
    }

    /// The files that are believed lie here.
    fn metadata(&self) -> Done<PathBuf> {
        Ok(self.one("metadata-dir")?.into())
    }

    /// What is remembered lies beside them.
    fn state(&self) -> Done<PathBuf> {
        Ok(format!("{}.state", self.one("metadata-dir")?.trim_end_matches('/')).into())
    }
}

fn main() -> Done {
    let asked = Asked::new(std::env::args().skip(1))?;
    match asked.words.first().map(String::as_str) {
        Some("init") => init(&asked),
        Some("refresh") => refresh(&asked).map(drop),
        Some("download") => download(&asked),
        _ => Err("init, refresh or download?".into()),
    }
}

fn init(asked: &Asked) -> Done {
    let trusted = asked.words.get(1).ok_or("init needs a root")?;
    std::fs::copy(trusted, asked.metadata()?.join("root.json"))?;
    Ok(())
}

/// Takes the client through everything up to the targets, and keeps what it believes on the way.
fn refresh(asked: &Asked) -> Done<Client> {
    let folder = asked.metadata()?;
    let state: TrustedState = match std::fs::read(asked.state()?) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(_) => TrustedState::from_root(&std::fs::read(folder.join("root.json"))?)?,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut client = Client::new(state, Instant::from_unix_s(now))?;
    let walked = walk(asked, &mut client, &folder);
    std::fs::write(asked.state()?, serde_json::to_vec(client.state())?)?;
    walked.map(|()| client)
}

fn walk(asked: &Asked, client: &mut Client, folder: &Path) -> Done {
    let base = asked.one("metadata-url")?.trim_end_matches('/');
    let base = base.strip_suffix(METADATA).ok_or("the metadata does not lie in metadata/")?;
    let fetcher = Fetcher::new(base.trim_end_matches('/'), Duration::ZERO);
    let read = |wanted: Wanted| fetcher.read(&wanted.path, wanted.bytes_max);
    let keep = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes);
    while let Some(wanted) = client.wanted_root() {
        let Some(bytes) = fetcher.read_if_there(&wanted.path, wanted.bytes_max)? else { break };
        client.apply_root(&bytes)?;
        keep("root.json", &bytes)?;
    }
    let bytes = read(client.wanted_timestamp())?;
    client.apply_timestamp(&bytes)?;
    keep("timestamp.json", &bytes)?;
    let bytes = read(client.wanted_snapshot()?)?;
    client.apply_snapshot(&bytes)?;
    keep("snapshot.json", &bytes)?;
    let bytes = read(client.wanted_targets()?)?;
    client.apply_targets(&bytes)?;
    keep("targets.json", &bytes)?;
    Ok(())
}

fn download(asked: &Asked) -> Done {
    let client = refresh(asked)?;
    let fetcher = Fetcher::new(asked.one("target-base-url")?.trim_end_matches('/'), Duration::ZERO);
    let folder = PathBuf::from(asked.one("target-dir")?);
    for name in asked.options.get("target-name").into_iter().flatten() {
        let target = client.targets().and_then(|targets| targets.targets.get(name)).cloned();
        let target = target.ok_or(TufError::Unnamed { file: name.clone() })?;
        let wanted = client.wanted_target(name, &target)?;
        // One flat name for each path.
        let place = folder.join(name.replace('/', "%2F"));
        let is_here = std::fs::read(&place).is_ok_and(|bytes| target.check(name, &bytes).is_ok());
        if !is_here {
            let bytes = fetcher.read(&wanted.path, wanted.bytes_max)?;
            target.check(name, &bytes)?;
            std::fs::write(&place, bytes)?;
        }
    }
    Ok(())
}
