//! `aion-market score` as a person runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn run(dir: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aion-market"))
        .args(arguments)
        .current_dir(dir.path())
        .output()
        .unwrap()
}

fn put(dir: &TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Anna says 0.8 and is right in four of five; Ben says 0.5.
const CSV: &str = "\
forecaster,outcome,probability
anna,1,0.8
ben,1,0.5
anna,1,0.8
ben,yes,0.5
anna,true,0.8
ben,1.0,0.5
anna,1,0.8
ben,1,0.5
anna,0,0.8
ben,no,0.5
";

fn scores(output: &Output) -> Vec<Value> {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn check(scores: &[Value]) {
    let close = |value: &Value, expected: f64| {
        assert!(
            (value.as_f64().unwrap() - expected).abs() < 1e-9,
            "{value} {expected}"
        );
    };
    assert_eq!(scores.len(), 2);
    assert_eq!(
        (&scores[0]["forecaster"], &scores[0]["n"]),
        (&"anna".into(), &5.into())
    );
    // The entropy of 0.8, which is also the base rate: no skill.
    close(&scores[0]["loss_bits"], 0.721_928_094_887_362_3);
    close(&scores[0]["skill_bits"], 0.0);
    close(&scores[0]["brier"], 0.16);
    close(&scores[0]["ece"], 0.0);
    close(&scores[1]["loss_bits"], 1.0);
    close(&scores[1]["brier"], 0.25);
    close(&scores[1]["skill_bits"], 0.721_928_094_887_362_3 - 1.0);
}

#[test]
fn a_table_is_printed_with_the_best_first() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "f.csv", CSV);
    let output = run(&dir, &["score", "f.csv", "--diagram-dir", "pictures"]);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("forecaster") && lines[0].contains("log bits"));
    assert!(
        lines[1].starts_with("anna") && lines[1].contains("0.7219"),
        "{text}"
    );
    assert!(
        lines[2].starts_with("ben") && lines[2].contains("-0.278"),
        "{text}"
    );
    for picture in ["reliability-anna.svg", "reliability-ben.svg", "losses.svg"] {
        let svg = std::fs::read_to_string(dir.path().join("pictures").join(picture)).unwrap();
        assert!(
            svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
            "{picture}"
        );
    }
}

#[test]
fn the_same_rows_score_alike_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "f.csv", CSV);
    let mut lines = String::new();
    for row in CSV.lines().skip(1) {
        let parts: Vec<&str> = row.split(',').collect();
        let happened = !matches!(parts[1], "0" | "no");
        let (who, p) = (parts[0], parts[2]);
        lines += &format!("{{\"forecaster\": \"{who}\", \"probability\": {p}, \"outcome\": {happened}}}\n\n");
    }
    put(&dir, "f.jsonl", lines);
    check(&scores(&run(&dir, &["score", "f.csv", "--json"])));
    check(&scores(&run(&dir, &["score", "f.jsonl", "--json"])));
    #[cfg(feature = "parquet")]
    {
        parquet_file(&dir.path().join("f.parquet"));
        check(&scores(&run(&dir, &["score", "f.parquet", "--json"])));
    }
}

