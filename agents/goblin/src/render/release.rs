//! What an upgrade would do, and how two releases differ.

use super::words;
use goblin_core_types::{FileChange, ReleaseDiff, UpgradePlan};

/// Changed packages that are shown; --json has all.
const PACKAGES_SHOWN_MAX: usize = 100;
/// Files listed for a person; `--json` has up to `CHANGES_MAX`.
const FILES_SHOWN_MAX: usize = 40;

/// How much of a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Explain {
    /// What would happen.
    Steps,
    /// Also why it is fetched in this way.
    Ways,
}

/// A plan, a line for each step.
pub fn plan(plan: &UpgradePlan, explain: Explain) -> Vec<String> {
    let Some(to) = plan.to else { return Vec::new() };
    let mut lines = vec![format!("  {} -> {to}  {}", plan.from, words::plain(&plan.notes))];
    lines.push(format!(
        "  fetch   {} contents: {} in {} {}",
        plan.fetch_count,
        words::bytes(plan.fetch_bytes),
        plan.fetch_requests,
        if plan.fetch_requests == 1 { "request" } else { "requests" }
    ));
    if explain == Explain::Ways {
        lines.extend(plan.ways.iter().map(|way| format!("          {}", words::plain(way))));
    }
    lines.push(match plan.image_bytes {
        0 => "  write   nothing: the image is on the boot disk already".into(),
        bytes => format!("  write   an image of {}", words::bytes(bytes)),
    });
    let deletes = plan.deletes.iter().map(|version| format!("  delete  release {version}"));
    lines.extend(deletes);
    lines.extend(plan.problems.iter().map(|why| format!("  stops   {}", words::plain(why))));
    lines
}

/// A comparison.
pub fn diff(diff: &ReleaseDiff) -> Vec<String> {
    let mut lines: Vec<String> = diff
        .parts
        .iter()
        .map(|part| {
            let words = |text: &str| words::plain(text);
            format!("  {}: {} -> {}", part.name, words(&part.a), words(&part.b))
        })
        .collect();
    let absent = || "absent".to_owned();
    let side = |side: &Option<String>| side.as_deref().map_or_else(absent, words::plain);
    let packages = diff.packages.iter().flatten().take(PACKAGES_SHOWN_MAX).map(|package| {
        let (kind, name) = (words::plain(&package.kind), words::plain(&package.name));
        format!("  {kind} {name}: {} -> {}", side(&package.a), side(&package.b))
    });
    lines.extend(packages);
    lines.extend(diff.files.iter().take(FILES_SHOWN_MAX).map(file));
    let shown = u64::try_from(diff.files.len().min(FILES_SHOWN_MAX)).unwrap_or(0);
    let more = diff.changed_count.saturating_sub(shown);
    if more > 0 {
        lines.push(format!("  and {more} more files"));
    }
    lines
}

fn file(file: &FileChange) -> String {
    let path = words::plain(&file.path);
    match (file.a_bytes, file.b_bytes) {
        (None, Some(bytes)) => format!("  + {path}  {}", words::bytes(bytes)),
        (Some(bytes), None) => format!("  - {path}  {}", words::bytes(bytes)),
        _ if file.same_content => format!("  ~ {path}  mode or owner"),
        (Some(a), Some(b)) => format!("  ~ {path}  {} -> {}", words::bytes(a), words::bytes(b)),
        (None, None) => format!("  ~ {path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_types::Version;

    #[test]
    fn changes_have_a_sign_in_front() {
        let change = |a_bytes, b_bytes, same_content| {
            file(&FileChange { path: "/x".into(), a_bytes, b_bytes, same_content })
        };
        assert_eq!(change(None, Some(2000), false), "  + /x  2.0 kB");
        assert_eq!(change(Some(2000), None, false), "  - /x  2.0 kB");
        assert_eq!(change(Some(1000), Some(2000), false), "  ~ /x  1.0 kB -> 2.0 kB");
        assert_eq!(change(Some(1), Some(1), true), "  ~ /x  mode or owner");
    }

    #[test]
    fn plan_names_what_it_deletes_and_what_stops_it() {
        let found = UpgradePlan {
            from: Version::new(1, 0, 0),
            to: Some(Version::new(2, 0, 0)),
            notes: "news".into(),
            fetch_count: 3,
            fetch_bytes: 2000,
            fetch_requests: 1,
            ways: vec!["chosen: the patch".into()],
            image_bytes: 0,
            deletes: vec![Version::new(0, 9, 0)],
            problems: vec!["no room".into()],
        };
        let lines = plan(&found, Explain::Steps);
        assert_eq!(lines[0], "  1 -> 2  news");
        assert!(lines.contains(&"  delete  release 0.9".into()));
        assert_eq!(lines.last().unwrap(), "  stops   no room");
        assert!(!lines.iter().any(|line| line.contains("chosen")));
        assert!(plan(&found, Explain::Ways).iter().any(|line| line.contains("chosen: the patch")));
    }
}
