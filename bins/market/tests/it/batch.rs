//! Batches of columns: the worked numbers, JSON and Arrow alike, and rows that cannot be.

use std::sync::Arc;

use arrow_array::builder::{Float32Builder, Float64Builder, ListBuilder};
use arrow_array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float64Array, Int64Array, NullArray, RecordBatch, UInt8Array,
};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field};
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::client::{Answer, Client, post};

const ARROW: &str = "application/vnd.apache.arrow.stream";

fn close(found: &Value, expected: &[f64]) {
    let found = found["loss"].as_array().unwrap();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found.as_f64().unwrap() - expected).abs() < 1e-6,
            "{found} {expected}"
        );
    }
}

#[tokio::test]
async fn each_rule_gives_its_worked_numbers() {
    let client = Client::new();
    let q = json!([[0.8, 0.2], [0.5, 0.5]]);
    let labelled = json!({"probabilities": q, "outcome": [0, 1]});
    let compared = json!({"probabilities": q, "reference": [[0.8, 0.2], [0.9, 0.1]]});
    let cases = [
        ("log", labelled.clone(), vec![0.321_928, 1.0]),
        ("brier", labelled.clone(), vec![0.08, 0.5]),
        ("rps", labelled.clone(), vec![0.04, 0.25]),
        (
            "spherical",
            labelled.clone(),
            vec![1.0 - 0.8 / 0.68_f64.sqrt(), 1.0 - 0.5_f64.sqrt()],
        ),
        ("kl", compared.clone(), vec![0.0, 0.531_004]),
        ("cross_entropy", compared.clone(), vec![0.721_928, 1.0]),
        ("jensen_shannon", compared, vec![0.0, 0.146_793]),
        (
            "crps",
            json!({"members": [[0.0, 1.0], [2.0, 2.0]], "value": [0.5, 2.0]}),
            vec![0.25, 0.0],
        ),
        (
            "crps_normal",
            json!({"location": [0.0], "scale": [1.0], "value": [0.0]}),
            vec![0.233_695],
        ),
        (
            "crps_logistic",
            json!({"location": [0.0], "scale": [1.0], "value": [0.0]}),
            vec![0.386_294],
        ),
    ];
    for (rule, body, expected) in cases {
        let losses = client.ok(&format!("/v1/score/batch?rule={rule}"), body).await;
        assert_eq!(losses["rule"], rule);
        close(&losses, &expected);
        let mean = expected.iter().sum::<f64>() / expected.len() as f64;
        assert!((losses["mean"].as_f64().unwrap() - mean).abs() < 1e-6, "{rule}");
    }
    let impossible = json!({"probabilities": [[1.0, 0.0]], "outcome": [1]});
    let losses = client.ok("/v1/score/batch?rule=log", impossible).await;
    assert_eq!((&losses["mean"], &losses["loss"]), (&Value::Null, &json!([null])));
}

/// A row of another width sends the batch row by row: the losses of the others stay what they were.
#[tokio::test]
async fn rows_of_several_widths_score_like_rows_of_one() {
    let client = Client::new();
    let q = |i: usize| {
        let p = (i as f64 + 0.5) / 40.0;
        json!([p, (1.0 - p) / 2.0, (1.0 - p) / 2.0])
    };
    let even: Vec<Value> = (0..40).map(q).collect();
    let mut odd = even.clone();
    odd.push(json!([0.5, 0.5]));
    for rule in ["log", "brier", "rps", "spherical", "kl", "jensen_shannon", "crps"] {
        let send = async |rows: &[Value]| {
            let n = rows.len();
            let body = match rule {
                "kl" | "jensen_shannon" => {
                    let reference: Vec<Value> = rows
                        .iter()
                        .map(|row| {
                            json!(vec![
                                1.0 / row.as_array().unwrap().len() as f64;
                                row.as_array().unwrap().len()
                            ])
                        })
                        .collect();
                    json!({"probabilities": rows, "reference": reference})
                }
                "crps" => json!({"members": rows, "value": vec![0.3; n]}),
                _ => json!({"probabilities": rows, "outcome": vec![1; n]}),
            };
            client.ok(&format!("/v1/score/batch?rule={rule}"), body).await
        };
        let (whole, single) = (send(&even).await, send(&odd).await);
        let numbers = |losses: &Value| -> Vec<f64> {
            let all = losses["loss"].as_array().unwrap();
            all[..40].iter().map(|loss| loss.as_f64().unwrap()).collect()
        };
        for (a, b) in numbers(&whole).iter().zip(numbers(&single)) {
            assert!((a - b).abs() < 1e-12, "{rule}: {a} {b}");
        }
    }
}

