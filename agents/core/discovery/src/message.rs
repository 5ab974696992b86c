//! Messages: `id[2] flags[2] questions[2] answers[2] authorities[2] additionals[2]`, all big-endian, then questions
//! `name type[2] class[2]` and records `name type[2] class[2] ttl[4] length[2] data[length]` (RFC 1035, section 4).

use crate::{MESSAGE_BYTES_MAX, Name};
use std::net::{Ipv4Addr, Ipv6Addr};

const HEADER_BYTES: usize = 12;
/// Questions and records looked at in one message.
const ENTRIES_MAX: u32 = 128;
/// `IN`, and the bit that asks for an answer to oneself, or says that a record is the only one (RFC 6762, 10.2).
const CLASS_IN: u16 = 1;
const CLASS_TOP: u16 = 0x8000;
/// `QR` and `AA` of an answer.
const FLAGS_ANSWER: u16 = 0x8400;
const FLAG_ANSWER: u16 = 0x8000;
/// Operation and result, which are 0 here.
const FLAGS_OTHER: u16 = 0x780f;

/// Types of records.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const ANY: u16 = 255;
}

/// Why bytes are no message. They are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// It ends inside a field.
    #[error("the message ends too early")]
    Short,
    /// A name is too long, of an unknown form, or leads forwards.
    #[error("a name in the message is none")]
    Name,
    /// Longer than any that is looked at.
    #[error("the message is longer than {MESSAGE_BYTES_MAX} bytes")]
    Long,
    /// An operation that is none of this protocol's, or a result.
    #[error("the message is neither a question nor an answer")]
    Kind,
    /// More than is looked at.
    #[error("the message has more than {ENTRIES_MAX} questions and records")]
    Many,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// About which name.
    pub name: Name,
    /// Which type of records.
    pub kind: u16,
    /// Whether the answer shall come to the asker alone.
    pub unicast: bool,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Data {
    /// An address.
    A(Ipv4Addr),
    /// An address.
    Aaaa(Ipv6Addr),
    /// Another name.
    Ptr(Name),
    /// Where a service is.
    Srv {
        /// Its port.
        port: u16,
        /// Its host.
        host: Name,
    },
    /// Strings of at most 255 bytes.
    Txt(Vec<Vec<u8>>),
}

