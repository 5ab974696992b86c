//! What must be known of a fid to bind it again on a new connection.

use goblin_core_ninep::{Qid, lock};

/// `open(2)` flags that made the file or emptied it: they have had their effect.
const ONCE: u32 = 0o100 | 0o200 | 0o1000;
/// `O_APPEND`.
const APPEND: u32 = 0o2000;

/// How a tree was attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// User name, as the kernel sent it.
    pub uname: Vec<u8>,
    /// Tree.
    pub aname: Vec<u8>,
    /// Numeric user.
    pub n_uname: u32,
    /// The root's identity when it was attached first.
    pub qid: Qid,
}

/// A granted lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub kind: u8,
    pub start: u64,
    pub length: u64,
    pub proc_id: u32,
    pub client_id: Vec<u8>,
}

/// What became of a fid's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is there.
    Well,
    /// It could not be found again, or its lock is another's now: every use fails until the fid is given up.
    Lost,
    /// The server started anew after a write that was not synced: the next sync or write says so, once.
    Unsure,
}

/// A bound fid.
#[derive(Debug, Clone)]
pub struct Fid {
    /// How its tree was attached.
    pub root: Root,
    /// Names from the root.
    pub path: Vec<Vec<u8>>,
    /// Identity of the file.
    pub qid: Qid,
    /// Flags it is open with.
    pub open: Option<u32>,
    /// An extended attribute, not a file: never bound again.
    pub passing: bool,
    /// Written to since the last sync.
    pub dirty: bool,
    pub locks: Vec<Held>,
    pub fate: Fate,
    /// The relay's own tag under which the server was asked to make it; until it has answered.
    pub asked_as: Option<u16>,
    /// Why the server did not: every use fails with this.
    pub refused: Option<u32>,
}

impl Fid {
    pub fn attached(root: Root) -> Self {
        let qid = root.qid;
        Self {
            root,
            path: Vec::new(),
            qid,
            open: None,
            passing: false,
            dirty: false,
            locks: Vec::new(),
            fate: Fate::Well,
            asked_as: None,
            refused: None,
        }
    }

    /// The fid after a walk from this one.
    pub fn walked(&self, names: &[&[u8]], qids: &[Qid]) -> Self {
        let mut path = self.path.clone();
        for name in names {
            if *name == b".." {
                path.pop();
            } else {
                path.push(name.to_vec());
            }
        }
        let qid = qids.last().copied().unwrap_or(self.qid);
        Self { path, qid, ..Self::attached(self.root.clone()) }
    }

    /// The flags to open it with again.
    pub fn opened(&mut self, flags: u32, qid: Qid) {
        self.open = Some(flags & !ONCE);
        self.qid = qid;
    }

    pub fn appends(&self) -> bool {
        self.open.is_some_and(|flags| flags & APPEND != 0)
    }

    /// Takes over a lock that was granted, or forgets the ones that were given back.
    pub fn locked(&mut self, held: Held) {
        if held.kind == lock::UNLOCK {
            let end = |start: u64, length: u64| match length {
                0 => u64::MAX,
                length => start.saturating_add(length),
            };
            // A lock that was given back in part is asked for whole again: more than needed, never less.
            self.locks.retain(|lock| {
                lock.start < held.start
                    || end(lock.start, lock.length) > end(held.start, held.length)
            });
        } else if !self.locks.contains(&held) {
            self.locks.push(held);
        }
    }

    /// Whether `qid`, found at the same path of a tree whose root is now `root`, is the same file. Device
    /// numbers may be given out anew when the server starts; they change all identities of a tree alike.
    pub fn is_same(&self, qid: Qid, root: Qid) -> bool {
        qid.kind == self.qid.kind && qid.path ^ root.path == self.qid.path ^ self.root.qid.path
    }
}
