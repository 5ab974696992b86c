//! `goblin shares`: what is served or mounted, and a listing of a whole share that can be compared.

use crate::cli::Shares;
use crate::control;
use crate::error::CliError;
use crate::output::Output;
use crate::render::words;
use goblin_core_types::paths;
use goblin_sys::listing::{self, Digests, Entry};
use std::path::Path;

/// Runs `goblin shares ...`.
pub fn run(what: Shares, output: &mut Output) -> Result<(), CliError> {
    match what {
        Shares::Ls => list(output),
        Shares::Tree { name, no_digest } => {
            if name.is_empty() || name.contains('/') || name.starts_with('.') {
                return Err(CliError::Refused {
                    kind: "not-found".into(),
                    message:
                        "a share's name has no slash and no leading dot; see `goblin shares ls`"
                            .into(),
                });
            }
            let root = Path::new(paths::SHARES).join(&name);
            let mounted = goblin_sys::mount::mount_at(&root).ok().flatten().is_some();
            if !mounted {
                return Err(CliError::Refused {
                    kind: "not-mounted".into(),
                    message: format!(
                        "share {name} is not mounted on this board; see `goblin status`"
                    ),
                });
            }
            let digests = if no_digest { Digests::Skip } else { Digests::Compute };
            tree(&root, digests, output)
        }
    }
}

fn list(output: &mut Output) -> Result<(), CliError> {
    let status = control::status(control::local_board())?;
    if output.json {
        let value = serde_json::json!({"served": status.shares, "mounted": status.mounts});
        return output.json_value(&value);
    }
    for share in &status.shares {
        let state =
            share.problem.as_deref().unwrap_or(if share.served { "served" } else { "not served" });
        output.line(&format!("{:<20} {}", share.name, words::plain(state)))?;
    }
    for mount in &status.mounts {
        let state = mount.problem.as_deref().unwrap_or(if mount.mounted {
            &mount.path
        } else {
            "not mounted"
        });
        output.line(&format!("{:<20} {}", mount.name, words::plain(state)))?;
    }
    Ok(())
}

/// Prints every entry below `root`, sorted by path, each as soon as it is known.
fn tree(root: &Path, digests: Digests, output: &mut Output) -> Result<(), CliError> {
    listing::walk(root, digests, &mut |entry: Entry| {
        if output.json {
            return output.json_line(&entry);
        }
        let note = match entry.kind.as_str() {
            "symlink" => format!("-> {}", words::plain(&entry.content)),
            _ => entry.content.get(..16).unwrap_or_default().to_owned(),
        };
        let text = format!(
            "{:<7} {:04o} {:>12}  {:<16}  {}",
            entry.kind,
            entry.mode,
            entry.size,
            note,
            words::plain(&entry.path)
        );
        output.line(&text)
    })
}