#[tokio::test]
async fn a_bad_row_of_json_is_named() {
    let client = Client::new();
    let q = |row: Value| json!({"probabilities": [[0.5, 0.5], row], "outcome": [0, 1]});
    let cases = [
        ("log", q(json!([0.5, 0.4])), 422, "invalid", "/probabilities/1"),
        (
            "log",
            q(json!([0.5, null])),
            422,
            "invalid_body",
            "/probabilities/1/1",
        ),
        ("log", q(json!([])), 422, "invalid", "/probabilities/1"),
        ("rps", q(json!([-0.5, 1.5])), 422, "invalid", "/probabilities/1"),
        (
            "log",
            json!({"probabilities": [[0.5, 0.5]], "outcome": [2]}),
            422,
            "invalid",
            "/outcome/0",
        ),
        (
            "kl",
            json!({"probabilities": [[0.5, 0.5]], "reference": [[0.5, 0.6]]}),
            422,
            "invalid",
            "/reference/0",
        ),
        (
            "kl",
            json!({"probabilities": [[0.5, 0.6]], "reference": [[0.5, 0.5]]}),
            422,
            "invalid",
            "/probabilities/0",
        ),
        (
            "log",
            json!({"probabilities": [[0.5, 0.5]], "outcome": [0, 1]}),
            422,
            "invalid",
            "/outcome",
        ),
        (
            "log",
            json!({"probabilities": [[0.5, 0.5]]}),
            422,
            "invalid",
            "/outcome",
        ),
        (
            "log",
            json!({"probabilities": [], "outcome": []}),
            422,
            "invalid",
            "/probabilities",
        ),
        ("kl", q(json!([0.5, 0.5])), 422, "invalid", "/reference"),
        (
            "crps",
            json!({"members": [[]], "value": [0.0]}),
            422,
            "invalid",
            "/members/0",
        ),
        (
            "crps",
            json!({"members": [[0, 1], [-1.7e308, 1.7e308]], "value": [0, 0]}),
            422,
            "invalid",
            "/members/1",
        ),
        (
            "crps_normal",
            json!({"location": [0], "scale": [0], "value": [0]}),
            422,
            "invalid",
            "/scale/0",
        ),
        (
            "log",
            json!({"probabilities": [vec![0.0; 4_097]], "outcome": [0]}),
            422,
            "invalid",
            "/probabilities/0",
        ),
        (
            "crps",
            json!({"members": vec![vec![1.0]; 100_001], "value": [0]}),
            413,
            "too_many_rows",
            "/members",
        ),
    ];
    for (rule, body, status, code, pointer) in cases {
        let (got, problem) = client.post(&format!("/v1/score/batch?rule={rule}"), body).await;
        let found = (
            got.as_u16(),
            problem["code"].as_str(),
            problem["pointer"].as_str(),
        );
        assert_eq!(found, (status, Some(code), Some(pointer)), "{rule}: {problem}");
    }
    let (status, problem) = client.post("/v1/score/batch?rule=luck", json!({})).await;
    assert_eq!(
        (status.as_u16(), problem["code"].as_str()),
        (400, Some("invalid_query"))
    );
}

fn stream(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    // Twice: a stream has any number of batches.
    writer.write(&batch).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn lists64(rows: &[&[f64]]) -> ArrayRef {
    let mut builder = ListBuilder::new(Float64Builder::new());
    for row in rows {
        builder.values().append_slice(row);
        builder.append(true);
    }
    Arc::new(builder.finish())
}

fn lists32(rows: &[&[f32]]) -> ArrayRef {
    let mut builder = ListBuilder::new(Float32Builder::new());
    for row in rows {
        builder.values().append_slice(row);
        builder.append(true);
    }
    Arc::new(builder.finish())
}

async fn send(client: &Client, rule: &str, body: Vec<u8>, accept: &str) -> Answer {
    let request = Request::post(format!("/v1/score/batch?rule={rule}"))
        .header("content-type", ARROW)
        .header("accept", accept);
    client.raw(request.body(Body::from(body)).unwrap()).await
}

#[tokio::test]
async fn an_arrow_stream_is_answered_by_one() {
    let client = Client::new();
    let y: ArrayRef = Arc::new(UInt8Array::from(vec![0, 1]));
    let body = stream(vec![
        ("probabilities", lists64(&[&[0.8, 0.2], &[1.0, 0.0]])),
        ("outcome", y.clone()),
    ]);
    let answer = send(&client, "log", body.clone(), ARROW).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (200, ARROW)
    );
    let reader = StreamReader::try_new(std::io::Cursor::new(answer.bytes), None).unwrap();
    assert_eq!(reader.schema().metadata()["unit"], "bits");
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let loss = batches[0]["loss"]
        .as_any()
        .downcast_ref::<Float64Array>()
        .unwrap();
    assert_eq!(loss.len(), 4);
    assert!((loss.value(2) - 0.321_928).abs() < 1e-6 && loss.value(3).is_infinite());
    let json = send(&client, "log", body, "application/json").await.json();
    assert_eq!((&json["n"], &json["loss"][1]), (&json!(4), &Value::Null));
    // Thirds in single precision do not sum to 1.
    let thirds = [1.0_f32 / 3.0; 3];
    let body = stream(vec![
        ("probabilities", lists32(&[&thirds, &thirds])),
        ("outcome", y),
    ]);
    let json = send(&client, "log", body, "application/json").await.json();
    close(&json, &[3.0_f64.log2(); 4]);
}

