//! Out of a share.

use super::local::{self, Folder};
use super::part::{self, Origin};
use super::{
    Clobber, CopyError, DEPTH_MAX, Folders, KIND, KIND_DIR, KIND_FILE, KIND_LINK,
    LISTING_BYTES_MAX, Options, Report, Summary, Told, join, kind_word,
};
use goblin_core_ninep::Attr;
use goblin_core_ninep::client::{Client, ClientError, Fid, open};
use goblin_core_types::escape_bytes;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where something of the share is.
#[derive(Clone, Copy)]
struct At<'a> {
    from: &'a Fid,
    names: &'a [&'a [u8]],
    /// As messages show it.
    shown: &'a str,
}

impl At<'_> {
    fn failed(&self, source: ClientError) -> CopyError {
        CopyError::Remote { path: self.shown.into(), source }
    }
}

/// Where it goes.
#[derive(Clone, Copy)]
struct To<'a> {
    folder: &'a Folder,
    name: &'a [u8],
}

impl To<'_> {
    fn shown(&self) -> String {
        join(&self.folder.path, self.name)
    }
}

struct Getter<'a, S> {
    client: &'a mut Client<S>,
    who: &'a [u8],
    options: Options,
    report: Report<'a>,
}

/// Copies `path` below `root` to `to`; into it when it is a folder, by the name that the path ends with, or `share`.
/// `who` tells apart boxes and shares.
///
/// # Errors
/// [`CopyError`]. Of a folder, what can be copied is; what cannot is counted as failed.
pub fn get<S: Read + Write>(
    client: &mut Client<S>,
    (root, share): (&Fid, &str),
    who: &str,
    path: &str,
    to: &Path,
    options: Options,
    told: Told<'_>,
) -> Result<Summary, CopyError> {
    let names: Vec<&[u8]> =
        path.split('/').filter(|name| !name.is_empty()).map(str::as_bytes).collect();
    let base = names.last().copied().unwrap_or(share.as_bytes());
    let at = At { from: root, names: &names, shown: if path.is_empty() { share } else { path } };
    let (fid, attr) = client.walk_attr(root, &names).map_err(|source| at.failed(source))?;
    client.clunk(fid).map_err(|source| at.failed(source))?;
    let is_folder = std::fs::metadata(to).is_ok_and(|meta| meta.is_dir());
    let (folder, name) = match to.file_name().filter(|_| !is_folder) {
        Some(name) => {
            let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
            (Folder::open(parent.unwrap_or(Path::new(".")))?, name.as_bytes())
        }
        None => (Folder::open(to)?, base),
    };
    checked(name)?;
    let report = Report { told, summary: Summary::default() };
    let mut getter = Getter { client, who: who.as_bytes(), options, report };
    let to = To { folder: &folder, name };
    getter.any(at, &attr, to, 0)?;
    folder.sync().map_err(|err| folder.failed(name, err))?;
    Ok(getter.report.summary)
}

/// A name that leads nowhere else.
fn checked(name: &[u8]) -> Result<(), CopyError> {
    if name.is_empty() || matches!(name, b"." | b"..") || name.iter().any(|b| matches!(b, b'/' | 0))
    {
        return Err(CopyError::Name { name: escape_bytes(name).chars().take(255).collect() });
    }
    Ok(())
}

