//! The reliability diagram: frequency over forecast, with intervals, and how many forecasts there are.

use super::DiagramOptions;
use super::svg::{Svg, clip, count, percent};
use crate::interval::Z_95;
use crate::reliability::{Bin, Reliability};

const LEFT: f64 = 66.0;
const TOP: f64 = 92.0;
const SIDE: f64 = 360.0;
const RIGHT: f64 = LEFT + SIDE;
const BOTTOM: f64 = TOP + SIDE;
const BARS_TOP: f64 = BOTTOM + 18.0;
const BARS_HEIGHT: f64 = 70.0;
const BARS_BOTTOM: f64 = BARS_TOP + BARS_HEIGHT;
const SIZE: (f64, f64) = (RIGHT + 24.0, BARS_BOTTOM + 52.0);
/// With more bins, neither counts nor caps are drawn: they would touch.
const MANY_BINS: usize = 25;

/// The reliability diagram of a curve: a point of each bin that has forecasts, with the 95 % Wilson
/// interval of its frequency; the diagonal of perfect calibration; the base rate; and the counts.
///
/// The line below the title says how many forecasts there are, the expected calibration error and the
/// Brier score, unless [`DiagramOptions::with_note`] says something else.
pub fn reliability(curve: &Reliability, options: &DiagramOptions) -> String {
    let mut svg = Svg::new(SIZE, options, &description(curve));
    let note = options.note.clone().unwrap_or_else(|| summary(curve));
    svg.text("head", (LEFT, 28.0), &clip(&options.title));
    svg.text("", (LEFT, 48.0), &clip(&note));
    legend(&mut svg, curve);
    grid(&mut svg);
    let base = y(curve.murphy().base_rate);
    svg.line("base", (LEFT, base), (RIGHT, base));
    svg.line("ideal", (LEFT, BOTTOM), (RIGHT, TOP));
    points(&mut svg, curve);
    bars(&mut svg, curve);
    labels(&mut svg);
    svg.close()
}

fn x(p: f64) -> f64 {
    LEFT + p * SIDE
}

fn y(p: f64) -> f64 {
    BOTTOM - p * SIDE
}

fn filled(curve: &Reliability) -> impl Iterator<Item = &Bin> {
    curve.bins.iter().filter(|bin| bin.n > 0)
}

fn summary(curve: &Reliability) -> String {
    let brier = curve.murphy().brier();
    format!(
        "{} forecasts, calibration error {:.3}, Brier score {brier:.3}",
        count(curve.n),
        curve.ece()
    )
}

/// The picture in words, for whoever does not see it.
fn description(curve: &Reliability) -> String {
    let base = percent(curve.murphy().base_rate);
    let mut text = format!("{}. It happened in {base} of all cases.", summary(curve));
    for bin in filled(curve).take(MANY_BINS) {
        text.push(' ');
        text.push_str(&tip(bin));
        text.push('.');
    }
    text
}

fn tip(bin: &Bin) -> String {
    let (low, high) = interval(bin);
    format!(
        "Forecast {}, happened {} ({} to {}), n = {}",
        percent(bin.mean_forecast),
        percent(bin.mean_outcome),
        percent(low),
        percent(high),
        count(bin.n)
    )
}

fn interval(bin: &Bin) -> (f64, f64) {
    let known = bin.wilson(Z_95).ok().flatten();
    known.map_or((0.0, 1.0), |interval| (interval.lower, interval.upper))
}

fn legend(svg: &mut Svg, curve: &Reliability) {
    let at = 72.0;
    let middle = at - 4.0;
    svg.line("w0", (LEFT, middle), (LEFT + 22.0, middle));
    svg.dot("d0", (LEFT + 11.0, middle), 4.0, "");
    svg.text("", (LEFT + 28.0, at), "forecasts, 95% interval");
    let second = LEFT + 176.0;
    svg.line("ideal", (second, middle), (second + 22.0, middle));
    svg.text("", (second + 28.0, at), "perfect");
    let third = LEFT + 256.0;
    svg.line("base", (third, middle), (third + 22.0, middle));
    let base = percent(curve.murphy().base_rate);
    svg.text("", (third + 28.0, at), &format!("base {base}"));
}

fn grid(svg: &mut Svg) {
    for tick in 0..=5 {
        let p = f64::from(tick) / 5.0;
        svg.line("grid", (x(p), TOP), (x(p), BOTTOM));
        svg.line("grid", (LEFT, y(p)), (RIGHT, y(p)));
        svg.text("end", (LEFT - 8.0, y(p) + 4.0), &percent(p));
        svg.text("middle", (x(p), BARS_BOTTOM + 18.0), &percent(p));
    }
    svg.line("axis", (LEFT, TOP), (LEFT, BOTTOM));
    svg.line("axis", (LEFT, BOTTOM), (RIGHT, BOTTOM));
}

fn points(svg: &mut Svg, curve: &Reliability) {
    let line: Vec<_> = filled(curve)
        .map(|bin| (x(bin.mean_forecast), y(bin.mean_outcome)))
        .collect();
    svg.path("s0", &line);
    let many = curve.bins.len() > MANY_BINS;
    for bin in filled(curve) {
        let (low, high) = interval(bin);
        let at = x(bin.mean_forecast);
        svg.line("w0", (at, y(low)), (at, y(high)));
        if !many {
            svg.line("w0", (at - 4.0, y(low)), (at + 4.0, y(low)));
            svg.line("w0", (at - 4.0, y(high)), (at + 4.0, y(high)));
        }
        let radius = if many { 2.5 } else { 4.5 };
        svg.dot("d0", (at, y(bin.mean_outcome)), radius, &tip(bin));
    }
}

fn bars(svg: &mut Svg, curve: &Reliability) {
    let most = curve.bins.iter().map(|bin| bin.n).max().unwrap_or(1).max(1);
    for bin in filled(curve) {
        // Room for the number above the highest bar; a bar that is there is seen.
        let height = ((BARS_HEIGHT - 14.0) * bin.n as f64 / most as f64).max(1.0);
        let (left, right) = (x(bin.lower), x(bin.upper));
        let gap = if curve.bins.len() > 100 { 0.0 } else { 1.0 };
        let corner = (left + gap, BARS_BOTTOM - height);
        svg.rect("bar", corner, (right - left - 2.0 * gap, height), &tip(bin));
        let fits = count(bin.n).len() as f64 * 6.0 <= right - left;
        if curve.bins.len() <= MANY_BINS && fits {
            let over = ((left + right) / 2.0, BARS_BOTTOM - height - 4.0);
            svg.text("small middle", over, &count(bin.n));
        }
    }
    svg.line("axis", (LEFT, BARS_BOTTOM), (RIGHT, BARS_BOTTOM));
}

fn labels(svg: &mut Svg) {
    let middle = f64::midpoint(LEFT, RIGHT);
    svg.text("middle", (middle, BARS_BOTTOM + 40.0), "forecast");
    svg.upright(
        "middle",
        (18.0, f64::midpoint(TOP, BOTTOM)),
        "how often it happened",
    );
    svg.upright(
        "middle",
        (18.0, f64::midpoint(BARS_TOP, BARS_BOTTOM)),
        "forecasts",
    );
}
