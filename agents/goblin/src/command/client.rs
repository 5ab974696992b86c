//! `goblin client`: PCs that are enrolled with the box. Asked at either board, answered by the storage
//! board's file server.

use crate::cli::{Board, Client, Right};
use crate::control;
use crate::error::CliError;
use crate::output::Output;
use crate::render::words;
use goblin_core_types::{ClientStatus, May, ShareCommand, ShareReply};
use std::ops::ControlFlow;

/// Runs `goblin client ...`.
pub fn run(what: Client, output: &mut Output) -> Result<(), CliError> {
    let command = match what {
        Client::Add { name, user } => ShareCommand::AddClient { name, user },
        Client::List => ShareCommand::ListClients,
        Client::Revoke { name } => ShareCommand::RevokeClient { name },
        Client::Allow { user, share, may } => {
            let may = match may {
                Right::Nothing => May::Nothing,
                Right::Read => May::Read,
                Right::Write => May::Write,
            };
            ShareCommand::SetRight { user, share, may }
        }
    };
    let reply = ask(&command)?;
    if let ShareReply::Failed { kind, message } = reply {
        return Err(CliError::Refused { kind, message });
    }
    if output.json {
        return output.json_value(&reply);
    }
    match reply {
        ShareReply::Code { code, life_s, address } => {
            let minutes = life_s.checked_div(60).unwrap_or(0);
            let address = address.as_deref().unwrap_or("ADDRESS-OF-THE-STORAGE-BOARD");
            output.line(&format!("Code: {code}    (good once, for {minutes} minutes)"))?;
            output.line("")?;
            output.line("On the PC, as the user who will mount (root for mounts):")?;
            output.line(&format!("  goblin login {} {code}", words::plain(address)))
        }
        ShareReply::Clients { clients, codes_waiting, .. } => list(&clients, codes_waiting, output),
        reply => super::rights::done(&reply, output),
    }
}

/// Asks the file server.
pub(super) fn ask(command: &ShareCommand) -> Result<ShareReply, CliError> {
    let mut found = None;
    control::converse(Board::Storage, control::SHARE, command, |reply: ShareReply| {
        found = Some(reply);
        Ok(ControlFlow::Break(()))
    })?;
    found.ok_or_else(|| CliError::CutShort { board: Board::Storage.as_str().into() })
}

fn list(clients: &[ClientStatus], waiting: u32, output: &mut Output) -> Result<(), CliError> {
    if clients.is_empty() {
        output.line("no PC is enrolled; `goblin client add` makes a code for one")?;
    }
    for client in clients {
        let rights: Vec<String> = client
            .shares
            .iter()
            .map(|share| format!("{} ({})", share.name, share.may.as_str()))
            .collect();
        let from = match client.connected_from.as_slice() {
            [] => "not connected".to_owned(),
            from => format!("connected from {}", from.join(", ")),
        };
        output.line(&format!(
            "{:<20} user {:<14} {:<30} {from}",
            client.name,
            client.user,
            if rights.is_empty() { "no share".to_owned() } else { rights.join(", ") }
        ))?;
    }
    if waiting > 0 {
        output.line(&format!("{waiting} code(s) wait to be used"))?;
    }
    Ok(())
}
