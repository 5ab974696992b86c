//! The rules a provisioning file must keep beyond its shape.

use crate::{
    DiskSection, KeySection, NetworkSection, Problem, Provision, ShareSection, UpdateSection,
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use goblin_core_types::Role;
use std::net::IpAddr;

/// Shape of the file this release reads.
const SCHEMA: u32 = 1;
/// Shares of one box.
pub const SHARES_MAX: usize = 32;
/// Time servers.
pub const NTP_SERVERS_MAX: usize = 8;
/// Most further addresses of the update source.
pub const MIRRORS_MAX: usize = 4;
/// Data disks: one alone, or two as a mirror.
pub const DATA_DISKS_MAX: usize = 2;
/// RFC 1123, section 2.1 with RFC 1035, section 2.3.4: one label.
const LABEL_CHARS_MAX: usize = 63;
/// RFC 1035, section 2.3.4, without the closing dot.
const DOMAIN_CHARS_MAX: usize = 253;
const BOX_NAME_CHARS_MAX: usize = 63;
const SHARE_NAME_CHARS_MAX: usize = 32;
const CHANNEL_CHARS_MAX: usize = 32;
const URL_CHARS_MAX: usize = 512;
const SERIAL_CHARS_MAX: usize = 64;

/// A broken rule and the field that breaks it.
pub(crate) struct Refusal {
    pub(crate) field: String,
    pub(crate) problem: Problem,
}

fn refuse(field: impl Into<String>, problem: Problem) -> Result<(), Refusal> {
    Err(Refusal { field: field.into(), problem })
}

fn require(holds: bool, field: impl Into<String>, problem: Problem) -> Result<(), Refusal> {
    if holds { Ok(()) } else { refuse(field, problem) }
}

pub(crate) fn check(file: &Provision) -> Result<(), Refusal> {
    require(file.schema == SCHEMA, "schema", Problem::Schema { got: file.schema })?;
    require(is_label(&file.host), "host", Problem::HostName)?;
    require(is_time_zone(&file.time_zone), "time_zone", Problem::TimeZone)?;
    require(is_box_name(&file.the_box.name), "box.name", Problem::BoxName)?;
    check_keys(&file.keys)?;
    check_network(&file.network)?;
    check_shares(&file.shares)?;
    file.update.as_ref().map_or(Ok(()), check_update)?;
    check_disks(file.role, &file.disk)
}

fn check_keys(keys: &KeySection) -> Result<(), Refusal> {
    let field = "keys.peer_public";
    // Before anything is said about a public key: these bytes may be a secret in the wrong place.
    require(keys.board_private != keys.peer_public, field, Problem::PrivateKeyAsPeer)?;
    let own = SigningKey::from_bytes(&keys.board_private.0).verifying_key();
    require(own.as_bytes() != &keys.peer_public.0, field, Problem::OwnKeyAsPeer)?;
    match VerifyingKey::from_bytes(&keys.peer_public.0) {
        // A key of small order would accept signatures that nobody made.
        Ok(key) if !key.is_weak() => Ok(()),
        _ => refuse(field, Problem::PublicKey),
    }
}

fn check_network(network: &NetworkSection) -> Result<(), Refusal> {
    for (field, address) in [("network.link", &network.link), ("network.lan", &network.lan)] {
        let holds = address.as_deref().is_none_or(is_hardware_address);
        require(holds, field, Problem::HardwareAddress)?;
    }
    if network.link.is_some() {
        require(network.link != network.lan, "network.lan", Problem::SameCard)?;
    }
    at_most("network.ntp", network.ntp.len(), NTP_SERVERS_MAX)?;
    for (index, server) in network.ntp.iter().enumerate() {
        require(is_server(server), format!("network.ntp[{index}]"), Problem::Server)?;
    }
    no_twins(&network.ntp, |index| format!("network.ntp[{index}]"))
}

fn check_shares(shares: &[ShareSection]) -> Result<(), Refusal> {
    at_most("share", shares.len(), SHARES_MAX)?;
    for (index, share) in shares.iter().enumerate() {
        require(is_share_name(&share.name), format!("share[{index}].name"), Problem::ShareName)?;
    }
    let names: Vec<&str> = shares.iter().map(|share| share.name.as_str()).collect();
    no_twins(&names, |index| format!("share[{index}].name"))
}

fn check_update(update: &UpdateSection) -> Result<(), Refusal> {
    require(is_url(&update.url), "update.url", Problem::Url)?;
    at_most("update.mirrors", update.mirrors.len(), MIRRORS_MAX)?;
    for (index, mirror) in update.mirrors.iter().enumerate() {
        require(is_url(mirror), format!("update.mirrors[{index}]"), Problem::Url)?;
    }
    no_twins(&update.mirrors, |index| format!("update.mirrors[{index}]"))?;
    if let Some(proxy) = &update.proxy {
        let holds = proxy.starts_with("http://") && is_url(proxy);
        require(holds, "update.proxy", Problem::Proxy)?;
    }
    let channel = &update.channel;
    let holds = (1..=CHANNEL_CHARS_MAX).contains(&channel.len())
        && channel.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    require(holds, "update.channel", Problem::Channel)?;
    let Ok(root) = serde_json::from_str::<serde_json::Value>(&update.root) else {
        return refuse("update.root", Problem::RootNotJson);
    };
    // Only the shape (TUF 1.0, section 4.3): the update client checks signatures and expiry.
    let signed = root.get("signed");
    let of_kind_root =
        signed.and_then(|signed| signed.get("_type")).is_some_and(|kind| kind == "root");
    let versioned = signed
        .and_then(|signed| signed.get("version")?.as_u64())
        .is_some_and(|version| version > 0);
    let is_signed = root
        .get("signatures")
        .and_then(serde_json::Value::as_array)
        .is_some_and(|signatures| !signatures.is_empty());
    require(of_kind_root && versioned && is_signed, "update.root", Problem::RootNotRoot)
}

fn check_disks(role: Role, disk: &DiskSection) -> Result<(), Refusal> {
    let allowed = disk.data.is_empty() || role == Role::Storage;
    require(allowed, "disk.data", Problem::DisksWithoutStorage)?;
    at_most("disk.data", disk.data.len(), DATA_DISKS_MAX)?;
    let holds = |serial: &String| {
        (1..=SERIAL_CHARS_MAX).contains(&serial.len())
            && serial.bytes().all(|b| matches!(b, b' '..=b'~'))
            && serial.trim() == serial
    };
    for (index, serial) in disk.data.iter().enumerate() {
        require(holds(serial), format!("disk.data[{index}]"), Problem::Serial)?;
    }
    if let Some(serial) = &disk.system_mirror {
        let is_data = disk.data.contains(serial);
        require(holds(serial) && !is_data, "disk.system_mirror", Problem::Serial)?;
    }
    no_twins(&disk.data, |index| format!("disk.data[{index}]"))
}

fn at_most(field: &str, got: usize, max: usize) -> Result<(), Refusal> {
    require(got <= max, field, Problem::TooMany { got, max })
}

fn no_twins<T: PartialEq>(items: &[T], field: impl Fn(usize) -> String) -> Result<(), Refusal> {
    for (index, item) in items.iter().enumerate() {
        if let Some(first) = items.iter().take(index).position(|earlier| earlier == item) {
            return refuse(field(index), Problem::Twice { first });
        }
    }
    Ok(())
}

fn is_label(text: &str) -> bool {
    (1..=LABEL_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_server(text: &str) -> bool {
    let is_name = text.len() <= DOMAIN_CHARS_MAX
        && text.split('.').all(|label| is_label(&label.to_ascii_lowercase()))
        // A name of digits and dots alone is a misspelt address.
        && text.bytes().any(|b| b.is_ascii_alphabetic());
    is_name || text.parse::<IpAddr>().is_ok()
}

fn is_time_zone(text: &str) -> bool {
    // `get` forgives case; the name also goes to programs that do not.
    jiff::tz::TimeZoneDatabase::bundled().get(text).is_ok_and(|zone| zone.iana_name() == Some(text))
}

fn is_box_name(text: &str) -> bool {
    (1..=BOX_NAME_CHARS_MAX).contains(&text.chars().count())
        && !text.chars().any(char::is_control)
        && text.trim() == text
}

fn is_share_name(text: &str) -> bool {
    (1..=SHARE_NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        && !text.starts_with('-')
}

/// Six pairs `aa:bb:..`, a single card's address: neither zero nor a group's.
fn is_hardware_address(text: &str) -> bool {
    let pairs: Vec<Option<u8>> = text
        .split(':')
        .map(|pair| {
            let digits = pair.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            (digits && pair.len() == 2).then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        })
        .collect();
    let first_is_single = pairs.first().copied().flatten().is_some_and(|byte| byte & 1 == 0);
    pairs.len() == 6
        && pairs.iter().all(Option::is_some)
        && pairs.iter().any(|pair| *pair != Some(0))
        && first_is_single
}

fn is_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else {
        return false;
    };
    let authority = rest.split('/').next().unwrap_or("");
    text.len() <= URL_CHARS_MAX
        && text.bytes().all(|b| b.is_ascii_graphic())
        && !text.contains(['?', '#', '"', '<', '>', '\\', '`'])
        && !authority.contains('@')
        && is_authority(authority)
}

/// `host[:port]`, where a host may be an IPv6 address in brackets (RFC 3986, section 3.2.2).
fn is_authority(text: &str) -> bool {
    let (host_holds, rest) = match text.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((address, rest)) => (address.parse::<std::net::Ipv6Addr>().is_ok(), rest),
            None => return false,
        },
        None => match text.find(':') {
            Some(at) => {
                let (host, rest) = text.split_at(at);
                (is_server(host), rest)
            }
            None => (is_server(text), ""),
        },
    };
    let port_holds = rest.is_empty()
        || rest
            .strip_prefix(':')
            .and_then(|port| port.parse::<u16>().ok())
            .is_some_and(|port| port > 0);
    host_holds && port_holds
}