/// The rows of [`CSV`] as Parquet, with a column that nobody asks for.
#[cfg(feature = "parquet")]
fn parquet_file(path: &Path) {
    use std::sync::Arc;

    use parquet::basic::{Compression, ZstdLevel};
    use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    let schema = "message m { required binary forecaster (utf8); required boolean outcome;
                  required double probability; required double other; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
    let rows: Vec<Vec<&str>> = CSV.lines().skip(1).map(|row| row.split(',').collect()).collect();
    let who: Vec<ByteArray> = rows.iter().map(|row| ByteArray::from(row[0])).collect();
    let happened: Vec<bool> = rows.iter().map(|row| !matches!(row[1], "0" | "no")).collect();
    let p: Vec<f64> = rows.iter().map(|row| row[2].parse().unwrap()).collect();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&who, None, None)
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<BoolType>()
        .write_batch(&happened, None, None)
        .unwrap();
    column.close().unwrap();
    for _ in 0..2 {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&p, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn several_outcomes_are_scored_by_index_or_name() {
    let dir = tempfile::tempdir().unwrap();
    put(
        &dir,
        "k.csv",
        "who,win,draw,loss,result\nx,0.5,0.25,0.25,draw\nx,0.25,0.25,0.5,2\n",
    );
    let options = [
        "--forecaster",
        "who",
        "--probabilities",
        "win,draw,loss",
        "--outcome",
        "result",
        "--json",
    ];
    let found = scores(&run(&dir, &[&["score", "k.csv"], &options[..]].concat()));
    assert_eq!(found[0]["loss_bits"], 1.5);
    assert_eq!(found[0]["ece"], Value::Null);
    put(
        &dir,
        "k.jsonl",
        "{\"q\": [0.5, 0.25, 0.25], \"y\": 1}\n{\"q\": [0.25, 0.25, 0.5], \"y\": 2}\n",
    );
    let options = [
        "score",
        "k.jsonl",
        "--probabilities",
        "q",
        "--outcome",
        "y",
        "--json",
    ];
    let found = scores(&run(&dir, &options));
    assert_eq!(
        (&found[0]["loss_bits"], &found[0]["forecaster"]),
        (&1.5.into(), &"all".into())
    );
}

#[test]
fn an_impossible_event_that_happened_is_an_infinite_loss_unless_clipped() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "f.csv", "probability,outcome\n0,1\n1,1\n");
    assert_eq!(
        scores(&run(&dir, &["score", "f.csv", "--json"]))[0]["loss_bits"],
        Value::Null
    );
    let table = String::from_utf8(run(&dir, &["score", "f.csv"]).stdout).unwrap();
    assert!(table.contains("inf"), "{table}");
    let clipped = scores(&run(&dir, &["score", "f.csv", "--json", "--clip", "0.01"]));
    let expected = (200.0_f64.log2() - (1.0_f64 - 0.005).log2()) / 2.0;
    assert!((clipped[0]["loss_bits"].as_f64().unwrap() - expected).abs() < 1e-9);
}

#[test]
fn bad_files_are_refused_by_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let head = "forecaster,probability,outcome\na,0.5,1\n";
    let cases: [(&str, Vec<u8>, &str); 18] = [
        (
            "range.csv",
            format!("{head}a,1.2,0\n").into(),
            "range.csv, line 3, column \"probability\": 1.2 is not in [0, 1]",
        ),
        (
            "word.csv",
            format!("{head}a,x,0\n").into(),
            "line 3, column \"probability\": \"x\" is not a number",
        ),
        (
            "nan.csv",
            format!("{head}a,NaN,0\n").into(),
            "line 3, column \"probability\": NaN is not in [0, 1]",
        ),
        (
            "outcome.csv",
            format!("{head}a,0.5,2\n").into(),
            "line 3, column \"outcome\"",
        ),
        (
            "short.csv",
            format!("{head}a,0.5\n").into(),
            "line 3: 2 columns, the header has 3",
        ),
        (
            "bytes.csv",
            [head.as_bytes(), b"\xff,0.5,1\n"].concat(),
            "line 3: column 1 is not UTF-8 text",
        ),
        (
            "header.csv",
            b"p,outcome\n0.5,1\n".to_vec(),
            "there is no column \"probability\"; there are \"p\", \"outcome\"",
        ),
        (
            "empty.csv",
            b"probability,outcome\n".to_vec(),
            "empty.csv has no rows",
        ),
        (
            "f.txt",
            head.into(),
            "the name must end in .csv, .jsonl or .parquet",
        ),
        (
            "nan.jsonl",
            b"{\"probability\": 0.5, \"outcome\": 1}\n{\"probability\": NaN, \"outcome\": 1}\n".to_vec(),
            "nan.jsonl, line 2: expected value at byte 17",
        ),
        (
            "member.jsonl",
            b"{\"probability\": 0.5}\n".to_vec(),
            "line 1, column \"outcome\": the member is missing",
        ),
        (
            "sum.jsonl",
            b"{\"probability\": [0.5, 0.4], \"outcome\": 1}\n".to_vec(),
            "line 1, column \"probability\": a forecast must be a distribution that sums to 1, got 0.9",
        ),
        (
            "huge.csv",
            format!("{head}a,1e400,0\n").into(),
            "line 3, column \"probability\": 1e400 is not in [0, 1]",
        ),
        (
            "twice.csv",
            b"probability,outcome,probability\n0.5,1,0.5\n".to_vec(),
            "line 1, column \"probability\": the header has two columns of this name",
        ),
        ("nothing.csv", Vec::new(), "nothing.csv has no rows"),
        (
            "list.jsonl",
            b"[0.5, 1]\n".to_vec(),
            "line 1: the line is no JSON object",
        ),
        (
            "bytes.jsonl",
            b"{\"probability\": 0.5, \"outcome\": 1, \"forecaster\": \"\xff\"}\n".to_vec(),
            "line 1: byte 51 is not UTF-8 text",
        ),
        (
            "broken.jsonl",
            b"{\"probability\": 0.5\n".to_vec(),
            "line 1: EOF while parsing an object at byte 19",
        ),
    ];
    for (name, bytes, expected) in cases {
        put(&dir, name, bytes);
        let output = run(&dir, &["score", name]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains(expected), "{name}: {text}");
        assert!(output.stdout.is_empty(), "{name}");
    }
    put(&dir, "junk.parquet", b"PAR1 is not enough PAR1");
    assert_eq!(run(&dir, &["score", "junk.parquet"]).status.code(), Some(1));
    assert_eq!(run(&dir, &["score", "missing.csv"]).status.code(), Some(1));
    let long = run(&dir, &["score", "range.csv", "--max-rows", "1"]);
    assert!(
        String::from_utf8(long.stderr)
            .unwrap()
            .contains("more than 1 rows")
    );
}

