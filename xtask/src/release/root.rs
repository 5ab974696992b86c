//! `cargo xtask release root`: who may sign for a repository, and how that changes.
//!
//! A root key is a file of its own, on a stick of its own. A draft of a root is carried to the machines of
//! the key holders, where each adds a signature with `root sign`; `root publish` puts it into the repository
//! once enough of those of the root before and of its own have signed.

use super::keys::{self, Keys};
use super::{FIRST_ROOT, lock, now, resume, write_metadata};
use crate::host;
use crate::provision::write_secret;
use anyhow::{Context, Result, bail, ensure};
use goblin_core_manifest::keys::Key;
use goblin_core_manifest::publish::{Lifetimes, Seed};
use goblin_core_manifest::roots::{Draft, Signers, Voices};
use goblin_core_manifest::tuf::{Kind, Root};
use std::path::{Path, PathBuf};

/// Added to a private key's file name for its public half.
const PUBLIC_SUFFIX: &str = "pub";
/// Digits of an identity that are shown.
const SHOWN_DIGITS: usize = 12;

#[derive(Debug, clap::Subcommand)]
#[command(
    after_help = "Examples, with two of three holders needed:\n  cargo xtask release root key /media/a/root.key       \
    on the machine of each holder\n  cargo xtask release root init /srv/releases --threshold 2 --key a.pub --key b.pub \
    --key c.pub --draft root-1.json\n  cargo xtask release root sign root-1.json --key /media/a/root.key\n  \
    cargo xtask release root publish root-1.json /srv/releases\n  cargo xtask release root rotate /srv/releases \
    --remove 3f21 --key d.pub --draft root-2.json\n  cargo xtask release root rotate /srv/releases --new-online \
    --draft root-3.json\n\nA repository with one root key is begun by `cargo xtask release` alone."
)]
pub(super) enum RootCommand {
    /// Make a root key: FILE is to be kept offline, FILE.pub is for the others
    Key {
        /// Where to write the private key
        file: PathBuf,
    },
    /// Begin a repository with these root keys
    Init {
        /// The repository; made when absent
        folder: PathBuf,
        /// A root key, FILE or FILE.pub; a private one signs at once
        #[arg(long, required = true, value_name = "FILE")]
        key: Vec<PathBuf>,
        #[command(flatten)]
        draft: DraftArgs,
    },
    /// Draft the next root: other holders, another threshold, new online keys, or only more time
    Rotate {
        /// The repository
        folder: PathBuf,
        /// A root key to add, FILE or FILE.pub; a private one that is there already signs at once
        #[arg(long, value_name = "FILE")]
        key: Vec<PathBuf>,
        /// First digits of a root key to take out
        #[arg(long, value_name = "KEYID")]
        remove: Vec<String>,
        /// Make new keys for targets, snapshot and timestamp: what a thief of the old ones signed is void
        #[arg(long)]
        new_online: bool,
        #[command(flatten)]
        draft: DraftArgs,
    },
    /// Give the root more time: `rotate` with nothing else changed
    Renew {
        /// The repository
        folder: PathBuf,
        /// A root key that signs at once
        #[arg(long, value_name = "FILE")]
        key: Vec<PathBuf>,
        #[command(flatten)]
        draft: DraftArgs,
    },
    /// Add the signature of a root key to a draft; needs no repository
    Sign {
        /// The draft
        draft: PathBuf,
        /// The private key
        #[arg(long, required = true, value_name = "FILE")]
        key: Vec<PathBuf>,
    },
    /// Put a draft that enough have signed into its repository
    Publish {
        /// The draft
        draft: PathBuf,
        /// The repository
        folder: PathBuf,
        /// Folder of the online keys
        #[arg(long, value_name = "DIR")]
        keys: Option<PathBuf>,
    },
    /// Show who may sign
    Show {
        /// The repository
        folder: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct DraftArgs {
    /// How many root keys must sign; without it as many as before, or all of the first
    #[arg(long, value_name = "N")]
    threshold: Option<u32>,
    /// Where to write the draft
    #[arg(long, value_name = "FILE")]
    draft: PathBuf,
    /// Folder of the online keys; made on first use
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Days until the root expires
    #[arg(long, value_name = "DAYS", default_value_t = Lifetimes::default().root_days)]
    days: u32,
}

fn keys_folder(given: Option<&PathBuf>) -> Result<PathBuf> {
    given.cloned().map_or_else(|| host::target("keys"), Ok)
}

/// Runs `cargo xtask release root`.
pub(super) fn command(command: &RootCommand) -> Result<()> {
    match command {
        RootCommand::Key { file } => make_key(file),
        RootCommand::Init { folder, key, draft } => init(folder, key, draft),
        RootCommand::Rotate { folder, key, remove, new_online, draft } => {
            rotate(folder, &Change { keys: key, remove, new_online: *new_online }, draft)
        }
        RootCommand::Renew { folder, key, draft } => {
            rotate(folder, &Change { keys: key, remove: &[], new_online: false }, draft)
        }
        RootCommand::Sign { draft, key } => sign(draft, key),
        RootCommand::Publish { draft, folder, keys } => {
            publish(draft, folder, &keys_folder(keys.as_ref())?)
        }
        RootCommand::Show { folder } => {
            print!("{}", describe(&newest(folder)?));
            Ok(())
        }
    }
}

fn public_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(PUBLIC_SUFFIX);
    name.into()
}

fn make_key(file: &Path) -> Result<()> {
    ensure!(!file.exists(), "{} is there already: a key is never overwritten", file.display());
    let seed = keys::seed()?;
    let key = Key::of_seed(&seed.0);
    write_secret(file, &serde_json::to_string_pretty(&[seed])?)?;
    let public = public_of(file);
    host::write_whole(&public, serde_json::to_string_pretty(&[&key])?.as_bytes())?;
    println!("{}: keep it offline, and a copy elsewhere", file.display());
    println!("{}: key {}, for whoever drafts the root", public.display(), key.id());
    Ok(())
}

/// The keys in a file: private ones, whose public halves follow from them, or public ones.
fn read_keys(file: &Path) -> Result<(Vec<Key>, Vec<Seed>)> {
    let is_public = file.extension().is_some_and(|word| word == PUBLIC_SUFFIX);
    if is_public {
        let keys: Vec<Key> = serde_json::from_slice(&host::read(file)?)
            .with_context(|| format!("{} holds no public keys", file.display()))?;
        return Ok((keys, Vec::new()));
    }
    let seeds: Vec<Seed> = keys::read(file)?;
    Ok((seeds.iter().map(|seed| Key::of_seed(&seed.0)).collect(), seeds))
}

fn read_all(files: &[PathBuf]) -> Result<(Vec<Key>, Vec<Seed>)> {
    let (mut all, mut seeds) = (Vec::new(), Vec::new());
    for file in files {
        let (keys, private) = read_keys(file)?;
        all.extend(keys);
        seeds.extend(private);
    }
    Ok((all, seeds))
}

fn init(folder: &Path, files: &[PathBuf], args: &DraftArgs) -> Result<()> {
    ensure!(
        !folder.join(FIRST_ROOT).exists(),
        "{} is begun already: change its root with `release root rotate`",
        folder.display()
    );
    let (public, seeds) = read_all(files)?;
    let online = keys::open_online(&keys_folder(args.keys.as_ref())?)?;
    let mut root = Voices::all(public);
    root.threshold = args.threshold.unwrap_or(root.threshold);
    let first = online.signers(root).first(now().plus_days(args.days))?;
    write_draft(Draft::new(first)?, &seeds, &args.draft, None)
}

/// What shall be other in the next root.
struct Change<'a> {
    keys: &'a [PathBuf],
    remove: &'a [String],
    new_online: bool,
}

