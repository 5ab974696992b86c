//! Whose files a share's files are on this machine. A box keeps one owner for all of them, `0:0` on the wire, and
//! decides by the connection's key who may do what; the kernel's client also looks at owner and permission bits,
//! so it must be told an owner that means something here. Pure.

/// `Tsetattr` and `Rgetattr` of 9P2000.L.
const TSETATTR: u8 = 26;
const RGETATTR: u8 = 25;
/// Where `Rgetattr` has its `uid[4] gid[4]`: after `size[4] type[1] tag[2] valid[8] qid[13] mode[4]`.
const REPLY_UID: usize = 32;
/// Where `Tsetattr` has its `valid[4] mode[4] uid[4] gid[4]`: after `size[4] type[1] tag[2] fid[4]`.
const REQUEST_VALID: usize = 11;
const REQUEST_UID: usize = 19;
/// Bits of `valid` that say that the owner, or the group, is to be set.
const VALID_UID: u32 = 2;
const VALID_GID: u32 = 4;

/// The local owner of a mount's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// The owner on the wire: nothing is changed.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };

    /// A request of the kernel on its way to the box: giving a file to the owner it is shown with changes nothing
    /// there. Giving it to anybody else stays as it is, and the box refuses.
    pub fn request(self, frame: &mut [u8]) {
        if frame.get(4) != Some(&TSETATTR) {
            return;
        }
        let Some(valid) = number(frame, REQUEST_VALID) else { return };
        for (bit, at, own) in [
            (VALID_UID, REQUEST_UID, self.uid),
            (VALID_GID, REQUEST_UID.saturating_add(4), self.gid),
        ] {
            if valid & bit != 0 && number(frame, at) == Some(own) {
                put(frame, at, 0);
            }
        }
    }

    /// A reply of the box on its way to the kernel.
    pub fn reply(self, frame: &mut [u8]) {
        if frame.get(4) != Some(&RGETATTR) {
            return;
        }
        for (at, own) in [(REPLY_UID, self.uid), (REPLY_UID.saturating_add(4), self.gid)] {
            if number(frame, at) == Some(0) {
                put(frame, at, own);
            }
        }
    }
}

fn number(frame: &[u8], at: usize) -> Option<u32> {
    let bytes = frame.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn put(frame: &mut [u8], at: usize, value: u32) {
    if let Some(place) = at.checked_add(4).and_then(|end| frame.get_mut(at..end)) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin_core_ninep::{Attr, Reply, Request, SetAttr};

    const ANNA: Owner = Owner { uid: 1000, gid: 100 };

    #[test]
    fn a_files_owner_is_the_mounts() {
        let mut frame = Vec::new();
        let attr = Attr { mode: 0o100_644, nlink: 3, size: 9, ..Attr::default() };
        Reply::Getattr { attr }.encode(7, &mut frame);
        ANNA.reply(&mut frame);
        let Reply::Getattr { attr: seen } = Reply::decode(&frame).unwrap().1 else { panic!() };
        assert_eq!(seen, Attr { uid: 1000, gid: 100, ..attr });
    }

    #[test]
    fn giving_a_file_to_its_owner_is_told_in_the_boxs_words() {
        let ask = |uid: u32, gid: u32, valid: u32| {
            let mut frame = Vec::new();
            let attr = SetAttr { valid, uid, gid, mode: 0o600, ..SetAttr::default() };
            Request::Setattr { fid: 5, attr }.encode(7, &mut frame);
            ANNA.request(&mut frame);
            match Request::decode(&frame).unwrap().1 {
                Request::Setattr { fid: 5, attr } => (attr.uid, attr.gid, attr.mode),
                _ => panic!(),
            }
        };
        assert_eq!(ask(1000, 100, SetAttr::UID | SetAttr::GID), (0, 0, 0o600));
        assert_eq!(ask(1001, 100, SetAttr::UID | SetAttr::GID), (1001, 0, 0o600));
        // Not asked for: whatever stands there is left alone.
        assert_eq!(ask(1000, 100, SetAttr::MODE), (1000, 100, 0o600));
    }

    #[test]
    fn short_and_other_frames_stay_as_they_are() {
        for kind in [TSETATTR, RGETATTR, 24, 120] {
            for length in 0..40 {
                let mut frame = vec![0u8; length];
                if let Some(place) = frame.get_mut(4) {
                    *place = kind;
                }
                ANNA.request(&mut frame);
                ANNA.reply(&mut frame);
            }
        }
    }
}
