//! Whether a name is taken on a D-Bus, as a conversation without I/O: bytes to send, bytes that came.
//!
//! Only what the question needs: authentication as the own user, `Hello`, `NameHasOwner`. Source: the D-Bus
//! specification, "Authentication Protocol", "Message Protocol" and "Message Bus Specification".

/// Socket of a board's bus, where one runs.
pub const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// Longest name in bytes (specification, "Valid Names").
const NAME_BYTES_MAX: usize = 255;
/// Most bytes of all answers together: a hello, a signal or two, and one byte of truth.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
/// Authentication as user 0: the number in hexadecimal ASCII.
const AUTHENTICATE: &[u8] = b"\0AUTH EXTERNAL 30\r\n";
/// Bytes of a message before its fields: `endian[1] type[1] flags[1] version[1] body[4] serial[4] fields[4]`.
const HEAD_BYTES: usize = 16;
/// Serial of the question; the hello has the number before it.
const QUESTION_SERIAL: u32 = 2;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Whether a text can be a well-known name: two parts or more of letters, digits, `_` and `-`, none of which
/// begins with a digit.
pub fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        part.bytes().all(plain) && part.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
    };
    text.len() <= NAME_BYTES_MAX && text.contains('.') && text.split('.').all(part)
}

/// A conversation under way.
#[derive(Debug)]
pub struct Asking {
    name: Box<str>,
    /// What came and was not understood yet.
    got: Vec<u8>,
    authenticated: bool,
    taken: usize,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send these bytes.
    Send(Vec<u8>),
    /// More must come first.
    Wait,
    /// The bus answered; false too when it answered nonsense.
    Answered(bool),
}

impl Asking {
    /// A question for a name; [`Asking::first`] begins it.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), got: Vec::new(), authenticated: false, taken: 0 }
    }

    /// The first bytes to send.
    pub const fn first() -> &'static [u8] {
        AUTHENTICATE
    }

    /// Takes what the bus sent.
    pub fn take(&mut self, bytes: &[u8]) -> Next {
        self.taken = self.taken.saturating_add(bytes.len());
        if self.taken > ANSWER_BYTES_MAX {
            return Next::Answered(false);
        }
        self.got.extend_from_slice(bytes);
        if !self.authenticated {
            let Some(end) = self.got.windows(2).position(|pair| pair == b"\r\n") else {
                return Next::Wait;
            };
            let accepted = self.got.starts_with(b"OK ");
            self.got.drain(..end.saturating_add(2));
            if !accepted {
                return Next::Answered(false);
            }
            self.authenticated = true;
            return Next::Send(self.question());
        }
        loop {
            match read_message(&self.got) {
                Read::Short => return Next::Wait,
                Read::Broken => return Next::Answered(false),
                Read::Answer(answer) => return Next::Answered(answer),
                Read::Other(bytes) => drop(self.got.drain(..bytes)),
            }
        }
    }

    fn question(&self) -> Vec<u8> {
        let mut all = b"BEGIN\r\n".to_vec();
        all.extend(call("Hello", 1, None));
        all.extend(call("NameHasOwner", QUESTION_SERIAL, Some(&self.name)));
        all
    }
}

/// A call of the bus's own object, little endian.
fn call(member: &str, serial: u32, argument: Option<&str>) -> Vec<u8> {
    let mut body = Vec::new();
    if let Some(text) = argument {
        string(&mut body, text);
    }
    let mut fields = Vec::new();
    for (code, kind, text) in [
        (PATH, b'o', "/org/freedesktop/DBus"),
        (INTERFACE, b's', "org.freedesktop.DBus"),
        (MEMBER, b's', member),
        (DESTINATION, b's', "org.freedesktop.DBus"),
    ] {
        pad(&mut fields, 8);
        fields.extend([code, 1, kind, 0]);
        string(&mut fields, text);
    }
    if argument.is_some() {
        pad(&mut fields, 8);
        fields.extend([SIGNATURE, 1, b'g', 0, 1, b's', 0]);
    }
    let mut message = vec![b'l', METHOD_CALL, 0, 1];
    message.extend(size(&body).to_le_bytes());
    message.extend(serial.to_le_bytes());
    message.extend(size(&fields).to_le_bytes());
    message.extend(fields);
    pad(&mut message, 8);
    message.extend(body);
    message
}