fn rotate(folder: &Path, change: &Change<'_>, args: &DraftArgs) -> Result<()> {
    let old = newest(folder)?;
    let mut signers = Signers::of(&old)?;
    let (public, seeds) = read_all(change.keys)?;
    let known: Vec<String> = signers.root.keys.iter().map(Key::id).collect();
    for keyid in change.remove {
        signers.remove_root_key(keyid)?;
    }
    // A key that is taken out signs its own going.
    signers.root.keys.extend(public.into_iter().filter(|key| !known.contains(&key.id())));
    signers.root.threshold = args.threshold.unwrap_or(signers.root.threshold);
    if change.new_online {
        let next = keys::make_next(&keys_folder(args.keys.as_ref())?)?;
        signers = next.signers(signers.root);
    }
    let root = signers.after(&old, now().plus_days(args.days))?;
    write_draft(Draft::new(root)?, &seeds, &args.draft, Some(&old))
}

fn write_draft(mut draft: Draft, seeds: &[Seed], file: &Path, old: Option<&Root>) -> Result<()> {
    for seed in seeds {
        draft.sign(seed)?;
    }
    host::write_whole(file, &draft.to_bytes()?)?;
    println!("{}: root {}", file.display(), draft.root().version);
    print!("{}", describe(draft.root()));
    print!("{}", missing(&draft, old));
    Ok(())
}

