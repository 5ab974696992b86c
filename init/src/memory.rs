//! The C library's heap, told to give memory back instead of keeping it for speed: PID 1 asks for much only
//! while it reads the unit files, and then runs for months.
//!
//! Source: `mallopt(3)`, `malloc_trim(3)` of the GNU C library.
#![allow(unsafe_code, reason = "the heap of the C library has no other door")]

/// Pieces of this size and more, in bytes, get pages of their own and give them back when they are freed. A
/// number that was set stays; the library's own rises with the largest piece that was ever freed.
const OWN_PAGES_BYTES: libc::c_int = 64 * 1024;
/// Free bytes at the end of the heap from which on they are given back.
const TRIM_BYTES: libc::c_int = 64 * 1024;

/// Sets the heap's limits; to be called before anything large is asked for.
pub fn be_frugal() {
    for (what, bytes) in
        [(libc::M_MMAP_THRESHOLD, OWN_PAGES_BYTES), (libc::M_TRIM_THRESHOLD, TRIM_BYTES)]
    {
        // SAFETY: takes two numbers and no pointers; both are parameters that mallopt(3) names, and PID 1
        // has one thread. A number that is refused changes nothing.
        unsafe { libc::mallopt(what, bytes) };
    }
}

/// Gives free pages in the middle of the heap back too; what reading the unit files left behind.
pub fn give_back() {
    // SAFETY: takes a number and no pointers; it moves nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn large_pieces_are_given_back_when_they_are_freed() {
        let resident_kib = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
            line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        super::be_frugal();
        let pieces: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 1 << 20]).collect();
        let full = resident_kib();
        drop(pieces);
        super::give_back();
        assert!(resident_kib() + 48 * 1024 < full);
    }
}