impl Data {
    pub(crate) const fn kind(&self) -> u16 {
        match self {
            Self::A(_) => kind::A,
            Self::Aaaa(_) => kind::AAAA,
            Self::Ptr(_) => kind::PTR,
            Self::Srv { .. } => kind::SRV,
            Self::Txt(_) => kind::TXT,
        }
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// About which name.
    pub name: Name,
    /// Seconds it holds; 0 takes it back.
    pub ttl_s: u32,
    /// Whether nobody else has a record of this name and type.
    pub only: bool,
    /// What it says.
    pub data: Data,
}

/// A message. Records of types that nobody here knows are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Chosen by the asker; 0 in what goes to the group.
    pub id: u16,
    /// Whether it is an answer.
    pub answer: bool,
    /// What is asked.
    pub questions: Vec<Question>,
    /// What is answered, or known already by the asker.
    pub records: Vec<Record>,
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DnsError> {
        let rest = self.message.get(self.at..).ok_or(DnsError::Short)?;
        let bytes = *rest.first_chunk::<N>().ok_or(DnsError::Short)?;
        self.at = self.at.saturating_add(N);
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16, DnsError> {
        self.bytes().map(u16::from_be_bytes)
    }

    fn name(&mut self) -> Result<Name, DnsError> {
        let (name, behind) = Name::get(self.message, self.at)?;
        self.at = behind;
        Ok(name)
    }

    fn question(&mut self) -> Result<Question, DnsError> {
        let (name, kind, class) = (self.name()?, self.u16()?, self.u16()?);
        Ok(Question { name, kind, unicast: class & CLASS_TOP != 0 })
    }

    fn record(&mut self) -> Result<Option<Record>, DnsError> {
        let (name, kind, class) = (self.name()?, self.u16()?, self.u16()?);
        let ttl_s = u32::from_be_bytes(self.bytes()?);
        let length = usize::from(self.u16()?);
        let end = self.at.saturating_add(length);
        if end > self.message.len() {
            return Err(DnsError::Short);
        }
        let data = if class & !CLASS_TOP == CLASS_IN { self.data(kind, end)? } else { None };
        self.at = end;
        Ok(data.map(|data| Record { name, ttl_s, only: class & CLASS_TOP != 0, data }))
    }

    fn data(&mut self, kind: u16, end: usize) -> Result<Option<Data>, DnsError> {
        let data = match kind {
            kind::A => Data::A(self.bytes::<4>()?.into()),
            kind::AAAA => Data::Aaaa(self.bytes::<16>()?.into()),
            kind::PTR => Data::Ptr(self.name()?),
            kind::SRV => {
                // Priority and weight: there is one of each.
                self.bytes::<4>()?;
                Data::Srv { port: self.u16()?, host: self.name()? }
            }
            kind::TXT => {
                let mut strings = Vec::new();
                while self.at < end {
                    let [length] = self.bytes()?;
                    let to = self.at.saturating_add(usize::from(length));
                    let string = self.message.get(self.at..to.min(end)).ok_or(DnsError::Short)?;
                    strings.push(string.to_vec());
                    self.at = to;
                }
                Data::Txt(strings)
            }
            _ => return Ok(None),
        };
        // The data must not reach into the next record.
        if self.at > end { Err(DnsError::Short) } else { Ok(Some(data)) }
    }
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// [`DnsError`]; the message is to be dropped.
    pub fn decode(bytes: &[u8]) -> Result<Self, DnsError> {
        if bytes.len() > MESSAGE_BYTES_MAX.saturating_mul(7) {
            return Err(DnsError::Long);
        }
        let mut from = Reader { message: bytes, at: 0 };
        let (id, flags) = (from.u16()?, from.u16()?);
        if flags & FLAGS_OTHER != 0 {
            return Err(DnsError::Kind);
        }
        let questions = u32::from(from.u16()?);
        let counts = [from.u16()?, from.u16()?, from.u16()?];
        let records = counts.iter().fold(0u32, |sum, count| sum.saturating_add((*count).into()));
        if questions.saturating_add(records) > ENTRIES_MAX {
            return Err(DnsError::Many);
        }
        let mut message = Self { id, answer: flags & FLAG_ANSWER != 0, ..Self::default() };
        for _ in 0..questions {
            message.questions.push(from.question()?);
        }
        for _ in 0..records {
            message.records.extend(from.record()?);
        }
        Ok(message)
    }

    /// The message's bytes. Records that have no room are left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        let (mut questions, mut records) = (0u16, 0u16);
        for question in &self.questions {
            let mut one = Vec::new();
            question.name.put(&mut one);
            one.extend_from_slice(&question.kind.to_be_bytes());
            let class = if question.unicast { CLASS_IN | CLASS_TOP } else { CLASS_IN };
            one.extend_from_slice(&class.to_be_bytes());
            questions = questions.saturating_add(append(&mut out, &one));
        }
        for record in &self.records {
            records = records.saturating_add(append(&mut out, &encoded(record)));
        }
        let flags = if self.answer { FLAGS_ANSWER } else { 0 };
        let head: Vec<u8> = [self.id, flags, questions, records, 0, 0]
            .iter()
            .flat_map(|field| field.to_be_bytes())
            .collect();
        if let Some(place) = out.get_mut(..HEADER_BYTES) {
            place.copy_from_slice(&head);
        }
        out
    }
}

