//! Page 1: both boards at a glance, or what keeps them from being shown.

use super::{Cable, Card, Icon, Part, Poster, Row, fact, history, problem};
use crate::clock;
use crate::model::Model;
use crate::words::{self, Badge, Tone};
use goblin_core_types::{
    BoardStatus, CheckState, HealthState, LinkState, PoolState, ProvisionOutcome, Role, ShareStatus,
};

/// Sentences of failing checks shown per board; the rest is counted.
const NOTES_MAX: usize = 3;
/// Commands shown on this page; all are on the storage page.
const COMMANDS_MAX: usize = 1;
/// Lines of events on this page; page 3 tells more of each.
const EVENT_LINES_MAX: usize = 4;
/// Seconds after which the silence of the control service is worth a large message.
const PATIENCE_S: u64 = 5;

pub(super) fn page(model: &Model) -> Vec<Row> {
    let Some(local) = model.local() else { return vec![Row::Poster(no_status(model))] };
    if local.role.is_none() {
        return vec![Row::Poster(unprovisioned(local))];
    }
    let mut rows = Vec::new();
    if let Some(why) = model.silent() {
        rows.push(Row::Cards(vec![(1, silent_card(why))]));
    }
    let (left, right) = (board_card(local), other_card(model, local));
    let happened = happened_card(model, lines_left(&left, &right));
    rows.push(Row::Pair { left, cable: cable(model, local), right });
    rows.push(Row::Band(happened));
    rows.extend(mount_card(model).map(Row::Band));
    rows
}

/// Lines for events that fit below the boards: each note beyond the first takes the place of one.
fn lines_left(left: &Card, right: &Card) -> usize {
    let notes = |card: &Card| card.parts.iter().filter(|p| matches!(p, Part::Note(..))).count();
    let extra = notes(left).max(notes(right)).saturating_sub(1);
    EVENT_LINES_MAX.saturating_sub(extra).max(1)
}

fn happened_card(model: &Model, lines_max: usize) -> Card {
    let events = history::newest(model, lines_max);
    let part = match events.is_empty() {
        true => Part::Text("No upgrade and no rollback so far.".to_owned()),
        false => Part::Events(events),
    };
    Card { title: "What happened".to_owned(), parts: vec![part], ..Card::default() }
}

fn no_status(model: &Model) -> Poster {
    match model.silent() {
        Some(why) if model.age_s() >= PATIENCE_S => Poster {
            tone: Tone::Bad,
            headline: "Control service not answering".to_owned(),
            sentences: vec![words::capital(why)],
            remedy: vec![
                "It is started again by itself; this page fills as soon as it answers.".to_owned(),
                "Page 5 shows the log of this board.".to_owned(),
            ],
        },
        _ => Poster {
            tone: Tone::Busy,
            headline: "Starting".to_owned(),
            sentences: vec!["Waiting for the first status of this board.".to_owned()],
            remedy: Vec::new(),
        },
    }
}

fn silent_card(why: &str) -> Card {
    Card {
        title: "Control service not answering".to_owned(),
        badge: Some(Badge::new(Tone::Bad, "Not current")),
        parts: vec![Part::Note(
            Tone::Bad,
            format!("Below is what it said last. {}", words::capital(why)),
        )],
        ..Card::default()
    }
}

fn unprovisioned(board: &BoardStatus) -> Poster {
    let detail = words::clean(&board.provision.detail);
    let refused = board.provision.outcome == ProvisionOutcome::Refused;
    let mut sentences = Vec::new();
    match board.provision.outcome {
        ProvisionOutcome::Unknown | ProvisionOutcome::Applied => {
            return Poster {
                tone: Tone::Busy,
                headline: "Reading the provisioning file".to_owned(),
                sentences: Vec::from_iter(Some(detail).filter(|d| !d.is_empty())),
                remedy: Vec::new(),
            };
        }
        ProvisionOutcome::Missing => sentences.push(
            "No provisioning file was found on the boot disk, so this board has no role, no keys and no box."
                .to_owned(),
        ),
        ProvisionOutcome::Refused => {
            sentences.push("The provisioning file on the boot disk was not accepted. Nothing was changed.".to_owned());
        }
    }
    if !detail.is_empty() {
        sentences.push(detail);
    }
    let remedy = if refused {
        vec![
            "Correct the field named above in this board's provisioning file.".to_owned(),
            "Flash it again with `cargo xtask flash`, or replace provision.toml on the disk's first partition.".to_owned(),
            "Start this board again.".to_owned(),
        ]
    } else {
        vec![
            "Make a pair of files with `cargo xtask provision`, one for each board.".to_owned(),
            "Flash this board's file with `cargo xtask flash`, or copy it to the disk's first partition as provision.toml.".to_owned(),
            "Start this board again.".to_owned(),
        ]
    };
    let headline = if refused { "Provisioning refused" } else { "Not provisioned" };
    Poster { tone: Tone::Bad, headline: headline.to_owned(), sentences, remedy }
}

