//! What a board says of itself.

use crate::message::kind;
use crate::{Data, Message, Name, Question, Record, SERVICE_BOX, SERVICE_FILES, SERVICE_TYPES};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Seconds that records hold: those with addresses shorter (RFC 6762, section 10).
const TTL_HOST_S: u32 = 120;
const TTL_OTHER_S: u32 = 4500;
/// The same for askers that know no multicast (section 6.7).
const TTL_LEGACY_S: u32 = 10;
/// Addresses said at most.
const ADDRESSES_MAX: usize = 8;

/// Which board it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It serves files.
    Storage,
    /// It has the screen.
    Compute,
}

impl Role {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Compute => "compute",
        }
    }
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// To the group.
    Group,
    /// To the asker.
    Asker,
}

/// A board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The box's name, for people.
    pub box_name: String,
    /// The board.
    pub role: Role,
    /// The board's public key, in hexadecimal digits.
    pub key: String,
    /// Port of its files; 0 for none.
    pub port: u16,
    /// Where it is.
    pub addresses: Vec<IpAddr>,
    /// Whether another box on this network has its name: then a part of the key is added to it.
    pub named_twice: bool,
}

impl Notice {
    /// The name under which people see it.
    pub fn instance(&self) -> String {
        let twice = if self.named_twice { format!(" {}", self.key_part()) } else { String::new() };
        match self.role {
            Role::Storage => format!("{}{twice}", self.box_name),
            Role::Compute => format!("{}{twice} (compute board)", self.box_name),
        }
    }

    fn key_part(&self) -> String {
        self.key.chars().take(4).collect()
    }

    /// Its host name, `.local` and all: the box's name as far as host names allow.
    pub fn host(&self) -> Name {
        let dash = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let mut label: String = self.box_name.chars().map(dash).take(40).collect();
        label = label.trim_matches('-').to_owned();
        if label.is_empty() {
            label = "goblin".into();
        }
        if self.named_twice {
            label = format!("{label}-{}", self.key_part());
        }
        if self.role == Role::Compute {
            label.push_str("-compute");
        }
        Name::new(&format!("{label}.local"))
    }

