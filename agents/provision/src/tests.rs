use super::*;
use goblin_core_config::{PROVISION_BYTES_MAX, seal};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const STORAGE: &str = include_str!("../../core/config/data/storage.toml");
const BOX_ID: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

fn places(dir: &Path) -> Places {
    std::fs::create_dir_all(dir.join("esp")).unwrap();
    std::fs::create_dir_all(dir.join("state")).unwrap();
    Places {
        state: None,
        esp: None,
        applied: dir.join("state/config/provision.toml"),
        result: dir.join("state/config/provision-result.json"),
        offered: dir.join("esp/provision.toml"),
        role: dir.join("run/role"),
    }
}

fn flash(places: &Places, text: &str) {
    std::fs::write(&places.offered, seal(text).unwrap()).unwrap();
}

fn esp_text(places: &Places) -> String {
    std::fs::read_to_string(&places.offered).unwrap()
}

#[test]
fn first_boot_applies_and_scrubs_and_the_next_one_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    flash(&places, STORAGE);
    let (first, role, host) = settle(&places);
    assert_eq!((first.outcome, role), (ProvisionOutcome::Applied, Some(Role::Storage)));
    assert_eq!(host, "attic-disks");
    assert!(esp_text(&places).starts_with("# This board's"));
    assert_eq!(esp_text(&places).len(), PROVISION_BYTES_MAX);
    assert_eq!(esp_text(&places).trim_end_matches('\n').lines().count(), 1);
    let mode = std::fs::metadata(&places.applied).unwrap().permissions().mode();
    let dir_mode =
        std::fs::metadata(places.applied.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!((mode & 0o777, dir_mode & 0o777), (0o600, 0o700));

    let (second, role, _) = settle(&places);
    assert_eq!((second.outcome, role), (ProvisionOutcome::Applied, Some(Role::Storage)));
    assert_eq!((second.digest, second.at_unix_s), (first.digest, first.at_unix_s));
}

#[test]
fn a_power_cut_before_the_scrub_is_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    flash(&places, STORAGE);
    settle(&places);
    flash(&places, STORAGE);
    let (status, role, _) = settle(&places);
    assert_eq!((status.outcome, role), (ProvisionOutcome::Applied, Some(Role::Storage)));
    assert!(esp_text(&places).starts_with("# This board's"));
}

#[test]
fn a_lost_result_file_does_not_lose_the_role() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    flash(&places, STORAGE);
    settle(&places);
    std::fs::remove_file(&places.result).unwrap();
    assert_eq!(settle(&places).1, Some(Role::Storage));
}

#[test]
fn a_file_for_another_box_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    flash(&places, STORAGE);
    settle(&places);
    let other = STORAGE.replace(BOX_ID, &"ab".repeat(16)).replace("Attic", "Cellar");
    flash(&places, &other);
    let before = esp_text(&places);
    let (status, role, host) = settle(&places);
    assert_eq!((status.outcome, role), (ProvisionOutcome::Applied, Some(Role::Storage)));
    assert_eq!(host, "attic-disks");
    assert!(status.detail.contains("another box (`Cellar`)"), "{}", status.detail);
    assert_eq!(esp_text(&places), before);
}

#[test]
fn changed_settings_of_the_same_box_are_not_applied_again() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    flash(&places, STORAGE);
    settle(&places);
    flash(&places, &STORAGE.replace("attic-disks", "new-name"));
    let (status, _, host) = settle(&places);
    assert_eq!(host, "attic-disks");
    assert!(status.detail.contains("happens once"), "{}", status.detail);
}

#[test]
fn missing_and_refused_files_leave_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    let (status, role, host) = settle(&places);
    assert_eq!((status.outcome, role), (ProvisionOutcome::Missing, None));
    assert_eq!(host, "goblin");

    let mut torn = seal(STORAGE).unwrap();
    torn[700..].fill(b'\n');
    std::fs::write(&places.offered, &torn).unwrap();
    let (status, role, _) = settle(&places);
    assert_eq!((status.outcome, role), (ProvisionOutcome::Refused, None));
    assert!(status.detail.contains("esp/provision.toml: "), "{}", status.detail);
    assert!(!places.applied.exists());
    assert_eq!(std::fs::read(&places.offered).unwrap(), torn);
}

#[test]
fn a_damaged_applied_file_can_be_replaced_by_flashing_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    flash(&places, STORAGE);
    settle(&places);
    std::fs::write(&places.applied, b"schema = 1\nrole = \"sto").unwrap();
    let (status, role, _) = settle(&places);
    assert_eq!((status.outcome, role), (ProvisionOutcome::Refused, None));
    flash(&places, STORAGE);
    let (status, role, _) = settle(&places);
    assert_eq!((status.outcome, role), (ProvisionOutcome::Applied, Some(Role::Storage)));
}

#[test]
fn a_full_state_keeps_the_file_on_the_esp() {
    let dir = tempfile::tempdir().unwrap();
    let mut places = places(dir.path());
    // A file in the directory's place refuses every write below it.
    std::fs::write(dir.path().join("state/config"), b"").unwrap();
    places.applied = dir.path().join("state/config/x/provision.toml");
    flash(&places, STORAGE);
    let before = esp_text(&places);
    let (status, role, _) = settle(&places);
    assert_eq!((status.outcome, role), (ProvisionOutcome::Refused, None));
    assert_eq!(esp_text(&places), before);
}

#[test]
fn an_applied_file_that_cannot_be_read_now_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    flash(&places, STORAGE);
    settle(&places);
    // A directory in its place is read as an error of the disk.
    std::fs::remove_file(&places.applied).unwrap();
    std::fs::create_dir(&places.applied).unwrap();
    let other = STORAGE.replace(BOX_ID, &"ab".repeat(16));
    flash(&places, &other);
    let before = esp_text(&places);
    let (status, role, _) = settle(&places);
    assert_eq!((status.outcome, role), (ProvisionOutcome::Refused, None));
    assert!(status.detail.contains("cannot be read"), "{}", status.detail);
    assert_eq!(esp_text(&places), before);
}
