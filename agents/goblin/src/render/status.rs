//! `goblin status`: both boards at a glance.

use super::{history, words};
use crate::output::{Paint, Tone};
use goblin_core_types::{
    BoardStatus, BoxStatus, LinkState, MirrorState, PoolState, PoolStatus, UpdateLife, UpdatePhase,
    UpdateStatus, Version,
};

/// Width of the column with the names of the parts.
const LABEL_WIDTH: usize = 9;

/// The whole answer, one line per item.
pub fn lines(status: &BoxStatus, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    for board in &status.boards {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        Board { board, paint, lines: &mut lines }.all();
    }
    for absence in &status.absent {
        lines.push(String::new());
        lines.push(paint.paint(Tone::Warn, &words::plain(absence)));
    }
    lines
}

struct Board<'a> {
    board: &'a BoardStatus,
    paint: Paint,
    lines: &'a mut Vec<String>,
}

impl Board<'_> {
    fn all(&mut self) {
        self.heading();
        self.health();
        self.slots();
        self.system_disks();
        self.network();
        self.disks();
        self.shares();
        self.update();
        self.memory();
    }

    /// Adds lines, the first with the label, the others below it.
    fn part(&mut self, label: &str, items: Vec<String>) {
        for (index, item) in items.into_iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            let padded = self.paint.paint(Tone::Dim, &format!("{label:<LABEL_WIDTH$}"));
            self.lines.push(format!("  {padded} {item}").trim_end().to_owned());
        }
    }

    fn heading(&mut self) {
        let board = self.board;
        let role = board.role.map_or("no role", |role| role.as_str());
        let (word, tone) = words::health(board.health.state);
        let trial = if board.boot.trial { ", on trial" } else { "" };
        self.lines.push(format!(
            "{}  {}  release {}{}  {}  up {}",
            self.paint.paint(Tone::Strong, role),
            words::plain(&board.host),
            version(board.boot.version),
            trial,
            self.paint.paint(tone, word),
            words::span(board.boot.uptime_s),
        ));
        if !board.boot.notes.is_empty() {
            self.part("brings", vec![words::plain(&board.boot.notes)]);
        }
        let before = board.boot.attempts.iter().rev().nth(1).and_then(|last| last.end.as_ref());
        if let Some((sentence, tone)) = before.and_then(history::end_sentence) {
            self.part("before", vec![self.paint.paint(tone, &words::plain(&sentence))]);
        }
    }

    fn health(&mut self) {
        let items = self.board.health.checks.iter().map(|check| {
            let (word, tone) = words::check(check.state);
            let word = self.paint.paint(tone, &format!("{word:<7}"));
            format!("{word} {:<8} {}", check.name, words::plain(&check.detail))
        });
        let items = items.collect();
        self.part("health", items);
    }

    fn system_disks(&mut self) {
        let Some(disks) = &self.board.disks else { return };
        let (word, tone) = match disks.state {
            MirrorState::Single | MirrorState::Unknown => ("one", Tone::Dim),
            MirrorState::Wanted => ("no mirror yet", Tone::Warn),
            MirrorState::Making => ("the mirror is being filled", Tone::Warn),
            MirrorState::InStep => ("in step", Tone::Good),
            MirrorState::Alone => ("degraded, one is missing", Tone::Warn),
            MirrorState::Split => ("split", Tone::Bad),
            MirrorState::Foreign => ("one beside a strange one", Tone::Warn),
        };
        let line = format!("{}: {}", self.paint.paint(tone, word), words::plain(&disks.detail));
        self.part("system", vec![line]);
    }

    fn slots(&mut self) {
        let items = self.board.slots.iter().map(|slot| {
            let (word, tone) = words::slot(slot.state);
            let mark = if slot.running { "runs" } else { "" };
            format!(
                "{:<8} {:<4} {} {}",
                slot.version.to_string(),
                mark,
                self.paint.paint(tone, &word),
                self.paint.paint(Tone::Dim, &words::plain(&slot.file)),
            )
        });
        let items = items.collect();
        self.part("releases", items);
    }

    fn network(&mut self) {
        let link = &self.board.link;
        let place = link.interface.as_deref().unwrap_or("");
        let state = match link.state {
            LinkState::Searching => "searching for the other board".to_owned(),
            LinkState::Up => format!("up on {place}"),
            LinkState::Lost => "the other board has fallen silent".into(),
            LinkState::Conflict => "both boards claim the same role".into(),
            LinkState::Foreign => "a board of another box".into(),
        };
        let peer = match (&link.peer_host, link.peer_version) {
            (Some(host), Some(release)) => {
                format!(", {} runs release {release}", words::plain(host))
            }
            _ => String::new(),
        };
        let tone = if link.state == LinkState::Up { Tone::Good } else { Tone::Warn };
        self.part("link", vec![format!("{}{peer}", self.paint.paint(tone, &state))]);
        let addresses = &self.board.network.lan_addresses;
        if !addresses.is_empty() {
            self.part("address", vec![words::plain(&addresses.join(", "))]);
        }
        if let Some(problem) = &self.board.network.problem {
            self.part("network", vec![self.paint.paint(Tone::Warn, &words::plain(problem))]);
        }
    }

    fn disks(&mut self) {
        let Some(pool) = &self.board.pool else { return };
        let mut items = vec![pool_line(pool, self.paint)];
        items.extend(pool.disks.iter().map(|disk| {
            let device = disk.device.as_deref().unwrap_or("absent");
            format!(
                "{:<16} {:<8} {:>9}  {}",
                words::plain(&disk.serial),
                words::plain(device),
                words::bytes(disk.size_bytes),
                words::plain(&disk.detail)
            )
        }));
        self.part("pool", items);
    }

    fn shares(&mut self) {
        let served = self.board.shares.iter().map(|share| {
            let state = match (&share.problem, share.served) {
                (Some(problem), _) => self.paint.paint(Tone::Warn, &words::plain(problem)),
                (None, true) => self.paint.paint(Tone::Good, "served"),
                (None, false) => self.paint.paint(Tone::Warn, "not served"),
            };
            format!(
                "{:<12} {state}, {} clients, {} read, {} written",
                share.name,
                share.clients,
                words::bytes(share.read_bytes),
                words::bytes(share.written_bytes)
            )
        });
        let served = served.collect();
        let mounted = self.board.mounts.iter().map(|mount| {
            let state = match (&mount.problem, mount.mounted) {
                (None, true) => self.paint.paint(Tone::Good, &format!("at {}", mount.path)),
                (Some(problem), _) => self.paint.paint(Tone::Warn, &words::plain(problem)),
                (None, false) => self.paint.paint(Tone::Warn, "not mounted"),
            };
            format!("{:<12} {state}", mount.name)
        });
        let mounted = mounted.collect();
        self.part("shares", served);
        self.part("mounts", mounted);
    }

    fn update(&mut self) {
        let update = &self.board.update;
        let mut items = vec![phase(update)];
        items.extend(update.pair.iter().map(|text| words::plain(text)));
        if let Some(problem) = &update.problem {
            items.push(self.paint.paint(Tone::Warn, &words::plain(problem)));
        }
        let life = &update.life;
        if life.state == UpdateLife::Failed && update.problem.is_none() && !told(update) {
            let release =
                life.version.map_or_else(|| "the last order".into(), |v| format!("release {v}"));
            let text = format!("{release} failed: {}", life.reason);
            items.push(self.paint.paint(Tone::Warn, &words::plain(&text)));
        }
        items.extend(update.waiting.iter().map(|text| words::plain(text)));
        let pins: Vec<String> = update.settings.pins.iter().map(ToString::to_string).collect();
        if !pins.is_empty() {
            items.push(format!("pinned: {}", pins.join(", ")));
        }
        if let Some(last) = &update.last {
            let zone = &self.board.time.zone;
            items.push(super::history::report_line(last, zone, self.paint));
        }
        for bad in &update.quarantine {
            let text = format!("release {} is not tried again: {}", bad.version, bad.reason);
            items.push(self.paint.paint(Tone::Warn, &words::plain(&text)));
        }
        self.part("update", items);
    }

    fn memory(&mut self) {
        let memory = &self.board.memory;
        let used = memory.total_kib.saturating_sub(memory.available_kib);
        self.part(
            "memory",
            vec![format!(
                "{} of {} in use, PID 1 {}",
                words::bytes(used.saturating_mul(1024)),
                words::bytes(memory.total_kib.saturating_mul(1024)),
                words::bytes(memory.pid1_rss_kib.saturating_mul(1024)),
            )],
        );
    }
}

