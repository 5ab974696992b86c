//! The journal's files, for those who write and those who read them. What they hold is
//! `goblin_init_core::journal`.

use goblin_init_core::journal::{SEGMENT_BYTES_MAX, SegmentInfo, file_name, number_of};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most segments looked at; the journal's bound keeps them far below.
const SEGMENTS_MAX: usize = 4096;

/// The segments in `dir`, oldest first; none where there is no such directory.
///
/// # Errors
/// Whatever the file system says.
pub fn segments(dir: &Path) -> io::Result<Vec<SegmentInfo>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err),
    };
    let mut found = Vec::new();
    for entry in entries.take(SEGMENTS_MAX) {
        let entry = entry?;
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(number_of) else { continue };
        match entry.metadata() {
            Ok(facts) if facts.is_file() => found.push(SegmentInfo { number, bytes: facts.len() }),
            Ok(_) => {}
            // The oldest go while the list is read.
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
    }
    found.sort_unstable_by_key(|segment| segment.number);
    Ok(found)
}

/// The content of segment `number`, not more than a segment can have; empty when it is gone by now.
///
/// # Errors
/// Whatever the file system says.
pub fn read(dir: &Path, number: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(dir.join(file_name(number))) {
        Ok(file) => file.take(SEGMENT_BYTES_MAX).read_to_end(&mut bytes)?,
        Err(err) if err.kind() == io::ErrorKind::NotFound => 0,
        Err(err) => return Err(err),
    };
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_listed_by_number_and_strangers_left_out() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(segments(&dir.path().join("absent")).unwrap(), []);
        for (name, bytes) in [(file_name(300), 3), (file_name(2), 1), ("notes.txt".into(), 9)] {
            std::fs::write(dir.path().join(name), vec![0; bytes]).unwrap();
        }
        std::fs::create_dir(dir.path().join(file_name(7))).unwrap();
        let found = segments(dir.path()).unwrap();
        let expected = [SegmentInfo { number: 2, bytes: 1 }, SegmentInfo { number: 300, bytes: 3 }];
        assert_eq!(found, expected);
        assert_eq!(read(dir.path(), 300).unwrap(), [0; 3]);
        assert!(read(dir.path(), 301).unwrap().is_empty());
    }
}
