//! From bytes to a checked file.

use crate::check::check;
use crate::seal::check_seal;
use crate::{PROVISION_BYTES_MAX, Place, Provision, ProvisionError};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// Reads and checks a provisioning file as it lies on a disk: perhaps padded, torn or blank.
///
/// # Errors
/// [`ProvisionError`]; nothing of a refused file is used.
pub fn parse_bytes(bytes: &[u8]) -> Result<Provision, ProvisionError> {
    if bytes.len() > PROVISION_BYTES_MAX {
        return Err(ProvisionError::TooLong { got: bytes.len() });
    }
    // A disk that was never written reads as zeros: that is no file, not a torn one.
    if bytes.iter().all(|&byte| byte == 0) {
        return Err(ProvisionError::Missing);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text),
        Err(err) => {
            let sound = bytes.get(..err.valid_up_to()).unwrap_or_default();
            let newlines = sound.iter().filter(|&&byte| byte == b'\n').count();
            Err(ProvisionError::Torn { line: newlines.saturating_add(1) })
        }
    }
}

/// Reads and checks the text of a provisioning file.
///
/// # Errors
/// [`ProvisionError`]; nothing of a refused file is used.
pub fn parse(text: &str) -> Result<Provision, ProvisionError> {
    if text.len() > PROVISION_BYTES_MAX {
        return Err(ProvisionError::TooLong { got: text.len() });
    }
    check_seal(text)?;
    if text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#')) {
        return Err(ProvisionError::Missing);
    }
    if let Some(offset) = text.find('\0') {
        return Err(ProvisionError::Torn { line: place_of(text, offset).line });
    }
    let provision: Provision = toml::from_str(text).map_err(|err| syntax(text, &err))?;
    check(&provision).map_err(|refusal| {
        let place = find(text, &refusal.field).map(|span| place_of(text, span.start));
        ProvisionError::Field { field: refusal.field, place, problem: refusal.problem }
    })?;
    Ok(provision)
}

fn syntax(text: &str, err: &toml::de::Error) -> ProvisionError {
    let place = err.span().map(|span| place_of(text, span.start));
    // `message` is without the quoted source line that `Display` adds.
    let message = err.message().lines().map(str::trim).collect::<Vec<_>>().join(" ");
    ProvisionError::Syntax { place, message: without_keys(&message) }
}

/// Hexadecimal digits in a row that no word of a sentence has, but a key has, or a part of one.
const KEY_DIGITS_MIN: usize = 8;

/// The parser repeats names and values it does not know; in a damaged file, or where lines were mixed up,
/// that may be a private key. Sentences go to the log and the status, which others read.
fn without_keys(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut run = String::new();
    let end_run = |run: &mut String, out: &mut String| {
        let is_key = run.len() >= KEY_DIGITS_MIN;
        out.push_str(if is_key { ".." } else { run });
        run.clear();
    };
    for c in message.chars() {
        if c.is_ascii_hexdigit() {
            run.push(c);
        } else {
            end_run(&mut run, &mut out);
            out.push(c);
        }
    }
    end_run(&mut run, &mut out);
    out
}

/// Line and column of a byte offset.
fn place_of(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().unwrap_or("").chars().count().saturating_add(1);
    Place { line, column }
}

/// Span of the value named by a path like `share[3].name`, or of its nearest parent.
fn find(text: &str, field: &str) -> Option<Range<usize>> {
    let root = DeTable::parse(text).ok()?;
    let mut table = Some(root.get_ref());
    let mut found = None;
    for step in field.split('.') {
        let (key, index) = match step.split_once('[') {
            Some((key, rest)) => (key, rest.trim_end_matches(']').parse::<usize>().ok()),
            None => (step, None),
        };
        let Some(mut value) = table.and_then(|table| table.get(key)) else { break };
        if let (Some(index), DeValue::Array(items)) = (index, value.get_ref())
            && let Some(item) = items.get(index)
        {
            value = item;
        }
        found = Some(value.span());
        table = match value.get_ref() {
            DeValue::Table(inner) => Some(inner),
            _ => None,
        };
    }
    found
}
