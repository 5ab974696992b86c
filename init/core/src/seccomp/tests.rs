use super::*;
use proptest::prelude::*;

/// `struct seccomp_data` as far as filters read it.
#[derive(Debug, Clone, Copy, Default)]
struct Data {
    number: u32,
    architecture: u32,
    first: u32,
    second: u32,
}

/// Runs a filter as the kernel does; `None`: it would be refused when it is loaded.
fn run(bytes: &[u8], data: Data) -> Option<u32> {
    let program: Vec<_> = bytes.chunks_exact(INSTRUCTION_BYTES).collect();
    let (mut at, mut accumulator) = (0usize, 0u32);
    loop {
        let [c0, c1, if_true, if_false, k @ ..] = *program.get(at)? else { return None };
        let word = u32::from_le_bytes(k.try_into().ok()?);
        at += 1;
        let holds = match u16::from_le_bytes([*c0, *c1]) {
            RETURN => return Some(word),
            LOAD => {
                accumulator = match word {
                    AT_NUMBER => data.number,
                    AT_ARCHITECTURE => data.architecture,
                    AT_FIRST_ARGUMENT => data.first,
                    AT_SECOND_ARGUMENT => data.second,
                    _ => return None,
                };
                continue;
            }
            JUMP_EQUAL => accumulator == word,
            JUMP_NOT_BELOW => accumulator >= word,
            JUMP_ANY_BIT => accumulator & word != 0,
            _ => return None,
        };
        at += usize::from(if holds { *if_true } else { *if_false });
    }
}

fn bytes(named: &[&str], families: &[Family]) -> Vec<u8> {
    let named: Vec<String> = named.iter().map(ToString::to_string).collect();
    let mut bytes = Vec::new();
    for instruction in program(&named, families) {
        bytes.extend(instruction.code.to_le_bytes());
        bytes.extend([instruction.if_true, instruction.if_false]);
        bytes.extend(instruction.word.to_le_bytes());
    }
    bytes
}

fn call(number: libc::c_long) -> Data {
    let number = u32::try_from(number).unwrap();
    Data { number, architecture: ARCHITECTURE_X86_64, ..Data::default() }
}

#[test]
fn a_list_allows_what_it_names_and_traps_the_rest() {
    let filter = bytes(&["@clock"], &[]);
    for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_clock_settime, libc::SYS_adjtimex] {
        assert_eq!(run(&filter, call(number)), Some(ALLOW), "{number}");
    }
    for number in [libc::SYS_openat, libc::SYS_mount, libc::SYS_ptrace, libc::SYS_socket, 999] {
        assert_eq!(run(&filter, call(number)), Some(TRAP), "{number}");
    }
}

#[test]
fn other_call_tables_are_deadly() {
    let filter = bytes(&["@basic-io"], &[]);
    for architecture in [0x4000_0003, 0xc000_00b7] {
        assert_eq!(run(&filter, Data { architecture, ..Data::default() }), Some(KILL_PROCESS));
    }
    for number in [X32, X32 | 1, u32::MAX] {
        let data = Data { number, architecture: ARCHITECTURE_X86_64, ..Data::default() };
        assert_eq!(run(&filter, data), Some(KILL_PROCESS));
    }
}

#[test]
fn arguments_are_judged() {
    let filter = bytes(&["@network"], &[Family::Unix, Family::Inet]);
    for (family, expected) in [(1, ALLOW), (2, ALLOW), (10, ALLOW), (16, TRAP), (17, TRAP)] {
        let data = Data { first: family, ..call(libc::SYS_socket) };
        assert_eq!(run(&filter, data), Some(expected), "{family}");
    }
    let none = bytes(&["@network"], &[]);
    assert_eq!(run(&none, Data { first: 1, ..call(libc::SYS_socket) }), Some(TRAP));
    for (flags, expected) in [(0x003d_0f00, ALLOW), (0x1000_0000, TRAP), (0x4002_0011, TRAP)] {
        let data = Data { first: flags, ..call(libc::SYS_clone) };
        assert_eq!(run(&filter, data), Some(expected), "{flags:x}");
    }
    assert_eq!(run(&filter, call(libc::SYS_clone3)), Some(ANSWER | ENOSYS));
    let data = Data { second: TYPE_INTO_TERMINAL, ..call(libc::SYS_ioctl) };
    assert_eq!(run(&filter, data), Some(TRAP));
    assert_eq!(run(&filter, Data { second: 0x5401, ..data }), Some(ALLOW));
}

#[test]
fn groups_have_numbers_of_their_names() {
    let mut names = BTreeSet::new();
    for (_, calls) in GROUPS.iter().chain([&("@always", groups::ALWAYS)]) {
        for (name, number) in *calls {
            assert!(names.insert(*name), "{name} is in two groups");
            assert_eq!(name_of(u32::try_from(*number).unwrap()), Some(*name));
        }
    }
    let most: Vec<String> = GROUPS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert!(program(&most, &Family::ALL).len() < INSTRUCTIONS_MAX);
}

proptest! {
    #[test]
    fn every_call_has_the_verdict_of_its_list(
        picked in proptest::collection::vec(0..GROUPS.len(), 0..6),
        number in 0u32..1000,
    ) {
        let named: Vec<&str> = picked.iter().map(|index| GROUPS[*index].0).collect();
        let filter = bytes(&named, &[]);
        let data = Data { number, architecture: ARCHITECTURE_X86_64, ..Data::default() };
        let owned: Vec<String> = named.iter().map(ToString::to_string).collect();
        let expected = match number {
            groups::CLONE3 => ANSWER | ENOSYS,
            groups::SOCKET => TRAP,
            _ if numbers(&owned).contains(&number) => ALLOW,
            _ => TRAP,
        };
        prop_assert_eq!(run(&filter, data), Some(expected));
    }
}
