//! The parsers, and what must hold for bytes they accept.

use super::Target;
use goblin_core_config::parse_bytes;
use goblin_core_delta::pack::{Index, PackError};
use goblin_core_delta::patch::{HEAD_BYTES, Patch, ReadAt, parse_head};
use goblin_core_discovery::{Browser, Message};
use goblin_core_manifest::canonical;
use goblin_core_manifest::client::TrustedState;
use goblin_core_manifest::delegation::Delegations;
use goblin_core_manifest::release::Manifest;
use goblin_core_manifest::roots::{Draft, Signers};
use goblin_core_manifest::time::Instant;
use goblin_core_manifest::tuf::{Envelope, Kind, Root, Snapshot, Targets, Timestamp};
use goblin_core_manifest::waves::{Place, StepText, Waves};
use goblin_core_ninep::synthetic::{Dir, Tree};
use goblin_core_ninep::{Connection, Handled, Limits, Reply, ReplyBuf, Request};
use goblin_core_trust::pairing::{HELLO_BYTES, Hello, VERDICT_BYTES, Verdict};
use goblin_core_trust::{Access, Code, PublicKey};
use goblin_core_types::{
    BoardStatus, BootRecord, BoxId, EndBy, Greeting, HostReply, HostRequest, InitReply,
    InitRequest, LinkStatus, LogLevel, LogsReply, LogsRequest, Notify, ShareCommand, UpdateCommand,
    UpdateReply, Version,
};
use goblin_image::disk::DiskMap;
use goblin_image::gpt::{self, NewPartition};
use goblin_image::{Guid, UkiRecipe, record, uki};
use goblin_init::control::{Answers, Connection as InitConnection, Rights, Wish};
use goblin_init::log_ring::LogRing;
use goblin_init_core::journal::{self, Entry, Records};
use goblin_init_core::modalias::{AllowList, ModuleIndex};
use goblin_init_core::settings;
use goblin_init_core::supervise::{Boot, Supervisor};
use goblin_init_core::uevent::Uevent;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Cursor, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

const fn target(name: &'static str, run: fn(&[u8]), bytes_max: usize) -> Target {
    Target { name, run, bytes_max }
}

/// Every parser of outside input that can be reached from here.
pub const TARGETS: &[Target] = &[
    target("9p-message", ninep_message, 4096),
    target("9p-connection", ninep_connection, 16_384),
    target("provision", provision, 66_000),
    target("gpt", gpt_table, 128 * 512),
    target("record", boot_record, 65_536),
    target("tuf", tuf, 65_536),
    target("manifest", manifest, 65_536),
    target("disk-map", disk_map, 65_536),
    target("uki", uki_sections, 65_536),
    target("hello", hello, 1_500),
    target("control-line", control_line, 8_192),
    target("init-control", init_control, 8_192),
    target("unit-settings", unit_settings, 4_200),
    target("journal", journal_segment, 16_384),
    target("uevent", uevent, 8_400),
    target("modules", modules, 16_384),
    target("enrolment", enrolment, 4096),
    target("pack-index", pack_index, 16_384),
    target("patch", patch, 16_384),
    target("waves", waves, 4096),
    target("root-draft", root_draft, 65_536),
    target("discovery", discovery, 9000),
];

/// Contents of the release that the seeds of `pack-index` and `patch` are made for.
pub(super) const CONTENTS: usize = 3;
/// Longest content that a patch may make here, in bytes: more would only cost time.
const MADE_BYTES_MAX: u64 = 64 << 10;
/// Most contents that a patch may make here.
const MADE_MAX: usize = 64;

