//! The release that runs, as its base image describes it.

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

impl Release {
    /// What a release whose description says this looks like. Anything odd gives the default: a console
    /// with the wrong colour is better than none.
    pub fn with_accent(accent: Option<&str>) -> Self {
        Self { accent: readable(accent.and_then(parse_rgb).unwrap_or(ACCENT_DEFAULT)) }
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
        let release = Release::with_accent(Some("#ffb454"));
        assert_eq!(release.accent, Rgb(0xff, 0xb4, 0x54));
    }

    #[test]
    fn dark_accent_is_lifted_and_nonsense_ignored() {
        let dark = Release::with_accent(Some("#000000")).accent;
        assert!(u32::from(dark.1) >= ACCENT_LUMA_MIN);
        for odd in [None, Some(""), Some("7"), Some("#éééé")] {
            assert_eq!(Release::with_accent(odd).accent, ACCENT_DEFAULT);
        }
    }
}
