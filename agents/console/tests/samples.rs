//! What matters in each sample status is on the screen in words.

mod common;

use common::{console, press, sample, visible};
use goblin_console::model::{Key, PAGES};

fn page(name: &str, number: u8) -> String {
    let mut model = console(sample(name));
    press(&mut model, &[Key::Number(number)]);
    visible(&model)
}

fn shows(name: &str, number: u8, wanted: &[&str]) {
    let text = page(name, number);
    for words in wanted {
        assert!(text.contains(words), "page {number} of {name} lacks `{words}`:\n{text}");
    }
}

#[test]
fn a_healthy_box_is_shown_with_the_command_to_mount_it() {
    shows(
        "healthy",
        1,
        &[
            "attic",
            "Release 2",
            "17:42 Friday 20 November",
            "All well",
            "Compute board",
            "Storage board",
            "Healthy",
            "2 running",
            "1 previous",
            "Linked enp2s0",
            "1.2 TB of 4.0 TB used",
            "home, media  ·  3 clients",
            "15:12 Both boards Upgraded 1 → 2",
            "sudo goblin mount 192.168.1.21:home /mnt",
            "1 more on page 2",
        ],
    );
    shows(
        "healthy",
        2,
        &[
            "WD-WX12D80A1C4F | sda | 4.0 TB",
            "every file on two disks",
            "home | served | 2",
            "/shares/media | answers",
        ],
    );
    shows(
        "healthy",
        4,
        &[
            "enp1s0 | cable | your network | 192.168.1.20/24",
            "Synced",
            "Europe/Berlin",
            "attic-storage",
        ],
    );
}

#[test]
fn a_lost_link_is_told_with_its_time_and_remedy() {
    shows(
        "link-lost",
        1,
        &[
            "Other board away",
            "Link lost for 7 min",
            "Not in sight since 17:34",
            "Everything on this board goes on working",
            "cable between the boards",
            "not synced",
            "The storage board has been silent for 7 minutes",
        ],
    );
    shows(
        "link-lost",
        4,
        &[
            "Silent for: 7 min",
            "Not synced: no time server has confirmed",
            "`ntp` under `[network]`",
        ],
    );
    shows("link-lost", 2, &["The storage board has not been seen since this console started"]);
}

#[test]
fn an_upgrade_shows_what_is_under_way_on_both_boards() {
    shows(
        "upgrading",
        1,
        &[
            "Upgrading",
            "Downloading release 3: 13.4 MB of 31.4 MB",
            "the storage board downloads",
            "3 next, 3 tries left",
        ],
    );
    shows("upgrading", 3, &["Release 3 is offered", "Security fixes in the kernel"]);
    shows("upgrading", 6, &["Upgrade both boards (not now): An upgrade is under way."]);
}

#[test]
fn a_fall_back_is_told_with_its_reason_and_last_lines() {
    shows(
        "fell-back",
        1,
        &["17:17 Storage board Release 3 failed its trial, back on 2: Not healthy within 60 s"],
    );
    shows(
        "fell-back",
        3,
        &[
            "2 → 3 → 2",
            "Fell back: Not healthy within 60 s",
            "[   60.003] init: reboot: trial failed",
            "Release 3 is not tried again",
        ],
    );
}

#[test]
fn the_whole_story_of_a_rolled_back_box_is_on_one_page() {
    let text = page("rolled-back", 1);
    let story = "16:41 Both boards Rolled back 2 → 1, as asked
16:39 Storage board Release 3 failed its trial, back on 2: stopped after preinit three times: \
Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300
16:35 Both boards Upgraded 1 → 2
";
    assert!(text.contains(story), "{text}");
    // The release that was left by command did not fail.
    assert_eq!(text.matches("2 set aside").count(), 2);
    assert!(text.contains("just started") && text.contains("up 1 min"));
    shows(
        "rolled-back",
        3,
        &[
            "Failed before",
            "It failed its trial on the storage board",
            "Rolled back: release 1 runs again, as asked",
            "2 → 3 → 2   today 16:39",
            "[    1.311] goblin-init[1]: release 3 ends itself",
            "Release 3 is not tried again",
        ],
    );
    shows("rolled-back", 6, &["(not now): No older release is kept on this board."]);
}

#[test]
fn a_quarantined_release_is_called_failed() {
    let mut status = sample("rolled-back");
    let quarantine = &mut status.boards[1].update.quarantine;
    quarantine[0].version = goblin_core_types::Version::new(2, 0, 0);
    let text = visible(&console(status));
    assert!(text.contains("2 set aside") && text.contains("2 failed"), "{text}");
}

#[test]
fn overview_fits_the_least_canvas_with_everything_on_it() {
    for name in ["rolled-back", "healthy", "fell-back", "upgrading", "link-lost"] {
        let mut model = console(sample(name));
        let mut artist = goblin_console::paint::Artist::new(1280, 800);
        goblin_console::png_file::settle(&mut artist, &mut model);
        assert!(!model.scrolls(), "{name} is longer than the screen");
    }
}

#[test]
fn a_board_without_a_role_says_why_and_what_to_do() {
    shows(
        "refused",
        1,
        &[
            "Provisioning refused",
            "unknown key `shares.acess`",
            "Correct the field",
            "cargo xtask flash",
        ],
    );
    shows(
        "unprovisioned",
        1,
        &["Not provisioned", "No provisioning file was found", "cargo xtask provision"],
    );
    shows(
        "unprovisioned",
        6,
        &[
            "Check for a new release (not now): This board is not provisioned.",
            "Restart this board: ",
        ],
    );
}

#[test]
fn every_sample_fits_every_page() {
    for name in [
        "healthy",
        "link-lost",
        "upgrading",
        "fell-back",
        "rolled-back",
        "refused",
        "unprovisioned",
        "overlong",
    ] {
        for number in (1u8..).take(PAGES.len()) {
            let text = page(name, number);
            assert!(text.lines().all(|line| line.chars().count() < 2000), "{name} {number}");
            assert!(!text.contains('\u{202e}'), "{name} {number}");
        }
    }
}

#[test]
fn a_listing_of_clients_is_what_the_command_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/clients.json");
    let reply = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let clients = goblin_console::model::Clients::of(reply).unwrap();
    assert_eq!((clients.enrolled.len(), clients.connections.len()), (2, 2));
}