fn size(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// `length[4] text[length] 0[1]`.
fn string(out: &mut Vec<u8>, text: &str) {
    out.extend(size(text.as_bytes()).to_le_bytes());
    out.extend(text.as_bytes());
    out.push(0);
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

/// What lies at the start of what came.
enum Read {
    Short,
    Broken,
    /// The answer to the question.
    Answer(bool),
    /// Another message of so many bytes.
    Other(usize),
}

fn read_message(bytes: &[u8]) -> Read {
    let big = match bytes.first() {
        None => return Read::Short,
        Some(b'l') => false,
        Some(b'B') => true,
        Some(_) => return Read::Broken,
    };
    let number = |at: usize| -> Option<u32> {
        let four: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    };
    let (Some(body_bytes), Some(fields_bytes)) = (number(4), number(12)) else {
        return Read::Short;
    };
    let place = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
    let fields_end = HEAD_BYTES.saturating_add(place(fields_bytes));
    if fields_end > ANSWER_BYTES_MAX || place(body_bytes) > ANSWER_BYTES_MAX {
        return Read::Broken;
    }
    let body = fields_end.next_multiple_of(8);
    let end = body.saturating_add(place(body_bytes));
    if bytes.len() < end {
        return Read::Short;
    }
    let ours = reply_serial(bytes, fields_end, &number) == Some(QUESTION_SERIAL);
    match bytes.get(1) {
        Some(&METHOD_RETURN) if ours => Read::Answer(number(body) == Some(1)),
        Some(&ERROR) if ours => Read::Answer(false),
        _ => Read::Other(end),
    }
}

/// The number of the call that a message answers, among its fields.
fn reply_serial(
    bytes: &[u8],
    fields_end: usize,
    number: &impl Fn(usize) -> Option<u32>,
) -> Option<u32> {
    let mut at = HEAD_BYTES;
    while at < fields_end {
        at = at.next_multiple_of(8);
        let (code, kind) = (*bytes.get(at)?, *bytes.get(at.checked_add(2)?)?);
        // `code[1] 1[1] kind[1] 0[1]` before each value.
        let value = at.checked_add(4)?;
        at = match kind {
            b'u' if code == REPLY_SERIAL => return number(value),
            b'u' => value.checked_add(4)?,
            b's' | b'o' => {
                let text = usize::try_from(number(value)?).ok()?;
                value.checked_add(5)?.checked_add(text)?
            }
            b'g' => value.checked_add(2)?.checked_add(usize::from(*bytes.get(value)?))?,
            _ => return None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer of a bus: type, serial that it answers, and a body of one number.
    fn answer(kind: u8, of: u32, body: u32) -> Vec<u8> {
        let mut fields = vec![DESTINATION, 1, b's', 0];
        string(&mut fields, ":1.7");
        pad(&mut fields, 8);
        fields.extend([SIGNATURE, 1, b'g', 0, 1, b'b', 0]);
        pad(&mut fields, 8);
        fields.extend([REPLY_SERIAL, 1, b'u', 0]);
        fields.extend(of.to_le_bytes());
        let mut message = vec![b'l', kind, 1, 1];
        message.extend(4u32.to_le_bytes());
        message.extend(9u32.to_le_bytes());
        message.extend(size(&fields).to_le_bytes());
        message.extend(fields);
        pad(&mut message, 8);
        message.extend(body.to_le_bytes());
        message
    }

    fn asked() -> Asking {
        let mut asking = Asking::new("org.example.Name");
        assert_eq!(asking.take(b"OK 12"), Next::Wait);
        let Next::Send(question) = asking.take(b"34\r\n") else { panic!("authenticated") };
        assert!(question.starts_with(b"BEGIN\r\nl\x01\0\x01"));
        asking
    }

    #[test]
    fn the_answer_is_found_among_others() {
        for (kind, body, taken) in
            [(METHOD_RETURN, 1, true), (METHOD_RETURN, 0, false), (ERROR, 1, false)]
        {
            let mut all = answer(METHOD_RETURN, 1, 1);
            all.extend(answer(4, 0, 1));
            all.extend(answer(kind, QUESTION_SERIAL, body));
            let mut asking = asked();
            // Byte by byte, as a stream may bring it.
            let (last, rest) = all.split_last().unwrap();
            for byte in rest {
                assert_eq!(asking.take(&[*byte]), Next::Wait);
            }
            assert_eq!(asking.take(&[*last]), Next::Answered(taken));
        }
    }

    #[test]
    fn a_refusal_is_an_answer() {
        assert_eq!(Asking::new("a.b").take(b"REJECTED EXTERNAL\r\n"), Next::Answered(false));
        assert_eq!(asked().take(b"HTTP/1.1 400"), Next::Answered(false));
        assert_eq!(asked().take(&[b'l'; 9000]), Next::Answered(false));
    }

    #[test]
    fn names_have_two_parts() {
        assert!(is_name("org.goblinux.Init1") && is_name("a.b-c_d"));
        for bad in ["", "org", "org.", ".org", "org.1x", "org.a b", "org.\u{e4}", &"a.".repeat(200)]
        {
            assert!(!is_name(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let mut asking = asked();
            for piece in pieces {
                let _ = asking.take(&piece);
                prop_assert!(asking.got.len() <= ANSWER_BYTES_MAX);
            }
        }
    }
}
