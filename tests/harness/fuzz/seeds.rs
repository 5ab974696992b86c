//! The seeds that our own writers make; more can lie beside them.

use super::seed_folder;
use super::targets::{PRIVATE_KEY, SEGMENT};
use goblin_core_delta::frame::Effort;
use goblin_core_delta::pack::Index;
use goblin_core_delta::patch::{self, New};
use goblin_core_discovery::{Browser, Notice, Role};
use goblin_core_manifest::publish::{Lifetimes, Publisher, RepositoryKeys, Seed, sign};
use goblin_core_manifest::roots::{Draft, Signers, Voices};
use goblin_core_manifest::time::Instant;
use goblin_core_manifest::tuf::ReleaseCustom;
use goblin_core_ninep::wire::{Data, LateU32, Rest};
use goblin_core_ninep::{
    NO_FID, NO_TAG, Names, Reply, Request, SetAttr, Token, VERSION_9P2000L, VERSION_GOB1,
};
use goblin_core_trust::pairing::{Hello, Verdict};
use goblin_core_trust::{Code, PublicKey};
use goblin_core_types::{
    Attempt, AttemptStage, BootRecord, InitRequest, LogFilter, LogLevel, PendingReset, ResetLevel,
    ResetReport, Version,
};
use goblin_image::gpt::{Gpt, Partition, TYPE_ESP};
use goblin_image::{Guid, record};
use goblin_init_core::journal::{self, BootEntry, BootId, Entry, LineEntry, LostEntry, WhyLost};
use serde_json::json;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// One seed.
#[derive(Debug)]
pub(super) struct Made {
    target: &'static str,
    name: String,
    pub(super) bytes: Vec<u8>,
}

impl Made {
    pub(super) fn path(&self) -> PathBuf {
        seed_folder(self.target).join(&self.name)
    }
}

/// Writes them into `tests/data/fuzz`.
///
/// # Errors
/// Whatever the file system says.
pub fn write() -> io::Result<()> {
    for seed in made() {
        std::fs::create_dir_all(seed_folder(seed.target))?;
        std::fs::write(seed.path(), &seed.bytes)?;
    }
    Ok(())
}

pub(super) fn made() -> Vec<Made> {
    let mut all = Vec::new();
    let mut add = |target, name: &str, bytes: Vec<u8>| {
        all.push(Made { target, name: name.to_owned(), bytes });
    };
    for (index, (tag, request)) in conversation().iter().enumerate() {
        let mut bytes = Vec::new();
        request.encode(*tag, &mut bytes);
        add("9p-message", &format!("t{index:02}-{}", request.name()), bytes);
    }
    for reply in replies() {
        let mut bytes = Vec::new();
        reply.encode(5, &mut bytes);
        add("9p-message", &format!("r-{}", reply.name()), bytes);
    }
    let mut whole = Vec::new();
    conversation().iter().for_each(|(tag, request)| request.encode(*tag, &mut whole));
    add("9p-connection", "conversation", whole);
    add("provision", "storage.toml", provisioning().into_bytes());
    let key = PublicKey::of_seed(&[7; 32]);
    add("enrolment", "key", key.to_spki());
    let asks = Hello { slot: 5, share: [6; 32], name: "laptop".into() };
    add("enrolment", "hello", asks.encode().to_vec());
    add("enrolment", "verdict", Verdict::Welcome([8; 32]).encode().to_vec());
    add("enrolment", "code", Code::from_random([9; 8]).to_string().into_bytes());
    add("enrolment", "access", ACCESS.as_bytes().to_vec());
    add("enrolment", "access-groups", ACCESS_GROUPS.as_bytes().to_vec());
    add("discovery", "announcement", notice().announcement());
    add("discovery", "question", Browser::question());
    add("gpt", "two-partitions", gpt());
    add("record", "one-attempt", boot_record());
    add("record", "ordered-reset", reset_record());
    add("uki", "two-sections", small_pe());
    for (name, bytes) in metadata() {
        add("tuf", &name, bytes);
    }
    for (name, bytes) in deltas() {
        add(if name.starts_with("index") { "pack-index" } else { "patch" }, name, bytes);
    }
    let steps = json!({"steps": [
        {"from": "2027-01-15T08:00:00Z", "places": 100}, {"from": "2027-01-18T08:00:00Z", "places": 10_000},
    ]});
    add("waves", "two-steps.json", to_bytes(&steps));
    add("waves", "halted.json", to_bytes(&json!({"steps": [], "halted": "fans stop"})));
    add("waves", "step", b"12.5%@+3d".to_vec());
    add("root-draft", "two-of-three.json", root_draft());
    add("manifest", "release.json", to_bytes(&manifest()));
    add("disk-map", "map.json", to_bytes(&disk_map()));
    add("hello", "storage", hello());
    add("journal", "two-boots", journal_segment());
    for (index, request) in init_requests().iter().enumerate() {
        // How it is sent comes first.
        let line = format!("{}{request}\n", ['\0', '\x09', '\x42', '\x11'][index % 4]);
        add("init-control", &format!("{index:02}"), line.into_bytes());
    }
    add("unit-settings", "all.toml", SETTINGS.as_bytes().to_vec());
    for (index, line) in control_lines().iter().enumerate() {
        add("control-line", &format!("{index:02}.json"), to_bytes(line));
    }
    all
}

