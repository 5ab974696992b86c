//! Writer of uncompressed erofs images (kernel source, `fs/erofs/erofs_fs.h`; kernel documentation,
//! filesystems/erofs).
//!
//! Layout, in blocks of 4096: `boot area[1024] superblock[128]`, then all inodes in the order of the
//! tree, each 64 bytes ("extended") and followed by its data when both fit in one block; then the data
//! of larger files and directories, whole blocks, each distinct content once. Inode numbers (`nid`) are
//! positions in units of 32 bytes from the start of the image. No extended attributes, no compression,
//! no checksum feature: the image lies inside an initramfs whose every byte is already digested.

use crate::Guid;
use crate::bytes::{Counted, align_up, padding, put, write_zeroes};
use crate::contents::{BuildError, Contents, copy_content};
use crate::tree::{Entry, Kind, Tree, name, parent};
use goblin_core_types::Digest;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Block size in bytes.
pub const BLOCK_BYTES: u64 = 4096;

const SUPER_AT: u64 = 1024;
const SUPER_BYTES: usize = 128;
const MAGIC: u32 = 0xe0f5_e1e2;
/// EROFS_FEATURE_COMPAT_MTIME: the time of an inode is its modification time.
const COMPAT_MTIME: u32 = 2;
const INODE_BYTES: u64 = 64;
const NID_BYTES: u64 = 32;
const DIRENT_BYTES: u64 = 12;
const EXTENDED: u16 = 1;
const FLAT_PLAIN: u16 = 0;
const FLAT_INLINE: u16 = 2;
const FT_REG: u8 = 1;
const FT_DIR: u8 = 2;
const FT_SYMLINK: u8 = 7;
const S_IFDIR: u16 = 0o040_000;
const S_IFREG: u16 = 0o100_000;
const S_IFLNK: u16 = 0o120_000;
/// Inline data of an inode that has no block of its own carries no block address.
const NO_BLOCK: u32 = u32::MAX;

/// Why a tree does not fit the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErofsError {
    /// The image would need block numbers beyond 32 bits.
    #[error("the tree needs {blocks} blocks, more than erofs can number")]
    TooLarge {
        /// Blocks of 4096 bytes.
        blocks: u64,
    },
    /// A parent directory is missing; cannot happen with a checked tree.
    #[error("the tree has no directory for `{path}`")]
    NoParent {
        /// The entry.
        path: String,
    },
}

/// What an image carries besides its tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Params {
    /// UUID of the file system.
    pub uuid: Guid,
    /// Modification time of every entry, seconds since 1970.
    pub build_time: u64,
}

/// What an inode's data is.
#[derive(Debug)]
enum Data<'t> {
    File { digest: Digest },
    Bytes(&'t [u8]),
    Dir(Vec<DirBlock<'t>>),
}

/// One block of a directory: the entries whose names lie in it, and the bytes they take.
#[derive(Debug, Default)]
struct DirBlock<'t> {
    entries: Vec<DirEntry<'t>>,
    used: u64,
}

#[derive(Debug, Clone, Copy)]
struct DirEntry<'t> {
    name: &'t [u8],
    target: usize,
    file_type: u8,
}

#[derive(Debug)]
struct Inode<'t> {
    entry: &'t Entry,
    data: Data<'t>,
    size: u64,
    links: u32,
    /// Offset of the inode in the image.
    at: u64,
    /// Data follows the inode.
    inline: bool,
    /// First block of data that does not.
    block: u32,
}

/// Where everything of an image lies; made before the first byte is written.
#[derive(Debug)]
pub struct Layout<'t> {
    params: Params,
    inodes: Vec<Inode<'t>>,
    /// Bytes of the superblock and all inodes, in whole blocks.
    meta_bytes: u64,
    blocks: u32,
}

impl<'t> Layout<'t> {
    /// Lays out the image of a tree.
    ///
    /// # Errors
    /// [`ErofsError`] when it does not fit the format.
    pub fn plan(tree: &'t Tree, params: &Params) -> Result<Self, ErofsError> {
        let mut inodes = make_inodes(tree)?;
        let mut at = SUPER_AT.saturating_add(SUPER_BYTES as u64);
        for inode in &mut inodes {
            at = align_up(at, INODE_BYTES);
            let whole = INODE_BYTES.saturating_add(inode.size);
            inode.inline = inode.size > 0 && whole <= BLOCK_BYTES;
            let stored = if inode.inline { whole } else { INODE_BYTES };
            // Inline data must not cross a block; the inode is kept with it.
            if stored > padding(at, BLOCK_BYTES) && !at.is_multiple_of(BLOCK_BYTES) {
                at = align_up(at, BLOCK_BYTES);
            }
            inode.at = at;
            at = at.saturating_add(stored);
        }
        let meta_bytes = align_up(at, BLOCK_BYTES);
        let end = place_data(&mut inodes, meta_bytes.checked_div(BLOCK_BYTES).unwrap_or(0))?;
        Ok(Self { params: *params, inodes, meta_bytes, blocks: end })
    }

