//! Into a share.

use super::local::{self, Folder, Meta};
use super::part::{self, Origin, PartName};
use super::{
    Clobber, CopyError, DEPTH_MAX, Folders, KIND, KIND_DIR, KIND_FILE, KIND_LINK,
    LISTING_BYTES_MAX, MODE_BITS, Options, Report, Summary, Told, join, kind_word,
};
use goblin_core_ninep::client::{Client, ClientError, Fid, open};
use goblin_core_ninep::{Attr, Errno, SetAttr, Time};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Permission bits of what comes from standard input.
const STREAM_MODE: u32 = 0o644;
/// Permission bits of a file that is not whole yet, and of a new folder until it is full.
const PART_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o755;
/// Longest wait for the lock of an unfinished copy: a box gives back what a broken connection held once it sees the
/// break, and whoever broke off may be back sooner.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// What is copied.
pub enum Source<'a> {
    /// A file or folder of this machine.
    Path(&'a Path),
    /// Bytes as they come.
    Stream(&'a mut dyn Read),
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// Where something goes: a name in a folder of the share.
#[derive(Clone, Copy)]
struct To<'a> {
    dir: &'a Fid,
    name: &'a [u8],
    /// As messages show it.
    shown: &'a str,
}

impl To<'_> {
    fn failed(&self, source: ClientError) -> CopyError {
        CopyError::Remote { path: self.shown.into(), source }
    }
}

/// Where it comes from.
#[derive(Clone, Copy)]
struct From<'a> {
    folder: &'a Folder,
    name: &'a [u8],
}

struct Putter<'a, S> {
    client: &'a mut Client<S>,
    who: &'a [u8],
    options: Options,
    report: Report<'a>,
}

/// Copies a file, or a folder, to `path` below `root`; into it when it is a folder. What has been copied is on the
/// box's disks when this returns. `who` tells apart the clients of a box.
///
/// # Errors
/// [`CopyError`]. Of a folder, what can be copied is; what cannot is counted as failed.
pub fn put<S: Read + Write>(
    client: &mut Client<S>,
    root: &Fid,
    who: &str,
    from: Source<'_>,
    path: &str,
    options: Options,
    told: Told<'_>,
) -> Result<Summary, CopyError> {
    let base: &[u8] = match &from {
        Source::Path(path) => path.file_name().map_or(b"", OsStrExt::as_bytes),
        Source::Stream(_) => b"",
    };
    let remote = |source| CopyError::Remote { path: path.into(), source };
    let names: Vec<&[u8]> =
        path.split('/').filter(|name| !name.is_empty()).map(str::as_bytes).collect();
    let into = is_folder(client, root, &names).map_err(remote)? || path.ends_with('/');
    let (dir_names, name) = match names.split_last() {
        Some((last, dir)) if !into => (dir, *last),
        _ => (names.as_slice(), base),
    };
    if name.is_empty() {
        return Err(CopyError::Folder { path: path.into() });
    }
    let dir = client.walk_names(root, dir_names).map_err(remote)?;
    let dir_shown = dir_names.iter().fold(String::new(), |shown, name| join(&shown, name));
    let shown = join(&dir_shown, name);
    let report = Report { told, summary: Summary::default() };
    let mut putter = Putter { client, who: who.as_bytes(), options, report };
    let to = To { dir: &dir, name, shown: &shown };
    match from {
        Source::Stream(bytes) => putter.stream(bytes, to)?,
        Source::Path(path) => {
            let (folder, name) = parent_of(path)?;
            // A link that a person names is meant to be followed.
            putter.any(From { folder: &folder, name: &name }, to, 0)?;
        }
    }
    putter.sync_folder(&dir, &dir_shown)?;
    putter.client.clunk(dir).map_err(remote)?;
    Ok(putter.report.summary)
}

/// The open folder that a path is in, and its name there; links that the person named are resolved.
fn parent_of(path: &Path) -> Result<(Folder, Vec<u8>), CopyError> {
    let failed = |source| CopyError::Local { path: path.display().to_string(), source };
    let whole = std::fs::canonicalize(path).map_err(failed)?;
    let (parent, name) = match (whole.parent(), whole.file_name()) {
        (Some(parent), Some(name)) => (parent, name.as_bytes().to_vec()),
        // The root folder: it is its own child.
        _ => (whole.as_path(), b".".to_vec()),
    };
    Ok((Folder::open(parent)?, name))
}

fn is_folder<S: Read + Write>(
    client: &mut Client<S>,
    root: &Fid,
    names: &[&[u8]],
) -> Result<bool, ClientError> {
    match client.walk_attr(root, names) {
        Ok((fid, attr)) => {
            client.clunk(fid)?;
            Ok(attr.mode & KIND == KIND_DIR)
        }
        Err(ClientError::Refused(Errno::ENOENT)) => Ok(false),
        Err(err) => Err(err),
    }
}

