//! Unified kernel images: sections added to systemd's EFI boot program (PE32+, Microsoft's PE format
//! description; UAPI group, "Unified Kernel Image").
//!
//! The boot program ("stub" in systemd's own words) is outside input: it comes from a package or, on
//! the board, from a blob. Its headers are checked before anything is laid out. When its header area
//! has no room for the new section headers, the raw data of all sections moves back by whole file
//! alignments; what refers to file offsets (symbols, certificates, debug directory) is then cleared.

use crate::bytes::{Counted, align_up, get, get_u16, get_u32, len64, put, read_full};
use crate::contents::BuildError;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Largest boot program in bytes; systemd's has about 100 KiB.
pub const STUB_BYTES_MAX: usize = 4 << 20;
/// Largest UKI in bytes: a loader puts it in memory twice, and the format ends at 4 GiB.
pub const UKI_BYTES_MAX: u64 = 512 << 20;
/// Most sections of one image (the format allows 96).
pub const SECTIONS_MAX: usize = 96;

const PE32_PLUS: u16 = 0x20b;
const SECTION_HEADER_BYTES: usize = 40;
const COFF_BYTES: usize = 24;
/// Fixed part of the PE32+ optional header, up to and including NumberOfRvaAndSizes.
const OPTIONAL_BYTES_MIN: usize = 112;
const DIRECTORY_CERTIFICATES: usize = 4;
const DIRECTORY_DEBUG: usize = 6;
const PAGE_BYTES: u64 = 4096;
const CNT_CODE: u32 = 0x20;
const CNT_INITIALIZED_DATA: u32 = 0x40;
const MEM_READ: u32 = 0x4000_0000;

/// Why an image cannot be read or extended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UkiError {
    /// It could not be read.
    #[error("cannot read the PE image")]
    Read(#[source] io::Error),
    /// It is not an x86-64 style PE32+ image, or a field contradicts another.
    #[error("not a usable PE32+ image: {what}")]
    Malformed {
        /// The first thing that is wrong.
        what: &'static str,
    },
    /// It is larger than this crate handles.
    #[error("the image would have {got} bytes, more than {max}")]
    TooLarge {
        /// Its size in bytes.
        got: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// A section name is empty, longer than 8 bytes, or there already.
    #[error("section `{name}` cannot be added: the name is too long or taken")]
    SectionName {
        /// The name.
        name: String,
    },
    /// Too many sections, or their headers do not fit before the first section in memory.
    #[error("no room for the headers of {count} sections")]
    NoRoom {
        /// Sections in all.
        count: usize,
    },
}

fn malformed(what: &'static str) -> UkiError {
    UkiError::Malformed { what }
}

/// One section of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name, at most 8 bytes.
    pub name: String,
    /// Size of the content in bytes.
    pub size: u64,
    /// Where the content lies in the file.
    pub file_offset: u64,
    /// Where it is loaded, relative to the image.
    pub virtual_address: u32,
}

/// Fields of the headers that matter here.
#[derive(Debug)]
struct Headers {
    /// Offset of `PE\0\0`.
    pe_at: usize,
    table_at: usize,
    section_alignment: u32,
    file_alignment: u32,
    headers_bytes: u32,
    directory_count: usize,
    sections: Vec<RawSection>,
}

#[derive(Debug, Clone, Copy)]
struct RawSection {
    header: [u8; SECTION_HEADER_BYTES],
    virtual_size: u32,
    virtual_address: u32,
    raw_size: u32,
    raw_at: u32,
}

impl Headers {
    fn optional_at(&self) -> usize {
        self.pe_at.saturating_add(COFF_BYTES)
    }

