//! From a [`Screen`] to pixels: egui lays out, a software rasteriser fills a buffer in memory.

use crate::content::Screen;
use crate::model::Event;
use crate::view::{self, theme};
use egui::{Pos2, RawInput, Rect, ViewportId, vec2};
use egui_software_backend::{BufferMutRef, ColorFieldOrder, EguiSoftwareRender};

/// Smallest and largest side of a picture in pixels; beyond, a size is clamped.
pub const SIDE_PIXELS: (usize, usize) = (320, 4096);

/// Draws screens of one size.
pub struct Artist {
    context: egui::Context,
    raster: EguiSoftwareRender,
    pixels: Vec<[u8; 4]>,
    width: usize,
    height: usize,
    scale: f32,
}

impl std::fmt::Debug for Artist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Artist")
            .field("width", &self.width)
            .field("height", &self.height)
            .finish_non_exhaustive()
    }
}

impl Artist {
    /// For pictures of `width` x `height` pixels, as blue, green, red, unused.
    pub fn new(width: usize, height: usize) -> Self {
        let (least, most) = SIDE_PIXELS;
        let (width, height) = (width.clamp(least, most), height.clamp(least, most));
        let context = egui::Context::default();
        context.set_fonts(theme::fonts());
        // The logical canvas never gets smaller than what the pages were made for.
        let (w, h) = theme::CANVAS;
        let scale = (width as f32 / w).min(height as f32 / h).max(0.25);
        Self {
            context,
            // Its cache of drawn layers costs 20 MB and gains nothing for a screen that seldom changes.
            raster: EguiSoftwareRender::new(ColorFieldOrder::Bgra).with_caching(false),
            pixels: vec![[0, 0, 0, 255]; width.saturating_mul(height)],
            width,
            height,
            scale,
        }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Logical points from pixels.
    pub fn points(&self, x: f32, y: f32) -> Pos2 {
        Pos2::new(x / self.scale, y / self.scale)
    }

    /// Draws a screen; pointer events lead to model events. The pixels are then in [`Self::pixels`].
    pub fn draw(&mut self, screen: &Screen, pointer: Vec<egui::Event>, seconds: f64) -> Vec<Event> {
        let size = vec2(self.width as f32, self.height as f32) / self.scale;
        let mut input = RawInput {
            screen_rect: Some(Rect::from_min_size(Pos2::ZERO, size)),
            time: Some(seconds),
            events: pointer,
            focused: true,
            ..RawInput::default()
        };
        let viewport = input.viewports.entry(ViewportId::ROOT).or_default();
        viewport.native_pixels_per_point = Some(self.scale);
        let mut events = Vec::new();
        let output = self.context.run_ui(input, |ui| events = view::draw(ui, screen));
        let shapes = self.context.tessellate(output.shapes, output.pixels_per_point);
        self.pixels.fill([0, 0, 0, 255]);
        let mut buffer = BufferMutRef::new(&mut self.pixels, self.width, self.height);
        self.raster.render(&mut buffer, &shapes, &output.textures_delta, output.pixels_per_point);
        events
    }

    /// The last picture, row by row, blue, green, red, unused.
    pub fn pixels(&self) -> &[[u8; 4]] {
        &self.pixels
    }
}