#[tokio::test]
async fn streams_that_cannot_be_are_refused() {
    let client = Client::new();
    let y = |values: Vec<Option<i64>>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
    let q = || ("probabilities", lists64(&[&[0.8, 0.2], &[0.5, 0.5]]));
    let flat: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 0.5]));
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
    let cases = [
        (
            vec![q(), ("outcome", y(vec![Some(0), None]))],
            "invalid",
            "/outcome/1",
        ),
        (
            vec![q(), ("outcome", y(vec![Some(0), Some(-1)]))],
            "invalid",
            "/outcome/1",
        ),
        (
            vec![q(), ("outcome", y(vec![Some(0), Some(2)]))],
            "invalid",
            "/outcome/1",
        ),
        (vec![q(), ("outcome", flags)], "invalid", "/outcome"),
        (
            vec![("probabilities", flat), ("outcome", y(vec![Some(0), Some(1)]))],
            "invalid",
            "/probabilities",
        ),
        (vec![q()], "invalid", "/outcome"),
        (
            vec![q(), ("answer", y(vec![Some(0), Some(1)]))],
            "invalid",
            "/answer",
        ),
        (
            vec![
                ("probabilities", lists64(&[&[0.8, 0.1], &[0.5, 0.5]])),
                ("outcome", y(vec![Some(0), Some(1)])),
            ],
            "invalid",
            "/probabilities/0",
        ),
        (
            vec![
                ("probabilities", lists32(&[&[0.8, 0.1], &[0.5, 0.5]])),
                ("outcome", y(vec![Some(0), Some(1)])),
            ],
            "invalid",
            "/probabilities/0",
        ),
        (
            vec![
                ("probabilities", lists64(&[&[f64::NAN, 0.5], &[0.5, 0.5]])),
                ("outcome", y(vec![Some(0), Some(1)])),
            ],
            "invalid",
            "/probabilities/0",
        ),
    ];
    for (columns, code, pointer) in cases {
        let answer = send(&client, "log", stream(columns), ARROW).await;
        let problem = answer.json();
        assert_eq!(
            (
                answer.status.as_u16(),
                problem["code"].as_str(),
                problem["pointer"].as_str()
            ),
            (422, Some(code), Some(pointer)),
            "{problem}"
        );
    }
}

/// A stream that is cut or has a wrong byte anywhere is scored or refused; the server stands.
#[tokio::test]
async fn damaged_streams_never_break_the_server() {
    let client = Client::new();
    let y: ArrayRef = Arc::new(UInt8Array::from(vec![0, 1]));
    let whole = stream(vec![
        ("probabilities", lists64(&[&[0.8, 0.2], &[0.5, 0.5]])),
        ("outcome", y),
    ]);
    for at in (0..whole.len()).step_by(3) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        for body in [whole[..at].to_vec(), damaged] {
            let answer = send(&client, "log", body, ARROW).await;
            assert!(
                matches!(answer.status.as_u16(), 200 | 400 | 422),
                "{at}: {}",
                answer.status
            );
        }
    }
}

/// Columns without bytes may claim any number of rows, and a name may come any number of times: neither
/// makes the server count or keep what was not sent.
#[tokio::test]
async fn rows_that_were_not_sent_are_not_counted() {
    let client = Client::new();
    let empty = |rows: usize| -> ArrayRef {
        let field = Arc::new(Field::new("item", DataType::Float64, false));
        let none: ArrayRef = Arc::new(Float64Array::from(Vec::<f64>::new()));
        Arc::new(FixedSizeListArray::try_new_with_length(field, 0, none, None, rows).unwrap())
    };
    for column in [Arc::new(NullArray::new(1 << 40)), empty(1 << 40)] {
        let answer = send(&client, "crps", stream(vec![("members", column)]), ARROW).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (413, "too_many_rows")
        );
    }
    let twice = stream(vec![("members", empty(1_000)), ("members", empty(1_000))]);
    let problem = send(&client, "crps", twice, ARROW).await.json();
    assert_eq!(problem["pointer"], "/members", "{problem}");
    assert_eq!(problem["detail"], "the column comes twice");
}

#[tokio::test]
async fn other_media_types_are_refused() {
    let client = Client::new();
    for kind in ["text/csv", "application/octet-stream", ""] {
        let mut request = post("/v1/score/batch?rule=log", &json!({}));
        request
            .headers_mut()
            .insert("content-type", kind.parse().unwrap());
        let answer = client.raw(request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (415, "unsupported_media_type"),
            "{kind}"
        );
    }
}
