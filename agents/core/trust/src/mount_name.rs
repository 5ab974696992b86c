//! How a mount that comes again is known from a new one.
//!
//! A connection that broke silently still holds its locks at the server, for minutes. Its client comes again with
//! the same name, and the server ends the former connection before it answers. The name is the user name of
//! `Tattach` (9P2000.L), which means nothing else here: who a client is, its key says.

/// What the user name of a mount begins with; [`MOUNT_NAME_BYTES_MIN`] to [`MOUNT_NAME_BYTES_MAX`] bytes follow.
const PREFIX: &str = "goblin-mount:";
/// Shortest name: nobody finds another mount's by trying.
const MOUNT_NAME_BYTES_MIN: usize = 16;
/// Longest name.
const MOUNT_NAME_BYTES_MAX: usize = 64;

/// The user name of a mount with these random bytes; it stays the same over all its connections.
pub fn mount_user(random: [u8; 16]) -> String {
    random.iter().fold(PREFIX.to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// The name of the mount in a user name, if it is one of a mount.
pub fn mount_name(user: &[u8]) -> Option<&[u8]> {
    let name = user.strip_prefix(PREFIX.as_bytes())?;
    (MOUNT_NAME_BYTES_MIN..=MOUNT_NAME_BYTES_MAX).contains(&name.len()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_that_is_made_is_recognised_and_nothing_else_is() {
        let user = mount_user([0xab; 16]);
        assert_eq!(mount_name(user.as_bytes()), Some("ab".repeat(16).as_bytes()));
        for other in ["root", "goblin-mount:", "goblin-mount:short", ""] {
            assert_eq!(mount_name(other.as_bytes()), None, "{other}");
        }
        let long = format!("goblin-mount:{}", "x".repeat(65));
        assert_eq!(mount_name(long.as_bytes()), None);
        // v9fs splits its options at commas.
        assert!(!user.contains([',', ' ']));
    }
}