impl<S: Read + Write> Getter<'_, S> {
    fn any(&mut self, at: At<'_>, attr: &Attr, to: To<'_>, depth: usize) -> Result<(), CopyError> {
        match attr.mode & KIND {
            KIND_DIR if self.options.folders == Folders::Refuse => {
                Err(CopyError::Folder { path: at.shown.into() })
            }
            KIND_DIR => self.folder(at, attr, to, depth),
            KIND_FILE => self.file(at, attr, to),
            KIND_LINK => self.link(at, attr, to),
            _ if depth == 0 => Err(CopyError::Special { path: at.shown.into() }),
            _ => {
                self.report.left_out(at.shown);
                Ok(())
            }
        }
    }

    fn folder(
        &mut self,
        at: At<'_>,
        attr: &Attr,
        to: To<'_>,
        depth: usize,
    ) -> Result<(), CopyError> {
        if depth >= DEPTH_MAX {
            return Err(CopyError::Deep { path: at.shown.into() });
        }
        refuse_other_kind(to, attr.mode)?;
        let here = to.folder.child_or_new(to.name)?;
        let fid = self.client.walk_names(at.from, at.names).map_err(|err| at.failed(err))?;
        let filled = self.fill(&fid, at, &here, depth);
        let clunked = self.client.clunk(fid).map_err(|err| at.failed(err));
        filled.and(clunked)?;
        here.finish(attr.mode, (attr.mtime.sec, attr.mtime.nsec))?;
        self.report.done(&here.path, KIND_DIR);
        Ok(())
    }

    fn fill(
        &mut self,
        fid: &Fid,
        at: At<'_>,
        here: &Folder,
        depth: usize,
    ) -> Result<(), CopyError> {
        let failed = |err| at.failed(err);
        self.client.open(fid, open::READ | open::DIRECTORY).map_err(failed)?;
        let entries = self.client.read_dir_attr(fid, LISTING_BYTES_MAX).map_err(failed)?;
        for (entry, attr) in entries {
            // Without attributes: it went away meanwhile.
            let Some(attr) = attr.filter(|_| !part::is_part(&entry.name)) else { continue };
            let shown = join(at.shown, &entry.name);
            let names: [&[u8]; 1] = [&entry.name];
            let child = At { from: fid, names: &names, shown: &shown };
            let to = To { folder: here, name: &entry.name };
            let result = checked(&entry.name)
                .and_then(|()| self.any(child, &attr, to, depth.saturating_add(1)));
            self.report.one_of_many(result)?;
        }
        Ok(())
    }

    fn link(&mut self, at: At<'_>, attr: &Attr, to: To<'_>) -> Result<(), CopyError> {
        let there = refuse_other_kind(to, attr.mode)?;
        let fid = self.client.walk_names(at.from, at.names).map_err(|err| at.failed(err))?;
        let target = self.client.read_link(&fid).map_err(|err| at.failed(err));
        self.client.clunk(fid).map_err(|err| at.failed(err))?;
        let target = target?;
        let is_link = there.is_some_and(|mode| mode & KIND == KIND_LINK);
        let keep = self.options.clobber == Clobber::Keep && there.is_some();
        if keep || (is_link && to.folder.read_link(to.name)? == target) {
            self.report.same(&to.shown());
            return Ok(());
        }
        let origin = Origin { who: self.who, file: 0, size: 0, changed: (0, 0) };
        let part = part::part_name(to.name, &origin).name;
        if to.folder.stat(part.as_bytes())?.is_some() {
            to.folder.remove(part.as_bytes())?;
        }
        to.folder.symlink(&target, part.as_bytes())?;
        to.folder.rename(part.as_bytes(), to.name)?;
        self.report.done(&to.shown(), KIND_LINK);
        Ok(())
    }

    fn file(&mut self, at: At<'_>, attr: &Attr, to: To<'_>) -> Result<(), CopyError> {
        let changed = (attr.mtime.sec, attr.mtime.nsec);
        refuse_other_kind(to, attr.mode)?;
        if let Some(there) = to.folder.stat(to.name)? {
            let whole = there.mode & KIND == KIND_FILE
                && (there.size, there.changed) == (attr.size, changed);
            if whole || self.options.clobber == Clobber::Keep {
                self.report.same(&to.shown());
                return Ok(());
            }
        }
        let origin = Origin { who: self.who, file: attr.qid.path, size: attr.size, changed };
        let part = part::part_name(to.name, &origin);
        let name = part.name.as_bytes();
        if let Some(others) =
            part.others.as_ref().filter(|_| !matches!(to.folder.stat(name), Ok(Some(_))))
        {
            remove_others(to.folder, others.as_bytes())?;
        }
        let mut file = locked_part(to, name)?;
        let here = local::meta(&file).map_err(|err| to.folder.failed(name, err))?.size;
        let sure = if part.others.is_some() { part::sure_bytes(here, attr.size) } else { 0 };
        self.report.begin(&to.shown(), attr.size, sure);
        let result = self.receive(at, attr, to, (&mut file, sure));
        if let Err(err) = &result
            && (part.others.is_none() || err.ends_all() && !err.is_gone() || err.is_changed())
        {
            // The first error is the one to report.
            let _ = to.folder.remove(name);
        }
        result?;
        to.folder.rename(name, to.name)?;
        self.report.done(&to.shown(), KIND_FILE);
        Ok(())
    }

    /// Fills an unfinished copy and brings it to the disk.
    fn receive(
        &mut self,
        at: At<'_>,
        attr: &Attr,
        to: To<'_>,
        (file, sure): (&mut File, u64),
    ) -> Result<(), CopyError> {
        let local = |err| to.folder.failed(to.name, err);
        let fid = self.client.walk_names(at.from, at.names).map_err(|err| at.failed(err))?;
        file.set_len(sure).map_err(local)?;
        file.seek(SeekFrom::Start(sure)).map_err(local)?;
        let received = self.receive_from(&fid, at, attr, to, (&mut *file, sure));
        let clunked = self.client.clunk(fid).map_err(|err| at.failed(err));
        received.and(clunked)?;
        local::set(&*file, attr.mode, (attr.mtime.sec, attr.mtime.nsec)).map_err(local)?;
        file.sync_all().map_err(local)
    }

    fn receive_from(
        &mut self,
        fid: &Fid,
        at: At<'_>,
        attr: &Attr,
        to: To<'_>,
        (file, sure): (&mut File, u64),
    ) -> Result<(), CopyError> {
        let local = |err| to.folder.failed(to.name, err);
        let changed = || CopyError::Changed { path: at.shown.into() };
        self.client.open(fid, open::READ).map_err(|err| at.failed(err))?;
        let mut offset = sure;
        loop {
            let most = u32::try_from(part::until_step(offset)).unwrap_or(u32::MAX);
            let piece = self.client.read(fid, offset, most).map_err(|err| at.failed(err))?;
            if piece.is_empty() {
                break;
            }
            file.write_all(piece).map_err(local)?;
            let got = u64::try_from(piece.len()).unwrap_or(0);
            offset = offset.saturating_add(got);
            self.report.moved(got);
            if offset > attr.size {
                return Err(changed());
            }
            if part::until_step(offset) == part::STEP_BYTES {
                file.sync_data().map_err(local)?;
            }
        }
        let after = self.client.getattr(fid).map_err(|err| at.failed(err))?;
        if (after.size, after.mtime) != (attr.size, attr.mtime) || offset != attr.size {
            return Err(changed());
        }
        Ok(())
    }
}

