//! Pictures: the committed ones are drawn again to the byte, and odd input is refused.

use std::path::PathBuf;

use aion_market::diagram::{self, DiagramOptions, Series};
use aion_market::reliability::Reliability;

/// Compares with the committed picture; `AION_WRITE_GOLDEN=1` writes it instead, to be looked at.
fn golden(name: &str, svg: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("AION_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, svg).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(svg == committed, "{name} is drawn otherwise than committed");
}

/// Forecasts that are a little too bold: `p` happens with `0.2 + 0.6 p`, most of them near the ends.
fn bold() -> (Vec<f64>, Vec<f64>) {
    let (mut p, mut o) = (Vec::new(), Vec::new());
    for (step, n) in [64, 40, 22, 12, 9, 8, 13, 25, 46, 81].into_iter().enumerate() {
        let forecast = (step as f64 + 0.5) / 10.0;
        let happened = ((0.2 + 0.6 * forecast) * f64::from(n)).round() as i32;
        for i in 0..n {
            p.push(forecast + 0.001 * f64::from(i - n / 2));
            o.push(if i < happened { 1.0 } else { 0.0 });
        }
    }
    (p, o)
}

#[test]
fn the_reliability_diagram_is_as_committed() {
    let (p, o) = bold();
    let curve = Reliability::of(&p, &o, 10).unwrap();
    let svg = diagram::reliability(&curve, &DiagramOptions::new("Calibration of anna"));
    golden("reliability.svg", &svg);
    assert!(svg.contains("role=\"img\"") && svg.contains("prefers-color-scheme:dark"));
    assert_eq!(svg.matches("<circle").count(), 11, "ten bins and the legend");
}

fn curve(name: &str, from: f64, to: f64) -> Series {
    let points: Vec<(f64, f64)> = (1..=40)
        .map(|i| (f64::from(i * 5), to + (from - to) / (1.0 + f64::from(i) / 6.0)))
        .collect();
    let ends = points
        .iter()
        .map(|(x, y)| (y - 0.6 / x.sqrt(), y + 0.6 / x.sqrt()))
        .collect();
    Series::new(name, points).with_interval(ends)
}

#[test]
fn the_learning_curve_is_as_committed() {
    let uniform = Series::new("uniform", vec![(5.0, 1.0), (200.0, 1.0)]);
    let series = [
        curve("logistic", 1.1, 0.58),
        curve("beta history", 1.0, 0.7),
        curve("base rate", 1.0, 0.69),
        uniform,
    ];
    let options = DiagramOptions::new("What was learned")
        .with_note("mean log loss so far, with two standard errors")
        .with_id("learned");
    let svg = diagram::learning(&series, "tasks", "bits", &options).unwrap();
    golden("learning.svg", &svg);
    assert!(svg.contains("id=\"learned-desc\""));
}

#[test]
fn names_are_text_and_never_markup() {
    let curve = Reliability::of(&[0.5], &[1.0], 1).unwrap();
    let svg = diagram::reliability(
        &curve,
        &DiagramOptions::new("</title><script>alert(1)</script>").with_id("\" onload=\"x"),
    );
    assert!(!svg.contains("<script") && !svg.contains("onload=\""));
}

#[test]
fn pictures_of_nothing_and_of_infinities_are_refused() {
    let options = DiagramOptions::new("t");
    let draw = |series: &[Series]| diagram::learning(series, "n", "bits", &options);
    assert!(draw(&[]).is_err());
    assert!(draw(&[Series::new("a", Vec::new())]).is_err());
    assert!(draw(&[Series::new("a", vec![(0.0, f64::INFINITY)])]).is_err());
    assert!(draw(&[Series::new("a", vec![(0.0, 1.0)]).with_interval(vec![(0.0, 1.0); 2])]).is_err());
    assert!(draw(&vec![Series::new("a", vec![(0.0, 1.0)]); 8]).is_err());
    assert!(
        draw(&[Series::new("a", vec![(0.0, 1.0)])]).is_ok(),
        "a single point"
    );
}
