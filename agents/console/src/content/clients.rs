//! Page 7: PCs that may come in, who is in, and the code for a new one.

use super::{Card, Cell, Part, ROWS_MAX, Row, actions, problem, rest};
use crate::clock;
use crate::model::{Code, Model, Task, TaskState};
use crate::orders::Order;
use crate::words::{self, Badge, Tone};
use goblin_core_types::ConnectionStatus;

pub(super) fn page(model: &Model) -> Vec<Row> {
    let side = match model.code() {
        Some((code, left_s)) => code_card(code, left_s),
        None => results(model),
    };
    vec![
        Row::Menu { items: actions::menu(model), side },
        Row::Cards(vec![(1, connection_card(model))]),
    ]
}

/// What is known of an enrolled PC, in one line.
pub(crate) fn enrolled_detail(model: &Model, name: &str) -> String {
    let Some(client) = model.enrolled().iter().find(|client| client.name == name) else {
        return "No longer enrolled.".to_owned();
    };
    let user = words::clean_to(&client.user, 32);
    match client.connected_from.first() {
        Some(from) => format!("User {user}, connected from {}.", words::clean_to(from, 50)),
        None => {
            let since = clock::date(client.added_unix_s, model.zone());
            format!("User {user}, not connected; enrolled {since}.")
        }
    }
}

fn code_card(code: &Code, left_s: u64) -> Card {
    let typed = words::clean_to(&code.code, 64);
    let address = code.address.as_deref().map(|address| words::clean_to(address, 64));
    let address = address.unwrap_or_else(|| "ADDRESS-OF-THE-STORAGE-BOARD".to_owned());
    Card {
        title: typed.clone(),
        badge: Some(Badge::new(Tone::Busy, format!("good for {}", clock::span(left_s)))),
        parts: vec![
            Part::Text("Type this on the PC, once:".to_owned()),
            Part::Code(vec![format!("sudo goblin login {address} {typed}")]),
            Part::Text("Then its shares are at hand there:".to_owned()),
            Part::Code(vec![
                "goblin shares".to_owned(),
                format!("sudo goblin mount {address}:SHARE /mnt"),
            ]),
        ],
        ..Card::default()
    }
}

fn results(model: &Model) -> Card {
    let mut parts = Vec::new();
    problem(&mut parts, Tone::Warn, model.clients_problem());
    let about_clients = |task: &&Task| {
        matches!(task.order, Order::AddClient | Order::RevokeClient(_))
            // A code that is not shown any more was used or has expired.
            && !matches!(task.state, TaskState::Code(_))
    };
    for task in model.tasks().iter().rev().filter(about_clients) {
        actions::task_parts(model, task, &mut parts);
    }
    if parts.is_empty() {
        let text = "A PC uses the shares with a key of its own. Enrol it once with a code; revoke it when it is lost or given away.";
        parts.push(Part::Text(text.to_owned()));
    }
    Card { title: "PCs and their keys".to_owned(), parts, ..Card::default() }
}

fn connection_card(model: &Model) -> Card {
    let title = "Connected now".to_owned();
    let Some(connections) = model.connections() else {
        let parts = vec![Part::Text("Waiting for the file server's first word.".to_owned())];
        return Card { title, parts, ..Card::default() };
    };
    let columns = vec![
        ("Client", 5),
        ("User", 4),
        ("From", 7),
        ("Since", 4),
        ("Requests", 3),
        ("Read", 3),
        ("Written", 3),
    ];
    let rows = connections.iter().take(ROWS_MAX).map(|each| row(model, each)).collect();
    let mut parts = vec![Part::Table { columns, rows }];
    parts.extend(rest(connections.len(), ROWS_MAX));
    let word = words::count(connections.len() as u64, "connection", "connections");
    Card { title, badge: Some(Badge::new(Tone::Quiet, word)), parts, ..Card::default() }
}

fn row(model: &Model, connection: &ConnectionStatus) -> Vec<Cell> {
    vec![
        Cell::plain(words::clean_to(&connection.client, 40)),
        Cell::plain(words::clean_to(&connection.user, 32)),
        Cell::plain(words::clean_to(&connection.from, 50)),
        Cell::plain(clock::hour(connection.since_unix_s, model.zone())),
        Cell::plain(connection.operations.to_string()),
        Cell::plain(words::size(connection.read_bytes)),
        Cell::plain(words::size(connection.written_bytes)),
    ]
}