    /// Reads the headers; `bytes` is the beginning of the file, section contents may lie beyond it.
    fn parse(bytes: &[u8]) -> Result<Self, UkiError> {
        let field16 = |at: usize| get_u16(bytes, at).ok_or(malformed("it ends inside a header"));
        let field32 = |at: usize| get_u32(bytes, at).ok_or(malformed("it ends inside a header"));
        if get::<2>(bytes, 0) != Some(*b"MZ") {
            return Err(malformed("no MZ header"));
        }
        let pe_at = field32(0x3c)? as usize;
        if get::<4>(bytes, pe_at) != Some(*b"PE\0\0") {
            return Err(malformed("no PE header"));
        }
        let count = usize::from(field16(pe_at.saturating_add(6))?);
        let optional_bytes = usize::from(field16(pe_at.saturating_add(20))?);
        let optional_at = pe_at.saturating_add(COFF_BYTES);
        if optional_bytes < OPTIONAL_BYTES_MIN || field16(optional_at)? != PE32_PLUS {
            return Err(malformed("no PE32+ optional header"));
        }
        if count > SECTIONS_MAX {
            return Err(malformed("too many sections"));
        }
        let room = optional_bytes.saturating_sub(OPTIONAL_BYTES_MIN) / 8;
        let directory_count = room.min(field32(optional_at.saturating_add(108))? as usize);
        let section_alignment = field32(optional_at.saturating_add(32))?;
        let file_alignment = field32(optional_at.saturating_add(36))?;
        if !section_alignment.is_power_of_two() || !file_alignment.is_power_of_two() {
            return Err(malformed("an alignment is not a power of two"));
        }
        if file_alignment > section_alignment || section_alignment > 1 << 20 {
            return Err(malformed("an alignment is too large"));
        }
        let headers_bytes = field32(optional_at.saturating_add(60))?;
        let table_at = optional_at.saturating_add(optional_bytes);
        let mut sections = Vec::with_capacity(count);
        for index in 0..count {
            let at = table_at.saturating_add(index.saturating_mul(SECTION_HEADER_BYTES));
            let header = get(bytes, at).ok_or(malformed("it ends inside the section table"))?;
            sections.push(RawSection::parse(header)?);
        }
        Ok(Self {
            pe_at,
            table_at,
            section_alignment,
            file_alignment,
            headers_bytes,
            directory_count,
            sections,
        })
    }
}

impl RawSection {
    fn parse(header: [u8; SECTION_HEADER_BYTES]) -> Result<Self, UkiError> {
        let field = |at| get_u32(&header, at).ok_or(malformed("a section header is short"));
        let section = Self {
            header,
            virtual_size: field(8)?,
            virtual_address: field(12)?,
            raw_size: field(16)?,
            raw_at: field(20)?,
        };
        if section.virtual_address.checked_add(section.virtual_size).is_none()
            || section.raw_at.checked_add(section.raw_size).is_none()
        {
            return Err(malformed("a section ends beyond 4 GiB"));
        }
        Ok(section)
    }

    fn name(&self) -> String {
        let name: Vec<u8> =
            self.header.iter().take(8).take_while(|byte| **byte != 0).copied().collect();
        String::from_utf8_lossy(&name).into_owned()
    }

    /// Bytes of content: the part that is both in the file and in memory.
    fn content_bytes(&self) -> u32 {
        if self.virtual_size == 0 { self.raw_size } else { self.virtual_size.min(self.raw_size) }
    }
}

#[derive(Debug)]
struct Planned {
    name: String,
    size: u64,
}

/// Layout of a UKI whose section sizes are known: where everything lies is fixed before the first
/// byte is written, so the image can be streamed.
#[derive(Debug)]
pub struct UkiPlan {
    /// The boot program with new headers, up to the first added section.
    head: Vec<u8>,
    file_alignment: u64,
    sections: Vec<Planned>,
    total: u64,
}

impl UkiPlan {
    /// Plans `stub` with sections `(name, size in bytes)` added in this order.
    ///
    /// # Errors
    /// [`UkiError`] when the boot program is malformed or the sections do not fit.
    pub fn new(stub: &[u8], sections: &[(&str, u64)]) -> Result<Self, UkiError> {
        if stub.len() > STUB_BYTES_MAX {
            return Err(UkiError::TooLarge { got: len64(stub), max: STUB_BYTES_MAX as u64 });
        }
        let headers = Headers::parse(stub)?;
        let mut head = relocate(stub, &headers, sections.len())?;
        let file_alignment = u64::from(headers.file_alignment);
        let mut file_at = len64(&head);
        let mut memory_at = headers
            .sections
            .iter()
            .map(|s| {
                u64::from(s.virtual_address)
                    .saturating_add(u64::from(s.virtual_size.max(s.raw_size)))
            })
            .max()
            .ok_or(malformed("no sections"))?;
        let mut planned: Vec<Planned> = Vec::new();
        let mut added_bytes = 0u64;
        for (index, (name, size)) in sections.iter().enumerate() {
            let taken = headers.sections.iter().any(|s| s.name() == *name)
                || planned.iter().any(|p| p.name == *name);
            if name.is_empty() || name.len() > 8 || taken {
                return Err(UkiError::SectionName { name: (*name).to_owned() });
            }
            // Older boot programs have smaller alignments; kernel and initramfs want whole pages.
            memory_at = align_up(memory_at, u64::from(headers.section_alignment).max(PAGE_BYTES));
            let raw_size = align_up(*size, file_alignment);
            let header = section_header(name, *size, memory_at, raw_size, file_at);
            let slot =
                headers.sections.len().saturating_add(index).saturating_mul(SECTION_HEADER_BYTES);
            put(&mut head, headers.table_at.saturating_add(slot), &header);
            file_at = file_at.saturating_add(raw_size);
            memory_at = memory_at.saturating_add(*size);
            added_bytes = added_bytes.saturating_add(raw_size);
            if memory_at.max(file_at) > UKI_BYTES_MAX {
                return Err(UkiError::TooLarge { got: memory_at.max(file_at), max: UKI_BYTES_MAX });
            }
            planned.push(Planned { name: (*name).to_owned(), size: *size });
        }
        let image_bytes = align_up(memory_at, u64::from(headers.section_alignment));
        patch_totals(&mut head, &headers, sections.len(), image_bytes, added_bytes);
        Ok(Self { head, file_alignment, sections: planned, total: file_at })
    }