    fn services(&self) -> &'static [&'static str] {
        match self.role {
            Role::Storage => &[SERVICE_BOX, SERVICE_FILES],
            Role::Compute => &[SERVICE_BOX],
        }
    }

    fn address_records(&self, ttl_s: u32) -> Vec<Record> {
        let data = |address: &IpAddr| match address {
            IpAddr::V4(address) => Data::A(*address),
            IpAddr::V6(address) => Data::Aaaa(*address),
        };
        let record = |address| Record { name: self.host(), ttl_s, only: true, data: data(address) };
        self.addresses.iter().take(ADDRESSES_MAX).map(record).collect()
    }

    fn of_service(&self, service: &str, ttl_s: Option<u32>) -> (Record, Vec<Record>) {
        let (host_s, other_s) = (ttl_s.unwrap_or(TTL_HOST_S), ttl_s.unwrap_or(TTL_OTHER_S));
        let instance = Name::instance(&self.instance(), service);
        let pointer = Record {
            name: Name::new(service),
            ttl_s: other_s,
            only: false,
            data: Data::Ptr(instance.clone()),
        };
        let facts = [
            format!("role={}", self.role.as_str()),
            format!("box={}", self.box_name),
            format!("key={}", self.key),
        ];
        let text = facts.into_iter().map(String::into_bytes).collect();
        let record = |ttl_s, data| Record { name: instance.clone(), ttl_s, only: true, data };
        let place = Data::Srv { port: self.port, host: self.host() };
        (pointer, vec![record(host_s, place), record(other_s, Data::Txt(text))])
    }

    /// Everything, unasked: when the board comes, and when its addresses change.
    pub fn announcement(&self) -> Vec<u8> {
        self.everything(None)
    }

    /// Takes everything back.
    pub fn farewell(&self) -> Vec<u8> {
        self.everything(Some(0))
    }

    fn everything(&self, ttl_s: Option<u32>) -> Vec<u8> {
        let mut records = Vec::new();
        for service in self.services() {
            let (pointer, rest) = self.of_service(service, ttl_s);
            records.push(pointer);
            records.extend(rest);
        }
        records.extend(self.address_records(ttl_s.unwrap_or(TTL_HOST_S)));
        Message { answer: true, records, ..Message::default() }.encode()
    }

    /// What to answer to a message, if anything. `port` is the asker's: who asks from another port than the group's
    /// knows no multicast, and is answered as an ordinary name server would (RFC 6762, section 6.7).
    pub fn answer(&self, message: &Message, port: u16) -> Option<(Vec<u8>, Via)> {
        if message.answer {
            return None;
        }
        let legacy = port != crate::PORT;
        let ttl_s = legacy.then_some(TTL_LEGACY_S);
        let mut records = Vec::new();
        let mut more = Vec::new();
        for question in &message.questions {
            self.answer_one(question, ttl_s, &mut records, &mut more);
        }
        // What the asker knows for half its time needs no word (section 7.1).
        let known = |record: &Record| {
            let same = |old: &&Record| old.name == record.name && old.data == record.data;
            let old = message.records.iter().find(same);
            old.is_some_and(|old| old.ttl_s >= record.ttl_s.checked_div(2).unwrap_or(0))
        };
        records.retain(|record| !known(record));
        if records.is_empty() {
            return None;
        }
        records.extend(more);
        let mut unique: Vec<Record> = Vec::new();
        for record in records {
            if !unique.contains(&record) {
                unique.push(record);
            }
        }
        let unicast = legacy || message.questions.iter().all(|question| question.unicast);
        let mut answer = Message { answer: true, records: unique, ..Message::default() };
        if legacy {
            answer.id = message.id;
            answer.questions.clone_from(&message.questions);
            answer.records.iter_mut().for_each(|record| record.only = false);
        }
        Some((answer.encode(), if unicast { Via::Asker } else { Via::Group }))
    }

    fn answer_one(
        &self,
        question: &Question,
        ttl_s: Option<u32>,
        records: &mut Vec<Record>,
        more: &mut Vec<Record>,
    ) {
        let asks = |kind: u16| question.kind == kind || question.kind == kind::ANY;
        for service in self.services() {
            let (pointer, rest) = self.of_service(service, ttl_s);
            if question.name == Name::new(SERVICE_TYPES) && asks(kind::PTR) {
                records.push(Record {
                    name: question.name.clone(),
                    ttl_s: ttl_s.unwrap_or(TTL_OTHER_S),
                    only: false,
                    data: Data::Ptr(Name::new(service)),
                });
            }
            if question.name == pointer.name && asks(kind::PTR) {
                records.push(pointer);
                more.extend(rest);
                more.extend(self.address_records(ttl_s.unwrap_or(TTL_HOST_S)));
            } else if rest.iter().any(|record| record.name == question.name) {
                let wanted = rest.into_iter().filter(|record| asks(record.data.kind()));
                records.extend(wanted);
                more.extend(self.address_records(ttl_s.unwrap_or(TTL_HOST_S)));
            }
        }
        if question.name == self.host() {
            let addresses = self.address_records(ttl_s.unwrap_or(TTL_HOST_S));
            records.extend(addresses.into_iter().filter(|record| asks(record.data.kind())));
        }
    }

    /// Whether an answer says that another one has this board's name: a host of that name at none of its addresses,
    /// or an instance of another key. Both sides see it, both add a part of their keys, and so both differ.
    pub fn collides(&self, message: &Message) -> bool {
        if !message.answer {
            return false;
        }
        let key = format!("key={}", self.key).into_bytes();
        let live = || message.records.iter().filter(|record| record.ttl_s > 0);
        let host = self.host();
        let mut at =
            live().filter(|record| record.name == host).filter_map(|record| match record.data {
                Data::A(address) => Some(IpAddr::V4(address)),
                Data::Aaaa(address) => Some(IpAddr::V6(address)),
                _ => None,
            });
        // One's own word comes back from the group, with all of one's addresses.
        let elsewhere = at.next().is_some_and(|first| {
            !self.addresses.contains(&first) && !at.any(|other| self.addresses.contains(&other))
        });
        let other_key = live().any(|record| match &record.data {
            Data::Txt(strings) => {
                let instance = self.instance();
                let is_ours = |service: &&str| record.name == Name::instance(&instance, service);
                self.services().iter().any(is_ours)
                    && strings.iter().any(|string| string.starts_with(b"key="))
                    && !strings.contains(&key)
            }
            _ => false,
        });
        elsewhere || other_key
    }
}