fn icon(role: Option<Role>) -> Icon {
    if role == Some(Role::Storage) { Icon::Storage } else { Icon::Compute }
}

fn board_card(board: &BoardStatus) -> Card {
    let mut parts = health_notes(board);
    problem(&mut parts, Tone::Warn, board.update.problem.as_deref());
    upgrade_parts(&mut parts, board);
    parts.push(Part::Slots(slots(board)));
    if board.role == Some(Role::Storage)
        || board.pool.as_ref().is_some_and(|p| p.state != PoolState::None)
    {
        pool_parts(&mut parts, board);
    }
    mounts(&mut parts, board);
    fact(&mut parts, "Address", super::network::addresses(board));
    Card {
        icon: Some(icon(board.role)),
        title: words::board(board.role).to_owned(),
        subtitle: format!("{}  ·  {}", words::host(board), clock::up(board.boot.uptime_s)),
        badge: Some(words::health(board.health.state)),
        parts,
        stale: false,
    }
}

fn health_notes(board: &BoardStatus) -> Vec<Part> {
    let checks = &board.health.checks;
    let wrong: Vec<_> =
        checks.iter().filter(|c| matches!(c.state, CheckState::Fail | CheckState::Warn)).collect();
    let mut parts: Vec<Part> = wrong
        .iter()
        .take(NOTES_MAX)
        .map(|c| Part::Note(words::check(c.state), words::capital(&words::clean(&c.detail))))
        .collect();
    if let Some(more) = wrong.len().checked_sub(NOTES_MAX).filter(|n| *n > 0) {
        parts.push(Part::Note(
            Tone::Warn,
            format!("and {}", words::count(more as u64, "more check", "more checks")),
        ));
    }
    let waiting: Vec<String> = checks
        .iter()
        .filter(|c| c.state == CheckState::Waiting)
        .map(|c| words::clean_to(&c.name, 24))
        .take(6)
        .collect();
    if !waiting.is_empty() {
        parts.push(Part::Note(Tone::Busy, format!("Waiting for {}", waiting.join(", "))));
    }
    if parts.is_empty() {
        parts.push(match board.health.state {
            HealthState::Healthy if !checks.is_empty() => Part::Note(
                Tone::Good,
                format!("All {} pass", words::count(checks.len() as u64, "check", "checks")),
            ),
            HealthState::Healthy => Part::Note(Tone::Good, "Everything works".to_owned()),
            _ => Part::Note(Tone::Busy, "Checks have not answered yet".to_owned()),
        });
    }
    parts
}

pub(super) fn upgrade_parts(parts: &mut Vec<Part>, board: &BoardStatus) {
    if let Some(pair) = board.update.pair.as_deref().map(words::clean).filter(|p| !p.is_empty()) {
        parts.push(Part::Note(Tone::Busy, words::capital(&pair)));
    }
    let Some(sentence) = words::phase(&board.update) else { return };
    let (done, total) = (board.update.done_bytes, board.update.total_bytes);
    if total == 0 {
        parts.push(Part::Note(Tone::Busy, sentence));
        return;
    }
    let text = format!("{} of {}", words::size(done.min(total)), words::size(total));
    parts.push(Part::Bar {
        label: sentence,
        permille: words::permille(done, total),
        text,
        tone: Tone::Busy,
    });
}

pub(super) fn slots(board: &BoardStatus) -> Vec<(String, Badge)> {
    let mut slots: Vec<_> = board.slots.iter().take(4).collect();
    slots.sort_by_key(|s| (!s.running, std::cmp::Reverse(s.version)));
    let mut tiles: Vec<(String, Badge)> =
        slots.iter().map(|s| (s.version.to_string(), words::slot(s, board))).collect();
    if tiles.is_empty() {
        let trial = if board.boot.trial { "running, on trial" } else { "running" };
        let tone = if board.boot.trial { Tone::Busy } else { Tone::Good };
        tiles.push((words::version(board.boot.version), Badge::new(tone, trial)));
    }
    tiles
}

fn pool_parts(parts: &mut Vec<Part>, board: &BoardStatus) {
    if let Some(pool) = &board.pool {
        parts.push(super::storage::pool_bar(pool));
    }
    let served: Vec<&ShareStatus> = board.shares.iter().filter(|s| s.served).collect();
    let mut names: Vec<String> =
        served.iter().take(3).map(|s| words::clean_to(&s.name, 24)).collect();
    if served.len() > names.len() {
        names.push("…".to_owned());
    }
    let clients = served.iter().fold(0u64, |sum, s| sum.saturating_add(u64::from(s.clients)));
    let value = match (board.shares.is_empty(), names.is_empty()) {
        (true, _) => "none set up".to_owned(),
        (false, true) => format!("none of {} served", board.shares.len()),
        (false, false) => {
            format!("{}  ·  {}", names.join(", "), words::count(clients, "client", "clients"))
        }
    };
    fact(parts, "Shares", value);
}

