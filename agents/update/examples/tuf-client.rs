//! The client of release metadata as a program, for the TUF project's conformance suite (`CLIENT-CLI.md`
//! there): `init`, `refresh` and `download`. What boards do with a repository is what this does.
//!
//! A board follows every delegation at once, and keeps versions, no files; this program, as the suite wants it,
//! follows only those that lead to the file it is asked for, and fetches nothing that it has.

use goblin_agent_update::fetch::Fetcher;
use goblin_core_manifest::client::{Client, TrustedState, Wanted};
use goblin_core_manifest::delegation::Found;
use goblin_core_manifest::time::Instant;
use goblin_core_manifest::tuf::{Target, TufError};
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

fn metadata_fetcher(asked: &Asked) -> Done<Fetcher> {
    let base = asked.one("metadata-url")?.trim_end_matches('/');
    let base = base.strip_suffix(METADATA).ok_or("the metadata does not lie in metadata/")?;
    Ok(Fetcher::new(base.trim_end_matches('/'), Duration::ZERO))
}

fn walk(asked: &Asked, client: &mut Client, folder: &Path) -> Done {
    let fetcher = metadata_fetcher(asked)?;
    let keep = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes);
    while let Some(wanted) = client.wanted_root() {
        let Some(bytes) = fetcher.read_if_there(&wanted.path, wanted.bytes_max)? else { break };
        client.apply_root(&bytes)?;
        keep("root.json", &bytes)?;
    }
    let wanted = client.wanted_timestamp();
    let bytes = fetcher.read(&wanted.path, wanted.bytes_max)?;
    client.apply_timestamp(&bytes)?;
    // One of the version that is believed already is put aside.
    if client.state().timestamp == Some(serde_json::from_slice(&bytes)?) {
        keep("timestamp.json", &bytes)?;
    }
    let wanted = client.wanted_snapshot()?;
    take(&fetcher, &folder.join("snapshot.json"), &wanted, |bytes| client.apply_snapshot(bytes))?;
    let wanted = client.wanted_targets()?;
    take(&fetcher, &folder.join("targets.json"), &wanted, |bytes| client.apply_targets(bytes))
}

/// Applies what was kept, and fetches and keeps another only where that does not pass.
fn take(
    fetcher: &Fetcher,
    kept: &Path,
    wanted: &Wanted,
    mut apply: impl FnMut(&[u8]) -> Result<(), TufError>,
) -> Done {
    if std::fs::read(kept).is_ok_and(|bytes| apply(&bytes).is_ok()) {
        return Ok(());
    }
    let bytes = fetcher.read(&wanted.path, wanted.bytes_max)?;
    apply(&bytes)?;
    Ok(std::fs::write(kept, &bytes)?)
}

/// Follows the delegations that lead to a file.
fn find(asked: &Asked, client: &mut Client, name: &str) -> Done<Target> {
    let fetcher = metadata_fetcher(asked)?;
    loop {
        let way = match client.find(name)? {
            Found::Target(target) => return Ok(target.clone()),
            Found::Nothing => return Err(TufError::Unnamed { file: name.into() }.into()),
            Found::Needs(way) => way,
        };
        let wanted = client.wanted_delegated(&way)?;
        let place = asked.metadata()?.join(format!("{}.json", way.role().replace('/', "%2F")));
        take(&fetcher, &place, &wanted, |bytes| client.apply_delegated(&way, bytes))?;
    }
}

fn download(asked: &Asked) -> Done {
    let mut client = refresh(asked)?;
    let fetcher = Fetcher::new(asked.one("target-base-url")?.trim_end_matches('/'), Duration::ZERO);
    let folder = PathBuf::from(asked.one("target-dir")?);
    for name in asked.options.get("target-name").into_iter().flatten() {
        let target = find(asked, &mut client, name)?;
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