/// Addresses by which others on the network reach one: neither the loopback nor link-local ones of IPv6, which mean
/// nothing without the interface.
pub(crate) fn is_useful(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_useful_v4(address),
        IpAddr::V6(address) => is_useful_v6(address),
    }
}

const fn is_useful_v4(address: Ipv4Addr) -> bool {
    !(address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_broadcast())
}

const fn is_useful_v6(address: Ipv6Addr) -> bool {
    !(address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Browser, PORT};

    fn attic() -> Notice {
        Notice {
            box_name: "Anna's attic".into(),
            role: Role::Storage,
            key: "d0".repeat(32),
            port: 564,
            addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
            named_twice: false,
        }
    }

    fn ask(name: &str, kind: u16, unicast: bool) -> Message {
        let question = Question { name: Name::new(name), kind, unicast };
        Message { questions: vec![question], ..Message::default() }
    }

    #[test]
    fn who_asks_for_boxes_learns_all_in_one_answer() {
        let (bytes, via) = attic().answer(&ask(SERVICE_BOX, kind::PTR, true), PORT).unwrap();
        assert_eq!(via, Via::Asker);
        let mut browser = Browser::default();
        browser.hear(&bytes);
        let found = browser.found();
        assert_eq!((found[0].box_name.as_str(), found[0].port), ("Anna's attic", 564));
        assert_eq!(found[0].addresses.len(), 2);
        assert_eq!(found[0].host, "anna-s-attic.local");
        assert_eq!(
            attic().answer(&ask(SERVICE_BOX, kind::PTR, false), PORT).unwrap().1,
            Via::Group
        );
        assert!(attic().answer(&ask("_smb._tcp.local", kind::PTR, true), PORT).is_none());
        let (types, _) = attic().answer(&ask(SERVICE_TYPES, kind::PTR, true), PORT).unwrap();
        assert_eq!(Message::decode(&types).unwrap().records.len(), 2);
        let (host, _) = attic().answer(&ask("anna-s-attic.LOCAL", kind::A, true), PORT).unwrap();
        assert_eq!(Message::decode(&host).unwrap().records.len(), 1);
    }

    #[test]
    fn an_old_resolver_is_answered_as_by_a_name_server() {
        let mut asked = ask("anna-s-attic.local", kind::A, false);
        asked.id = 77;
        let (bytes, via) = attic().answer(&asked, 40_000).unwrap();
        let answer = Message::decode(&bytes).unwrap();
        assert_eq!((answer.id, via), (77, Via::Asker));
        assert_eq!(answer.questions, asked.questions);
        assert!(answer.records.iter().all(|record| !record.only && record.ttl_s <= 10));
    }

    #[test]
    fn what_is_known_is_not_said_again_and_answers_cause_none() {
        let mut asked = ask(SERVICE_BOX, kind::PTR, false);
        let (bytes, _) = attic().answer(&asked, PORT).unwrap();
        let answer = Message::decode(&bytes).unwrap();
        assert!(attic().answer(&answer, PORT).is_none());
        asked.records = answer.records;
        assert!(attic().answer(&asked, PORT).is_none());
        asked.records[0].ttl_s = 10;
        assert!(attic().answer(&asked, PORT).is_some());
    }

    #[test]
    fn two_boxes_of_one_name_end_with_two_names() {
        let (mut one, mut two) = (attic(), attic());
        (two.key, two.addresses) = ("ab".repeat(32), vec!["192.0.2.8".parse().unwrap()]);
        let said = |notice: &Notice| Message::decode(&notice.announcement()).unwrap();
        assert!(!one.collides(&said(&one)));
        assert!(one.collides(&said(&two)) && two.collides(&said(&one)));
        let gone = Message::decode(&two.farewell()).unwrap();
        assert!(!one.collides(&gone));
        (one.named_twice, two.named_twice) = (true, true);
        assert_ne!(one.host(), two.host());
        assert!(!one.collides(&said(&two)));
        // The other board of the same box is no stranger.
        let compute = Notice { role: Role::Compute, port: 0, ..attic() };
        assert!(!attic().collides(&said(&compute)));
    }

    #[test]
    fn odd_names_of_boxes_are_hosts_all_the_same() {
        let host = |name: &str| Notice { box_name: name.into(), ..attic() }.host().to_string();
        assert_eq!(host("Größe"), "gr--e.local");
        assert_eq!(host("..."), "goblin.local");
        assert_eq!(host(&"x".repeat(63)), format!("{}.local", "x".repeat(40)));
    }
}
