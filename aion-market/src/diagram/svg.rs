//! SVG as text: shapes by class, colours in one style sheet for light and dark.

use std::fmt::Write;

use super::{DiagramOptions, MAX_TEXT};

/// Okabe and Ito's colours, which people with any colour vision tell apart; black is left for ink.
const SERIES: [(&str, &str); 7] = [
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#f0803c"),
    ("#009e73", "#2fc79c"),
    ("#cc79a7", "#e39fc4"),
    ("#8a6d00", "#f0e442"),
    ("#56b4e9", "#8fd0f5"),
    ("#6b6b6b", "#b4b4b4"),
];
pub(super) const SERIES_COLOURS: usize = SERIES.len();

/// A picture being written.
pub(super) struct Svg(String);

impl Svg {
    /// A picture with its names and its style.
    pub(super) fn new(size: (f64, f64), options: &DiagramOptions, description: &str) -> Self {
        let (id, title) = (&options.id, escape(&options.title));
        let (width, height) = (number(size.0), number(size.1));
        let mut svg = Self(String::new());
        svg.line_of(&format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" class=\"aion-diagram\" \
             aria-labelledby=\"{id}-title {id}-desc\">"
        ));
        svg.line_of(&format!("<title id=\"{id}-title\">{title}</title>"));
        svg.line_of(&format!("<desc id=\"{id}-desc\">{}</desc>", escape(description)));
        svg.line_of(&style());
        svg.line_of("<rect class=\"paper\" width=\"100%\" height=\"100%\"/>");
        svg
    }

    pub(super) fn rect(&mut self, class: &str, corner: (f64, f64), size: (f64, f64), tip: &str) {
        let [x, y, w, h] = [corner.0, corner.1, size.0, size.1].map(number);
        let shape = format!("<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"");
        self.tipped(&shape, "rect", tip);
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let [a, b, c, d] = [from.0, from.1, to.0, to.1].map(number);
        self.line_of(&format!(
            "<line class=\"{class}\" x1=\"{a}\" y1=\"{b}\" x2=\"{c}\" y2=\"{d}\"/>"
        ));
    }

    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let mut d = String::new();
        for (i, (x, y)) in points.iter().enumerate() {
            let (command, x, y) = (if i == 0 { "M" } else { "L" }, number(*x), number(*y));
            let _ = write!(d, "{command}{x} {y}");
        }
        self.line_of(&format!("<path class=\"{class}\" d=\"{d}\"/>"));
    }

    /// A closed shape between an upper and a lower line.
    pub(super) fn band(&mut self, class: &str, upper: &[(f64, f64)], lower: &[(f64, f64)]) {
        let around: Vec<_> = upper.iter().chain(lower.iter().rev()).copied().collect();
        self.path(class, &around);
    }

    pub(super) fn dot(&mut self, class: &str, at: (f64, f64), radius: f64, tip: &str) {
        let [x, y, r] = [at.0, at.1, radius].map(number);
        let shape = format!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{r}\"");
        self.tipped(&shape, "circle", tip);
    }

    pub(super) fn text(&mut self, class: &str, at: (f64, f64), text: &str) {
        let (x, y) = (number(at.0), number(at.1));
        let text = escape(text);
        self.line_of(&format!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>"
        ));
    }

    /// Text that reads upwards around its middle.
    pub(super) fn upright(&mut self, class: &str, at: (f64, f64), text: &str) {
        let (x, y) = (number(at.0), number(at.1));
        let text = escape(text);
        self.line_of(&format!(
            "<text class=\"{class}\" transform=\"translate({x} {y}) rotate(-90)\">{text}</text>"
        ));
    }

    pub(super) fn close(mut self) -> String {
        self.line_of("</svg>");
        self.0
    }

    fn tipped(&mut self, shape: &str, name: &str, tip: &str) {
        if tip.is_empty() {
            return self.line_of(&format!("{shape}/>"));
        }
        let tip = escape(tip);
        self.line_of(&format!("{shape}><title>{tip}</title></{name}>"));
    }

    fn line_of(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }
}