fn version(version: Option<Version>) -> String {
    version.map_or_else(|| "unknown".into(), |version| version.to_string())
}

fn pool_line(pool: &PoolStatus, paint: Paint) -> String {
    let (word, tone) = match pool.state {
        PoolState::None => ("no data disks named", Tone::Dim),
        PoolState::Searching => ("looking for the disks", Tone::Warn),
        PoolState::Absent => ("a disk is absent", Tone::Bad),
        PoolState::Foreign => ("a disk holds something else", Tone::Bad),
        PoolState::Formatting => ("being made", Tone::Warn),
        PoolState::Mounted => ("mounted", Tone::Good),
        PoolState::Degraded => ("mounted, a disk is missing", Tone::Warn),
        PoolState::Failed => ("cannot be used", Tone::Bad),
    };
    let mut line = paint.paint(tone, word);
    if pool.total_bytes > 0 {
        line.push_str(&format!(
            ", {}, {} of {} in use",
            pool.profile,
            words::bytes(pool.used_bytes),
            words::bytes(pool.total_bytes)
        ));
    }
    if let Some(problem) = &pool.problem {
        line.push_str(&format!(": {}", words::plain(problem)));
    }
    line
}

/// The last report says already what the life does.
fn told(update: &UpdateStatus) -> bool {
    update.last.as_ref().is_some_and(|last| last.reason == update.life.reason)
}

fn phase(update: &UpdateStatus) -> String {
    let target = update.target.map(|version| format!(" release {version}")).unwrap_or_default();
    let progress = if update.total_bytes > 0 {
        format!(", {} of {}", words::bytes(update.done_bytes), words::bytes(update.total_bytes))
    } else {
        String::new()
    };
    match update.phase {
        UpdatePhase::Idle => match update.offered {
            Some(offered) => {
                let notes = update.offered_notes.as_deref().unwrap_or("");
                let notes = if notes.is_empty() { String::new() } else { format!(": {notes}") };
                words::plain(&format!("release {offered} is offered{notes}"))
            }
            None => "idle".into(),
        },
        UpdatePhase::Checking => "reading what the source offers".into(),
        UpdatePhase::Fetching => format!("fetching{target}{progress}"),
        UpdatePhase::Building => format!("building{target}{progress}"),
        UpdatePhase::Staged => format!("staged{target}"),
        UpdatePhase::Armed => format!("armed{target}, the next boot tries it"),
        UpdatePhase::Trial => format!("on trial{target}"),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
