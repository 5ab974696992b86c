//! `cargo xtask provision`: the two provisioning files of a box, with fresh keys.

use crate::host;
use anyhow::{Context, Result, bail};
use ed25519_dalek::SigningKey;
use goblin_core_types::{BoxId, Role};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Longest host name in bytes.
const HOST_BYTES_MAX: usize = 63;

/// What a box shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairSpec {
    /// Name people use for the box.
    pub box_name: String,
    /// IANA time zone.
    pub time_zone: String,
    /// Names of the shares.
    pub shares: Vec<String>,
    /// Serials of the storage board's data disks: none, one or two.
    pub data_serials: Vec<String>,
    /// Address of the release repository; needs `update_root`.
    pub update_url: Option<String>,
    /// Text of the repository's first `root.json`.
    pub update_root: Option<String>,
    /// Channel to follow.
    pub channel: String,
    /// Time servers; empty for the usual ones.
    pub ntp: Vec<String>,
    /// Serve and mount shares over plain TCP.
    pub allow_plain_9p: bool,
    /// Answer commands of a virtual machine's host on the compute board.
    pub host_channel: bool,
}

impl Default for PairSpec {
    fn default() -> Self {
        Self {
            box_name: "goblin".into(),
            time_zone: "UTC".into(),
            shares: Vec::new(),
            data_serials: Vec::new(),
            update_url: None,
            update_root: None,
            channel: "stable".into(),
            ntp: Vec::new(),
            allow_plain_9p: false,
            host_channel: false,
        }
    }
}

/// The provisioning files of a box. `Debug` hides them: they hold private keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The compute board's.
    pub compute: String,
    /// The storage board's.
    pub storage: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(..)")
    }
}

/// `cargo xtask provision`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask provision --out mybox --box-name \"my box\" \
    --share home --share photos \\\n    --data-serial WD-WX11 --data-serial WD-WX12\n  \
    cargo xtask provision --out mybox --share home --update-url https://releases.example/ \\\n    \
    --root target/release/metadata/1.root.json\n\nWrites compute.toml and storage.toml. Both hold \
    private keys: keep them as you keep passwords.")]
pub struct ProvisionArgs {
    /// Folder for the two files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name people use for the box
    #[arg(long, default_value = "goblin")]
    box_name: String,
    /// IANA time zone, like Europe/Berlin
    #[arg(long, default_value = "UTC")]
    time_zone: String,
    /// Name of a share; may be given several times
    #[arg(long = "share", value_name = "NAME")]
    shares: Vec<String>,
    /// Serial of a data disk of the storage board, which will be ERASED; none, one or two
    #[arg(long = "data-serial", value_name = "SERIAL")]
    data_serials: Vec<String>,
    /// Address of the folder that `cargo xtask release` wrote
    #[arg(long, value_name = "URL", requires = "root")]
    update_url: Option<String>,
    /// The repository's metadata/1.root.json
    #[arg(long, value_name = "FILE", requires = "update_url")]
    root: Option<PathBuf>,
    /// Channel to follow
    #[arg(long, default_value = "stable")]
    channel: String,
    /// Time server; may be given several times
    #[arg(long, value_name = "SERVER")]
    ntp: Vec<String>,
    /// Serve shares over plain TCP without keys: only for an isolated network
    #[arg(long)]
    allow_plain_9p: bool,
    /// Answer the host of a virtual machine
    #[arg(long)]
    host_channel: bool,
    /// Overwrite files that are there: the old keys are lost, boards with them must be flashed again
    #[arg(long)]
    force: bool,
}

/// Runs `cargo xtask provision`.
///
/// # Errors
/// When a value is not allowed, a file is there already, or the folder cannot be written.
pub fn command(args: &ProvisionArgs) -> Result<()> {
    let read_root = |path: &PathBuf| Ok(String::from_utf8_lossy(&host::read(path)?).into_owned());
    let spec = PairSpec {
        box_name: args.box_name.clone(),
        time_zone: args.time_zone.clone(),
        shares: args.shares.clone(),
        data_serials: args.data_serials.clone(),
        update_url: args.update_url.clone(),
        update_root: args.root.as_ref().map(read_root).transpose().map_err(
            |err: anyhow::Error| err.context("--root names the repository's metadata/1.root.json"),
        )?,
        channel: args.channel.clone(),
        ntp: args.ntp.clone(),
        allow_plain_9p: args.allow_plain_9p,
        host_channel: args.host_channel,
    };
    let pair = make_pair(&spec)?;
    let files = [
        (args.out.join("compute.toml"), &pair.compute),
        (args.out.join("storage.toml"), &pair.storage),
    ];
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists() && !args.force) {
        bail!(
            "{} is there already; its keys would be lost. Name another --out, or use --force",
            path.display()
        );
    }
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    for (path, text) in files {
        write_secret(&path, text)?;
        println!("{}", path.display());
    }
    println!("Flash each with:  cargo xtask flash --image IMAGE --provision FILE --to DISK");
    Ok(())
}