fn append(out: &mut Vec<u8>, one: &[u8]) -> u16 {
    if out.len().saturating_add(one.len()) > MESSAGE_BYTES_MAX {
        return 0;
    }
    out.extend_from_slice(one);
    1
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut data = Vec::new();
    match &record.data {
        Data::A(address) => data.extend_from_slice(&address.octets()),
        Data::Aaaa(address) => data.extend_from_slice(&address.octets()),
        Data::Ptr(name) => name.put(&mut data),
        Data::Srv { port, host } => {
            data.extend_from_slice(&[0; 4]);
            data.extend_from_slice(&port.to_be_bytes());
            host.put(&mut data);
        }
        Data::Txt(strings) => {
            for string in strings {
                let string = string.get(..string.len().min(255)).unwrap_or(string);
                data.push(u8::try_from(string.len()).unwrap_or(0));
                data.extend_from_slice(string);
            }
        }
    }
    let mut out = Vec::new();
    record.name.put(&mut out);
    let class = if record.only { CLASS_IN | CLASS_TOP } else { CLASS_IN };
    out.extend_from_slice(&record.data.kind().to_be_bytes());
    out.extend_from_slice(&class.to_be_bytes());
    out.extend_from_slice(&record.ttl_s.to_be_bytes());
    out.extend_from_slice(&u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(&data);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = Name> {
        prop::collection::vec("[ -~]{1,20}", 0..5).prop_map(|labels| Name::new(&labels.join(".")))
    }

    fn record() -> impl Strategy<Value = Record> {
        let data = prop_oneof![
            any::<u32>().prop_map(|bits| Data::A(bits.into())),
            any::<u128>().prop_map(|bits| Data::Aaaa(bits.into())),
            name().prop_map(Data::Ptr),
            (any::<u16>(), name()).prop_map(|(port, host)| Data::Srv { port, host }),
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4)
                .prop_map(Data::Txt),
        ];
        (name(), any::<u32>(), any::<bool>(), data).prop_map(|(name, ttl_s, only, data)| Record {
            name,
            ttl_s,
            only,
            data,
        })
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard(
            id in any::<u16>(),
            answer in any::<bool>(),
            asked in name(),
            records in prop::collection::vec(record(), 0..6),
        ) {
            let questions = vec![Question { name: asked, kind: kind::PTR, unicast: answer }];
            let message = Message { id, answer, questions, records };
            prop_assert_eq!(Message::decode(&message.encode()).unwrap(), message);
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::decode(&bytes);
        }

        #[test]
        fn a_damaged_message_is_no_harm(
            records in prop::collection::vec(record(), 1..4),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = Message { records, ..Message::default() }.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Message::decode(&bytes);
            let _ = Message::decode(&bytes[..at]);
        }
    }

    #[test]
    fn names_that_point_at_each_other_have_an_end() {
        let mut bytes = Message { questions: Vec::new(), ..Message::default() }.encode();
        bytes[5] = 1;
        for tail in [&[0xc0u8, 12][..], &[1, b'a', 0xc0, 12], &[0xc0, 14, 0xc0, 12]] {
            let message = [&bytes, tail, &[0, 1, 0, 1]].concat();
            assert_eq!(Message::decode(&message), Err(DnsError::Name));
        }
    }

    #[test]
    fn a_compressed_name_is_read() {
        // `a.local`, then `b` and a pointer to `local`.
        let mut bytes = Message::default().encode();
        bytes[5] = 2;
        bytes.extend_from_slice(b"\x01a\x05local\x00\x00\x01\x00\x01\x01b\xc0\x0e\x00\x01\x80\x01");
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.questions[1].name, Name::new("B.LOCAL"));
        assert!(message.questions[1].unicast && !message.questions[0].unicast);
    }

    #[test]
    fn a_message_fits_a_frame_whatever_is_in_it() {
        let record = Record {
            name: Name::new("x.local"),
            ttl_s: 1,
            only: false,
            data: Data::Txt(vec![vec![b'x'; 255]; 3]),
        };
        let bytes = Message { records: vec![record; 9], ..Message::default() }.encode();
        assert!(bytes.len() <= MESSAGE_BYTES_MAX);
        assert_eq!(Message::decode(&bytes).unwrap().records.len(), 1);
    }
}