    /// Size of the image in bytes.
    pub fn size(&self) -> u64 {
        u64::from(self.blocks).saturating_mul(BLOCK_BYTES)
    }

    /// Writes the image in one pass, at the present place of `out`.
    ///
    /// # Errors
    /// [`BuildError`]; what was written so far is useless.
    pub fn write<W: Write + ?Sized, C: Contents + ?Sized>(
        &self,
        out: &mut W,
        contents: &mut C,
    ) -> Result<(), BuildError> {
        let mut out = Counted::new(out);
        write_zeroes(&mut out, SUPER_AT).map_err(BuildError::Write)?;
        out.write_all(&self.superblock()).map_err(BuildError::Write)?;
        for (index, inode) in self.inodes.iter().enumerate() {
            self.skip_to(&mut out, inode.at)?;
            out.write_all(&self.inode_bytes(index, inode)).map_err(BuildError::Write)?;
            if inode.inline {
                self.write_data(&mut out, contents, inode)?;
            }
        }
        self.skip_to(&mut out, self.meta_bytes)?;
        for inode in self.inodes.iter().filter(|inode| !inode.inline && inode.size > 0) {
            let at = u64::from(inode.block).saturating_mul(BLOCK_BYTES);
            // A content that was placed before is shared.
            if at >= out.count {
                self.skip_to(&mut out, at)?;
                self.write_data(&mut out, contents, inode)?;
                out.pad(BLOCK_BYTES).map_err(BuildError::Write)?;
            }
        }
        self.skip_to(&mut out, self.size())
    }

    fn skip_to<W: Write + ?Sized>(
        &self,
        out: &mut Counted<'_, W>,
        at: u64,
    ) -> Result<(), BuildError> {
        let Some(gap) = at.checked_sub(out.count) else {
            return Err(BuildError::PartSize { part: "erofs".into(), planned: at, got: out.count });
        };
        write_zeroes(out, gap).map_err(BuildError::Write)
    }

    fn nid(&self, index: usize) -> u64 {
        self.inodes.get(index).map_or(0, |inode| inode.at.checked_div(NID_BYTES).unwrap_or(0))
    }

    fn superblock(&self) -> [u8; SUPER_BYTES] {
        let mut sb = [0u8; SUPER_BYTES];
        put(&mut sb, 0, &MAGIC.to_le_bytes());
        put(&mut sb, 8, &COMPAT_MTIME.to_le_bytes());
        put(&mut sb, 12, &[BLOCK_BYTES.trailing_zeros() as u8]);
        put(&mut sb, 14, &(self.nid(0) as u16).to_le_bytes());
        put(&mut sb, 16, &(self.inodes.len() as u64).to_le_bytes());
        put(&mut sb, 24, &self.params.build_time.to_le_bytes());
        put(&mut sb, 36, &self.blocks.to_le_bytes());
        put(&mut sb, 48, &self.params.uuid.0);
        sb
    }

    fn inode_bytes(&self, index: usize, inode: &Inode<'_>) -> [u8; INODE_BYTES as usize] {
        let kind_bits = match inode.entry.kind {
            Kind::Dir => S_IFDIR,
            Kind::File { .. } => S_IFREG,
            Kind::Symlink { .. } => S_IFLNK,
        };
        let shape = if inode.inline { FLAT_INLINE } else { FLAT_PLAIN };
        let block = if inode.inline { NO_BLOCK } else { inode.block };
        let mut bytes = [0u8; INODE_BYTES as usize];
        put(&mut bytes, 0, &(EXTENDED | (shape << 1)).to_le_bytes());
        put(&mut bytes, 4, &(kind_bits | inode.entry.mode).to_le_bytes());
        put(&mut bytes, 8, &inode.size.to_le_bytes());
        put(&mut bytes, 16, &block.to_le_bytes());
        put(&mut bytes, 20, &(index as u32).saturating_add(1).to_le_bytes());
        put(&mut bytes, 24, &inode.entry.uid.to_le_bytes());
        put(&mut bytes, 28, &inode.entry.gid.to_le_bytes());
        put(&mut bytes, 32, &self.params.build_time.to_le_bytes());
        put(&mut bytes, 44, &inode.links.to_le_bytes());
        bytes
    }

    fn write_data<W: Write + ?Sized, C: Contents + ?Sized>(
        &self,
        out: &mut Counted<'_, W>,
        contents: &mut C,
        inode: &Inode<'_>,
    ) -> Result<(), BuildError> {
        match &inode.data {
            Data::File { digest } => copy_content(out, contents, digest, inode.size),
            Data::Bytes(bytes) => out.write_all(bytes).map_err(BuildError::Write),
            Data::Dir(blocks) => self.write_dir(out, blocks).map_err(BuildError::Write),
        }
    }