fn pack_index(bytes: &[u8]) {
    // The manifest signs the pack's size; every size that an input may have in mind is tried.
    let promised = match Index::decode(bytes, CONTENTS, u64::MAX) {
        Ok(index) => index.pack_bytes,
        Err(PackError::Size { got, .. }) => got,
        Err(_) => return,
    };
    let Ok(index) = Index::decode(bytes, CONTENTS, promised) else { return };
    let mut ordinals: Vec<u32> = Vec::new();
    let mut at = bytes.len() as u64;
    for frame in &index.frames {
        assert_eq!(frame.at, at, "frames follow each other");
        at += frame.bytes;
        ordinals.extend(&frame.contents);
    }
    assert_eq!(at, promised);
    ordinals.sort_unstable();
    assert_eq!(ordinals, [0, 1, 2], "each content once");
    let frames = index.frames.iter().map(|frame| (frame.bytes, frame.contents.clone())).collect();
    let (again, head) = Index::new(frames).expect("what was read can be written");
    assert!(head.len() <= bytes.len(), "numbers are written as short as they can be");
    assert_eq!(again.frames.len(), index.frames.len());
}

/// The old content that a patch refers to: bytes that follow from their place.
struct OldContent(u64);

impl ReadAt for OldContent {
    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        let end = at.checked_add(buffer.len() as u64).filter(|end| *end <= self.0);
        end.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        for (byte, place) in buffer.iter_mut().zip(at..) {
            *byte = place.to_le_bytes()[0];
        }
        Ok(())
    }
}

fn patch(bytes: &[u8]) {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else { return };
    let Ok(streams) = parse_head(head, bytes.len() as u64) else { return };
    let part = |at: u64, size: u64| {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        bytes.get(at..).and_then(|rest| rest.get(..size)).expect("streams lie inside the patch")
    };
    let readers = streams.map(|stream| part(stream.at, stream.bytes));
    let Ok(mut patch) = Patch::open(&streams, readers) else { return };
    let sizes: Vec<u64> = patch.sources().iter().map(|source| source.size).collect();
    for _ in 0..MADE_MAX {
        let Ok(Some(target)) = patch.next_target() else { return };
        let mut old = target.source.map(|place| OldContent(sizes[place]));
        // The manifest says how long each content is; a patch has to make just that.
        let size = (target.ordinal as u64 * 1000) % MADE_BYTES_MAX;
        let mut made = Vec::new();
        let old = old.as_mut().map(|old| old as &mut dyn ReadAt);
        let written = patch.write(size, old, &mut made);
        assert!(made.len() as u64 <= size, "no more than the manifest says");
        if written.is_err() {
            return;
        }
        assert_eq!(made.len() as u64, size);
    }
}

