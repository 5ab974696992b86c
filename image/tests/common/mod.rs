//! What the tests of the formats share.
#![allow(dead_code, reason = "each test file uses its part")]

use goblin_core_types::Digest;
use goblin_image::{Entry, Kind, MemoryContents, Tree};
use std::process::Command;

/// Bytes that look random and depend only on the seed.
pub fn noise(seed: u32, size: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; size];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

pub fn file(path: &str, mode: u16, bytes: Vec<u8>, contents: &mut MemoryContents) -> Entry {
    let size = bytes.len() as u64;
    let digest = contents.insert(bytes);
    Entry { path: path.into(), mode, uid: 0, gid: 0, kind: Kind::File { size, digest } }
}

pub fn symlink(path: &str, target: &str) -> Entry {
    let kind = Kind::Symlink { target: target.into() };
    Entry { path: path.into(), mode: 0o777, uid: 0, gid: 0, kind }
}

pub fn dir(path: &str, mode: u16) -> Entry {
    Entry { path: path.into(), mode, uid: 0, gid: 0, kind: Kind::Dir }
}

/// A tree with every shape: sizes around the inline limit and block borders, a directory of many
/// blocks, names that sort before `.`, shared contents, owners above 16 bits.
pub fn rich_tree(contents: &mut MemoryContents) -> Tree {
    let mut entries = vec![
        dir("/tmp", 0o1777),
        dir("/empty", 0o700),
        symlink("/bin", "usr/bin"),
        symlink("/usr/lib/long", &"x/".repeat(500)),
        file("/usr/bin/twin-a", 0o755, noise(1, 70_000), contents),
        file("/usr/bin/twin-b", 0o4755, noise(1, 70_000), contents),
        file("/!first", 0o644, b"sorts before dot".to_vec(), contents),
        file("/-dash", 0o644, b"too".to_vec(), contents),
        file("/.hidden", 0o600, b"after dot".to_vec(), contents),
    ];
    for (at, size) in
        [0, 1, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 300_001].into_iter().enumerate()
    {
        entries.push(file(&format!("/sizes/{size}"), 0o644, noise(at as u32 + 9, size), contents));
    }
    for number in 0..700 {
        let name = format!("/many/{}{number}", "n".repeat(number % 200));
        entries.push(file(&name, 0o444, number.to_string().into_bytes(), contents));
    }
    let mut owned = file("/owned", 0o640, b"mine".to_vec(), contents);
    (owned.uid, owned.gid) = (100_000, 70_000);
    entries.push(owned);
    Tree::new(entries).unwrap()
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

/// The program, if it is installed; else says that one test was skipped.
pub fn tool(name: &str) -> Option<Command> {
    match Command::new(name).arg("--version").output() {
        Ok(_) => Some(Command::new(name)),
        Err(err) => {
            println!("skipped 1: the program {name} cannot be run: {err}");
            None
        }
    }
}

/// Runs a command and fails the test with its output if it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

/// A small PE32+ image with two sections and room for `room` more section headers.
pub fn small_pe(room: usize) -> Vec<u8> {
    let table = 0x80 + 24 + 240;
    let headers = (table + 40 * (2 + room)).next_multiple_of(512);
    let mut pe = vec![0u8; headers + 1024];
    let mut put = |at: usize, bytes: &[u8]| pe[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x80u32.to_le_bytes());
    put(0x80, b"PE\0\0\x64\x86\x02\0");
    put(0x80 + 20, &240u16.to_le_bytes());
    let optional = 0x80 + 24;
    put(optional, &0x20bu16.to_le_bytes());
    put(optional + 32, &4096u32.to_le_bytes());
    put(optional + 36, &512u32.to_le_bytes());
    put(optional + 56, &0x3000u32.to_le_bytes());
    put(optional + 60, &(headers as u32).to_le_bytes());
    put(optional + 108, &16u32.to_le_bytes());
    for (index, name) in [b".text\0\0\0", b".sdmagic"].into_iter().enumerate() {
        let at = table + 40 * index;
        put(at, name);
        put(at + 8, &500u32.to_le_bytes());
        put(at + 12, &(0x1000 * (index as u32 + 1)).to_le_bytes());
        put(at + 16, &512u32.to_le_bytes());
        put(at + 20, &((headers + 512 * index) as u32).to_le_bytes());
    }
    pe[headers..].fill(0x5a);
    pe
}

/// systemd's boot program where it is installed or named, else the small image.
pub fn stub() -> Vec<u8> {
    let installed = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    let path = std::env::var("GOBLIN_TEST_STUB").unwrap_or_else(|_| installed.into());
    std::fs::read(&path).unwrap_or_else(|err| {
        println!("skipped 1: {path}: {err}; a small PE image is used instead");
        small_pe(2)
    })
}