    /// Size of the whole file in bytes.
    pub fn size(&self) -> u64 {
        self.total
    }

    /// Writes the image. `fill` is called once per added section in order and writes exactly the bytes
    /// that were planned for it.
    ///
    /// # Errors
    /// [`BuildError::Write`], what `fill` answers, [`BuildError::PartSize`] when it wrote another
    /// number of bytes.
    pub fn write<W: Write + ?Sized>(
        &self,
        out: &mut W,
        mut fill: impl FnMut(&str, &mut dyn Write) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        out.write_all(&self.head).map_err(BuildError::Write)?;
        for section in &self.sections {
            let mut part = Counted::new(out);
            fill(&section.name, &mut part)?;
            if part.count != section.size {
                let part_name = section.name.clone();
                return Err(BuildError::PartSize {
                    part: part_name,
                    planned: section.size,
                    got: part.count,
                });
            }
            part.pad(self.file_alignment).map_err(BuildError::Write)?;
        }
        Ok(())
    }
}

/// Copies headers and sections so that `extra` section headers fit, sections at aligned offsets.
fn relocate(stub: &[u8], headers: &Headers, extra: usize) -> Result<Vec<u8>, UkiError> {
    let count = headers.sections.len().saturating_add(extra);
    if count > SECTIONS_MAX {
        return Err(UkiError::NoRoom { count });
    }
    let table_end =
        headers.table_at.saturating_add(count.saturating_mul(SECTION_HEADER_BYTES)) as u64;
    let file_alignment = u64::from(headers.file_alignment);
    let wanted = align_up(table_end, file_alignment);
    let first_memory = headers.sections.iter().map(|s| s.virtual_address).min().unwrap_or(0);
    let headers_bytes = wanted.max(u64::from(headers.headers_bytes));
    if headers_bytes > u64::from(first_memory) || headers_bytes > STUB_BYTES_MAX as u64 {
        return Err(UkiError::NoRoom { count });
    }
    let old_table_end = headers
        .table_at
        .saturating_add(headers.sections.len().saturating_mul(SECTION_HEADER_BYTES));
    let mut head =
        stub.get(..old_table_end).ok_or(malformed("the section table is cut off"))?.to_vec();
    head.resize(headers_bytes as usize, 0);
    let mut moved = false;
    for (index, section) in headers.sections.iter().enumerate() {
        let start = section.raw_at as usize;
        let data = stub
            .get(start..start.saturating_add(section.raw_size as usize))
            .ok_or(malformed("a section lies beyond the end of the file"))?;
        if data.is_empty() {
            continue;
        }
        let at = align_up(len64(&head), file_alignment);
        if at > STUB_BYTES_MAX as u64 {
            return Err(UkiError::TooLarge { got: at, max: STUB_BYTES_MAX as u64 });
        }
        moved |= at != u64::from(section.raw_at);
        head.resize(at as usize, 0);
        head.extend_from_slice(data);
        let padded = align_up(len64(&head), file_alignment);
        head.resize(padded as usize, 0);
        let header_at = headers.table_at.saturating_add(index.saturating_mul(SECTION_HEADER_BYTES));
        let raw_size = padded.saturating_sub(at) as u32;
        put(&mut head, header_at.saturating_add(16), &raw_size.to_le_bytes());
        put(&mut head, header_at.saturating_add(20), &(at as u32).to_le_bytes());
    }
    put(&mut head, headers.optional_at().saturating_add(60), &(headers_bytes as u32).to_le_bytes());
    clear_directory(&mut head, headers, DIRECTORY_CERTIFICATES);
    if moved {
        clear_directory(&mut head, headers, DIRECTORY_DEBUG);
    }
    Ok(head)
}