/// Answers the mode of what is there. A folder is not replaced by a file, nor a file by a folder.
fn refuse_other_kind(to: To<'_>, wanted: u32) -> Result<Option<u32>, CopyError> {
    let Some(there) = to.folder.stat(to.name)? else { return Ok(None) };
    if there.is_dir() == (wanted & KIND == KIND_DIR) {
        return Ok(Some(there.mode));
    }
    let (is, wanted) = (kind_word(there.mode), kind_word(wanted));
    Err(CopyError::Kind { path: to.shown(), is, wanted })
}

/// The unfinished copy, for this program alone.
fn locked_part(to: To<'_>, name: &[u8]) -> Result<File, CopyError> {
    let file = to.folder.open_part(name)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(CopyError::Busy { path: to.shown() }),
        Err(TryLockError::Error(err)) => return Err(to.folder.failed(name, err)),
    }
    let held = local::meta(&file).map_err(|err| to.folder.failed(name, err))?;
    // It may have become the finished file before the lock was had.
    match to.folder.stat(name)? {
        Some(there) if there.file == held.file && there.mode & KIND == KIND_FILE => Ok(file),
        _ => Err(CopyError::Busy { path: to.shown() }),
    }
}

fn remove_others(folder: &Folder, prefix: &[u8]) -> Result<(), CopyError> {
    let names = folder.names()?;
    names.iter().filter(|name| name.starts_with(prefix)).try_for_each(|name| folder.remove(name))
}
