//! Between the kernel's words for a file and the protocol's.

use goblin_core_ninep::{Attr, Errno, Qid, StatFs, Time};
use goblin_sys::beneath::{self, Meta, SetTime, Stamp};

/// Spreads 64 bits (the finalizer of splitmix64).
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// `qid.path` of a file. Inode numbers alone collide between btrfs subvolumes and mounts; within one
/// file system the map is one to one.
pub(crate) const fn qid_path(dev: u64, ino: u64) -> u64 {
    ino ^ mix(dev)
}

/// `qid.version` of a content: changes with modification time, size and change time; never 0, which would
/// keep Linux's client from caching.
const fn qid_version(meta: &Meta) -> u32 {
    let hash = mix(mix(mix(nanos(meta.mtime)) ^ meta.size) ^ nanos(meta.ctime));
    // The low half is as good as any.
    let version = (hash & 0xffff_ffff) as u32;
    if version == 0 { 1 } else { version }
}

const fn nanos(stamp: Stamp) -> u64 {
    stamp.sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(stamp.nsec as u64)
}

pub(crate) const fn qid(meta: &Meta) -> Qid {
    Qid {
        kind: Qid::kind_of_mode(meta.mode),
        version: qid_version(meta),
        path: qid_path(meta.dev, meta.ino),
    }
}

fn time(stamp: Stamp) -> Time {
    Time { sec: stamp.sec.cast_unsigned(), nsec: stamp.nsec.into() }
}

pub(crate) fn attr(meta: &Meta) -> Attr {
    let born = if meta.btime.is_some() { Attr::BTIME } else { 0 };
    Attr {
        valid: Attr::BASIC | born,
        qid: qid(meta),
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        nlink: meta.nlink.into(),
        rdev: meta.rdev,
        size: meta.size,
        blksize: meta.blksize.into(),
        blocks: meta.blocks,
        atime: time(meta.atime),
        mtime: time(meta.mtime),
        ctime: time(meta.ctime),
        btime: time(meta.btime.unwrap_or_default()),
        generation: 0,
        data_version: 0,
    }
}

/// One time of a `Tsetattr`: whether it changes, whether to a given one.
pub(crate) fn set_time(changes: bool, given: bool, time: Time) -> Result<SetTime, Errno> {
    match (changes, given) {
        (false, _) => Ok(SetTime::Keep),
        (true, false) => Ok(SetTime::Now),
        (true, true) => {
            let nsec = u32::try_from(time.nsec).ok().filter(|nsec| *nsec < 1_000_000_000);
            let sec = time.sec.cast_signed();
            Ok(SetTime::To(Stamp { sec, nsec: nsec.ok_or(Errno::EINVAL)? }))
        }
    }
}

pub(crate) fn stat_fs(stat: &beneath::StatFs, fsid: u64) -> StatFs {
    StatFs {
        kind: u32::try_from(stat.f_type).unwrap_or(0),
        block_bytes: u32::try_from(stat.f_bsize).unwrap_or(4096),
        blocks: stat.f_blocks,
        blocks_free: stat.f_bfree,
        blocks_available: stat.f_bavail,
        files: stat.f_files,
        files_free: stat.f_ffree,
        fsid,
        name_bytes_max: u32::try_from(stat.f_namelen).unwrap_or(255),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_kept() {
        let given = Time { sec: (-5i64).cast_unsigned(), nsec: 7 };
        assert_eq!(set_time(true, true, given), Ok(SetTime::To(Stamp { sec: -5, nsec: 7 })));
    }

    #[test]
    fn a_second_of_a_thousand_million_nanoseconds_is_refused() {
        let given = Time { sec: 0, nsec: 1_000_000_000 };
        assert_eq!(set_time(true, true, given), Err(Errno::EINVAL));
    }

    #[test]
    fn equal_inodes_of_two_file_systems_are_two_files() {
        assert_ne!(qid_path(1, 256), qid_path(2, 256));
    }
}
