//! The boards' dialect `9P2000.L.gob1`: tokens and the change feed. Shapes are those of `goblin_core_ninep::gob1`, written
//! a second time.

use crate::ninep::raw::Raw;
use crate::ninep::server::Server;
use crate::ninep::wire::{Body, Fields, t};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

const TOKEN: u8 = 138;
const SYNC: u8 = 140;
const CHANGES: u8 = 142;
const EINVAL: u32 = 22;
const EBADF: u32 = 9;
const EOPNOTSUPP: u32 = 95;
const ESTALE: u32 = 116;
/// Most bytes of one change.
const CHANGE_BYTES: u32 = 282;

/// `epoch` and `number`.
type Token = (u64, u64);

fn client(server: &Server) -> Result<Raw> {
    let mut raw = server.client()?;
    let mut reply = raw.ok(t::VERSION, &Body::new().d(raw.msize).s(b"9P2000.L.gob1"))?;
    let (_, version) = (reply.d()?, reply.s()?);
    ensure!(version == b"9P2000.L.gob1", "the dialect is not spoken");
    raw.attach(0, &server.aname, 0)?;
    Ok(raw)
}

fn token(raw: &mut Raw) -> Result<(Token, u64)> {
    let mut reply = raw.ok(TOKEN, &Body::new().d(0))?;
    let token = (reply.q()?, reply.q()?);
    let durable = reply.q()?;
    reply.end()?;
    Ok((token, durable))
}

fn after((epoch, number): Token, count: u32) -> Body {
    Body::new().d(0).q(epoch).q(number).d(count)
}

/// What, directory known, file known, name.
type Told = (u8, bool, bool, Vec<u8>);

fn told(mut reply: Fields) -> Result<(Token, Vec<Told>)> {
    let (next, bytes) = ((reply.q()?, reply.q()?), reply.d()?);
    ensure!(usize::try_from(bytes)? == reply.left(), "the count is not that of the changes");
    let (mut all, mut last) = (Vec::new(), 0);
    while reply.left() > 0 {
        let number = reply.q()?;
        ensure!(number > last, "changes are out of order");
        last = number;
        let (what, dir, file) = (reply.b()?, reply.q()?, reply.q()?);
        all.push((what, dir != 0, file != 0, reply.s()?));
    }
    ensure!(last == next.1, "the next token is not that of the last change");
    Ok((next, all))
}

pub(super) fn plain_sessions_have_no_feed(server: &mut Server) -> Result<()> {
    let mut raw = server.client()?;
    for (kind, body) in [
        (TOKEN, Body::new().d(0)),
        (SYNC, Body::new().d(0).q(1).q(0)),
        (CHANGES, after((1, 0), CHANGE_BYTES)),
    ] {
        ensure!(
            raw.refused(kind, &body)? == EOPNOTSUPP,
            "type {kind} is answered in plain 9P2000.L"
        );
    }
    Ok(())
}

pub(super) fn every_change_is_told_in_order(server: &mut Server) -> Result<()> {
    let (mut raw, mut other) = (client(server)?, server.client()?);
    let (start, _) = token(&mut raw)?;
    other.create(1, b"file", 2)?;
    other.write(1, 0, b"one")?;
    other.write(1, 3, b"two")?;
    other.ok(t::MKDIR, &Body::new().d(0).s(b"dir").d(0o755).d(0))?;
    other.ok(t::SYMLINK, &Body::new().d(0).s(b"link").s(b"file").d(0))?;
    other.ok(t::LINK, &Body::new().d(0).d(1).s(b"second"))?;
    other.ok(t::RENAMEAT, &Body::new().d(0).s(b"file").d(0).s(b"moved"))?;
    let mode = Body::new().d(1).d(1).d(0o600).d(0).d(0).q(0).q(0).q(0).q(0).q(0);
    other.ok(t::SETATTR, &mode)?;
    other.ok(t::UNLINKAT, &Body::new().d(0).s(b"second").d(0))?;
    let wanted: Vec<Told> = vec![
        (3, true, true, b"file".to_vec()),
        (1, false, true, Vec::new()),
        (3, true, true, b"dir".to_vec()),
        (3, true, true, b"link".to_vec()),
        (3, true, true, b"second".to_vec()),
        (5, true, false, b"file".to_vec()),
        (6, true, false, b"moved".to_vec()),
        (2, false, true, Vec::new()),
        (4, true, false, b"second".to_vec()),
    ];
    let (next, all) = told(raw.ok(CHANGES, &after(start, 8000))?)?;
    ensure!(all == wanted, "{all:?} were told");
    ensure!(token(&mut raw)?.0 == next, "there is more than was told");
    // The same in pages of one change.
    let (mut at, mut pages) = (start, Vec::new());
    while at != next {
        let (then, page) = told(raw.ok(CHANGES, &after(at, CHANGE_BYTES))?)?;
        ensure!(!page.is_empty(), "a page is empty");
        pages.extend(page);
        at = then;
    }
    ensure!(pages == wanted, "{pages:?} were told in pages");
    Ok(())
}