#[test]
fn the_command_line_has_help_and_its_own_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let help = run(&dir, &["score", "--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for word in ["probability", "forecaster", "Exit codes", "--diagram-dir"] {
        assert!(text.contains(word), "{word}");
    }
    for wrong in [
        &["score"][..],
        &["score", "f.csv", "--bins", "0"],
        &["rate", "f.csv"],
    ] {
        assert_eq!(run(&dir, wrong).status.code(), Some(2), "{wrong:?}");
    }
}

/// Anna dares too much: of her 0.9s six of ten happen. A fit that has not seen a row brings it nearer.
#[test]
fn a_correction_is_worth_what_rows_say_that_it_has_not_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut csv = "forecaster,probability,outcome\n".to_owned();
    for i in 0..200 {
        csv += &format!("anna,0.9,{}\n", u8::from(i % 10 < 6));
        csv += &format!("anna,0.1,{}\n", u8::from(i % 10 < 4));
    }
    put(&dir, "f.csv", csv);
    for method in ["temperature", "platt", "beta", "isotonic"] {
        let options = [
            "calibrate",
            "f.csv",
            "--json",
            "--method",
            method,
            "--out-dir",
            "fits",
        ];
        let found = &scores(&run(&dir, &options))[0];
        let loss = |when: &str| found[when]["log_bits"].as_f64().unwrap();
        assert!((loss("before") - 1.419_974).abs() < 1e-5, "{method}: {found}");
        assert!((0.970..0.985).contains(&loss("after")), "{method}: {found}");
        assert!(found["after"]["ece"].as_f64().unwrap() < 0.1, "{method}: {found}");
        let fit = std::fs::read(dir.path().join("fits/calibrator-anna.json")).unwrap();
        let fit: aion_market::Calibrator = serde_json::from_slice(&fit).unwrap();
        assert!((fit.apply(0.9).unwrap() - 0.6).abs() < 0.02, "{method}");
    }
    let table = String::from_utf8(run(&dir, &["calibrate", "f.csv"]).stdout).unwrap();
    assert!(
        table.contains("anna") && table.contains("1.4200 -> 0.97"),
        "{table}"
    );
    put(&dir, "one.csv", "probability,outcome\n0.5,1\n");
    let output = run(&dir, &["calibrate", "one.csv"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("the rows of \"all\" cannot be calibrated"),
        "{text}"
    );
}

/// Two names that are one on a file system have a file each.
#[test]
fn every_calibrator_has_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut csv = "forecaster,probability,outcome\n".to_owned();
    for i in 0..40 {
        for name in ["a/b", "a.b", "a_b"] {
            csv += &format!("{name},0.{},{}\n", 1 + i % 9, i % 2);
        }
    }
    put(&dir, "f.csv", csv);
    let done = run(&dir, &["calibrate", "f.csv", "--out-dir", "fits"]);
    assert!(done.status.success());
    assert_eq!(std::fs::read_dir(dir.path().join("fits")).unwrap().count(), 3);
}

/// Forecasters are names, not paths: a picture stays in its folder.
#[test]
fn a_name_cannot_leave_the_folder_of_pictures() {
    let dir = tempfile::tempdir().unwrap();
    put(
        &dir,
        "f.csv",
        "forecaster,probability,outcome\n../../x,0.5,1\n/etc/x,0.5,1\n.. ..x,0.5,0\n",
    );
    assert!(
        run(&dir, &["score", "f.csv", "--diagram-dir", "deep/er"])
            .status
            .success()
    );
    let names = |path: &Path| std::fs::read_dir(path).unwrap().count();
    assert_eq!(
        (
            names(&dir.path().join("deep/er")),
            names(&dir.path().join("deep"))
        ),
        (4, 1)
    );
    assert_eq!(names(dir.path()), 2);
}
