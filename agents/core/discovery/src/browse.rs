//! What a PC makes of what it hears.

use crate::message::kind;
use crate::notice::is_useful;
use crate::{Data, Message, Name, Question, SERVICE_BOX};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Instances, and hosts, that are kept: a rude neighbour costs no more memory.
const KEPT_MAX: usize = 256;
/// Addresses of one host.
const ADDRESSES_MAX: usize = 16;

/// A board that was heard. Anybody on the network may have said all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What people see, control characters taken out.
    pub instance: String,
    /// The box.
    pub box_name: String,
    /// `storage` or `compute`.
    pub role: String,
    /// The board's key in hexadecimal digits, as it says.
    pub key: String,
    /// Host name.
    pub host: String,
    /// Port of its files; 0 for none.
    pub port: u16,
    /// Addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

#[derive(Debug, Default)]
struct Heard {
    place: Option<(u16, Name)>,
    facts: Vec<Vec<u8>>,
}

/// Gathers answers.
#[derive(Debug, Default)]
pub struct Browser {
    instances: BTreeMap<Vec<u8>, Heard>,
    hosts: BTreeMap<Vec<u8>, Vec<IpAddr>>,
}

impl Browser {
    /// The question for every board. Asked from a port of one's own it is answered there.
    pub fn question() -> Vec<u8> {
        let question = Question { name: Name::new(SERVICE_BOX), kind: kind::PTR, unicast: true };
        Message { questions: vec![question], ..Message::default() }.encode()
    }

    /// Takes a message in; what is no answer is dropped.
    pub fn hear(&mut self, bytes: &[u8]) {
        let Ok(message) = Message::decode(bytes) else { return };
        if !message.answer {
            return;
        }
        let service = Name::new(SERVICE_BOX);
        for record in message.records {
            match (record.name.instance_of(&service), record.data) {
                (Some(instance), Data::Srv { port, host }) => {
                    if let Some(heard) = place(&mut self.instances, instance) {
                        heard.place = (record.ttl_s > 0).then_some((port, host));
                    }
                }
                (Some(instance), Data::Txt(facts)) => {
                    if let Some(heard) = place(&mut self.instances, instance) {
                        heard.facts = facts;
                    }
                }
                (None, Data::A(address)) => self.address(&record.name, address.into()),
                (None, Data::Aaaa(address)) => self.address(&record.name, address.into()),
                _ => {}
            }
        }
    }

    fn address(&mut self, host: &Name, address: IpAddr) {
        let Some(known) = place(&mut self.hosts, &key(host)) else { return };
        if is_useful(address) && !known.contains(&address) && known.len() < ADDRESSES_MAX {
            known.push(address);
            known.sort();
        }
    }

    /// The boards that said where they are, by name.
    pub fn found(&self) -> Vec<Found> {
        let found = |(instance, heard): (&Vec<u8>, &Heard)| {
            let (port, host) = heard.place.as_ref()?;
            let fact = |name: &[u8]| {
                let value = heard.facts.iter().find_map(|fact| fact.strip_prefix(name));
                plain(value.unwrap_or_default())
            };
            Some(Found {
                instance: plain(instance),
                box_name: fact(b"box="),
                role: fact(b"role="),
                key: fact(b"key=").to_ascii_lowercase(),
                host: plain(host.to_string().as_bytes()),
                port: *port,
                addresses: self.hosts.get(&key(host)).cloned().unwrap_or_default(),
            })
        };
        self.instances.iter().filter_map(found).collect()
    }
}

/// The place of a name among few.
fn place<'a, T: Default>(all: &'a mut BTreeMap<Vec<u8>, T>, name: &[u8]) -> Option<&'a mut T> {
    if !all.contains_key(name) && all.len() >= KEPT_MAX {
        return None;
    }
    Some(all.entry(name.to_vec()).or_default())
}

/// A host's name without its case.
fn key(host: &Name) -> Vec<u8> {
    host.labels().join(&b'.').to_ascii_lowercase()
}

/// Text for people, whoever wrote it.
fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Notice, Record, Role};
    use proptest::prelude::*;

    fn board(number: u8) -> Notice {
        Notice {
            box_name: format!("box{number}"),
            role: Role::Storage,
            key: format!("{number:064x}"),
            port: 564,
            addresses: vec![[192, 0, 2, number].into()],
            named_twice: false,
        }
    }

    #[test]
    fn boards_come_and_go() {
        let mut browser = Browser::default();
        for number in 1..=3 {
            browser.hear(&board(number).announcement());
        }
        browser.hear(&board(2).farewell());
        let names: Vec<_> = browser.found().into_iter().map(|found| found.box_name).collect();
        assert_eq!(names, ["box1", "box3"]);
        assert_eq!(browser.found()[0].addresses, vec![IpAddr::from([192, 0, 2, 1])]);
    }

    #[test]
    fn a_rude_neighbour_costs_no_memory_and_no_terminal() {
        let mut browser = Browser::default();
        for number in 0..1000u32 {
            let name = Name::instance(&format!("\x1b[2J{number}"), SERVICE_BOX);
            let data = Data::Srv { port: 1, host: Name::new(&format!("h{number}.local")) };
            let place = Record { name, ttl_s: 1, only: true, data };
            let host = Record {
                name: Name::new(&format!("h{number}.local")),
                ttl_s: 1,
                only: true,
                data: Data::A([127, 0, 0, 1].into()),
            };
            let records = vec![place, host];
            browser.hear(&Message { answer: true, records, ..Message::default() }.encode());
        }
        let found = browser.found();
        assert_eq!(found.len(), KEPT_MAX);
        assert!(found.iter().all(|one| !one.instance.contains('\x1b') && one.addresses.is_empty()));
    }

    proptest! {
        #[test]
        fn any_bytes_may_be_heard(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut browser = Browser::default();
            browser.hear(&bytes);
            prop_assert!(browser.found().len() <= KEPT_MAX);
        }
    }
}