/// Makes the two files of a box with fresh keys, and reads them as a board will.
///
/// # Errors
/// When a value is not allowed, or the system gives no random bytes.
pub fn make_pair(spec: &PairSpec) -> Result<Pair> {
    if spec.update_url.is_some() != spec.update_root.is_some() {
        bail!("the update address and the repository's root.json go together");
    }
    let id = BoxId(random()?);
    let compute = SigningKey::from_bytes(&random()?);
    let storage = SigningKey::from_bytes(&random()?);
    let text = |role: Role, own: &SigningKey, peer: &SigningKey| -> Result<String> {
        let text = file(spec, role, id, own, peer);
        let parsed = goblin_core_config::parse(&text)
            .with_context(|| format!("the {role} board's provisioning file would be refused"))?;
        if parsed.role != role {
            bail!("the {role} board's file came out for another role");
        }
        Ok(text)
    };
    Ok(Pair {
        compute: text(Role::Compute, &compute, &storage)?,
        storage: text(Role::Storage, &storage, &compute)?,
    })
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|err| anyhow::anyhow!("the system gives no random bytes: {err}"))?;
    Ok(bytes)
}

/// A TOML string with what must be escaped.
fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

/// `my goblin box` and a role make `my-goblin-box-storage`.
fn host_name(box_name: &str, role: Role) -> String {
    let mut slug = String::new();
    for c in box_name.to_lowercase().chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(HOST_BYTES_MAX - role.as_str().len() - 1);
    let slug = slug.trim_matches('-');
    if slug.is_empty() { format!("goblin-{role}") } else { format!("{slug}-{role}") }
}

