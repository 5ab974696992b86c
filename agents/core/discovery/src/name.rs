//! Domain names: `(length[1] bytes[length])* 0[1]`, or ended by a pointer `11oooooo oooooooo` to an earlier place.

use crate::DnsError;
use std::fmt;

/// Longest name in bytes, its lengths included (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// Longest label in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// A name as labels. Two that differ only in the case of ASCII letters are equal.
#[derive(Debug, Clone, Default)]
pub struct Name(Vec<Vec<u8>>);

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(a, b)| a.eq_ignore_ascii_case(b))
    }
}

impl Eq for Name {}

impl Name {
    /// From text with dots between labels. Labels that are too long are cut, so that every text is a name; names
    /// that are too long lose their end.
    pub fn new(text: &str) -> Self {
        Self::of(text.split('.').filter(|label| !label.is_empty()).map(str::as_bytes))
    }

    /// `label`, dots and all, in front of a name: the instance of a service.
    pub fn instance(label: &str, service: &str) -> Self {
        let rest = service.split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
        Self::of(std::iter::once(label.as_bytes()).chain(rest))
    }

    fn of<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut name = Self::default();
        let mut bytes = 1usize;
        for label in labels {
            let label = cut(label);
            bytes = bytes.saturating_add(label.len()).saturating_add(1);
            if bytes > NAME_BYTES_MAX {
                break;
            }
            name.0.push(label.to_vec());
        }
        name
    }

    /// The labels.
    pub fn labels(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// The first label, when the rest is `service`.
    pub fn instance_of(&self, service: &Self) -> Option<&[u8]> {
        let (first, rest) = self.0.split_first()?;
        (Self(rest.to_vec()) == *service).then_some(first)
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for label in &self.0 {
            out.push(u8::try_from(label.len()).unwrap_or(0));
            out.extend_from_slice(label);
        }
        out.push(0);
    }

    /// Reads the name at `at` of a whole message; answers it and what comes behind it. Pointers only lead backwards,
    /// so that there is an end.
    pub(crate) fn get(message: &[u8], at: usize) -> Result<(Self, usize), DnsError> {
        let mut name = Self::default();
        let (mut here, mut behind, mut bytes) = (at, None, 1usize);
        // A pointer leads in front of where the run of labels that it ends began.
        let mut before = at;
        loop {
            let length = *message.get(here).ok_or(DnsError::Short)?;
            let next = here.saturating_add(1);
            match length >> 6 {
                0 if length == 0 => return Ok((name, behind.unwrap_or(next))),
                0 => {
                    let end = next.saturating_add(usize::from(length));
                    let label = message.get(next..end).ok_or(DnsError::Short)?;
                    bytes = bytes.saturating_add(label.len()).saturating_add(1);
                    if bytes > NAME_BYTES_MAX {
                        return Err(DnsError::Name);
                    }
                    name.0.push(label.to_vec());
                    here = end;
                }
                3 => {
                    let low = *message.get(next).ok_or(DnsError::Short)?;
                    let to = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    if to >= before {
                        return Err(DnsError::Name);
                    }
                    behind = behind.or(Some(next.saturating_add(1)));
                    (here, before) = (to, to);
                }
                _ => return Err(DnsError::Name),
            }
        }
    }
}

/// A label of a permitted length that does not end inside a character.
fn cut(label: &[u8]) -> &[u8] {
    let mut end = label.len().min(LABEL_BYTES_MAX);
    while end > 0 && label.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end = end.saturating_sub(1);
    }
    label.get(..end).unwrap_or(label)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, label) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            f.write_str(&String::from_utf8_lossy(label))?;
        }
        Ok(())
    }
}
