//! `cargo xtask flash`: a release's image and a provisioning file, onto a disk or into a file.

mod device;
#[cfg(test)]
mod tests;
mod writer;

use crate::host;
use anyhow::{Context, Result, bail};
use goblin_core_config::Provision;
use goblin_image::disk::DiskMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Least room for STATE after the image, in bytes.
const STATE_BYTES_MIN: u64 = 512 << 20;
/// Size of a file that stands for a disk, where nothing else is asked for, in GiB.
const FILE_GIB: u64 = 8;

/// `cargo xtask flash`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask flash --image target/images/goblinux-1.img.zst \
    --provision mybox/storage.toml --to /dev/sdX\n  cargo xtask flash --image goblinux-1.img.zst \
    --provision mybox/compute.toml --to compute.img --size-gib 16\n\nThe block map \
    (goblinux-1.bmap.json) must lie beside the image. A disk is asked about before it is erased; a \
    disk in use is refused.")]
pub struct FlashArgs {
    /// The image: .img.zst or .img
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// The board's file, from `cargo xtask provision`
    #[arg(long, value_name = "FILE")]
    provision: PathBuf,
    /// The whole disk, like /dev/sdX, or a file for a virtual machine
    #[arg(long, value_name = "PATH")]
    to: PathBuf,
    /// Size of the file, where `--to` names one
    #[arg(long, value_name = "GIB", default_value_t = FILE_GIB)]
    size_gib: u64,
    /// Erase without asking
    #[arg(long)]
    yes: bool,
}

/// Runs `cargo xtask flash`.
///
/// # Errors
/// When something is not as it should be; nothing was written then unless the message says so.
pub fn command(args: &FlashArgs) -> Result<()> {
    let text = String::from_utf8(host::read(&args.provision)?)
        .with_context(|| format!("{} is not text", args.provision.display()))?;
    let wanted = Wanted::check(&args.image, &text)
        .with_context(|| format!("nothing was written: {}", args.provision.display()))?;
    let is_device = device::is_block(&args.to)?;
    let what = if is_device {
        device::describe(&args.to)?
    } else if args.to.exists() {
        format!("the file {}", args.to.display())
    } else {
        String::new()
    };
    if !what.is_empty() && !args.yes {
        confirm(&what, &wanted.provision)?;
    }
    if is_device {
        let disk = device::open(&args.to)?;
        wanted.write(disk, &args.to)?;
    } else {
        let bytes = args.size_gib.checked_mul(1 << 30).context("--size-gib is too large")?;
        write_disk_image(&args.image, &text, &args.to, bytes)?;
    }
    println!(
        "{} is the system disk of the {} board `{}` of the box `{}`",
        args.to.display(),
        wanted.provision.role,
        wanted.provision.host,
        wanted.provision.the_box.name
    );
    Ok(())
}

fn confirm(what: &str, provision: &Provision) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("{what} would be erased; say --yes where there is nobody to ask");
    }
    eprintln!("This ERASES {what}");
    eprint!(
        "and makes it the {} board of `{}`. Type yes: ",
        provision.role, provision.the_box.name
    );
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    if answer.trim() != "yes" {
        bail!("nothing was written");
    }
    Ok(())
}

/// Makes a file that is a board's system disk of `size_bytes`, as `flash` would write a real one. A
/// file that is there is replaced.
///
/// # Errors
/// When the provisioning file is refused, the image is damaged, or the file cannot be written.
pub fn write_disk_image(image: &Path, text: &str, dest: &Path, size_bytes: u64) -> Result<()> {
    let wanted = Wanted::check(image, text)?;
    let folder = dest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The disk holds a private key: 0600, and its name appears once it is whole.
    let file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    let whole = size_bytes / 512 * 512;
    file.as_file().set_len(whole).with_context(|| format!("cannot make {}", dest.display()))?;
    let disk = file.as_file().try_clone().context("cannot use the new file")?;
    wanted.write(disk, dest)?;
    file.persist(dest)
        .map_err(|err| err.error)
        .with_context(|| format!("cannot write {}", dest.display()))?;
    Ok(())
}

/// An image and a provisioning file that fit together.
#[derive(Debug)]
struct Wanted {
    image: PathBuf,
    map: DiskMap,
    provision: Provision,
    sealed: Vec<u8>,
}

impl Wanted {
    fn check(image: &Path, text: &str) -> Result<Self> {
        let provision =
            goblin_core_config::parse(text).context("the provisioning file is refused")?;
        let sealed = goblin_core_config::seal(text).context("the provisioning file is refused")?;
        let map_path = map_path(image)?;
        let map: DiskMap = serde_json::from_slice(&host::read(&map_path).context(
            "an image is flashed by its block map, which lies beside it: copy both files",
        )?)
        .with_context(|| format!("{} is damaged: copy it again", map_path.display()))?;
        map.check().with_context(|| format!("{}", map_path.display()))?;
        if map.provision_len_bytes != sealed.len() as u64 {
            bail!("{} reserves another room than this program fills", map_path.display());
        }
        Ok(Self { image: image.to_path_buf(), map, provision, sealed })
    }

    fn write(&self, disk: std::fs::File, name: &Path) -> Result<()> {
        let size =
            device::size(&disk).with_context(|| format!("cannot size {}", name.display()))?;
        if size < self.map.size_bytes + STATE_BYTES_MIN {
            bail!(
                "{} has {} MiB, the image and the state of a board need {}",
                name.display(),
                size >> 20,
                (self.map.size_bytes + STATE_BYTES_MIN) >> 20
            );
        }
        writer::write(self, disk, size)
            .with_context(|| format!("{} is half written now; flash it again", name.display()))
    }
}

/// `X.bmap.json` beside `X.img.zst` or `X.img`.
fn map_path(image: &Path) -> Result<PathBuf> {
    let name = image.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = name
        .strip_suffix(".img.zst")
        .or_else(|| name.strip_suffix(".img"))
        .with_context(|| format!("{}: an image ends in .img.zst or .img", image.display()))?;
    Ok(image.with_file_name(format!("{stem}.bmap.json")))
}