    fn write_dir<W: Write + ?Sized>(&self, out: &mut W, blocks: &[DirBlock<'_>]) -> io::Result<()> {
        for (index, block) in blocks.iter().enumerate() {
            let mut name_at = (block.entries.len() as u64).saturating_mul(DIRENT_BYTES);
            for entry in &block.entries {
                let mut dirent = [0u8; DIRENT_BYTES as usize];
                put(&mut dirent, 0, &self.nid(entry.target).to_le_bytes());
                put(&mut dirent, 8, &(name_at as u16).to_le_bytes());
                put(&mut dirent, 10, &[entry.file_type]);
                out.write_all(&dirent)?;
                name_at = name_at.saturating_add(entry.name.len() as u64);
            }
            for entry in &block.entries {
                out.write_all(entry.name)?;
            }
            if index.saturating_add(1) < blocks.len() {
                write_zeroes(out, BLOCK_BYTES.saturating_sub(block.used))?;
            }
        }
        Ok(())
    }
}

/// Gives blocks to all data that is not inline; the number of blocks in all.
fn place_data(inodes: &mut [Inode<'_>], mut next: u64) -> Result<u32, ErofsError> {
    let mut placed: BTreeMap<Digest, u32> = BTreeMap::new();
    for inode in inodes.iter_mut().filter(|inode| !inode.inline && inode.size > 0) {
        let here = u32::try_from(next).map_err(|_| ErofsError::TooLarge { blocks: next })?;
        if let Data::File { digest } = inode.data {
            let block = *placed.entry(digest).or_insert(here);
            inode.block = block;
            if block != here {
                continue;
            }
        }
        inode.block = here;
        next = next.saturating_add(inode.size.div_ceil(BLOCK_BYTES));
    }
    // The last number is NO_BLOCK.
    u32::try_from(next)
        .ok()
        .filter(|end| *end < NO_BLOCK)
        .ok_or(ErofsError::TooLarge { blocks: next })
}

fn make_inodes(tree: &Tree) -> Result<Vec<Inode<'_>>, ErofsError> {
    let entries = tree.entries();
    let index_of: BTreeMap<&str, usize> =
        entries.iter().enumerate().map(|(index, entry)| (entry.path.as_str(), index)).collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); entries.len()];
    let mut parents = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let up = match parent(&entry.path) {
            // The root is its own parent.
            None => index,
            Some(path) => {
                let no_parent = || ErofsError::NoParent { path: entry.path.clone() };
                let up = *index_of.get(path).ok_or_else(no_parent)?;
                children.get_mut(up).ok_or_else(no_parent)?.push(index);
                up
            }
        };
        parents.push(up);
    }
    let lists = entries.iter().enumerate().zip(parents).zip(&children);
    Ok(lists
        .map(|(((index, entry), up), list)| make_inode(entries, index, entry, up, list))
        .collect())
}

fn make_inode<'t>(
    entries: &'t [Entry],
    index: usize,
    entry: &'t Entry,
    up: usize,
    list: &[usize],
) -> Inode<'t> {
    let (data, size, links) = match &entry.kind {
        Kind::File { size, digest } => (Data::File { digest: *digest }, *size, 1),
        Kind::Symlink { target } => (Data::Bytes(target.as_bytes()), target.len() as u64, 1),
        Kind::Dir => {
            let blocks = dir_blocks(entries, index, up, list);
            let full = (blocks.len() as u64).saturating_sub(1).saturating_mul(BLOCK_BYTES);
            let size = full.saturating_add(blocks.last().map_or(0, |block| block.used));
            let dirs =
                blocks.iter().flat_map(|block| &block.entries).filter(|e| e.file_type == FT_DIR);
            // Its own entries `.` and `..` are among them: the usual 2 + subdirectories.
            let links = u32::try_from(dirs.count()).unwrap_or(u32::MAX);
            (Data::Dir(blocks), size, links)
        }
    };
    Inode { entry, data, size, links, at: 0, inline: false, block: 0 }
}

/// Sorts the names of a directory by bytes, `.` and `..` among them as the kernel's binary search
/// expects, and distributes them over blocks.
fn dir_blocks<'t>(
    entries: &'t [Entry],
    index: usize,
    up: usize,
    list: &[usize],
) -> Vec<DirBlock<'t>> {
    let mut names: Vec<DirEntry<'t>> = list
        .iter()
        .filter_map(|child| {
            let entry = entries.get(*child)?;
            let file_type = match entry.kind {
                Kind::Dir => FT_DIR,
                Kind::File { .. } => FT_REG,
                Kind::Symlink { .. } => FT_SYMLINK,
            };
            Some(DirEntry { name: name(&entry.path).as_bytes(), target: *child, file_type })
        })
        .collect();
    names.push(DirEntry { name: b".", target: index, file_type: FT_DIR });
    names.push(DirEntry { name: b"..", target: up, file_type: FT_DIR });
    names.sort_by_key(|entry| entry.name);
    let mut blocks = Vec::new();
    let mut block = DirBlock::default();
    for entry in names {
        let takes = DIRENT_BYTES.saturating_add(entry.name.len() as u64);
        if block.used.saturating_add(takes) > BLOCK_BYTES {
            blocks.push(std::mem::take(&mut block));
        }
        block.used = block.used.saturating_add(takes);
        block.entries.push(entry);
    }
    blocks.push(block);
    blocks
}
