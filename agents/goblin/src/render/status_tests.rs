use super::*;
use goblin_core_types::{
    Check, CheckState, Health, HealthState, LinkStatus, MemoryStatus, NetStatus, Role, ShareStatus,
    SlotState, SlotStatus, UpdateOutcome, UpdateReport,
};

fn sample() -> BoxStatus {
    let board = BoardStatus {
        role: Some(Role::Storage),
        host: "nas\x1b[31m".into(),
        boot: goblin_core_types::BootStatus {
            version: Some(Version::new(2, 0, 0)),
            uptime_s: 7_260,
            ..Default::default()
        },
        health: Health {
            state: HealthState::Degraded,
            checks: vec![Check {
                name: "link".into(),
                state: CheckState::Warn,
                detail: "the compute board has fallen silent".into(),
            }],
        },
        slots: vec![SlotStatus {
            version: Version::new(2, 0, 0),
            file: "goblinux_2.efi".into(),
            state: SlotState::Good,
            running: true,
            size_bytes: 35_000_000,
        }],
        network: NetStatus { lan_addresses: vec!["10.0.2.15".into()], ..NetStatus::default() },
        link: LinkStatus { state: LinkState::Lost, ..LinkStatus::default() },
        pool: Some(PoolStatus {
            state: PoolState::Mounted,
            profile: "raid1".into(),
            total_bytes: 2_000_000_000,
            used_bytes: 16_000_000,
            ..PoolStatus::default()
        }),
        shares: vec![ShareStatus {
            name: "main".into(),
            served: true,
            clients: 1,
            read_bytes: 10,
            written_bytes: 2_000,
            problem: None,
        }],
        update: UpdateStatus {
            last: Some(UpdateReport {
                from: Version::new(1, 0, 0),
                to: Version::new(2, 0, 0),
                outcome: UpdateOutcome::Good,
                reason: "every role check passed".into(),
                last_lines: Vec::new(),
                at_unix_s: 1_763_640_000,
                written: None,
            }),
            ..UpdateStatus::default()
        },
        memory: MemoryStatus { total_kib: 500_000, available_kib: 400_000, pid1_rss_kib: 2_000 },
        ..BoardStatus::default()
    };
    BoxStatus {
        schema: 1,
        boards: vec![board],
        absent: vec!["the compute board cannot be reached: host is down".into()],
    }
}

#[test]
fn a_board_is_told_in_aligned_plain_words() {
    let text = lines(&sample(), Paint::default()).join("\n");
    let expected = "\
storage  nas\u{fffd}[31m  release 2  degraded  up 2 h 1 min
  health    look    link     the compute board has fallen silent
  releases  2        runs good goblinux_2.efi
  link      the other board has fallen silent
  address   10.0.2.15
  pool      mounted, raid1, 16.0 MB of 2.0 GB in use
  shares    main         served, 1 clients, 10 B read, 2.0 kB written
  update    idle
            2025-11-20 12:00 UTC  1 -> 2  good: every role check passed
  memory    102.4 MB of 512.0 MB in use, PID 1 2.0 MB

the compute board cannot be reached: host is down";
    assert_eq!(text, expected);
}

#[test]
fn a_board_that_knows_nothing_is_told_too() {
    let status = BoxStatus { boards: vec![BoardStatus::default()], ..BoxStatus::default() };
    let lines = lines(&status, Paint::default());
    assert!(lines[0].starts_with("no role"), "{lines:?}");
}