impl<S: Read + Write> Putter<'_, S> {
    fn any(&mut self, from: From<'_>, to: To<'_>, depth: usize) -> Result<(), CopyError> {
        let gone = || from.folder.failed(from.name, std::io::ErrorKind::NotFound);
        let meta = from.folder.stat(from.name)?.ok_or_else(gone)?;
        let shown = || join(&from.folder.path, from.name);
        match meta.mode & KIND {
            KIND_DIR if self.options.folders == Folders::Refuse => {
                Err(CopyError::Folder { path: shown() })
            }
            KIND_DIR => self.folder(from, &meta, to, depth),
            KIND_FILE => self.file(from, to),
            KIND_LINK => self.link(from, to),
            _ if depth == 0 => Err(CopyError::Special { path: shown() }),
            _ => {
                self.report.left_out(&shown());
                Ok(())
            }
        }
    }

    /// What is there under the name; a folder is not replaced by a file, nor a file by a folder.
    fn there(&mut self, to: To<'_>, wanted: u32) -> Result<Option<Attr>, CopyError> {
        let found = match self.client.walk_attr(to.dir, &[to.name]) {
            Ok((fid, attr)) => {
                self.client.clunk(fid).map_err(|err| to.failed(err))?;
                attr
            }
            Err(ClientError::Refused(Errno::ENOENT)) => return Ok(None),
            Err(err) => return Err(to.failed(err)),
        };
        if (found.mode & KIND == KIND_DIR) == (wanted == KIND_DIR) {
            return Ok(Some(found));
        }
        let (is, wanted) = (kind_word(found.mode), kind_word(wanted));
        Err(CopyError::Kind { path: to.shown.into(), is, wanted })
    }

    fn folder(
        &mut self,
        from: From<'_>,
        meta: &Meta,
        to: To<'_>,
        depth: usize,
    ) -> Result<(), CopyError> {
        if depth >= DEPTH_MAX {
            return Err(CopyError::Deep { path: join(&from.folder.path, from.name) });
        }
        let here = from.folder.child(from.name)?;
        if self.there(to, KIND_DIR)?.is_none() {
            self.client.mkdir(to.dir, to.name, FOLDER_MODE).map_err(|err| to.failed(err))?;
        }
        let dir = self.client.walk_names(to.dir, &[to.name]).map_err(|err| to.failed(err))?;
        let filled = self.fill(&here, &dir, to, depth);
        let finished = filled
            .and_then(|()| {
                // Only afterwards: with these bits nothing may go into it any more.
                let attr = kept(meta.mode, meta.changed);
                self.client.setattr(&dir, attr).map_err(|err| to.failed(err))
            })
            .and_then(|()| self.sync_folder(&dir, to.shown));
        let clunked = self.client.clunk(dir).map_err(|err| to.failed(err));
        finished.and(clunked)?;
        self.report.done(to.shown, KIND_DIR);
        Ok(())
    }

    fn fill(
        &mut self,
        here: &Folder,
        dir: &Fid,
        to: To<'_>,
        depth: usize,
    ) -> Result<(), CopyError> {
        for name in here.names()?.iter().filter(|name| !part::is_part(name)) {
            let shown = join(to.shown, name);
            let child = To { dir, name, shown: &shown };
            let from = From { folder: here, name };
            let result = self.any(from, child, depth.saturating_add(1));
            self.report.one_of_many(result)?;
        }
        Ok(())
    }

    /// Brings the names in a folder to the box's disks.
    fn sync_folder(&mut self, dir: &Fid, shown: &str) -> Result<(), CopyError> {
        let failed = |source| CopyError::Remote { path: shown.into(), source };
        let fid = self.client.walk_names(dir, &[]).map_err(failed)?;
        let opened = self.client.open(&fid, open::READ | open::DIRECTORY);
        let synced = opened.and_then(|_| self.client.fsync(&fid));
        self.client.clunk(fid).map_err(failed)?;
        synced.map_err(failed)
    }

    fn link(&mut self, from: From<'_>, to: To<'_>) -> Result<(), CopyError> {
        let there = self.there(to, KIND_LINK)?;
        let target = from.folder.read_link(from.name)?;
        let same = match there {
            Some(_) if self.options.clobber == Clobber::Keep => true,
            Some(attr) if attr.mode & KIND == KIND_LINK => self.link_at(to)? == target,
            _ => false,
        };
        if same {
            self.report.same(to.shown);
            return Ok(());
        }
        let origin = Origin { who: self.who, file: 0, size: 0, changed: (0, 0) };
        let part = part::part_name(to.name, &origin).name;
        let part = part.as_bytes();
        match self.client.unlink(to.dir, part, 0) {
            Ok(()) | Err(ClientError::Refused(Errno::ENOENT)) => {}
            Err(err) => return Err(to.failed(err)),
        }
        let made = self.client.symlink(to.dir, part, &target);
        let named = made.and_then(|_| self.client.rename((to.dir, part), (to.dir, to.name)));
        named.map_err(|err| to.failed(err))?;
        self.report.done(to.shown, KIND_LINK);
        Ok(())
    }

    fn link_at(&mut self, to: To<'_>) -> Result<Vec<u8>, CopyError> {
        let fid = self.client.walk_names(to.dir, &[to.name]).map_err(|err| to.failed(err))?;
        let target = self.client.read_link(&fid);
        self.client.clunk(fid).map_err(|err| to.failed(err))?;
        target.map_err(|err| to.failed(err))
    }

    fn file(&mut self, from: From<'_>, to: To<'_>) -> Result<(), CopyError> {
        let failed = |err| from.folder.failed(from.name, err);
        let mut file = from.folder.open_file(from.name)?;
        let meta = local::meta(&file).map_err(failed)?;
        if meta.mode & KIND != KIND_FILE {
            return Err(CopyError::Changed { path: join(&from.folder.path, from.name) });
        }
        if let Some(there) = self.there(to, KIND_FILE)? {
            let whole = there.mode & KIND == KIND_FILE
                && (there.size, (there.mtime.sec, there.mtime.nsec)) == (meta.size, meta.changed);
            if whole || self.options.clobber == Clobber::Keep {
                self.report.same(to.shown);
                return Ok(());
            }
        }
        let origin =
            Origin { who: self.who, file: meta.file, size: meta.size, changed: meta.changed };
        let part = part::part_name(to.name, &origin);
        self.through_part(&part, to, meta.size, |putter, fid, sure| {
            file.seek(SeekFrom::Start(sure)).map_err(failed)?;
            let sent = putter.send(&mut file, fid, sure, to, from)?;
            let after = local::meta(&file).map_err(failed)?;
            if (after.size, after.changed) != (meta.size, meta.changed) || sent != meta.size {
                return Err(CopyError::Changed { path: join(&from.folder.path, from.name) });
            }
            let attr = kept(meta.mode, meta.changed);
            putter.client.setattr(fid, attr).map_err(|err| to.failed(err))
        })
    }

    fn stream(&mut self, bytes: &mut dyn Read, to: To<'_>) -> Result<(), CopyError> {
        if self.there(to, KIND_FILE)?.is_some() && self.options.clobber == Clobber::Keep {
            self.report.same(to.shown);
            return Ok(());
        }
        let origin = Origin { who: self.who, file: 0, size: 0, changed: (0, 0) };
        let part = part::part_name(to.name, &origin);
        let here = Folder::open(Path::new("/"))?;
        let from = From { folder: &here, name: b"standard input" };
        self.through_part(&part, to, 0, |putter, fid, _| {
            putter.send(bytes, fid, 0, to, from)?;
            let attr = SetAttr { valid: SetAttr::MODE, mode: STREAM_MODE, ..SetAttr::default() };
            putter.client.setattr(fid, attr).map_err(|err| to.failed(err))
        })
    }

    /// Has an unfinished copy filled, and then gives it its name.
    fn through_part(
        &mut self,
        part: &PartName,
        to: To<'_>,
        size: u64,
        fill: impl FnOnce(&mut Self, &Fid, u64) -> Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        let (fid, sure) = self.part(part, to, size)?;
        self.report.begin(to.shown, size, sure);
        let name = part.name.as_bytes();
        let filled = fill(self, &fid, sure)
            .and_then(|()| self.client.fsync(&fid).map_err(|err| to.failed(err)))
            .and_then(|()| {
                self.client.rename((to.dir, name), (to.dir, to.name)).map_err(|err| to.failed(err))
            });
        if let Err(err) = &filled
            && (part.others.is_none() || err.ends_all() || err.is_changed())
            && !err.is_gone()
        {
            // The first error is the one to report.
            let _ = self.client.unlink(to.dir, name, 0);
        }
        if filled.as_ref().is_err_and(CopyError::is_gone) {
            return filled;
        }
        let clunked = self.client.clunk(fid).map_err(|err| to.failed(err));
        filled.and(clunked)?;
        self.report.done(to.shown, KIND_FILE);
        Ok(())
    }

    /// The unfinished copy, open for this program alone, and how much of it is there.
    fn part(&mut self, part: &PartName, to: To<'_>, size: u64) -> Result<(Fid, u64), CopyError> {
        let name = part.name.as_bytes();
        let fid = match self.client.walk_names(to.dir, &[name]) {
            Ok(fid) => {
                if let Err(err) = self.client.open(&fid, open::WRITE) {
                    self.client.clunk(fid).map_err(|err| to.failed(err))?;
                    return Err(to.failed(err));
                }
                fid
            }
            Err(ClientError::Refused(Errno::ENOENT)) => self.new_part(part, to)?,
            Err(err) => return Err(to.failed(err)),
        };
        match self.claim(&fid, name, to) {
            Ok(Some(here)) => {
                let sure = if part.others.is_some() { part::sure_bytes(here, size) } else { 0 };
                let cut = SetAttr { valid: SetAttr::SIZE, size: sure, ..SetAttr::default() };
                self.client.setattr(&fid, cut).map_err(|err| to.failed(err))?;
                Ok((fid, sure))
            }
            Ok(None) => {
                self.client.clunk(fid).map_err(|err| to.failed(err))?;
                Err(CopyError::Busy { path: to.shown.into() })
            }
            Err(err) => Err(to.failed(err)),
        }
    }

    fn new_part(&mut self, part: &PartName, to: To<'_>) -> Result<Fid, CopyError> {
        let failed = |err| to.failed(err);
        if let Some(others) = &part.others {
            self.remove_others(to, others.as_bytes()).map_err(failed)?;
        }
        let fid = self.client.walk_names(to.dir, &[]).map_err(failed)?;
        let flags = open::WRITE | open::EXCLUSIVE;
        match self.client.create(&fid, part.name.as_bytes(), flags, PART_MODE) {
            Ok(_) => Ok(fid),
            Err(err) => {
                self.client.clunk(fid).map_err(failed)?;
                match err {
                    ClientError::Refused(Errno::EEXIST) => {
                        Err(CopyError::Busy { path: to.shown.into() })
                    }
                    err => Err(failed(err)),
                }
            }
        }
    }

    /// Locks it, and makes sure that it still is the unfinished copy: it may have become the finished file before
    /// the lock was had. Answers its bytes; nothing when it is another's.
    fn claim(&mut self, fid: &Fid, name: &[u8], to: To<'_>) -> Result<Option<u64>, ClientError> {
        let start = Instant::now();
        while !self.client.try_lock(fid)? {
            if start.elapsed() >= LOCK_PATIENCE {
                return Ok(None);
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        let held = self.client.getattr(fid)?;
        match self.client.walk_attr(to.dir, &[name]) {
            Ok((there, attr)) => {
                self.client.clunk(there)?;
                Ok((attr.qid.path == held.qid.path).then_some(held.size))
            }
            Err(ClientError::Refused(Errno::ENOENT)) => Ok(None),
            Err(err) => Err(err),
        }
    }

    fn remove_others(&mut self, to: To<'_>, prefix: &[u8]) -> Result<(), ClientError> {
        let dir = self.client.walk_names(to.dir, &[])?;
        self.client.open(&dir, open::READ | open::DIRECTORY)?;
        let entries = self.client.read_dir(&dir, LISTING_BYTES_MAX);
        self.client.clunk(dir)?;
        for entry in entries?.iter().filter(|entry| entry.name.starts_with(prefix)) {
            match self.client.unlink(to.dir, &entry.name, 0) {
                Ok(()) | Err(ClientError::Refused(Errno::ENOENT)) => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    /// Sends bytes to the end; answers where that is.
    fn send(
        &mut self,
        bytes: &mut (impl Read + ?Sized),
        fid: &Fid,
        sure: u64,
        to: To<'_>,
        from: From<'_>,
    ) -> Result<u64, CopyError> {
        let mut chunk = vec![0; usize::try_from(self.client.payload_max()).unwrap_or(4096)];
        let mut offset = sure;
        loop {
            let most = usize::try_from(part::until_step(offset)).unwrap_or(usize::MAX);
            let room = chunk.len().min(most);
            let got = match bytes.read(chunk.get_mut(..room).unwrap_or(&mut [])) {
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.map_err(|err| from.folder.failed(from.name, err))?,
            };
            let Some(piece) = chunk.get(..got).filter(|piece| !piece.is_empty()) else {
                return Ok(offset);
            };
            self.client.write_all(fid, offset, piece).map_err(|err| to.failed(err))?;
            let got = u64::try_from(got).unwrap_or(0);
            offset = offset.saturating_add(got);
            self.report.moved(got);
            if part::until_step(offset) == part::STEP_BYTES {
                self.client.fsync(fid).map_err(|err| to.failed(err))?;
            }
        }
    }
}

fn kept(mode: u32, changed: (u64, u64)) -> SetAttr {
    SetAttr {
        valid: SetAttr::MODE | SetAttr::MTIME | SetAttr::MTIME_SET,
        mode: mode & MODE_BITS,
        mtime: Time { sec: changed.0, nsec: changed.1 },
        ..SetAttr::default()
    }
}
