//! Our 9P2000.L codec against the one of `rs9p` 0.13, which other people wrote: for any values, every message
//! both know has the same bytes and is read back the same, in both directions.
//!
//! Where the two differ, Linux's client (`net/9p/client.c`) and the protocol's description decide. Each
//! difference has a test of its own in `differences`, so that a new `rs9p` that mends one is noticed.

mod differences;
mod messages;

use goblin_core_ninep::{Reply, Request};
use messages::{Ours, Values, every_message, ours};
use proptest::prelude::*;
use rs9p::serialize::{read_msg, write_msg};
use rs9p::{FCall, Msg};

/// `size[4]` and what `rs9p` writes, which leaves the size to its transport.
fn their_bytes(tag: u16, body: &FCall) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    write_msg(&mut bytes, &Msg { tag, body: body.clone() }).unwrap();
    let size = u32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&size.to_le_bytes());
    bytes
}

/// What `rs9p` reads from a whole message.
fn their_reading(frame: &[u8]) -> std::io::Result<Msg> {
    read_msg(&mut &frame[4..])
}

fn our_bytes(tag: u16, message: &Ours<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    match message {
        Ours::Request(request) => request.encode(tag, &mut bytes),
        Ours::Reply(reply) => reply.encode(tag, &mut bytes),
    }
    bytes
}

fn check(tag: u16, theirs: &FCall) -> Result<(), TestCaseError> {
    let message = ours(theirs);
    let frame = their_bytes(tag, theirs);
    prop_assert_eq!(&our_bytes(tag, &message), &frame, "bytes of {:?}", theirs);
    match &message {
        Ours::Request(request) => {
            prop_assert_eq!(Request::decode(&frame), Ok((tag, request.clone())));
        }
        Ours::Reply(reply) => prop_assert_eq!(Reply::decode(&frame), Ok((tag, reply.clone()))),
    }
    let read = their_reading(&frame).unwrap();
    prop_assert_eq!((read.tag, &read.body), (tag, theirs));
    Ok(())
}

proptest! {
    #[test]
    fn every_message_has_the_bytes_of_the_peer(tag: u16, values in Values::any()) {
        for message in every_message(&values) {
            check(tag, &message)?;
        }
    }

    /// What one side refuses, the other does not take for something else.
    #[test]
    fn a_message_cut_short_is_refused_by_both(values in Values::any(), cut in 1usize..40) {
        for message in every_message(&values) {
            let whole = their_bytes(7, &message);
            let length = whole.len().saturating_sub(cut).max(7);
            if length == whole.len() {
                continue;
            }
            let mut frame = whole[..length].to_vec();
            frame[..4].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
            let refused = match ours(&message) {
                Ours::Request(_) => Request::decode(&frame).is_err(),
                Ours::Reply(_) => Reply::decode(&frame).is_err(),
            };
            prop_assert!(refused, "{:?} cut by {}", message, cut);
            prop_assert!(their_reading(&frame).is_err());
        }
    }
}

#[test]
fn no_message_of_the_peer_is_left_out() {
    let known = |kind: u8| {
        let unknown = |err| matches!(err, goblin_core_ninep::WireError::UnknownType { .. });
        let request = Request::decode_body(kind, &[]);
        let reply = Reply::decode_body(kind, &[]);
        !(request.is_err_and(unknown) && reply.is_err_and(unknown))
    };
    let compared: std::collections::BTreeSet<u8> = every_message(&Values::sample())
        .iter()
        .map(|body| their_bytes(0, body)[4])
        .chain(differences::KINDS)
        .collect();
    // From 128 on lies the dialect of the boards, which no peer speaks.
    let all: std::collections::BTreeSet<u8> = (0..128).filter(|kind| known(*kind)).collect();
    assert_eq!(compared, all);
}