pub(super) fn a_feed_waits_and_holds_up_nobody(server: &mut Server) -> Result<()> {
    let (mut raw, mut other) = (client(server)?, server.client()?);
    let (start, _) = token(&mut raw)?;
    raw.send(CHANGES, 0x7140, &after(start, 8000))?;
    raw.getattr(0).context("beside a feed that waits")?;
    other.create(1, b"file", 2)?;
    let reply = raw.receive()?;
    ensure!(reply.tag == 0x7140, "tag {} was answered", reply.tag);
    let (next, all) = told(reply.of(CHANGES)?)?;
    ensure!(all == [(3, true, true, b"file".to_vec())], "{all:?} were told");
    raw.send(CHANGES, 0x7141, &after(next, 8000))?;
    raw.ok(t::FLUSH, &Body::new().h(0x7141)).context("the flush of a feed that waits")?;
    other.write(1, 0, b"x")?;
    ensure!(raw.is_quiet(Duration::from_millis(50))?, "an answer came after its flush's");
    ensure!(told(raw.ok(CHANGES, &after(next, 8000))?)?.1.len() == 1, "what came is lost");
    Ok(())
}

pub(super) fn odd_tokens_are_refused(server: &mut Server) -> Result<()> {
    let mut raw = client(server)?;
    let ((epoch, number), _) = token(&mut raw)?;
    let other = (epoch.wrapping_add(1), number);
    let future = (epoch, number + 1);
    let mut refused = |kind, body: &Body, wanted| -> Result<()> {
        let got = raw.refused(kind, body)?;
        ensure!(got == wanted, "type {kind} was refused with {got}, not {wanted}");
        Ok(())
    };
    refused(CHANGES, &after(other, 8000), ESTALE)?;
    refused(CHANGES, &after(future, 8000), EINVAL)?;
    refused(CHANGES, &after((epoch, number), CHANGE_BYTES - 1), EINVAL)?;
    refused(SYNC, &Body::new().d(0).q(other.0).q(other.1), ESTALE)?;
    refused(SYNC, &Body::new().d(0).q(future.0).q(future.1), EINVAL)?;
    refused(TOKEN, &Body::new().d(77), EBADF)
}

pub(super) fn what_is_not_kept_any_more_is_said(server: &mut Server) -> Result<()> {
    let mut raw = client(server)?;
    let (start, _) = token(&mut raw)?;
    raw.create(1, b"one", 2)?;
    raw.create(2, b"two", 2)?;
    // Turns, so that no two neighbours are of one file.
    for round in 0..2100u64 {
        raw.write(1, round, b"x")?;
        raw.write(2, round, b"x")?;
    }
    ensure!(raw.refused(CHANGES, &after(start, 8000))? == ESTALE, "changes were passed over");
    let ((epoch, number), _) = token(&mut raw)?;
    told(raw.ok(CHANGES, &after((epoch, number - 100), 8000))?)?;
    Ok(())
}

pub(super) fn a_sync_says_how_far_the_disk_is(server: &mut Server) -> Result<()> {
    let mut raw = client(server)?;
    raw.create(1, b"file", 2)?;
    raw.write(1, 0, b"content")?;
    let ((epoch, number), durable) = token(&mut raw)?;
    ensure!(durable < number, "nothing was synced, and the disk has everything");
    for _ in 0..2 {
        let mut reply = raw.ok(SYNC, &Body::new().d(0).q(epoch).q(number))?;
        ensure!((reply.q()?, reply.q()?) == (epoch, number), "the sync went elsewhere");
        reply.end()?;
    }
    ensure!(token(&mut raw)? == ((epoch, number), number), "the sync is forgotten");
    raw.write(1, 0, b"more")?;
    let (now, durable) = token(&mut raw)?;
    ensure!(now.1 > durable && durable == number, "a write counts as synced");
    Ok(())
}