fn to_bytes(value: &serde_json::Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn conversation() -> Vec<(u16, Request<'static>)> {
    let names = |names: &[&'static [u8]]| Names::new(names).unwrap_or(Names::NONE);
    let attr = SetAttr { valid: SetAttr::SIZE, size: 9, ..SetAttr::default() };
    let root =
        Request::Attach { fid: 0, afid: NO_FID, uname: b"root", aname: b"control", n_uname: 0 };
    let made = Request::Gcreate {
        dfid: 0,
        newfid: NO_FID,
        flags: 1,
        mode: 0o644,
        gid: 0,
        name: b"new",
        data: Data(b"text"),
    };
    vec![
        (NO_TAG, Request::Version { msize: 8192, version: VERSION_9P2000L }),
        (1, root.clone()),
        (1, Request::Walk { fid: 0, newfid: 1, names: names(&[b"update", b"ctl"]) }),
        (1, Request::Getattr { fid: 1, mask: 0x7ff }),
        (1, Request::Setattr { fid: 1, attr }),
        (1, Request::Walk { fid: 0, newfid: 2, names: names(&[b"update"]) }),
        (1, Request::Lopen { fid: 2, flags: 0 }),
        (1, Request::Readdir { fid: 2, offset: 0, count: 8192 }),
        (2, Request::Lopen { fid: 1, flags: 2 }),
        (3, Request::Flush { oldtag: 2 }),
        (1, Request::Write { fid: 1, offset: 0, data: Data(b"{}\n") }),
        (1, Request::Read { fid: 1, offset: 0, count: 512 }),
        (4, Request::Xattrwalk { fid: 0, newfid: 3, name: b"user.x" }),
        (4, Request::Fsync { fid: 2, datasync: LateU32(0) }),
        (4, Request::StatFs { fid: 0 }),
        (
            4,
            Request::Lock {
                fid: 2,
                kind: 1,
                flags: 1,
                start: 0,
                length: 0,
                proc_id: 1,
                client_id: b"host",
            },
        ),
        (4, Request::Lcreate { fid: 0, name: b"new", flags: 0x8042, mode: 0o644, gid: 0 }),
        (4, Request::Renameat { olddirfid: 0, oldname: b"a", newdirfid: 0, newname: b"b" }),
        (4, Request::Clunk { fid: 2 }),
        (4, Request::Remove { fid: 1 }),
        (NO_TAG, Request::Version { msize: 8192, version: VERSION_GOB1 }),
        (1, root),
        (1, Request::Gwalk { fid: 0, newfid: 1, names: names(&[b"update"]) }),
        (1, Request::Gopen { fid: 0, newfid: 2, flags: 0, count: 9, names: names(&[b"status"]) }),
        (1, Request::Greaddir { fid: 1, offset: 0, count: 8192 }),
        (1, made),
        (
            1,
            Request::Once {
                series: 7,
                number: 0,
                kind: 76,
                body: Rest(b"\0\0\0\0\x01\0a\0\0\0\0"),
            },
        ),
        (1, Request::Gtoken { fid: 0 }),
        (1, Request::Gsync { fid: 0, token: Token { epoch: 7, number: 1 } }),
        (1, Request::Gchanges { fid: 0, token: Token { epoch: 7, number: 1 }, count: 8192 }),
    ]
}

fn replies() -> Vec<Reply<'static>> {
    vec![
        Reply::Version { msize: 8192, version: VERSION_9P2000L },
        Reply::Error { ecode: 2 },
        Reply::Read { data: Data(b"data") },
        Reply::Getattr { attr: goblin_core_ninep::Attr::default() },
        Reply::Readlink { target: b"/x" },
        Reply::Gopen {
            attr: goblin_core_ninep::Attr::default(),
            iounit: 0,
            eof: 1,
            data: Data(b"data"),
        },
        Reply::Once { kind: 7, body: Rest(b"\x11\0\0\0") },
        Reply::Gtoken { token: Token { epoch: 7, number: 2 }, durable: 1 },
        Reply::Gchanges { token: Token { epoch: 7, number: 2 }, data: Data(b"data") },
    ]
}

/// A file of clients and rights.
/// A board as its network hears of it.
pub(super) fn notice() -> Notice {
    Notice {
        box_name: "attic".into(),
        role: Role::Storage,
        key: "d0".repeat(32),
        port: 564,
        addresses: vec![IpAddr::from([192, 0, 2, 7])],
        named_twice: false,
    }
}

const ACCESS_GROUPS: &str = r#"{"schema":2,"clients":[],"rules":[{"user":"@family","share":"films","may":"read"}],"groups":[{"name":"family","users":["anna"]}],"added":[{"name":"attic","read_only":true}],"removed":["home"]}"#;
const ACCESS: &str = r#"{"schema":1,"clients":[{"name":"laptop","key":"d04ab232742bb4ab3a1368bd4615e4e6d0224ab71a016baf8520a332c9778737","user":"anna","added_unix_s":1}],"rules":[{"user":"*","share":"films","may":"read"}]}"#;

fn provisioning() -> String {
    format!(
        "schema = 1\nrole = \"storage\"\nhost = \"attic-disks\"\ntime_zone = \"Europe/Berlin\"\n\n\
         [box]\nid = \"0f1e2d3c4b5a69788796a5b4c3d2e1f0\"\nname = \"Attic\"\n\n[keys]\nboard_private = \
         \"{PRIVATE_KEY}\"\npeer_public = \
         \"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c\"\n\n[network]\nntp = \
         [\"192.0.2.1\"]\nallow_plain_9p = true\n\n[[share]]\nname = \"main\"\n\n[update]\nurl = \
         \"http://192.0.2.2/\"\nroot = '''{{\"signed\":{{\"_type\":\"root\",\"version\":1}},\
         \"signatures\":[{{}}]}}'''\n\n[disk]\ndata = [\"A1\", \"B2\"]\n\n[debug]\nhost_channel = true\n"
    )
}

fn gpt() -> Vec<u8> {
    let part = |number, name: &str, first_lba, last_lba| Partition {
        number,
        type_guid: TYPE_ESP,
        unique_guid: Guid([u8::try_from(number).unwrap_or(1); 16]),
        name: name.into(),
        first_lba,
        last_lba,
        attributes: 0,
    };
    let partitions = vec![part(1, "goblin-esp", 40, 47), part(2, "goblin-record", 48, 55)];
    let mut disk = io::Cursor::new(vec![0; 96 * 512]);
    Gpt::new(Guid([9; 16]), 96, partitions)
        .map_err(io::Error::other)
        .and_then(|table| table.write(&mut disk))
        .expect("two partitions fit 96 sectors");
    disk.into_inner()
}

fn journal_segment() -> Vec<u8> {
    let line = |boot, seq, unit, text| {
        let level = LogLevel::Warn;
        Entry::Line(LineEntry {
            boot,
            seq,
            at_ms: 900,
            unix_ms: 1_800_000_000_900,
            level,
            unit,
            text,
        })
    };
    let begin = |boot, number| {
        let (at_ms, unix_ms, version) = (800, 1_800_000_000_800, "2.0.0");
        Entry::Boot(BootEntry { boot, number, at_ms, unix_ms, version })
    };
    let (first, second) = (BootId([1; 16]), BootId([2; 16]));
    let (at_ms, unix_ms, why) = (950, 1_800_000_000_950, WhyLost::Disk);
    let mut bytes = journal::header(SEGMENT);
    for entry in [
        begin(first, 7),
        line(first, 1, "init", "ready"),
        Entry::Lost(LostEntry { boot: first, first_seq: 2, count: 9, at_ms, unix_ms, why }),
        begin(second, 8),
        line(second, 1, "kernel", "slow disk ✓"),
    ] {
        let offset = bytes.len() as u64;
        journal::encode(&entry, SEGMENT, offset, &mut bytes);
    }
    bytes
}

/// A factory reset that is ordered, beside the report of an earlier one.
fn reset_record() -> Vec<u8> {
    let why = || "asked for on the command line".to_owned();
    let content = BootRecord {
        schema: 1,
        boot_count: 4,
        reset: Some(PendingReset { level: ResetLevel::All, why: why(), tries: 1, at_unix_s: 9 }),
        last_reset: Some(ResetReport {
            level: ResetLevel::System,
            done: true,
            reason: why(),
            at_unix_s: 7,
        }),
        ..BootRecord::default()
    };
    record::encode(&content, 4).expect("a small record").1
}

fn boot_record() -> Vec<u8> {
    let attempt = Attempt {
        version: Version::new(2, 0, 0),
        boot: 7,
        trial: true,
        stage: AttemptStage::Preinit,
        fail: None,
        last_lines: vec!["the end".into()],
        at_unix_s: 1_800_000_000,
        end: None,
    };
    let content = BootRecord { boot_count: 7, attempts: vec![attempt], ..BootRecord::default() };
    record::encode(&content, 3).expect("a small record").1
}

/// A PE32+ image with two sections and room for more headers.
fn small_pe() -> Vec<u8> {
    const TABLE: usize = 0x80 + 24 + 240;
    const HEADERS: usize = 1024;
    let mut pe = vec![0u8; HEADERS + 1024];
    let mut put = |at: usize, bytes: &[u8]| {
        pe.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    let optional = 0x80 + 24;
    put(0, b"MZ");
    put(0x3c, &0x80u32.to_le_bytes());
    put(0x80, b"PE\0\0\x64\x86\x02\0");
    put(0x80 + 20, &240u16.to_le_bytes());
    put(optional, &0x20bu16.to_le_bytes());
    put(optional + 32, &4096u32.to_le_bytes());
    put(optional + 36, &512u32.to_le_bytes());
    put(optional + 56, &0x3000u32.to_le_bytes());
    put(optional + 60, &(HEADERS as u32).to_le_bytes());
    put(optional + 108, &16u32.to_le_bytes());
    for (index, name) in [b".text\0\0\0", b".sdmagic"].into_iter().enumerate() {
        let at = TABLE + 40 * index;
        put(at, name);
        put(at + 8, &500u32.to_le_bytes());
        put(at + 12, &(0x1000 * (index as u32 + 1)).to_le_bytes());
        put(at + 16, &512u32.to_le_bytes());
        put(at + 20, &((HEADERS + 512 * index) as u32).to_le_bytes());
    }
    pe
}

/// An index of three contents in two frames, and a patch that makes three contents from an old one.
fn deltas() -> Vec<(&'static str, Vec<u8>)> {
    let (_, index) = Index::new(vec![(300, vec![2, 0]), (70_000, vec![1])]).expect("a small index");
    let old: Vec<u8> = (0..4000u32).map(|place| place.to_le_bytes()[0]).collect();
    let mut changed = old[1000..2000].to_vec();
    changed[500] = 7;
    let fresh = [3; 2000];
    let digest = goblin_core_types::Digest([9; 32]);
    let made = [
        New { ordinal: 0, bytes: &[], source: None },
        New { ordinal: 1, bytes: &changed, source: Some(0) },
        New { ordinal: 2, bytes: &fresh, source: None },
    ];
    let patch = patch::encode(&[(digest, &old)], &made, Effort::Quick).expect("a small patch");
    vec![("index-of-three", index), ("patch-to-three", patch)]
}

/// A root of three holders that two have signed.
fn root_draft() -> Vec<u8> {
    let key = |byte| goblin_core_manifest::keys::Key::of_seed(&[byte; 32]);
    let one = |byte| Voices::all(vec![key(byte)]);
    let root = Voices { keys: vec![key(1), key(2), key(3)], threshold: 2 };
    let signers = Signers { root, targets: one(4), snapshot: one(5), timestamp: one(6) };
    let first = signers.first(Instant::from_unix_s(1_800_000_000)).expect("a root");
    let mut draft = Draft::new(first).expect("a draft");
    for byte in [1, 3] {
        draft.sign(&Seed([byte; 32])).expect("a signature");
    }
    draft.to_bytes().expect("bytes")
}

fn metadata() -> Vec<(String, Vec<u8>)> {
    let seeds = |byte| vec![Seed([byte; 32])];
    let keys = RepositoryKeys {
        root: seeds(1),
        targets: seeds(2),
        snapshot: seeds(3),
        timestamp: seeds(4),
    };
    let now = Instant::from_unix_s(1_800_000_000);
    let root = sign(&keys.root(1, now.plus_days(3650)), &keys.root).expect("a root");
    let mut publisher = Publisher::empty();
    let release = ReleaseCustom {
        version: Version::new(2, 0, 0),
        channel: "stable".into(),
        uki: None,
        waves: None,
    };
    publisher.add_release(&release, b"{}").expect("a plain release");
    let written = publisher.publish(&keys, now, Lifetimes::default()).expect("signed metadata");
    let name = |path: &str| path.trim_start_matches("metadata/").to_owned();
    let mut all: Vec<_> = written.into_iter().map(|w| (name(&w.path), w.bytes)).collect();
    all.push(("root.json".to_owned(), root));
    all
}

fn manifest() -> serde_json::Value {
    let blob = json!({"digest": "ab".repeat(32), "size": 1000});
    json!({
        "schema": 1, "version": "2.0.0", "channel": "stable", "notes": "a change", "accent": "#10a0ff",
        "protocol": {"min": 1, "max": 1}, "roles": ["compute", "storage"],
        "uki": {
            "format": 1, "stub": blob, "kernel": blob, "cmdline": "quiet", "os_release": "ID=x\n",
            "uname": "6.12", "preinit": blob, "base": [],
            "erofs_uuid": "00000000-0000-4000-8000-000000000001", "erofs_time": 0, "uki_size": 4096,
            "uki_digest": "cd".repeat(32)
        }
    })
}

fn disk_map() -> serde_json::Value {
    json!({
        "schema": 1, "size_bytes": 1 << 20, "partitions": [],
        "ranges": [{"offset_bytes": 0, "length_bytes": 4096, "digest": "ab".repeat(32)}],
        "provision_offset_bytes": 8192, "provision_len_bytes": 65_536
    })
}

/// Signed by nobody; the parser looks at the body first.
fn hello() -> Vec<u8> {
    let body = json!({
        "schema": 1, "box_id": "07".repeat(16), "role": "storage", "host": "attic-disks",
        "version": "2.0.0", "boot_id": "11111111-2222-3333-4444-555555555555", "seq": 5,
        "key": "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    });
    format!("{}\n{body}", "00".repeat(64)).into_bytes()
}

const SETTINGS: &str = "enabled = true\nnice = 5\nmemory_high_mib = 4\nmemory_max_mib = 8\ncpu_weight = 20\n\
    cpu_max_percent = 50\npids_max = 9\nio_weight = 30\nlog_rate = { per_s = 5, burst = 50 }\n\n\
    [io_max]\nread_kib_per_s = 100\nwrite_ops_per_s = 20\n";

fn init_requests() -> Vec<serde_json::Value> {
    vec![
        json!({"op": "units"}),
        json!({"op": "graph"}),
        json!({"op": "show", "unit": "share"}),
        json!({"op": "logs", "follow": true, "unit": null, "lines_max": 3}),
        json!({"op": "start", "unit": "share"}),
        json!({"op": "stop", "unit": "odd"}),
        json!({"op": "restart", "unit": "nobody"}),
        json!({"op": "set", "unit": "share", "key": "nice", "value": "4"}),
        json!({"op": "set", "unit": "share", "key": "io_max", "value": null}),
        json!({"op": "reboot", "reason": "asked"}),
        json!({"op": "power-off", "reason": "asked"}),
    ]
}

fn control_lines() -> Vec<serde_json::Value> {
    let logs = InitRequest::Logs(LogFilter { follow: true, ..LogFilter::default() });
    vec![
        serde_json::to_value(InitRequest::Units).unwrap_or_default(),
        serde_json::to_value(logs).unwrap_or_default(),
        json!({"op": "reboot", "reason": "asked"}),
        json!({"op": "stage", "to": "2.0.0"}),
        json!({"op": "upgrade-pair", "to": null}),
        json!({"re": "progress", "message": "fetching", "done_bytes": 1, "total_bytes": 2}),
        json!({"re": "failed", "kind": "network", "message": "no answer"}),
        json!({"id": 1, "argv": ["status", "--json"]}),
        json!({"re": "exit", "id": 1, "code": 0}),
        json!({"notify": "status", "text": "well"}),
        serde_json::to_value(goblin_core_types::BoardStatus::default()).unwrap_or_default(),
        json!({"op": "lines", "boot": {"back": 1}, "level": "warn", "since": {"ago-ms": 9}}),
        json!({"op": "restart", "unit": "share"}),
        json!({"re": "unit", "status": {"name": "share", "phase": "ready"}, "kind": "socket"}),
    ]
}
