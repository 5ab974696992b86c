//! Drawn signs: a shape for every tone, the two boards, the cable. Shapes differ, not only colours.

use super::theme;
use crate::content::Icon;
use crate::words::Tone;
use egui::{Color32, CornerRadius, Pos2, Rect, Shape, Stroke, StrokeKind, Vec2, pos2, vec2};

/// The sign of a tone in a square of `size` points around `centre`.
pub fn sign(tone: Tone, centre: Pos2, size: f32, ground: Color32) -> Vec<Shape> {
    let colour = theme::tone(tone);
    let r = size / 2.0;
    let pen = Stroke::new((size / 8.0).max(1.8), ground);
    let at = |x: f32, y: f32| centre + vec2(x, y) * r;
    match tone {
        Tone::Good => vec![
            Shape::circle_filled(centre, r, colour),
            Shape::line(vec![at(-0.45, 0.05), at(-0.12, 0.38), at(0.48, -0.34)], pen),
        ],
        Tone::Warn => vec![
            Shape::convex_polygon(
                vec![at(0.0, -1.0), at(1.1, 0.92), at(-1.1, 0.92)],
                colour,
                Stroke::NONE,
            ),
            Shape::line_segment([at(0.0, -0.38), at(0.0, 0.28)], pen),
            Shape::circle_filled(at(0.0, 0.62), pen.width * 0.62, ground),
        ],
        Tone::Bad => {
            let c = 0.42;
            let corners = [
                (-c, -1.0),
                (c, -1.0),
                (1.0, -c),
                (1.0, c),
                (c, 1.0),
                (-c, 1.0),
                (-1.0, c),
                (-1.0, -c),
            ];
            let points = corners.iter().map(|(x, y)| at(*x, *y)).collect();
            vec![
                Shape::convex_polygon(points, colour, Stroke::NONE),
                Shape::line_segment([at(-0.38, -0.38), at(0.38, 0.38)], pen),
                Shape::line_segment([at(-0.38, 0.38), at(0.38, -0.38)], pen),
            ]
        }
        Tone::Busy => {
            let dot = |x: f32| Shape::circle_filled(at(x, 0.0), r * 0.16, colour);
            let ring = Shape::circle_stroke(centre, r * 0.9, Stroke::new(pen.width * 0.9, colour));
            vec![ring, dot(-0.42), dot(0.0), dot(0.42)]
        }
        Tone::Quiet => vec![Shape::circle_stroke(centre, r * 0.6, Stroke::new(pen.width, colour))],
    }
}

/// A board's picture in a square of `size` points.
pub fn icon(icon: Icon, left_top: Pos2, size: f32, colour: Color32) -> Vec<Shape> {
    let u = size / 40.0;
    let pen = Stroke::new(2.6 * u, colour);
    let rect = |x: f32, y: f32, w: f32, h: f32| {
        Rect::from_min_size(left_top + vec2(x, y) * u, vec2(w, h) * u)
    };
    let frame = |r: Rect| {
        Shape::rect_stroke(r, CornerRadius::same((4.0 * u) as u8), pen, StrokeKind::Inside)
    };
    let line = |a: Vec2, b: Vec2| Shape::line_segment([left_top + a * u, left_top + b * u], pen);
    match icon {
        Icon::Compute => vec![
            frame(rect(2.0, 4.0, 36.0, 25.0)),
            line(vec2(20.0, 29.0), vec2(20.0, 36.0)),
            line(vec2(11.0, 36.0), vec2(29.0, 36.0)),
        ],
        Icon::Storage => {
            let mut shapes = Vec::new();
            for y in [3.0, 15.0, 27.0] {
                shapes.push(frame(rect(3.0, y, 34.0, 10.5)));
                shapes.push(Shape::circle_filled(
                    left_top + vec2(31.0, y + 5.2) * u,
                    1.9 * u,
                    colour,
                ));
                shapes.push(line(vec2(9.0, y + 5.2), vec2(18.0, y + 5.2)));
            }
            shapes
        }
    }
}

/// The cable from `from` to `to` (same height): whole, dashed while searching, torn otherwise.
pub fn cable(tone: Tone, from: Pos2, to: Pos2) -> Vec<Shape> {
    let colour = theme::tone(tone);
    let pen = Stroke::new(5.0, colour);
    let mut shapes = Vec::new();
    let plug = |x: f32| {
        let body = Rect::from_center_size(pos2(x, from.y), vec2(14.0, 26.0));
        Shape::rect_filled(body, CornerRadius::same(4), colour)
    };
    let middle = pos2((from.x + to.x) / 2.0, from.y);
    match tone {
        Tone::Good | Tone::Warn => shapes.push(Shape::line_segment([from, to], pen)),
        Tone::Busy | Tone::Quiet => {
            shapes.extend(Shape::dashed_line(&[from, to], Stroke::new(4.0, colour), 9.0, 8.0));
        }
        Tone::Bad => {
            shapes.push(Shape::line_segment([from, middle - vec2(25.0, 0.0)], pen));
            shapes.push(Shape::line_segment([middle + vec2(25.0, 0.0), to], pen));
        }
    }
    shapes.push(plug(from.x + 7.0));
    shapes.push(plug(to.x - 7.0));
    if tone != Tone::Busy {
        shapes.push(Shape::circle_filled(middle, 21.0, theme::GROUND));
        shapes.extend(sign(tone, middle, 30.0, theme::GROUND));
    }
    shapes
}