fn style() -> String {
    let mut css = String::from(
        "<style>\n\
         .aion-diagram{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;\
         font-size:12px}\n\
         .aion-diagram text{fill:#3c434b}\n\
         .aion-diagram .head{font-size:16px;font-weight:600;fill:#15181c}\n\
         .aion-diagram .small{font-size:10px}\n\
         .aion-diagram .middle{text-anchor:middle}\n\
         .aion-diagram .end{text-anchor:end}\n\
         .aion-diagram .paper{fill:#fff}\n\
         .aion-diagram .grid{stroke:#e3e7ec;stroke-width:1}\n\
         .aion-diagram .axis{stroke:#8b949e;stroke-width:1;fill:none}\n\
         .aion-diagram .ideal{stroke:#6b737c;stroke-width:1.5;stroke-dasharray:6 4}\n\
         .aion-diagram .base{stroke:#6b737c;stroke-width:1.5;stroke-dasharray:1.5 4;stroke-linecap:round}\n\
         .aion-diagram .bar{fill:#b9cfe4}\n",
    );
    let mut dark = String::from(
        ".aion-diagram text{fill:#c3cad2}\n\
         .aion-diagram .head{fill:#f0f3f6}\n\
         .aion-diagram .paper{fill:#14181d}\n\
         .aion-diagram .grid{stroke:#2a3038}\n\
         .aion-diagram .axis{stroke:#6e7781}\n\
         .aion-diagram .ideal,.aion-diagram .base{stroke:#9aa4ae}\n\
         .aion-diagram .bar{fill:#34506b}\n",
    );
    for (i, (light_colour, dark_colour)) in SERIES.iter().enumerate() {
        colour(&mut css, i, light_colour);
        colour(&mut dark, i, dark_colour);
    }
    for (i, dashes) in ["none", "8 3", "2 3", "8 3 2 3", "12 4", "4 4", "1 4"]
        .iter()
        .enumerate()
    {
        let _ = writeln!(
            css,
            ".aion-diagram .s{i}{{fill:none;stroke-width:2;stroke-linejoin:round;stroke-dasharray:{dashes}}}"
        );
    }
    format!("{css}@media (prefers-color-scheme:dark){{\n{dark}}}\n</style>")
}

fn colour(css: &mut String, i: usize, colour: &str) {
    let _ = writeln!(
        css,
        ".aion-diagram .s{i},.aion-diagram .w{i}{{stroke:{colour}}}\
         .aion-diagram .d{i},.aion-diagram text.t{i}{{fill:{colour}}}\
         .aion-diagram .b{i}{{fill:{colour};fill-opacity:.15}}"
    );
}

/// A coordinate with at most two decimals: the same text on every platform.
pub(super) fn number(x: f64) -> String {
    let text = format!("{x:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "-0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

/// A number with commas between the thousands.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A probability in percent.
pub(super) fn percent(p: f64) -> String {
    format!("{}%", number((p * 1e3).round() / 10.0))
}

/// Shortens text for a line of the picture.
pub(super) fn clip(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Text of an element: markup is escaped, and characters that XML 1.0 cannot hold are replaced.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' | '\t' => safe.push(' '),
            c if c.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&c) => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::{count, escape, number, percent};

    #[test]
    fn numbers_are_short_and_markup_is_harmless() {
        assert_eq!([number(-0.001), number(12.5), number(3.0)], ["0", "12.5", "3"]);
        assert_eq!([count(0), count(999), count(51_101)], ["0", "999", "51,101"]);
        assert_eq!(percent(0.123_4), "12.3%");
        assert_eq!(
            escape("<a & \"b\">\u{1}"),
            "&lt;a &amp; &quot;b&quot;&gt;\u{fffd}"
        );
    }
}