fn waves(bytes: &[u8]) {
    if let Ok(waves) = serde_json::from_slice::<Waves>(bytes) {
        let place = Place::of(BoxId([7; 16]), Version::new(1, 0, 0));
        let hold = |at| waves.hold(place, Instant::from_unix_s(at));
        let early = hold(0);
        assert!(early.is_some() || hold(u64::MAX).is_none(), "a turn is never taken back");
        assert!(waves.halted.is_none() || early.is_some());
        if waves.check().is_ok() {
            let text = serde_json::to_vec(&waves).expect("it was read from JSON");
            assert_eq!(serde_json::from_slice::<Waves>(&text).ok(), Some(waves));
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<StepText>();
    }
}

fn root_draft(bytes: &[u8]) {
    let Ok(draft) = Draft::parse("draft", bytes) else { return };
    let count = draft.signed_by(draft.root());
    assert_eq!(TrustedState::from_root(bytes).is_ok(), count.is_enough());
    let _ = Signers::of(draft.root())
        .map(|signers| signers.after(draft.root(), Instant::from_unix_s(0)));
}

fn ninep_message(bytes: &[u8]) {
    let mut again = Vec::new();
    if let Ok((tag, request)) = Request::decode(bytes) {
        request.encode(tag, &mut again);
        assert_eq!(Request::decode(&again), Ok((tag, request)));
        assert!(again.len() <= bytes.len() + 4, "only a missing datasync is added");
    }
    again.clear();
    if let Ok((tag, reply)) = Reply::decode(bytes) {
        reply.encode(tag, &mut again);
        assert_eq!(again, bytes);
    }
}

/// A server's side of a connection: frame after frame, as the client sends them.
fn ninep_connection(bytes: &[u8]) {
    let talk = Dir::new().lines("ctl", |line, mut reply| Ok(reply.write_all(&line)?));
    let dir = Dir::new().file("status", |_| Ok(b"{}\n".to_vec())).dir("update", talk);
    let limits = Limits { fids_max: 64, ..Limits::default() };
    let mut connection = Connection::new(Arc::new(Tree::new("control", dir)), limits);
    let mut reply = ReplyBuf::new();
    let mut rest = bytes;
    while let Some(size) = rest.first_chunk::<4>().map(|size| u32::from_le_bytes(*size)) {
        let size = usize::try_from(size).unwrap_or(usize::MAX).max(4);
        let (frame, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        match connection.handle(frame, &mut reply) {
            Handled::Reply => {
                let (tag, _) = Reply::decode(reply.bytes()).expect("a reply is a message");
                assert_eq!(frame.get(5..7), Some(&tag.to_le_bytes()[..]));
                assert!(reply.bytes().len() <= connection.msize() as usize);
            }
            // A read of a conversation may wait for ever, which is its right.
            Handled::Later(_) | Handled::Here(_) | Handled::Silent => {}
            Handled::Hangup(_) => return,
        }
    }
}

/// The private key of the seeds, and what no sentence may repeat of it.
pub(super) const PRIVATE_KEY: &str =
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

fn provision(bytes: &[u8]) {
    match parse_bytes(bytes) {
        Ok(file) => {
            let shown = format!("{file:?}");
            assert!(!shown.contains(&hex(&file.keys.board_private.0)), "a key is shown");
        }
        Err(err) => {
            let said = format!("{err} {err:?}");
            let leaks = |at: usize| PRIVATE_KEY.get(at..at + 12).is_some_and(|p| said.contains(p));
            assert!(!(0..52).any(leaks), "a sentence repeats a private key: {said}");
        }
    }
}

/// What strangers and damaged disks can hand to those who decide about keys.
fn enrolment(bytes: &[u8]) {
    let _ = PublicKey::from_spki(bytes);
    if let Some((hello, _)) = bytes.split_first_chunk::<HELLO_BYTES>()
        && let Ok(hello) = Hello::decode(hello)
    {
        assert!(goblin_core_trust::is_name(&hello.name));
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    }
    if let Some((verdict, _)) = bytes.split_first_chunk::<VERDICT_BYTES>() {
        let verdict = Verdict::decode(verdict);
        assert_eq!(Verdict::decode(&verdict.encode()), verdict);
    }
    if let Ok(code) = Code::parse(&String::from_utf8_lossy(bytes)) {
        assert_eq!(Code::parse(&code.to_string()), Ok(code));
    }
    if let Ok(access) = Access::parse(bytes) {
        assert_eq!(Access::parse(&access.to_bytes()).expect("what is written is read"), access);
    }
    let _ = serde_json::from_slice::<ShareCommand>(bytes);
    let _ = serde_json::from_slice::<Greeting>(bytes);
}

fn discovery(bytes: &[u8]) {
    let mut browser = Browser::default();
    browser.hear(bytes);
    let found = browser.found();
    assert!(found.iter().all(|one| !one.instance.chars().any(char::is_control)));
    if let Ok(message) = Message::decode(bytes) {
        let again = Message::decode(&message.encode()).expect("what is said is heard");
        assert_eq!(Message::decode(&again.encode()), Ok(again));
        let notice = super::seeds::notice();
        let _ = notice.collides(&message);
        for port in [5353, 40_000] {
            if let Some((answer, _)) = notice.answer(&message, port) {
                assert!(answer.len() <= goblin_core_discovery::MESSAGE_BYTES_MAX);
                assert!(
                    notice.answer(&Message::decode(&answer).expect("own words"), port).is_none()
                );
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gpt_table(bytes: &[u8]) {
    gpt_of(bytes);
    // What a checksum would stop is tried as well: hostile tables have right ones.
    let mut mended = bytes.to_vec();
    let sectors = mended.len() / 512;
    mend_gpt(&mut mended, 1);
    mend_gpt(&mut mended, sectors.saturating_sub(1));
    gpt_of(&mended);
}

fn gpt_of(bytes: &[u8]) {
    let Ok(found) = gpt::parse(&mut Cursor::new(bytes)) else { return };
    let table = found.gpt;
    for part in table.partitions() {
        assert!(part.first_lba <= part.last_lba && part.last_lba < table.sectors());
    }
    let new =
        NewPartition { type_guid: gpt::TYPE_STATE, unique_guid: Guid([7; 16]), name: "new".into() };
    if let Ok(larger) = table.relocated(table.sectors().saturating_add(4096))
        && let Ok(with_new) = larger.with_partition_in_rest(new, 1)
    {
        let added = with_new.partitions().iter().find(|part| part.name == "new");
        let added = added.expect("the new partition is there");
        let overlaps = |old: &gpt::Partition| {
            added.first_lba <= old.last_lba && old.first_lba <= added.last_lba
        };
        assert!(!table.partitions().iter().any(overlaps), "a new partition lies over an old one");
    }
}

/// Gives the header at `lba` and its entries right checksums (UEFI specification, section 5.3.2).
fn mend_gpt(disk: &mut [u8], lba: usize) {
    let at = lba * 512;
    let number = |disk: &[u8], offset: usize, width: usize| -> Option<u64> {
        let field = disk.get(at + offset..at + offset + width)?;
        Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let entries = (|| {
        let first = usize::try_from(number(disk, 72, 8)?).ok()?.checked_mul(512)?;
        let count = usize::try_from(number(disk, 80, 4)?).ok()?;
        let length = count.checked_mul(usize::try_from(number(disk, 84, 4)?).ok()?)?;
        disk.get(first..first.checked_add(length)?).map(crc32fast::hash)
    })();
    if let (Some(sum), Some(place)) = (entries, disk.get_mut(at + 88..at + 92)) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    if let Some(place) = disk.get_mut(at + 16..at + 20) {
        place.fill(0);
    }
    let length = number(disk, 12, 4).and_then(|length| usize::try_from(length).ok());
    let header = length.and_then(|length| disk.get(at..at.checked_add(length)?));
    let Some(sum) = header.map(crc32fast::hash) else { return };
    if let Some(place) = disk.get_mut(at + 16..at + 20) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

fn boot_record(bytes: &[u8]) {
    record_of(bytes);
    // With a right checksum: blake3 over version, length, sequence and payload.
    let mut mended = bytes.to_vec();
    let length = mended.get(12..16).and_then(|field| field.try_into().ok()).map(u32::from_le_bytes);
    let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let sum = (|| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(mended.get(8..24)?);
        hasher.update(mended.get(56..56usize.checked_add(length)?)?);
        Some(hasher.finalize())
    })();
    if let (Some(sum), Some(place)) = (sum, mended.get_mut(24..56)) {
        place.copy_from_slice(sum.as_bytes());
        record_of(&mended);
    }
}

fn record_of(bytes: &[u8]) {
    for (a, b) in [(bytes, &[][..]), (&[][..], bytes), (bytes, bytes)] {
        let found = record::decode(a, b);
        let Ok((_, again)) = record::encode(&found.record, found.sequence.saturating_add(1)) else {
            continue;
        };
        let read = record::decode(&again, &again);
        assert_eq!(read.record, found.record, "what is written is read back");
    }
}

fn tuf(bytes: &[u8]) {
    if let Ok(state) = TrustedState::from_root(bytes) {
        drop(state);
    }
    for kind in [Kind::Root, Kind::Timestamp, Kind::Snapshot, Kind::Targets] {
        let file = kind.to_string();
        let Ok(envelope) = Envelope::parse(&file, bytes, kind.bytes_max()) else { continue };
        match kind {
            Kind::Root => {
                if let Ok(root) = envelope.decode::<Root>(&file)
                    && root.check(&file).is_ok()
                {
                    let _ = envelope.verify(&file, &root, Kind::Root);
                }
            }
            Kind::Timestamp => drop(envelope.decode::<Timestamp>(&file)),
            Kind::Snapshot => drop(envelope.decode::<Snapshot>(&file)),
            Kind::Targets => {
                drop(envelope.decode::<Targets>(&file));
                drop(Delegations::read(&file, &envelope.signed));
            }
        }
    }
    if let Ok(value) = serde_json::from_slice(bytes) {
        let _ = canonical::to_vec(&value);
    }
}

fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::<UkiRecipe>::parse(bytes) else { return };
    let again = manifest.to_bytes().expect("what was accepted can be published");
    assert_eq!(Manifest::parse(&again), Ok(manifest.clone()));
    if manifest.uki.check().is_ok() {
        let _ = manifest.uki.base_bytes();
        let _ = manifest.uki.blobs();
    }
}

fn disk_map(bytes: &[u8]) {
    if let Ok(map) = serde_json::from_slice::<DiskMap>(bytes) {
        let _ = map.check();
    }
}

fn uki_sections(bytes: &[u8]) {
    let mut image = Cursor::new(bytes);
    if let Ok(sections) = uki::parse_sections(&mut image) {
        for section in &sections {
            let found = uki::read_section(&mut image, &section.name, 1 << 20);
            assert!(matches!(found, Ok(Some(_)) | Err(_)));
        }
    }
    let _ = uki::UkiPlan::new(bytes, &[(".cmdline", 10), (".linux", 1 << 20)]);
}

/// A device's announcement, as a datagram and as a file of sysfs.
/// PID 1's side of a connection: what a stranger sends, in pieces, and how much of the answer it takes.
fn init_control(bytes: &[u8]) {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("a socket");
    theirs.set_nonblocking(true).expect("a socket");
    let [how, rest @ ..] = bytes else { return };
    let unit = goblin_init_core::unit::parse("share", SHARE_UNIT).expect("a good unit");
    let boot = Boot { trial: how & 1 != 0, last_resort: false, start_ms: 0 };
    let supervisor = Supervisor::new(vec![unit], vec![("odd".into(), "odd: why".into())], boot);
    let mut ring = LogRing::new(4096);
    ring.push(1, "share", LogLevel::Info, "a line");
    let rights = if how & 2 == 0 { Rights::Order } else { Rights::Ask };
    let mut connection = InitConnection::new(ours.into(), rights, EndBy::Program, 0);
    let mut said = Vec::new();
    let mut now_ms = 0;
    for piece in rest.chunks(usize::from(how >> 2).max(1) * 16) {
        // What PID 1 has closed already takes nothing.
        let _ = theirs.write_all(piece);
        now_ms += u64::from(*how);
        let answers = Answers { ring: &ring, supervisor: &supervisor, start_ms: 0, now_ms };
        let wish = connection.readable(&answers);
        assert!(rights == Rights::Order || wish == Wish::None, "who may only ask gave an order");
        connection.pump(&answers);
        let _ = theirs.read_to_end(&mut said);
    }
    // Whoever says nothing more is not waited for.
    let late_ms = now_ms + 60_000;
    let answers = Answers { ring: &ring, supervisor: &supervisor, start_ms: 0, now_ms: late_ms };
    connection.pump(&answers);
    assert!(connection.is_over() || connection.follows(), "a connection stays for ever");
    drop(connection);
    let _ = theirs.read_to_end(&mut said);
    for line in said.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        serde_json::from_slice::<InitReply>(line).expect("an answer is one that can be read");
    }
}

const SHARE_UNIT: &str =
    "description = 'd'\nkind = 'service'\nexec = ['/x']\n[limits]\nmemory_max_mib = 9\n";

/// What a person, or a failing disk, has left for a unit.
fn unit_settings(bytes: &[u8]) {
    let unit = goblin_init_core::unit::parse("share", SHARE_UNIT).expect("a good unit");
    let files = [("share.toml".to_owned(), Ok(bytes.to_vec()))];
    for found in settings::load(std::slice::from_ref(&unit), files) {
        match found.settings {
            Ok(set) => {
                // Written and read it is the same, and the kernel would take it.
                let again = settings::parse("share.toml", &set.text(), &unit, false);
                assert_eq!(again.as_ref(), Ok(&set));
                set.limits(&unit.limits).check("share.toml").expect("limits that are possible");
            }
            Err(why) => assert!(why.starts_with("share.toml:") && why.contains("; "), "{why}"),
        }
    }
}

fn uevent(bytes: &[u8]) {
    let parsed = [Uevent::parse(bytes), Uevent::of_device("/devices/x", "block", bytes)];
    for event in parsed.into_iter().flatten() {
        let outside = |path: &str| path.split('/').any(|part| part == "..");
        assert!(event.path.starts_with('/') && !outside(&event.path));
        assert!(event.dev_path().is_none_or(|dev| dev.starts_with("/dev/") && !outside(&dev)));
        let names: Vec<String> = event.unit_names().collect();
        assert!(names.iter().all(|name| !name.contains(char::is_control)));
    }
}

/// `modules.alias`, `modules.dep`, the list and what a device says, with a NUL between them.
fn modules(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split('\0');
    let mut next = || parts.next().unwrap_or_default();
    let (alias, dep, list, modalias) = (next(), next(), next(), next());
    let list = AllowList::parse(list);
    let Ok(index) = ModuleIndex::parse(alias, dep) else { return };
    for module in index.wanted(modalias) {
        let files = index.files(module);
        assert!(!files.is_empty(), "a module without a file is wanted");
        assert!(files.iter().all(|file| !file.starts_with('/') && !file.contains("..")));
        if let Ok(list) = &list {
            let _ = list.permission(module);
        }
    }
}

fn hello(bytes: &[u8]) {
    let _ = goblin_agent_net::is_hello(bytes);
}

/// Every line that crosses a local socket, the host channel, or the link inside the control tree.
/// Number of the segment that the seeds are.
pub(super) const SEGMENT: u64 = 5;

fn journal_segment(bytes: &[u8]) {
    journal_of(bytes);
    // What a checksum would stop is tried as well.
    let mut mended = bytes.to_vec();
    mend_journal(&mut mended);
    journal_of(&mended);
}

fn journal_of(bytes: &[u8]) {
    let mut records = Records::new(SEGMENT, bytes);
    let read: Vec<Entry<'_>> = records.by_ref().collect();
    assert!(records.damaged_bytes() <= bytes.len() as u64);
    let mut again = journal::header(SEGMENT);
    for entry in &read {
        let offset = again.len() as u64;
        journal::encode(entry, SEGMENT, offset, &mut again);
    }
    assert_eq!(Records::new(SEGMENT, &again).collect::<Vec<_>>(), read);
}

/// Right checksums for frames that follow one another: marker[4] crc[4] length[2] kind[1] body[length].
fn mend_journal(bytes: &mut [u8]) {
    const FRAME_BYTES: usize = 11;
    let mut at = journal::HEADER_BYTES;
    while let Some(frame) = bytes.get_mut(at..).filter(|rest| rest.len() >= FRAME_BYTES) {
        let length = frame
            .get(8..10)
            .map_or(0, |two| two.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)));
        let end = FRAME_BYTES + length;
        if let Some(covered) = frame.get(8..end) {
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&SEGMENT.to_le_bytes());
            hasher.update(&(at as u64).to_le_bytes());
            hasher.update(covered);
            let crc = hasher.finalize().to_le_bytes();
            frame.iter_mut().skip(4).zip(crc).for_each(|(to, from)| *to = from);
        }
        at += end;
    }
}

fn control_line(bytes: &[u8]) {
    line::<InitRequest>(bytes);
    line::<InitReply>(bytes);
    line::<LogsRequest>(bytes);
    line::<LogsReply>(bytes);
    line::<UpdateCommand>(bytes);
    line::<UpdateReply>(bytes);
    line::<HostRequest>(bytes);
    line::<HostReply>(bytes);
    line::<Notify>(bytes);
    line::<BoardStatus>(bytes);
    line::<LinkStatus>(bytes);
    line::<BootRecord>(bytes);
}

fn line<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let again = serde_json::to_vec(&value).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<T>(&again).ok(), Some(value));
    }
}
