//! Page 4: interfaces, the link, the clock.

use super::{Card, Cell, Icon, Part, ROWS_MAX, Row, fact, problem, rest};
use crate::clock;
use crate::model::Model;
use crate::words::{self, Badge, Tone};
use goblin_core_types::{BoardStatus, LinkState, Role};

/// What a clock that is not synced means.
const NOT_SYNCED: &str = "Not synced: no time server has confirmed this clock since the start. Times may be wrong; shares go on working.";
/// What to do about it.
const WAIT_OR_NAME_A_SERVER: &str = "It syncs by itself once a server answers. Give the box a way to the internet, or name a server of your network as `ntp` under `[network]` in the provisioning file.";
/// The same where the way to the internet was spoken of already.
const NAME_A_SERVER: &str = "Servers: `ntp` under `[network]` in the provisioning file.";

pub(super) fn page(model: &Model) -> Vec<Row> {
    let Some(local) = model.local() else {
        return vec![Row::Cards(vec![(
            1,
            Card {
                title: "Network".to_owned(),
                parts: vec![Part::Text("Waiting for the first status of this board.".to_owned())],
                ..Card::default()
            },
        )])];
    };
    let mut boards = vec![(1, interface_card(local, false))];
    if let Some(peer) = model.peer() {
        boards.push((1, interface_card(peer, !model.peer_present())));
    }
    vec![
        Row::Cards(boards),
        Row::Cards(vec![(1, link_card(model, local)), (1, clock_card(model, local))]),
    ]
}

/// Addresses in the LAN, as one text.
pub(super) fn addresses(board: &BoardStatus) -> String {
    let known: Vec<String> =
        board.network.lan_addresses.iter().take(2).map(|a| words::clean_to(a, 45)).collect();
    if known.is_empty() { "none yet".to_owned() } else { known.join(", ") }
}

fn interface_card(board: &BoardStatus, stale: bool) -> Card {
    let mut parts = Vec::new();
    problem(&mut parts, Tone::Warn, board.network.problem.as_deref());
    let net = &board.network;
    let rows = net.interfaces.iter().take(ROWS_MAX).map(|interface| {
        let cable = match interface.carrier {
            true => Badge::new(Tone::Good, "cable"),
            false => Badge::new(Tone::Quiet, "no cable"),
        };
        let purpose = match interface.purpose.as_str() {
            "link" => "other board".to_owned(),
            "lan" => "your network".to_owned(),
            other => words::clean_to(other, 24),
        };
        let list: Vec<String> =
            interface.addresses.iter().take(3).map(|a| words::clean_to(a, 50)).collect();
        vec![
            Cell::plain(words::clean_to(&interface.name, 16)),
            Cell::marked(cable),
            Cell::plain(purpose),
            Cell::plain(list.join("\n")),
        ]
    });
    let columns = vec![("Interface", 4), ("Cable", 4), ("Towards", 5), ("Addresses", 10)];
    parts.push(Part::Table { columns, rows: rows.collect() });
    parts.extend(rest(net.interfaces.len(), ROWS_MAX));
    let dns: Vec<String> = net.dns.iter().take(3).map(|d| words::clean_to(d, 45)).collect();
    fact(&mut parts, "Name servers", dns.join(", "));
    Card {
        icon: Some(if board.role == Some(Role::Storage) { Icon::Storage } else { Icon::Compute }),
        title: words::board(board.role).to_owned(),
        subtitle: words::host(board),
        badge: stale.then(|| Badge::new(Tone::Bad, "Not in sight")),
        parts,
        stale,
    }
}

fn link_card(model: &Model, local: &BoardStatus) -> Card {
    let link = &local.link;
    let mut parts = Vec::new();
    problem(&mut parts, words::link(link.state).tone.max(Tone::Warn), link.problem.as_deref());
    let interface = link.interface.as_deref().map(|i| words::clean_to(i, 16));
    fact(&mut parts, "Interface", interface.unwrap_or_else(|| "none yet".to_owned()));
    let peer = link.peer_host.as_deref().map(|h| words::clean_to(h, 64)).unwrap_or_default();
    fact(&mut parts, "Other board", peer);
    fact(
        &mut parts,
        "Its address",
        link.peer_address.as_deref().map(|a| words::clean_to(a, 50)).unwrap_or_default(),
    );
    fact(&mut parts, "Its release", link.peer_version.map(|v| v.to_string()).unwrap_or_default());
    if let (LinkState::Lost, Some(ms)) = (link.state, link.silent_ms) {
        fact(&mut parts, "Silent for", clock::span(ms / 1000));
    }
    if link.state == LinkState::Searching && model.peer().is_none() {
        parts.push(Part::Text(
            "Plug a network cable between the two boards; any port will do.".to_owned(),
        ));
    }
    Card {
        title: "Link between the boards".to_owned(),
        badge: Some(words::link(link.state)),
        parts,
        ..Card::default()
    }
}

fn clock_card(model: &Model, local: &BoardStatus) -> Card {
    let time = &local.time;
    let badge = match time.synced {
        true => Badge::new(Tone::Good, "Synced"),
        false => Badge::new(Tone::Warn, "Not synced"),
    };
    let mut parts = Vec::new();
    problem(&mut parts, Tone::Warn, time.problem.as_deref());
    let now = [
        clock::hour(model.unix_s(), &time.zone),
        clock::date(model.unix_s(), &time.zone),
        words::clean_to(&time.zone, 48),
    ];
    let now: Vec<&str> = now.iter().map(String::as_str).filter(|t| !t.is_empty()).collect();
    fact(&mut parts, "Now", now.join("  ·  "));
    fact(
        &mut parts,
        "Server",
        time.server.as_deref().map(|s| words::clean_to(s, 80)).unwrap_or_default(),
    );
    if let Some(offset) = time.offset_ms {
        fact(&mut parts, "Last offset", format!("{offset} ms"));
    }
    if !time.synced {
        parts.push(Part::Text(NOT_SYNCED.to_owned()));
        // The service's own sentence names the rest of the remedy.
        let remedy = if time.problem.is_some() { NAME_A_SERVER } else { WAIT_OR_NAME_A_SERVER };
        parts.push(Part::Text(remedy.to_owned()));
    }
    Card { title: "Clock".to_owned(), badge: Some(badge), parts, ..Card::default() }
}
