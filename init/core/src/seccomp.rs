//! Allow-lists of system calls, by named groups, compiled to the kernel's packet filter language.
//!
//! Compiled where the image is built, so that a board starts a unit without the list; PID 1 hands the
//! bytes to the kernel just before exec. What is not on the list is not done: the kernel sends SIGSYS
//! instead. Our programs say on their standard error which call it was and take the answer `EPERM`
//! (`goblin_sys::sandbox`); any other program ends by the signal. x86-64 only, and neither its 32-bit
//! nor its x32 calls.
//!
//! Three calls are judged by their arguments: `socket` by its family, `clone` by whether it asks for
//! namespaces, `ioctl` by whether it types into a terminal. `clone3` cannot be judged, for its flags lie
//! in memory; it is answered `ENOSYS`, and the C library takes `clone`.
//!
//! Source: `Documentation/userspace-api/seccomp_filter.rst`, `include/uapi/linux/{seccomp,filter}.h`.

mod groups;

use crate::sandbox::{Family, Sandbox};
pub use groups::{GROUPS, GROUPS_REMEDY, group};
use std::collections::BTreeSet;

/// Folder of the compiled lists in the base, `UNIT.bpf` each.
pub const FOLDER: &str = "/usr/lib/goblin/seccomp";
/// Bytes of one instruction.
pub const INSTRUCTION_BYTES: usize = 8;
/// Most instructions that the kernel takes (`BPF_MAXINSNS`).
pub const INSTRUCTIONS_MAX: usize = 4096;

/// Load a 32-bit word of `struct seccomp_data` into the accumulator.
const LOAD: u16 = 0x20;
/// Compare the accumulator with a constant and skip instructions: equal, not below, any bit in common.
const JUMP_EQUAL: u16 = 0x15;
const JUMP_NOT_BELOW: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
/// End with a verdict.
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`; of the arguments, their low halves.
const AT_NUMBER: u32 = 0;
const AT_ARCHITECTURE: u32 = 4;
const AT_FIRST_ARGUMENT: u32 = 16;
const AT_SECOND_ARGUMENT: u32 = 24;

/// Verdicts.
const ALLOW: u32 = 0x7fff_0000;
const TRAP: u32 = 0x0003_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const ANSWER: u32 = 0x0005_0000;
const ENOSYS: u32 = 38;

const ARCHITECTURE_X86_64: u32 = 0xc000_003e;
/// First number of the x32 calls.
const X32: u32 = 0x4000_0000;
/// `CLONE_NEW*` of mount, cgroup, UTS, IPC, user, PID and network namespaces.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
/// `TIOCSTI`: puts a byte into the input of a terminal, as if typed.
const TYPE_INTO_TERMINAL: u32 = 0x5412;

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    word: u32,
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, if_true: 0, if_false: 0, word: offset }
}

fn verdict(word: u32) -> Instruction {
    Instruction { code: RETURN, if_true: 0, if_false: 0, word }
}

/// The next instruction when the comparison holds, else the one after `skip` more.
fn unless(code: u16, word: u32, skip: u8) -> Instruction {
    Instruction { code, if_true: 0, if_false: skip, word }
}

/// The filter of a unit as the kernel takes it: `code[2] jt[1] jf[1] k[4]` each, little endian.
pub fn compile(sandbox: &Sandbox) -> Vec<u8> {
    let program = program(&sandbox.seccomp, &sandbox.sockets);
    let mut bytes = Vec::with_capacity(program.len().saturating_mul(INSTRUCTION_BYTES));
    for instruction in program {
        bytes.extend(instruction.code.to_le_bytes());
        bytes.extend([instruction.if_true, instruction.if_false]);
        bytes.extend(instruction.word.to_le_bytes());
    }
    bytes
}

/// Numbers of the calls that a list of groups allows. Names that are no group allow nothing.
pub fn numbers(named: &[String]) -> BTreeSet<u32> {
    let always = std::iter::once(groups::ALWAYS);
    let calls = always.chain(named.iter().filter_map(|name| group(name))).flatten();
    calls.filter_map(|(_, number)| u32::try_from(*number).ok()).collect()
}

/// Name of a system call that some group has.
pub fn name_of(number: u32) -> Option<&'static str> {
    let lists = std::iter::once(groups::ALWAYS).chain(GROUPS.iter().map(|(_, calls)| *calls));
    let mut calls = lists.flatten();
    calls.find(|(_, known)| u32::try_from(*known) == Ok(number)).map(|(name, _)| *name)
}

fn program(named: &[String], families: &[Family]) -> Vec<Instruction> {
    let mut program = vec![
        load(AT_ARCHITECTURE),
        unless(JUMP_EQUAL, ARCHITECTURE_X86_64, 1),
        load(AT_NUMBER),
        // Where the architecture is another one, the accumulator holds it still; all of them are above.
        unless(JUMP_NOT_BELOW, X32, 1),
        verdict(KILL_PROCESS),
    ];
    let mut allowed = numbers(named);
    allowed.remove(&groups::CLONE3);
    program.extend([unless(JUMP_EQUAL, groups::CLONE3, 1), verdict(ANSWER | ENOSYS)]);
    if allowed.remove(&groups::CLONE) {
        program.extend([
            unless(JUMP_EQUAL, groups::CLONE, 4),
            load(AT_FIRST_ARGUMENT),
            unless(JUMP_ANY_BIT, NEW_NAMESPACES, 1),
            verdict(TRAP),
            verdict(ALLOW),
        ]);
    }
    if allowed.remove(&groups::IOCTL) {
        program.extend([
            unless(JUMP_EQUAL, groups::IOCTL, 4),
            load(AT_SECOND_ARGUMENT),
            unless(JUMP_EQUAL, TYPE_INTO_TERMINAL, 1),
            verdict(TRAP),
            verdict(ALLOW),
        ]);
    }
    if allowed.remove(&groups::SOCKET) {
        let numbers: Vec<u32> =
            families.iter().flat_map(|family| family.numbers()).copied().collect();
        let length = numbers.len().saturating_mul(2).saturating_add(2);
        // A handful of families: the jump is far below the 255 instructions it can reach.
        program.push(unless(JUMP_EQUAL, groups::SOCKET, u8::try_from(length).unwrap_or(u8::MAX)));
        program.push(load(AT_FIRST_ARGUMENT));
        for number in numbers {
            program.extend([unless(JUMP_EQUAL, number, 1), verdict(ALLOW)]);
        }
        program.push(verdict(TRAP));
    }
    for number in allowed {
        program.extend([unless(JUMP_EQUAL, number, 1), verdict(ALLOW)]);
    }
    program.push(verdict(TRAP));
    program
}

#[cfg(test)]
mod tests;
