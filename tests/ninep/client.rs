//! The raw client of `goblin_tests::ninep` as a program of its own, compiled as the servers are.
//!
//! - `ninep-client prepare DIR` makes the files that the load needs.
//! - `ninep-client load ADDRESS ANAME SERVER_PID MILLISECONDS [SCENE]` runs every scene and writes its figures as JSON.
//! - `ninep-client floor PORT DIR` answers the load without doing its work, for comparison.
//! - `ninep-client conform SHARE_SERVER [FILTER]` runs the must-pass list.
//! - `ninep-client conform-diod FILTER COMMAND...` runs it against diod.

use anyhow::{Context, Result, bail};
use goblin_tests::ninep::raw::Address;
use goblin_tests::ninep::server::Program;
use goblin_tests::ninep::{floor, load, suite};
use std::path::Path;
use std::time::Duration;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["prepare", dir] => load::prepare(Path::new(dir)),
        ["load", address, aname, pid, milliseconds, rest @ ..] => {
            let address = match (address.strip_prefix("tls:"), address.starts_with('/')) {
                (Some(address), _) => Address::Tls(address.parse().context("IP:PORT")?),
                (None, true) => Address::Unix(address.into()),
                (None, false) => Address::Tcp(address.parse().context("IP:PORT")?),
            };
            let each = Duration::from_millis(milliseconds.parse().context("MILLISECONDS")?);
            let figures = load::run(
                &address,
                aname,
                pid.parse().context("SERVER_PID")?,
                each,
                rest.first().unwrap_or(&""),
            )?;
            println!("{}", serde_json::to_string(&figures)?);
            Ok(())
        }
        ["floor", port, dir] => floor::serve(port.parse().context("PORT")?, Path::new(dir)),
        ["conform", server, rest @ ..] => {
            conform(&Program::Ours(server.into()), rest.first().unwrap_or(&""))
        }
        ["conform-diod", filter, words @ ..] => {
            conform(&Program::Diod(words.iter().map(Into::into).collect()), filter)
        }
        _ => bail!("ninep-client prepare | load | floor | conform | conform-diod"),
    }
}

fn conform(program: &Program, filter: &str) -> Result<()> {
    let report = suite::run(program, &std::env::temp_dir(), filter)?;
    println!("{}: {} passed, {} failed", report.server, report.passed, report.failed);
    Ok(())
}
