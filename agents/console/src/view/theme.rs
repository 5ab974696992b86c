//! Colours, type and measures of the console. One dark theme, made to be read from two metres at
//! 1280 x 800 points: body text is 18 points and up, contrast with the ground is 7:1 or more.

use crate::release::Rgb;
use crate::words::Tone;
use egui::{Color32, FontData, FontDefinitions, FontFamily, FontId};
use std::sync::Arc;

/// The least logical size of the screen; everything is scaled to have at least this.
pub const CANVAS: (f32, f32) = (1280.0, 800.0);

/// Ground of the screen.
pub const GROUND: Color32 = Color32::from_rgb(0x0b, 0x0f, 0x14);
/// Ground of header and footer.
pub const RAIL: Color32 = Color32::from_rgb(0x10, 0x16, 0x1d);
/// Ground of a card.
pub const CARD: Color32 = Color32::from_rgb(0x17, 0x1f, 0x28);
/// Ground of what is sunk into a card.
pub const INSET: Color32 = Color32::from_rgb(0x0e, 0x14, 0x1b);
/// Lines and frames.
pub const LINE: Color32 = Color32::from_rgb(0x2b, 0x37, 0x44);
/// Main text.
pub const TEXT: Color32 = Color32::from_rgb(0xf4, 0xf7, 0xfa);
/// Labels and secondary text.
pub const SOFT: Color32 = Color32::from_rgb(0xa9, 0xb7, 0xc6);
/// Text on a bright ground.
pub const INK: Color32 = Color32::from_rgb(0x0b, 0x0f, 0x14);

/// Space at the left and right of the screen.
pub const MARGIN: f32 = 28.0;
/// Space between cards.
pub const GAP: f32 = 16.0;
/// Space inside a card.
pub const PAD: f32 = 22.0;

/// Colour of a tone.
pub fn tone(tone: Tone) -> Color32 {
    match tone {
        Tone::Quiet => SOFT,
        Tone::Good => Color32::from_rgb(0x5b, 0xe0, 0x8b),
        Tone::Busy => Color32::from_rgb(0x7c, 0xc0, 0xff),
        Tone::Warn => Color32::from_rgb(0xff, 0xc8, 0x4a),
        Tone::Bad => Color32::from_rgb(0xff, 0x7d, 0x72),
    }
}

/// The release's colour.
pub fn accent(rgb: Rgb) -> Color32 {
    Color32::from_rgb(rgb.0, rgb.1, rgb.2)
}

/// `over` mixed into `under`; `share` is the part of `over`, 0 to 1.
pub fn mix(under: Color32, over: Color32, share: f32) -> Color32 {
    under.lerp_to_gamma(over, share)
}

fn bold_family() -> FontFamily {
    FontFamily::Name("bold".into())
}

/// Text.
pub fn plain(points: f32) -> FontId {
    FontId::new(points, FontFamily::Proportional)
}

/// Titles and values that matter.
pub fn bold(points: f32) -> FontId {
    FontId::new(points, bold_family())
}

/// Commands and logs.
pub fn mono(points: f32) -> FontId {
    FontId::new(points, FontFamily::Monospace)
}

/// Inter for text, Hack for what a machine wrote; the rest of the default set fills in rare signs.
pub fn fonts() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    let inter = [
        ("inter-medium", &include_bytes!("../../assets/Inter-Medium.otf")[..]),
        ("inter-bold", &include_bytes!("../../assets/Inter-Bold.otf")[..]),
    ];
    for (name, bytes) in inter {
        fonts.font_data.insert(name.to_owned(), Arc::new(FontData::from_static(bytes)));
    }
    let fallback = fonts.families.get(&FontFamily::Proportional).cloned().unwrap_or_default();
    for (family, name) in
        [(FontFamily::Proportional, "inter-medium"), (bold_family(), "inter-bold")]
    {
        let mut names = vec![name.to_owned()];
        names.extend(fallback.iter().cloned());
        fonts.families.insert(family, names);
    }
    fonts
}
