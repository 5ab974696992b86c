//! The release that runs, as its base image describes it.

use serde::Deserialize;

/// Longest release file in bytes.
pub const RELEASE_BYTES_MAX: usize = 64 << 10;

/// Brightness below which an accent is lifted, so that it stays readable on the dark ground.
const ACCENT_LUMA_MIN: u32 = 130;

/// A colour, 8 bits a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

/// Accent of a release that names none.
pub const ACCENT_DEFAULT: Rgb = Rgb(0x3d, 0xd6, 0xb0);

/// What the console uses of `release.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Colour that marks the release: each release has its own, so that a person sees which one runs.
    pub accent: Rgb,
}

impl Default for Release {
    fn default() -> Self {
        Self { accent: ACCENT_DEFAULT }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Stored {
    accent: Option<String>,
}

impl Release {
    /// Reads `release.json`. Anything odd gives the default: a console with the wrong colour is better
    /// than none.
    pub fn parse(bytes: &[u8]) -> Self {
        let stored: Stored = serde_json::from_slice(bytes).unwrap_or_default();
        let accent = stored.accent.as_deref().and_then(parse_rgb).unwrap_or(ACCENT_DEFAULT);
        Self { accent: readable(accent) }
    }
}

fn parse_rgb(text: &str) -> Option<Rgb> {
    let digits = text.trim().strip_prefix('#')?;
    if digits.len() != 6 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let [_, r, g, b] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some(Rgb(r, g, b))
}

/// Mixes with white until the colour is bright enough.
fn readable(mut colour: Rgb) -> Rgb {
    let luma = |c: Rgb| (u32::from(c.0) * 299 + u32::from(c.1) * 587 + u32::from(c.2) * 114) / 1000;
    let lift = |channel: u8| channel.saturating_add((u8::MAX - channel) / 4).saturating_add(1);
    while luma(colour) < ACCENT_LUMA_MIN {
        colour = Rgb(lift(colour.0), lift(colour.1), lift(colour.2));
    }
    colour
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accent_is_read() {
        let release = Release::parse(br##"{"version": "2", "accent": "#ffb454"}"##);
        assert_eq!(release.accent, Rgb(0xff, 0xb4, 0x54));
    }

    #[test]
    fn dark_accent_is_lifted_and_nonsense_ignored() {
        let dark = Release::parse(br##"{"accent": "#000000"}"##).accent;
        assert!(u32::from(dark.1) >= ACCENT_LUMA_MIN);
        for odd in [&b"{"[..], b"", br#"{"accent": 7}"#, "{\"accent\": \"#éééé\"}".as_bytes()] {
            assert_eq!(Release::parse(odd).accent, ACCENT_DEFAULT);
        }
    }
}