fn clear_directory(head: &mut [u8], headers: &Headers, index: usize) {
    if index < headers.directory_count {
        let at = headers
            .optional_at()
            .saturating_add(OPTIONAL_BYTES_MIN)
            .saturating_add(index.saturating_mul(8));
        put(head, at, &[0; 8]);
    }
}

fn section_header(
    name: &str,
    size: u64,
    memory_at: u64,
    raw_size: u64,
    file_at: u64,
) -> [u8; SECTION_HEADER_BYTES] {
    let mut header = [0u8; SECTION_HEADER_BYTES];
    put(&mut header, 0, name.as_bytes());
    for (at, value) in [(8, size), (12, memory_at), (16, raw_size), (20, file_at)] {
        // Bounded by UKI_BYTES_MAX.
        put(&mut header, at, &(value as u32).to_le_bytes());
    }
    // Marked as code like ukify does: old kernels entered by handover run in place.
    let content = if name == ".linux" { CNT_CODE } else { CNT_INITIALIZED_DATA };
    put(&mut header, 36, &(content | MEM_READ).to_le_bytes());
    header
}

fn patch_totals(
    head: &mut [u8],
    headers: &Headers,
    extra: usize,
    image_bytes: u64,
    added_bytes: u64,
) {
    let count = headers.sections.len().saturating_add(extra) as u16;
    put(head, headers.pe_at.saturating_add(6), &count.to_le_bytes());
    // No symbol table: its file offset may be stale, and images shall have none.
    put(head, headers.pe_at.saturating_add(12), &[0; 8]);
    let optional_at = headers.optional_at();
    let data_at = optional_at.saturating_add(8);
    let data = u64::from(get_u32(head, data_at).unwrap_or(0)).saturating_add(added_bytes);
    put(head, data_at, &(data.min(u64::from(u32::MAX)) as u32).to_le_bytes());
    put(head, optional_at.saturating_add(56), &(image_bytes as u32).to_le_bytes());
    // The checksum covers the whole file, which is streamed; UEFI does not look at it.
    put(head, optional_at.saturating_add(64), &[0; 4]);
}

/// Lists the sections of a PE32+ image.
///
/// # Errors
/// [`UkiError`] when it cannot be read or is malformed. Nothing is said about section contents.
pub fn parse_sections<R: Read + Seek + ?Sized>(image: &mut R) -> Result<Vec<Section>, UkiError> {
    const HEAD_BYTES_MAX: usize = 64 << 10;
    image.seek(SeekFrom::Start(0)).map_err(UkiError::Read)?;
    let mut head = vec![0u8; HEAD_BYTES_MAX];
    let got = read_full(image, &mut head).map_err(UkiError::Read)?;
    head.truncate(got);
    let file_bytes = image.seek(SeekFrom::End(0)).map_err(UkiError::Read)?;
    let headers = Headers::parse(&head)?;
    let mut sections = Vec::with_capacity(headers.sections.len());
    for section in &headers.sections {
        let end = u64::from(section.raw_at).saturating_add(u64::from(section.content_bytes()));
        if end > file_bytes {
            return Err(malformed("a section lies beyond the end of the file"));
        }
        sections.push(Section {
            name: section.name(),
            size: u64::from(section.content_bytes()),
            file_offset: u64::from(section.raw_at),
            virtual_address: section.virtual_address,
        });
    }
    Ok(sections)
}

/// Reads the content of the first section of this name; nothing when there is none.
///
/// # Errors
/// As [`parse_sections`], and [`UkiError::TooLarge`] when it has more than `bytes_max` bytes.
pub fn read_section<R: Read + Seek + ?Sized>(
    image: &mut R,
    name: &str,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>, UkiError> {
    let sections = parse_sections(image)?;
    let Some(section) = sections.iter().find(|section| section.name == name) else {
        return Ok(None);
    };
    if section.size > bytes_max {
        return Err(UkiError::TooLarge { got: section.size, max: bytes_max });
    }
    image.seek(SeekFrom::Start(section.file_offset)).map_err(UkiError::Read)?;
    let mut content = vec![0u8; section.size as usize];
    image.read_exact(&mut content).map_err(UkiError::Read)?;
    Ok(Some(content))
}