fn sign(file: &Path, key_files: &[PathBuf]) -> Result<()> {
    let mut draft = read_draft(file)?;
    let (_, seeds) = read_all(key_files)?;
    ensure!(!seeds.is_empty(), "a signature needs a private key: name the file without .pub");
    for seed in &seeds {
        draft.sign(seed)?;
    }
    host::write_whole(file, &draft.to_bytes()?)?;
    println!("{}: signed; it says", file.display());
    print!("{}", describe(draft.root()));
    print!("{}", missing(&draft, None));
    Ok(())
}

fn read_draft(file: &Path) -> Result<Draft> {
    let name = file.display().to_string();
    Draft::parse(&name, &host::read(file)?).with_context(|| format!("{name} is no root"))
}

fn publish(file: &Path, folder: &Path, key_folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder.join("metadata"))
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let _lock = lock(folder)?;
    let draft = read_draft(file)?;
    let root = draft.root();
    let old = folder.join(FIRST_ROOT).exists().then(|| newest(folder)).transpose()?;
    if let Some(old) = &old {
        ensure!(
            root.version == old.version.saturating_add(1),
            "{} is root {} and root {} is published: draft it anew",
            file.display(),
            root.version,
            old.version
        );
    } else {
        ensure!(root.version == 1, "the first root of a repository is 1: use `root init`");
    }
    let lacking = missing(&draft, old.as_ref());
    ensure!(lacking.is_empty(), "{} cannot be published:\n{lacking}", file.display());
    let before = keys::read_online(key_folder)?;
    let online = keys::naming(key_folder, root)?;
    if old.is_some() {
        // Signed by the keys of both roots, so that a board believes it before and after the new one.
        let both = Keys { repository: before.with(&online) };
        write_metadata(&resume(folder)?, &both, folder, now())?;
    }
    let bytes = draft.to_bytes()?;
    host::write_whole(&folder.join(format!("metadata/{}.root.json", root.version)), &bytes)?;
    host::write_whole(&folder.join("metadata/root.json"), &bytes)?;
    keys::settle_next(key_folder, root)?;
    let only = Keys { repository: online.with(&online) };
    write_metadata(&resume(folder)?, &only, folder, now())?;
    println!("{}: root {} is published", folder.display(), root.version);
    Ok(())
}

/// The newest root of a repository, each step of the chain to it checked.
pub(super) fn newest(folder: &Path) -> Result<Root> {
    let mut chain: Option<Root> = None;
    for version in 1u64.. {
        let path = folder.join(format!("metadata/{version}.root.json"));
        if !path.exists() {
            break;
        }
        let draft = read_draft(&path)?;
        let by = chain.as_ref().unwrap_or(draft.root());
        if !draft.signed_by(by).is_enough() || !draft.signed_by(draft.root()).is_enough() {
            bail!("{} lacks signatures: boards would refuse it", path.display());
        }
        chain = Some(draft.root().clone());
    }
    chain.with_context(|| format!("{} is no repository of releases", folder.display()))
}

/// Signatures that a draft lacks, a line each; empty when it may be published.
fn missing(draft: &Draft, old: Option<&Root>) -> String {
    let own = Some(("its own", draft.root()));
    let before = old.map(|old| ("the published root's", old));
    let mut text = String::new();
    for (whose, root) in own.into_iter().chain(before) {
        let count = draft.signed_by(root);
        if !count.is_enough() {
            let line =
                format!("{} of {} signatures by {whose} keys\n", count.valid, count.threshold);
            text.push_str(&line);
        }
    }
    text
}

fn describe(root: &Root) -> String {
    let mut text = format!("  root {}, good until {}\n", root.version, root.expires);
    for kind in Kind::ALL {
        let Ok(role) = root.role(kind) else { continue };
        let short = |id: &String| id.chars().take(SHOWN_DIGITS).collect::<String>();
        let ids: Vec<String> = role.keyids.iter().map(short).collect();
        let line = format!(
            "  {:<10}{} of {}: {}\n",
            kind.as_str(),
            role.threshold,
            ids.len(),
            ids.join(" ")
        );
        text.push_str(&line);
    }
    text
}
