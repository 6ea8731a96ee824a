//! Learning curves: a mean loss over what was seen so far, one line a series.

use super::DiagramOptions;
use super::svg::{SERIES_COLOURS, Svg, clip, count, number};
use crate::Result;
use crate::error::{Error, check_entries};

const LEFT: f64 = 66.0;
const TOP: f64 = 72.0;
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
const RIGHT: f64 = LEFT + WIDTH;
const BOTTOM: f64 = TOP + HEIGHT;
const NAMES: f64 = 150.0;
const SIZE: (f64, f64) = (RIGHT + NAMES, BOTTOM + 58.0);
const MAX_POINTS: usize = 10_000;
/// The least distance of two names at the end of their lines.
const NAME_HEIGHT: f64 = 16.0;

/// One line of a picture: `y` over `x`, perhaps with an interval.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    interval: Vec<(f64, f64)>,
}

impl Series {
    /// A line through these points, in the order of their `x`.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points,
            interval: Vec::new(),
        }
    }

    /// Adds a lower and an upper end for each point.
    #[must_use]
    pub fn with_interval(mut self, ends: Vec<(f64, f64)>) -> Self {
        self.interval = ends;
        self
    }

    fn check(&self) -> Result<()> {
        let flat = |pairs: &[(f64, f64)]| pairs.iter().flat_map(|(a, b)| [*a, *b]).collect::<Vec<_>>();
        check_entries("points", "finite", &flat(&self.points), f64::is_finite)?;
        check_entries("interval", "finite", &flat(&self.interval), f64::is_finite)?;
        let (expected, found) = (self.points.len(), self.interval.len());
        if expected == 0 || (found != 0 && found != expected) {
            let expected = expected.max(1);
            let what = "points of a series";
            return Err(Error::Shape {
                what,
                found,
                expected,
            });
        }
        if expected > MAX_POINTS {
            return Err(Error::LimitReached {
                what: "the number of points",
                limit: MAX_POINTS as u64,
            });
        }
        Ok(())
    }
}

/// A picture of how series fall as they learn: `y` in `unit`, over `x` called `over`.
///
/// Names stand at the ends of the lines; with an interval, the line has a band.
///
/// # Errors
/// [`Error`] for no series or more than 7, a series without points or with more than 10,000, a number
/// that is not finite, or an interval with another number of ends than there are points.
pub fn learning(series: &[Series], over: &str, unit: &str, options: &DiagramOptions) -> Result<String> {
    if !(1..=SERIES_COLOURS).contains(&series.len()) {
        return Err(Error::Shape {
            what: "series of a picture (1 to 7)",
            found: series.len(),
            expected: series.len().clamp(1, SERIES_COLOURS),
        });
    }
    series.iter().try_for_each(Series::check)?;
    let frame = Frame::around(series);
    let mut svg = Svg::new(SIZE, options, &description(series, over, unit));
    svg.text("head", (LEFT, 28.0), &clip(&options.title));
    svg.text("", (LEFT, 48.0), &clip(options.note.as_deref().unwrap_or("")));
    frame.draw(&mut svg);
    for (i, one) in series.iter().enumerate() {
        draw(&mut svg, &frame, i, one);
    }
    names(&mut svg, &frame, series);
    svg.text("middle", (LEFT + WIDTH / 2.0, BOTTOM + 42.0), over);
    svg.upright("middle", (18.0, TOP + HEIGHT / 2.0), unit);
    Ok(svg.close())
}

fn description(series: &[Series], over: &str, unit: &str) -> String {
    let mut text = format!("{unit} over {over}.");
    for one in series {
        if let (Some(first), Some(last)) = (one.points.first(), one.points.last()) {
            let (from, to) = (number(first.0), number(last.0));
            text.push_str(&format!(
                " {}: {:.3} at {from}, {:.3} at {to}.",
                clip(&one.name),
                first.1,
                last.1
            ));
        }
    }
    text
}

