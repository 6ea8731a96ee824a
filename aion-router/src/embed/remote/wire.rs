//! What goes over the wire: OpenAI's embeddings, numbers as numbers.

use serde::{Deserialize, Serialize};

use super::RemoteError;

/// The most numbers of a vector.
const MAX_DIM: usize = 65_536;

#[derive(Serialize)]
struct Question<'a> {
    model: &'a str,
    input: &'a [String],
    encoding_format: &'static str,
}

/// The body of a request.
pub(super) fn question(model: &str, input: &[String]) -> Result<Vec<u8>, RemoteError> {
    Ok(serde_json::to_vec(&Question {
        model,
        input,
        encoding_format: "float",
    })?)
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    index: Option<usize>,
    embedding: Vec<f32>,
}

/// The vectors of an answer in the order of the texts, scaled to length 1; of one dimension, unless `dim` says which.
pub(super) fn vectors(answer: &[u8], texts: usize, dim: Option<usize>) -> Result<Vec<Vec<f32>>, RemoteError> {
    let rows = serde_json::from_slice::<Answer>(answer)?.data;
    let wrong = RemoteError::Count {
        texts,
        found: rows.len(),
    };
    if rows.len() != texts {
        return Err(wrong);
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; texts];
    for (i, row) in rows.into_iter().enumerate() {
        match vectors.get_mut(row.index.unwrap_or(i)) {
            Some(place @ None) => *place = Some(scaled(row.embedding)?),
            _ => return Err(wrong),
        }
    }
    let vectors: Vec<Vec<f32>> = vectors.into_iter().flatten().collect();
    let first = vectors.first().map_or(0, Vec::len);
    // With a dimension to hold to, whoever asked says which one it is not.
    match vectors.iter().find(|vector| vector.len() != first) {
        Some(other) if dim.is_none() => Err(RemoteError::NoVector(other.len())),
        _ => Ok(vectors),
    }
}

fn scaled(mut vector: Vec<f32>) -> Result<Vec<f32>, RemoteError> {
    let is_one = (1..=MAX_DIM).contains(&vector.len()) && vector.iter().all(|x| x.is_finite());
    if !is_one {
        return Err(RemoteError::NoVector(vector.len()));
    }
    let squares: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
    if squares > 0.0 {
        let length = squares.sqrt();
        vector
            .iter_mut()
            .for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_in_the_order_of_the_texts() {
        let answer =
            br#"{"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3e0, 4.0]}]}"#;
        let found = vectors(answer, 2, None).unwrap();
        assert_eq!(found, [vec![0.6, 0.8], vec![0.0, 1.0]]);
        let unnumbered = br#"{"data": [{"embedding": [1, 0]}, {"embedding": [0, 0]}], "model": "m"}"#;
        assert_eq!(
            vectors(unnumbered, 2, None).unwrap(),
            [vec![1.0, 0.0], vec![0.0, 0.0]]
        );
    }

    #[test]
    fn other_answers_are_refused() {
        let count = |answer: &str| {
            matches!(
                vectors(answer.as_bytes(), 2, None),
                Err(RemoteError::Count { .. })
            )
        };
        assert!(count(r#"{"data": [{"embedding": [1]}]}"#));
        assert!(count(
            r#"{"data": [{"embedding": [1]}, {"embedding": [1]}, {"embedding": [1]}]}"#
        ));
        assert!(count(
            r#"{"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}"#
        ));
        assert!(count(
            r#"{"data": [{"index": 7, "embedding": [1]}, {"embedding": [1]}]}"#
        ));
        let one = |answer: &str| vectors(answer.as_bytes(), 1, None).unwrap_err();
        for text in [
            "",
            "{}",
            r#"{"data": [{"embedding": [null]}]}"#,
            r#"{"data": [{"embedding": [NaN]}]}"#,
        ] {
            assert!(matches!(one(text), RemoteError::Unreadable(_)), "{text}");
        }
        let empty = one(r#"{"data": [{"embedding": []}]}"#);
        assert!(matches!(empty, RemoteError::NoVector(0)));
        // The reader of JSON refuses it by itself with some of its features, and rounds it to infinity with others.
        let huge = one(r#"{"data": [{"embedding": [1e39]}]}"#);
        assert!(matches!(
            huge,
            RemoteError::NoVector(1) | RemoteError::Unreadable(_)
        ));
        let uneven = br#"{"data": [{"embedding": [1, 2]}, {"embedding": [1]}]}"#;
        assert!(matches!(vectors(uneven, 2, None), Err(RemoteError::NoVector(1))));
    }
}
