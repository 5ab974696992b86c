//! The time service: SNTP against provisioned servers, else those of DHCP, else the public pool.

use crate::NetError;
use crate::discipline::{Action, Discipline, Measured};
use crate::net::NTP_PART;
use goblin_core_types::TimeStatus;
use goblin_sys::{board, clock, notify, provision, state};
use rsntp::{Config, SntpClient};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

const SERVER_PUBLIC: &str = "pool.ntp.org";
const NTP_PORT: u16 = 123;
/// Addresses tried of one server.
const ADDRESSES_MAX: usize = 3;
/// Longest wait for one answer.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// 1 January 2026: no release is older, for a base image that does not say when it was built.
const FLOOR_S: u64 = 1_767_225_600;
/// Failures before people are told: the network comes up at the same time as this service.
const QUIET_FAILURES: u32 = 3;

/// Keeps the clock: steps it at start when it is off by more than half a second, slews it afterwards,
/// writes the battery clock, and never sets it before the release's own date. Ready at once; a board
/// without a time server serves all the same.
///
/// # Errors
/// None at present: whatever is wrong is in the published status, and is tried again.
pub fn run_time() -> Result<(), NetError> {
    let floor_s = release_date();
    raise_to_floor(floor_s);
    let (provisioned, zone) = match provision::load() {
        Ok(file) => (file.network.ntp, file.time_zone),
        Err(_) => (Vec::new(), "UTC".to_owned()),
    };
    let mut status = TimeStatus { zone, ..TimeStatus::default() };
    publish(&status);
    notify::ready();
    let mut discipline = Discipline::default();
    let mut failures = 0u32;
    loop {
        let servers = servers(&provisioned);
        let pause = match measure(&servers) {
            Ok((server, measured)) => {
                failures = 0;
                let (action, pause) = discipline.measured(measured, floor_s);
                carry_out(action, &mut status);
                status.server = Some(server);
                status.offset_ms = Some(measured.offset_ms);
                status.synced = status.problem.is_none() && Discipline::is_synced(action);
                pause
            }
            Err(problem) => {
                failures = failures.saturating_add(1);
                if failures > QUIET_FAILURES {
                    status.problem = Some(problem);
                }
                discipline.failed()
            }
        };
        publish(&status);
        std::thread::sleep(pause);
    }
}

fn publish(status: &TimeStatus) {
    if let Err(err) = state::write("time", status) {
        tracing::warn!(%err, "time status not published");
    }
    let sentence = match (&status.problem, &status.server) {
        (Some(problem), _) => problem.clone(),
        (None, Some(server)) => format!("follows {server}"),
        (None, None) => "asking for the time".to_owned(),
    };
    notify::status(sentence);
}

/// Provisioned servers count alone: an owner who names them does not want others asked.
fn servers(provisioned: &[String]) -> Vec<String> {
    if !provisioned.is_empty() {
        return provisioned.to_vec();
    }
    let offered: Vec<String> = state::read(NTP_PART).unwrap_or_default();
    if offered.is_empty() { vec![SERVER_PUBLIC.to_owned()] } else { offered }
}

/// The first server that answers; else one sentence about all of them.
fn measure(servers: &[String]) -> Result<(String, Measured), String> {
    let mut last = String::new();
    for server in servers {
        match ask(server) {
            Ok(measured) => return Ok((server.clone(), measured)),
            Err(why) => last = why,
        }
    }
    Err(format!(
        "no time server answers ({}: {last}): the clock runs on its own until one does; check the way \
         to the internet or name a server in the LAN",
        servers.join(", ")
    ))
}

fn ask(server: &str) -> Result<Measured, String> {
    let addresses: Vec<SocketAddr> = (server, NTP_PORT)
        .to_socket_addrs()
        .map_err(|err| err.to_string())?
        .take(ADDRESSES_MAX)
        .collect();
    let mut last = "no address".to_owned();
    for address in addresses {
        let bind: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let client =
            SntpClient::with_config(Config::default().bind_address(bind).timeout(ANSWER_WAIT));
        match client.synchronize(address) {
            Ok(result) => {
                let offset = result.clock_offset().as_secs_f64();
                if !offset.is_finite() {
                    last = "a nonsensical answer".to_owned();
                    continue;
                }
                // A float cast saturates.
                let offset_ms = (offset * 1_000.0).round() as i64;
                return Ok(Measured { offset_ms, now_s: clock::now_unix().as_secs() });
            }
            Err(err) => last = err.to_string(),
        }
    }
    Err(last)
}

fn carry_out(action: Action, status: &mut TimeStatus) {
    let done = match action {
        Action::Step { offset_ms } => {
            tracing::info!(offset_ms, "clock stepped");
            clock::step_to(moved(clock::now_unix(), offset_ms))
        }
        Action::Slew { offset_ms } => clock::slew(offset_ms.saturating_mul(1_000)),
        Action::Confirm => Ok(()),
        Action::Refuse => {
            status.problem = Some(
                "the time server's clock is before this release was built, so it is not believed: name \
                 another server in the provisioning file"
                    .to_owned(),
            );
            return;
        }
    };
    if let Err(err) = done {
        status.problem = Some(format!("the clock cannot be set: {err}"));
        return;
    }
    status.problem = None;
    if Discipline::is_synced(action) {
        let kept = clock::mark_synced().and_then(|()| clock::write_rtc(clock::now_unix()));
        if let Err(err) = kept {
            tracing::debug!(%err, "battery clock not written");
        }
    }
}

fn moved(now: Duration, offset_ms: i64) -> Duration {
    let by = Duration::from_millis(offset_ms.unsigned_abs());
    if offset_ms >= 0 { now.saturating_add(by) } else { now.saturating_sub(by) }
}

/// With an empty battery a board starts in 1970, where no certificate and no metadata is valid.
fn raise_to_floor(floor_s: u64) {
    if clock::now_unix().as_secs() >= floor_s {
        return;
    }
    match clock::step_to(Duration::from_secs(floor_s)) {
        Ok(()) => tracing::warn!(floor_s, "clock was before the release's date and was set to it"),
        Err(err) => tracing::warn!(%err, "clock is before the release's date"),
    }
}

/// `built_unix_s` of the release's file, where it has one.
fn release_date() -> u64 {
    board::release().built_unix_s.map_or(FLOOR_S, |built_s| built_s.max(FLOOR_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provisioned_servers_count_alone() {
        assert_eq!(servers(&["a.example".into()]), ["a.example"]);
    }

    #[test]
    fn a_clock_is_moved_both_ways() {
        let now = Duration::from_secs(10);
        assert_eq!(moved(now, 1_500), Duration::from_millis(11_500));
        assert_eq!(moved(now, -1_500), Duration::from_millis(8_500));
        assert_eq!(moved(now, i64::MIN), Duration::ZERO);
    }

    #[test]
    fn a_silent_server_is_an_answer_too() {
        // Port 123 of the loopback has nobody: refused at once, or silence.
        assert!(measure(&["127.0.0.1".into()]).is_err());
    }
}
