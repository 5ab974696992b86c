//! Page 2: the pool, its disks, the shares and who uses them.

use super::{Card, Cell, Icon, Part, ROWS_MAX, Row, overview, problem, rest};
use crate::model::Model;
use crate::words::{self, Badge, Tone};
use goblin_core_types::{BoardStatus, PoolState, PoolStatus};

/// Fill of the pool in parts of a thousand from which on it is a warning.
const FULL_WARN: u16 = 900;

pub(super) fn page(model: &Model) -> Vec<Row> {
    let Some(storage) = model.storage() else {
        return vec![Row::Cards(vec![(1, Card {
            icon: Some(Icon::Storage),
            title: "Storage".to_owned(),
            badge: Some(Badge::new(Tone::Busy, "Not in sight")),
            parts: vec![Part::Text(
                "The storage board has not been seen since this console started. Its disks and shares appear here as soon as it answers.".to_owned(),
            )],
            ..Card::default()
        })])];
    };
    let current = model.boards().any(|b| std::ptr::eq(b, storage));
    let mut rows = Vec::new();
    if !current {
        rows.push(Row::Cards(vec![(
            1,
            Card {
                title: "Not current".to_owned(),
                badge: Some(Badge::new(Tone::Bad, "Not in sight")),
                parts: vec![Part::Text(
                    "The storage board does not answer; this is what it said last.".to_owned(),
                )],
                ..Card::default()
            },
        )]));
    }
    let (pool, shares) = (pool_card(storage, !current), share_card(storage, !current));
    rows.push(Row::Cards(vec![(12, pool), (10, shares)]));
    if !model.local().map_or(&[][..], |b| &b.mounts).is_empty() {
        rows.push(Row::Band(mount_list(model)));
    }
    rows.push(Row::Cards(vec![(1, all_commands(storage))]));
    rows
}

pub(super) fn pool_bar(pool: &PoolStatus) -> Part {
    let badge = words::pool(pool.state);
    let usable = matches!(pool.state, PoolState::Mounted | PoolState::Degraded);
    if !usable || pool.total_bytes == 0 {
        return Part::Fact("Pool".to_owned(), badge.word);
    }
    let permille = words::permille(pool.used_bytes, pool.total_bytes);
    let tone = if permille >= FULL_WARN { Tone::Warn } else { badge.tone };
    let text =
        format!("{} of {} used", words::size(pool.used_bytes), words::size(pool.total_bytes));
    Part::Bar { label: "Pool".to_owned(), permille, text, tone }
}

fn pool_card(board: &BoardStatus, stale: bool) -> Card {
    let mut card = Card {
        icon: Some(Icon::Storage),
        title: "Pool".to_owned(),
        subtitle: words::host(board),
        stale,
        ..Card::default()
    };
    let Some(pool) = &board.pool else {
        card.badge = Some(words::pool(PoolState::None));
        card.parts.push(Part::Text("The provisioning file names no data disk.".to_owned()));
        return card;
    };
    card.badge = Some(words::pool(pool.state));
    let tone = card.badge.as_ref().map_or(Tone::Warn, |b| b.tone).max(Tone::Warn);
    problem(&mut card.parts, tone, pool.problem.as_deref());
    card.parts.push(pool_bar(pool));
    let kind = match pool.profile.as_str() {
        "raid1" => "every file on two disks".to_owned(),
        "single" => "every file on one disk".to_owned(),
        other => words::clean_to(other, 40),
    };
    super::fact(&mut card.parts, "Keeps", kind);
    let rows = pool.disks.iter().take(ROWS_MAX).map(|disk| {
        let device = disk.device.as_deref().map(|d| words::clean_to(d, 32));
        let state =
            device.map_or_else(|| Cell::marked(Badge::new(Tone::Bad, "absent")), Cell::plain);
        let bytes = if disk.size_bytes == 0 { String::new() } else { words::size(disk.size_bytes) };
        vec![
            Cell::plain(words::clean_to(&disk.serial, 40)),
            state,
            Cell::plain(bytes),
            Cell::plain(words::clean_to(&disk.detail, 80)),
        ]
    });
    let columns = vec![("Disk", 7), ("Device", 3), ("Size", 3), ("Found", 6)];
    card.parts.push(Part::Table { columns, rows: rows.collect() });
    card.parts.extend(rest(pool.disks.len(), ROWS_MAX));
    card
}

fn share_card(board: &BoardStatus, stale: bool) -> Card {
    let served = board.shares.iter().filter(|s| s.served).count();
    let badge = match (board.shares.len(), served) {
        (0, _) => Badge::new(Tone::Quiet, "None set up"),
        (all, up) if all == up => Badge::new(Tone::Good, format!("{up} served")),
        (all, up) => Badge::new(Tone::Bad, format!("{up} of {all} served")),
    };
    let rows = board.shares.iter().take(ROWS_MAX).map(|share| {
        let state = match share.served {
            true => Badge::new(Tone::Good, "served"),
            false => Badge::new(Tone::Bad, "not served"),
        };
        vec![
            Cell::plain(words::clean_to(&share.name, 48)),
            Cell::marked(state),
            Cell::plain(share.clients.to_string()),
            Cell::plain(words::size(share.read_bytes)),
            Cell::plain(words::size(share.written_bytes)),
        ]
    });
    let columns = vec![("Share", 4), ("State", 6), ("Clients", 3), ("Read", 4), ("Written", 4)];
    let mut parts = vec![Part::Table { columns, rows: rows.collect() }];
    parts.extend(rest(board.shares.len(), ROWS_MAX));
    for share in board.shares.iter().take(ROWS_MAX) {
        if let Some(text) = &share.problem {
            let name = words::clean_to(&share.name, 48);
            parts.push(Part::Note(Tone::Bad, format!("{name}: {}", words::clean(text))));
        }
    }
    Card { title: "Shares".to_owned(), badge: Some(badge), parts, stale, ..Card::default() }
}

fn mount_list(model: &Model) -> Card {
    let mounts = model.local().map_or(&[][..], |b| &b.mounts);
    let rows = mounts.iter().take(ROWS_MAX).map(|mount| {
        let state = match mount.mounted {
            true => Badge::new(Tone::Good, "answers"),
            false => Badge::new(Tone::Warn, "does not answer"),
        };
        let text = mount.problem.as_deref().map(words::clean).unwrap_or_default();
        vec![Cell::plain(words::clean_to(&mount.path, 80)), Cell::marked(state), Cell::plain(text)]
    });
    let columns = vec![("Directory", 4), ("State", 3), ("", 9)];
    let mut parts = vec![Part::Table { columns, rows: rows.collect() }];
    parts.extend(rest(mounts.len(), ROWS_MAX));
    Card { title: "Shares on this board".to_owned(), parts, ..Card::default() }
}

fn all_commands(storage: &BoardStatus) -> Card {
    let commands = overview::commands(storage);
    let mut card = Card { title: "Mount on a Linux PC".to_owned(), ..Card::default() };
    let total = commands.len();
    if total == 0 {
        card.parts.push(Part::Text("No share can be reached from your network now.".to_owned()));
    } else {
        card.parts.push(Part::Code(commands.into_iter().take(ROWS_MAX).collect()));
    }
    card.parts.extend(rest(total, ROWS_MAX));
    card
}