fn draw(svg: &mut Svg, frame: &Frame, i: usize, one: &Series) {
    let place = |(x, y): &(f64, f64)| (frame.x(*x), frame.y(*y));
    if !one.interval.is_empty() {
        let ends = one.points.iter().zip(&one.interval);
        let lower: Vec<_> = ends.clone().map(|(p, end)| place(&(p.0, end.0))).collect();
        let upper: Vec<_> = ends.map(|(p, end)| place(&(p.0, end.1))).collect();
        svg.band(&format!("b{i}"), &upper, &lower);
    }
    let line: Vec<_> = one.points.iter().map(place).collect();
    svg.path(&format!("s{i}"), &line);
    if let Some(last) = one.points.last() {
        let tip = format!("{}: {:.3}", clip(&one.name), last.1);
        svg.dot(&format!("d{i}"), place(last), 3.5, &tip);
    }
}

/// The names at the ends of the lines, pushed apart where they would touch.
fn names(svg: &mut Svg, frame: &Frame, series: &[Series]) {
    let mut ends: Vec<(f64, usize)> = Vec::new();
    for (i, one) in series.iter().enumerate() {
        ends.extend(one.points.last().map(|last| (frame.y(last.1), i)));
    }
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    for k in 1..ends.len() {
        ends[k].0 = ends[k].0.max(ends[k - 1].0 + NAME_HEIGHT);
    }
    let over = ends.last().map_or(0.0, |last| (last.0 - BOTTOM).max(0.0));
    for (at, i) in ends {
        let one = &series[i];
        let last = one.points.last().map_or(0.0, |last| last.1);
        let name: String = one.name.chars().take(15).collect();
        let class = format!("t{i}");
        svg.text(
            &class,
            (RIGHT + 10.0, at - over + 4.0),
            &format!("{name} {last:.3}"),
        );
    }
}

/// What the axes span.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
    y_step: f64,
    x_step: f64,
}

impl Frame {
    fn around(series: &[Series]) -> Self {
        let points = || series.iter().flat_map(|one| &one.points);
        let ends = || series.iter().flat_map(|one| &one.interval);
        let xs = span(points().map(|p| p.0));
        let ys = span(points().map(|p| p.1).chain(ends().flat_map(|end| [end.0, end.1])));
        let (x_step, y_step) = (step(xs), step(ys));
        let y = ((ys.0 / y_step).floor() * y_step, (ys.1 / y_step).ceil() * y_step);
        Self {
            x: xs,
            y,
            y_step,
            x_step,
        }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.x.0) / (self.x.1 - self.x.0) * WIDTH
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - (value - self.y.0) / (self.y.1 - self.y.0) * HEIGHT
    }

    fn draw(&self, svg: &mut Svg) {
        for value in ticks(self.y, self.y_step) {
            let at = self.y(value);
            svg.line("grid", (LEFT, at), (RIGHT, at));
            svg.text("end", (LEFT - 8.0, at + 4.0), &tick_text(value, self.y_step));
        }
        for value in ticks(self.x, self.x_step) {
            let at = self.x(value);
            svg.line("axis", (at, BOTTOM), (at, BOTTOM + 4.0));
            svg.text("middle", (at, BOTTOM + 20.0), &tick_text(value, self.x_step));
        }
        svg.line("axis", (LEFT, TOP), (LEFT, BOTTOM));
        svg.line("axis", (LEFT, BOTTOM), (RIGHT, BOTTOM));
    }
}

/// The least and the largest value, never the same.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if high - low > 1e-9 * high.abs().max(1e-3) {
        return (low, high);
    }
    let room = (low.abs() * 0.1).max(0.1);
    (low - room, high + room)
}

/// A step of 1, 2 or 5 times a power of ten that gives about five ticks.
fn step((low, high): (f64, f64)) -> f64 {
    let rough = (high - low) / 5.0;
    let power = 10.0_f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let fits = factors.iter().find(|factor| **factor * power >= rough * 0.999);
    fits.unwrap_or(&10.0) * power
}

fn ticks((low, high): (f64, f64), step: f64) -> impl Iterator<Item = f64> {
    let first = (low / step - 1e-9).ceil();
    (0..20)
        .map(move |i| (first + f64::from(i)) * step)
        .take_while(move |value| *value <= high + step * 1e-9)
}

fn tick_text(value: f64, step: f64) -> String {
    if step >= 1.0 && value >= 0.0 {
        return count(value.round() as u64);
    }
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}")
}