fn mounts(parts: &mut Vec<Part>, board: &BoardStatus) {
    if board.mounts.is_empty() {
        return;
    }
    let up = board.mounts.iter().filter(|m| m.mounted).count();
    let names: Vec<String> =
        board.mounts.iter().take(4).map(|m| words::clean_to(&m.path, 40)).collect();
    let value = match up == board.mounts.len() {
        true => names.join(", "),
        false => format!("{up} of {} answer", board.mounts.len()),
    };
    fact(parts, "Shares here", value);
}

fn cable(model: &Model, local: &BoardStatus) -> Cable {
    let link = &local.link;
    let mut badge = words::link(link.state);
    if link.state == LinkState::Up && model.peer_silent().is_some() {
        badge = Badge::new(Tone::Warn, "Linked, no answer");
    }
    let detail = match (link.state, link.silent_ms, link.interface.as_deref()) {
        (LinkState::Lost, Some(ms), _) => format!("for {}", clock::span(ms / 1000)),
        (_, _, Some(interface)) => words::clean_to(interface, 15),
        _ => String::new(),
    };
    Cable { badge, detail }
}

fn other_card(model: &Model, local: &BoardStatus) -> Card {
    if let Some(peer) = model.peer().filter(|_| model.peer_present()) {
        return board_card(peer);
    }
    let role = local.role.map(Role::peer);
    let mut parts = Vec::new();
    let silent_s =
        local.link.silent_ms.filter(|_| local.link.state == LinkState::Lost).map(|ms| ms / 1000);
    let silent_since = silent_s.map(|s| model.unix_s().saturating_sub(s));
    let headline = match model.peer_heard_unix_s().or(silent_since) {
        Some(at) => format!("Not in sight since {}", clock::hour(at, model.zone())),
        None => "Not seen since this board started".to_owned(),
    };
    parts.push(Part::Note(Tone::Bad, headline));
    problem(&mut parts, Tone::Bad, local.link.problem.as_deref());
    if local.link.problem.is_none() {
        problem(&mut parts, Tone::Warn, model.peer_silent().map(words::capital).as_deref());
    }
    parts.push(Part::Text(
        "Everything on this board goes on working. The two find each other again by themselves."
            .to_owned(),
    ));
    parts.push(Part::Text("Look at its power and at the cable between the boards.".to_owned()));
    if let Some(peer) = model.peer() {
        parts.push(Part::Heading("What it said last".to_owned()));
        parts.push(Part::Slots(slots(peer)));
        if peer.role == Some(Role::Storage) {
            pool_parts(&mut parts, peer);
        }
    }
    let known =
        model.peer().map(words::host).or_else(|| local.link.peer_host.as_deref().map(words::clean));
    Card {
        icon: Some(icon(role)),
        title: words::board(role).to_owned(),
        subtitle: known.unwrap_or_default(),
        badge: Some(Badge::new(Tone::Bad, "Not in sight")),
        parts,
        stale: true,
    }
}

/// The address a PC reaches the board at: IPv4 before IPv6, which is longer to type.
fn address(storage: &BoardStatus) -> Option<String> {
    let mut addresses: Vec<&String> = storage.network.lan_addresses.iter().collect();
    addresses.sort_by_key(|address| !address.contains('.'));
    addresses.first().map(|address| words::clean_to(address, 64))
}

/// The commands that mount each served share on a Linux PC that is enrolled.
pub(super) fn commands(storage: &BoardStatus) -> Vec<String> {
    let Some(address) = address(storage) else { return Vec::new() };
    let command = |share: &ShareStatus| {
        let name = words::clean_to(&share.name, 64);
        format!("sudo goblin mount {address}:{name} /mnt")
    };
    storage.shares.iter().filter(|s| s.served).map(command).collect()
}

/// How to mount a share; nothing while the storage board was never seen, since its card says so.
fn mount_card(model: &Model) -> Option<Card> {
    let storage = model.storage()?;
    let mut card = Card { title: "Mount on a Linux PC".to_owned(), ..Card::default() };
    let commands = commands(storage);
    if commands.is_empty() {
        let reason = storage.shares.iter().find_map(|s| s.problem.as_deref()).map(words::clean);
        card.parts.push(Part::Text(match reason {
            Some(reason) => words::capital(&reason),
            None if storage.shares.is_empty() => "The storage board has no shares.".to_owned(),
            None => "The storage board has no address in your network yet.".to_owned(),
        }));
        return Some(card);
    }
    let more = commands.len().saturating_sub(COMMANDS_MAX);
    let login = address(storage)
        .map(|address| format!("sudo goblin login {address} CODE      # once; CODE: page 7"));
    card.parts.push(Part::Code(
        login.into_iter().chain(commands.into_iter().take(COMMANDS_MAX)).collect(),
    ));
    if more > 0 {
        card.subtitle = format!("{more} more on page 2");
    }
    Some(card)
}
