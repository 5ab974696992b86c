//! `goblin share` and `goblin group`: asked at either board, answered by the storage board's file server.

use super::client::ask;
use crate::cli::{Group, Share};
use crate::error::CliError;
use crate::output::Output;
use crate::render::words;
use goblin_core_types::{AccessChange, May, PastChange, ShareCommand, ShareReply, ShareRights};

/// Runs `goblin share ...`.
pub fn share(what: Share, output: &mut Output) -> Result<(), CliError> {
    let change = match what {
        Share::List => return list(Part::Shares, output),
        Share::History => return list(Part::History, output),
        Share::Add { name, read_only } => AccessChange::AddShare { name, read_only },
        Share::Remove { name } => AccessChange::RemoveShare { name },
        Share::Allow { share, who, read } => {
            AccessChange::SetRight { who, share, may: if read { May::Read } else { May::Write } }
        }
        Share::Deny { share, who } => AccessChange::SetRight { who, share, may: May::Nothing },
        Share::Reset { share, who } => AccessChange::ClearRight { who, share },
    };
    make(change, output)
}

/// Runs `goblin group ...`.
pub fn group(what: Group, output: &mut Output) -> Result<(), CliError> {
    let change = match what {
        Group::List => return list(Part::Groups, output),
        Group::Add { name, users } => AccessChange::AddGroup { name, users },
        Group::Remove { name } => AccessChange::RemoveGroup { name },
        Group::Join { group, users } => AccessChange::Join { group, users },
        Group::Leave { group, users } => AccessChange::Leave { group, users },
    };
    make(change, output)
}

fn make(change: AccessChange, output: &mut Output) -> Result<(), CliError> {
    let reply = ask(&ShareCommand::Change { change })?;
    done(&reply, output)
}

/// Says what was done, and how to undo it.
pub(super) fn done(reply: &ShareReply, output: &mut Output) -> Result<(), CliError> {
    match reply {
        ShareReply::Failed { kind, message } => {
            Err(CliError::Refused { kind: kind.clone(), message: message.clone() })
        }
        reply if output.json => output.json_value(reply),
        ShareReply::Done { message, undo } => {
            output.line(&words::plain(message))?;
            match undo {
                Some(undo) => output.line(&format!("Undo: {}", words::plain(undo))),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

enum Part {
    Shares,
    Groups,
    History,
}

fn list(part: Part, output: &mut Output) -> Result<(), CliError> {
    let reply = ask(&ShareCommand::ListRights)?;
    let ShareReply::Rights { shares, groups, changes } = reply else { return done(&reply, output) };
    match part {
        Part::Shares if output.json => output.json_value(&shares),
        Part::Groups if output.json => output.json_value(&groups),
        Part::History if output.json => output.json_value(&changes),
        Part::Shares if shares.is_empty() => {
            output.line("no share is served; `goblin share add NAME` makes one")
        }
        Part::Shares => shares.iter().try_for_each(|share| output.line(&share_line(share))),
        Part::Groups if groups.is_empty() => {
            output.line("there is no group; `goblin group add NAME USER...` makes one")
        }
        Part::Groups => groups.iter().try_for_each(|group| {
            let users =
                if group.users.is_empty() { "nobody".into() } else { group.users.join(", ") };
            output.line(&words::plain(&format!("@{:<20} {users}", group.name)))
        }),
        Part::History => changes.iter().try_for_each(|past| output.line(&past_line(past))),
    }
}

fn share_line(share: &ShareRights) -> String {
    let who = |who: &str| if who == "*" { "everyone else".to_owned() } else { who.to_owned() };
    let mut rules: Vec<String> = share
        .rules
        .iter()
        .map(|rule| match rule.may {
            May::Nothing => format!("{}: nothing", who(&rule.who)),
            may => format!("{}: {}", who(&rule.who), may.as_str()),
        })
        .collect();
    if !share.rules.iter().any(|rule| rule.who == "*") {
        rules.push("everyone else: write".into());
    }
    let note = if share.read_only { " (served read only)" } else { "" };
    words::plain(&format!("{:<20} {}{note}", share.name, rules.join(", ")))
}

fn past_line(past: &PastChange) -> String {
    let seconds = i64::try_from(past.unix_s).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).map_or_else(
        |_| past.unix_s.to_string(),
        |time| time.strftime("%Y-%m-%d %H:%M").to_string(),
    );
    words::plain(&format!("{time}  {}    undo: {}", past.command, past.undo))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use goblin_core_types::RightStatus;

    /// What a command line asks for.
    fn change(line: &str) -> AccessChange {
        let cli =
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|err| panic!("{line}: {err}"));
        match cli.command {
            Command::Share(Share::Add { name, read_only }) => {
                AccessChange::AddShare { name, read_only }
            }
            Command::Share(Share::Remove { name }) => AccessChange::RemoveShare { name },
            Command::Share(Share::Allow { share, who, read }) => AccessChange::SetRight {
                who,
                share,
                may: if read { May::Read } else { May::Write },
            },
            Command::Share(Share::Deny { share, who }) => {
                AccessChange::SetRight { who, share, may: May::Nothing }
            }
            Command::Share(Share::Reset { share, who }) => AccessChange::ClearRight { who, share },
            Command::Group(Group::Add { name, users }) => AccessChange::AddGroup { name, users },
            Command::Group(Group::Remove { name }) => AccessChange::RemoveGroup { name },
            Command::Group(Group::Join { group, users }) => AccessChange::Join { group, users },
            Command::Group(Group::Leave { group, users }) => AccessChange::Leave { group, users },
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_command_of_a_change_asks_for_that_change() {
        let users = || vec!["anna".to_owned(), "ben".to_owned()];
        let right =
            |who: &str, may| AccessChange::SetRight { who: who.into(), share: "s".into(), may };
        for wanted in [
            AccessChange::AddShare { name: "s".into(), read_only: true },
            AccessChange::AddShare { name: "s".into(), read_only: false },
            AccessChange::RemoveShare { name: "s".into() },
            right("*", May::Nothing),
            right("@g", May::Read),
            right("anna", May::Write),
            AccessChange::ClearRight { who: "*".into(), share: "s".into() },
            AccessChange::AddGroup { name: "g".into(), users: users() },
            AccessChange::AddGroup { name: "g".into(), users: Vec::new() },
            AccessChange::RemoveGroup { name: "g".into() },
            AccessChange::Join { group: "g".into(), users: users() },
            AccessChange::Leave { group: "g".into(), users: users() },
        ] {
            assert_eq!(change(&wanted.command()), wanted);
        }
    }

    #[test]
    fn everyone_is_always_told_of() {
        let mut share = ShareRights { name: "films".into(), read_only: true, rules: Vec::new() };
        assert!(share_line(&share).ends_with("everyone else: write (served read only)"));
        share.rules = vec![RightStatus { who: "*".into(), may: May::Nothing }];
        assert!(share_line(&share).contains(" everyone else: nothing"));
    }
}