fn file(spec: &PairSpec, role: Role, id: BoxId, own: &SigningKey, peer: &SigningKey) -> String {
    let mut text = format!(
        "# Provisioning file of the {role} board of the box {name}.\n\
         #\n\
         # Read once, on the first boot after `cargo xtask flash`; unknown keys are refused. It holds a\n\
         # private key: keep it as you keep a password.\n\
         schema = 1\n\n\
         # What the board is for: compute (screen and apps) or storage (disks).\n\
         role = {role_text}\n\
         # Its name on the network: a-z, 0-9 and -.\n\
         host = {host}\n\
         # IANA name, like Europe/Berlin.\n\
         time_zone = {zone}\n\n\
         # The box both boards belong to. Two boards with different ids never speak to each other.\n\
         [box]\nid = {id}\nname = {name}\n\n\
         # ed25519: this board's private key and the other board's public one.\n\
         [keys]\nboard_private = {own}\npeer_public = {peer}\n\n",
        name = quoted(&spec.box_name),
        role_text = quoted(role.as_str()),
        host = quoted(&host_name(&spec.box_name, role)),
        zone = quoted(&spec.time_zone),
        id = quoted(&id.to_string()),
        own = quoted(&hex::encode(own.to_bytes())),
        peer = quoted(&hex::encode(peer.verifying_key().to_bytes())),
    );
    network(&mut text, spec);
    disks(&mut text, spec, role);
    update(&mut text, spec);
    shares(&mut text, spec, role);
    if spec.host_channel && role == Role::Compute {
        text.push_str(
            "# Only under QEMU: the host may run `goblin` commands on this board.\n\
             [debug]\nhost_channel = true\n\n",
        );
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

// Writing to a String does not fail, so the results of `write!` below are dropped.

fn network(text: &mut String, spec: &PairSpec) {
    let _ = write!(
        text,
        "[network]\n\
         # Hardware addresses of the NIC with the cable to the other board, and of the one towards the\n\
         # LAN. Without them the boards find out by themselves.\n\
         # link = \"52:54:00:00:00:01\"\n\
         # lan = \"52:54:00:00:00:02\"\n\
         # Time servers, at most 8; empty: those the LAN names, else public ones.\n\
         ntp = {}\n\
         # Plain TCP without keys: whoever reaches the port reads and writes everything. Only for an\n\
         # isolated network.\n\
         allow_plain_9p = {}\n\n",
        list(&spec.ntp),
        spec.allow_plain_9p
    );
}

fn disks(text: &mut String, spec: &PairSpec, role: Role) {
    if role != Role::Storage {
        return;
    }
    let _ = write!(
        text,
        "[disk]\n\
         # Serials of the data disks: none, one, or two that mirror each other. Only these are touched,\n\
         # and only while they are blank or belong to this box already.\n\
         data = {}\n\n",
        list(&spec.data_serials)
    );
}

fn update(text: &mut String, spec: &PairSpec) {
    let (Some(url), Some(root)) = (&spec.update_url, &spec.update_root) else {
        return;
    };
    let root = root.trim_end();
    // The literal form keeps the JSON readable; a text that would end it is quoted instead.
    let root = if root.contains("'''") || root.contains('\r') {
        quoted(root)
    } else {
        format!("'''\n{root}\n'''")
    };
    let _ = write!(
        text,
        "# Where releases come from, the channel to follow, and the keys whose word counts: the text of\n\
         # the repository's metadata/1.root.json.\n\
         [update]\nurl = {}\nchannel = {}\nroot = {root}\n\n",
        quoted(url),
        quoted(&spec.channel),
    );
}

fn shares(text: &mut String, spec: &PairSpec, role: Role) {
    if spec.shares.is_empty() {
        return;
    }
    text.push_str(match role {
        Role::Storage => {
            "# Shares that this board serves; `read_only = true` lets clients only read.\n"
        }
        _ => "# Shares of the storage board that this board mounts.\n",
    });
    for name in &spec.shares {
        let _ = write!(text, "[[share]]\nname = {}\n\n", quoted(name));
    }
}

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    let write = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A temporary file is made with mode 0600, so that the keys are never readable for others.
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(write)?;
    file.write_all(text.as_bytes()).with_context(write)?;
    file.as_file().sync_all().with_context(write)?;
    file.persist(path).map_err(|err| err.error).with_context(write)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> PairSpec {
        PairSpec {
            box_name: "my \"goblin\" box".into(),
            time_zone: "Europe/Berlin".into(),
            shares: vec!["home".into(), "photos".into()],
            data_serials: vec!["A 1".into(), "B-2".into()],
            update_url: Some("http://10.0.2.2:8642/".into()),
            update_root: Some(
                "{\"signed\": {\"_type\": \"root\", \"version\": 1}, \"signatures\": [{}]}".into(),
            ),
            ntp: vec!["ntp.example".into()],
            allow_plain_9p: true,
            host_channel: true,
            ..PairSpec::default()
        }
    }

    #[test]
    fn every_value_reaches_the_board() {
        let pair = make_pair(&spec()).unwrap();
        let compute = goblin_core_config::parse(&pair.compute).unwrap();
        let storage = goblin_core_config::parse(&pair.storage).unwrap();
        assert_eq!(compute.the_box, storage.the_box);
        assert_eq!(compute.the_box.name, "my \"goblin\" box");
        assert_eq!(storage.host, "my-goblin-box-storage");
        assert_eq!(storage.disk.data, ["A 1", "B-2"]);
        assert!(compute.disk.data.is_empty());
        assert!(storage.network.allow_plain_9p && compute.network.allow_plain_9p);
        assert!(compute.debug.host_channel && !storage.debug.host_channel);
        assert_eq!(compute.shares.len(), 2);
        let public = SigningKey::from_bytes(&compute.keys.board_private.0).verifying_key();
        assert_eq!(public.to_bytes(), storage.keys.peer_public.0);
        let root = storage.update.unwrap().root;
        assert_eq!(root.trim(), spec().update_root.unwrap());
    }

    #[test]
    fn pairs_share_nothing() {
        let (one, two) = (make_pair(&spec()).unwrap(), make_pair(&spec()).unwrap());
        assert_ne!(one.compute, two.compute);
    }

    #[test]
    fn the_smallest_box_is_allowed_and_wrong_values_are_refused() {
        make_pair(&PairSpec::default()).unwrap();
        let zone = PairSpec { time_zone: "Middle/Earth".into(), ..PairSpec::default() };
        assert!(make_pair(&zone).is_err());
        let half = PairSpec { update_url: Some("http://a.example/".into()), ..PairSpec::default() };
        assert!(make_pair(&half).is_err());
    }

    #[test]
    fn host_names_are_plain() {
        assert_eq!(host_name("Ümlaut & Söhne", Role::Compute), "mlaut-s-hne-compute");
        assert_eq!(host_name("***", Role::Storage), "goblin-storage");
        assert!(host_name(&"x".repeat(200), Role::Storage).len() <= 63);
    }
}
