//! What a PC knows of boxes: `discover`, `login`, `shares`.

use crate::error::CliError;
use crate::output::Output;
use crate::render::words;
use goblin_agent_client::boxes::{self, Boxes, KnownBox};
use goblin_agent_client::discover;
use goblin_agent_client::login;
use goblin_agent_client::remote;
use goblin_core_types::{Greeting, paths};
use std::path::Path;
use std::time::Duration;

/// Whether this machine is a PC rather than a board.
pub fn is_pc() -> bool {
    !Path::new(paths::RUN).exists()
}

/// This PC's key and boxes.
pub fn known() -> Result<Boxes, CliError> {
    boxes::folder().and_then(Boxes::open).map_err(CliError::pc)
}

/// `goblin login`
pub fn login(
    address: &str,
    code: &str,
    name: Option<&str>,
    output: &mut Output,
) -> Result<(), CliError> {
    let mut boxes = known()?;
    let (known, greeting) = login::login(&mut boxes, address, code, name).map_err(CliError::pc)?;
    if output.json {
        return output.json_value(&serde_json::json!({"box": known, "shares": greeting.shares}));
    }
    output.line(&format!(
        "This PC is enrolled with {} as {}, for the user {}.",
        words::plain(&known.name),
        words::plain(&known.client),
        words::plain(&known.user)
    ))?;
    for share in &greeting.shares {
        let place = format!("{}:{}", known.name, share.name);
        output.line(&format!("  sudo goblin mount {} /mnt", words::plain(&place)))?;
    }
    Ok(())
}

/// `goblin shares [BOX]` on a PC. A box that is away is said to be away; it is no failure unless it was asked
/// for by name.
pub fn shares(only: Option<&str>, output: &mut Output) -> Result<(), CliError> {
    let boxes = known()?;
    let me = boxes.identity().map_err(CliError::pc)?;
    let chosen: Vec<&KnownBox> = match only {
        Some(name) => vec![boxes.find(name).map_err(CliError::pc)?],
        None => boxes.all().iter().collect(),
    };
    if chosen.is_empty() {
        return output.line(
            "this PC is enrolled with no box: get a code with `goblin client add` at the box, then run \
             `goblin login ADDRESS CODE`",
        );
    }
    for known in chosen {
        match remote::connect(known, &me) {
            Ok((_, greeting)) => show(known, &greeting, output)?,
            Err(err) if only.is_some() => return Err(CliError::pc(err)),
            Err(err) => output.line(&format!("{}: {err}", words::plain(&known.name)))?,
        }
    }
    Ok(())
}

fn show(known: &KnownBox, greeting: &Greeting, output: &mut Output) -> Result<(), CliError> {
    if output.json {
        let line = serde_json::json!({"box": known.name, "shares": greeting.shares});
        return output.json_line(&line);
    }
    if greeting.shares.is_empty() {
        return output.line(&format!("{}: no share for this user", words::plain(&known.name)));
    }
    greeting.shares.iter().try_for_each(|share| {
        let place = words::plain(&format!("{}:{}", known.name, share.name)).to_string();
        output.line(&format!("{place:<40} {}", share.may.as_str()))
    })
}

/// `goblin discover`
pub fn discover(timeout_s: u64, output: &mut Output) -> Result<(), CliError> {
    let limit = Duration::from_secs(timeout_s);
    let found = discover::discover(limit, |_| false).map_err(CliError::pc)?;
    // A PC that has no folder of its own is enrolled with no box.
    let boxes = known().ok();
    let enrolled = |key: &str| {
        let mut all = boxes.iter().flat_map(Boxes::all);
        all.find(|known| known.key.to_string() == key).map(|known| known.name.clone())
    };
    if output.json {
        let line = |one: &discover::Found| {
            serde_json::json!({
                "instance": one.instance, "box": one.box_name, "role": one.role, "host": one.host,
                "addresses": one.addresses, "port": one.port, "key": one.key,
                "enrolled_as": enrolled(&one.key),
            })
        };
        return output.json_value(&found.iter().map(line).collect::<Vec<_>>());
    }
    if found.is_empty() {
        return output.line(
            "no box answers on this network; one behind a router is reached by its address alone, which \
             `goblin client add` at the box shows",
        );
    }
    found.iter().try_for_each(|one| {
        let at: Vec<String> = one.addresses.iter().map(ToString::to_string).collect();
        let next = match (enrolled(&one.key), discover::address_of(one)) {
            (Some(name), _) => format!("enrolled as {name}"),
            (None, Some(address)) => format!("goblin login {address} CODE"),
            (None, None) => String::new(),
        };
        let (instance, at) = (words::plain(&one.instance), at.join(", "));
        output.line(&format!("{instance:<28} {:<8} {at:<34} {next}", words::plain(&one.role)))
    })
}
