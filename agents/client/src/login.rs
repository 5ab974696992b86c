//! Enrolment of this PC, by a one-time code: the PC's side of `goblin_core_trust::pairing`.

use crate::boxes::{Boxes, BoxesError, KnownBox};
use crate::dial::{self, DialError, SHAKE_LIMIT};
use goblin_core_ninep::Stream;
use goblin_core_trust::pairing::{Hello, VERDICT_BYTES, Verdict};
use goblin_core_trust::{Code, CodeError, Exchange, PakeError, Side, is_name};
use goblin_core_types::Greeting;
use goblin_tls::{Expect, Service, TlsError, greeting};
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// Why this PC is not enrolled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The code cannot be right.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// This PC's own files.
    #[error(transparent)]
    Boxes(#[from] BoxesError),
    /// The connection broke in the middle.
    #[error("the box at {address} stopped answering: {source}; try again with the same code")]
    Cut {
        /// Where.
        address: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// The box does not accept the code.
    #[error(
        "the box does not accept this code: it is wrong, was used, or is older than ten minutes. Get a new \
         one with `goblin client add` at the box"
    )]
    Refused,
    /// Too many tries by anybody.
    #[error("the box takes no codes for a moment, after too many tries: try again in a minute")]
    Busy,
    /// The box cannot enrol anybody.
    #[error(
        "the box cannot enrol this PC: it is full, or its system disk is; see `goblin status` at the box"
    )]
    CannotKeep,
    /// Who answers does not know the code.
    #[error(
        "WARNING: {address} does not know the code: somebody between this PC and the box pretends to be it. \
         Nothing was kept"
    )]
    Impostor {
        /// Where.
        address: String,
    },
}

/// Enrols this PC with the box at `address`, and keeps the box under `name` (or under its own name).
///
/// # Errors
/// [`LoginError`]; nothing is kept then.
pub fn login(
    boxes: &mut Boxes,
    address: &str,
    code: &str,
    name: Option<&str>,
) -> Result<(KnownBox, Greeting), LoginError> {
    let code = Code::parse(code)?;
    let me = boxes.identity()?;
    let (address, socket) = dial::named(address)?;
    let explained = |err: TlsError| LoginError::from(dial::explain(&address, err));
    let (stream, key) =
        goblin_tls::connect(&socket, &me, Expect::AnyForEnrolment, Service::Enrol, SHAKE_LIMIT)
            .map_err(explained)?;
    let cut = |source| LoginError::Cut { address: address.clone(), source };
    let impostor = |_: PakeError| LoginError::Impostor { address: address.clone() };
    socket.set_limits(Some(SHAKE_LIMIT), Some(SHAKE_LIMIT)).map_err(cut)?;
    let binding = stream.binding().map_err(explained)?;
    let mut random = [0; 64];
    let got = getrandom(&mut random[..], GetRandomFlags::empty()).map_err(|err| cut(err.into()))?;
    if got != random.len() {
        return Err(cut(io::ErrorKind::UnexpectedEof.into()));
    }
    let exchange = Exchange::new(Side::Initiator, &code.secret(), &binding, &random);
    let hello = Hello { slot: code.slot(), share: exchange.share(), name: own_name() };
    stream.write_all(&hello.encode()).map_err(cut)?;
    let mut share = [0; 32];
    greeting::read_exact(&stream, &mut share).map_err(cut)?;
    let confirmation =
        exchange.finish(&share, me.public().as_bytes(), key.as_bytes()).map_err(impostor)?;
    stream.write_all(&confirmation.own).map_err(cut)?;
    let mut verdict = [0; VERDICT_BYTES];
    greeting::read_exact(&stream, &mut verdict).map_err(cut)?;
    match Verdict::decode(&verdict) {
        Verdict::Welcome(proof) if confirmation.is_right(&proof) => {}
        Verdict::Welcome(_) => return Err(LoginError::Impostor { address }),
        Verdict::Wrong => return Err(LoginError::Refused),
        Verdict::Busy => return Err(LoginError::Busy),
        Verdict::CannotKeep => return Err(LoginError::CannotKeep),
    }
    let greeting = greeting::receive(&stream).map_err(cut)?;
    let known = KnownBox {
        name: name.map_or_else(|| name_of(&greeting.box_name), str::to_owned),
        address,
        key,
        client: greeting.client.clone(),
        user: greeting.user.clone(),
    };
    boxes.keep(known.clone())?;
    Ok((known, greeting))
}

/// What this PC calls itself, as far as the rules for names allow.
fn own_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let name = name_of(host.split('.').next().unwrap_or_default());
    if is_name(&name) { name } else { "pc".into() }
}

/// A box's or a PC's name as one word.
fn name_of(text: &str) -> String {
    let good = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let word: String = text.to_lowercase().chars().map(good).take(63).collect();
    let word = word.trim_matches('-').to_owned();
    if word.is_empty() { "box".into() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_words() {
        assert_eq!(name_of("Demo Box!"), "demo-box");
        assert_eq!(name_of("***"), "box");
        assert!(is_name(&own_name()));
    }
}
