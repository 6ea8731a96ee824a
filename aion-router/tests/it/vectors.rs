//! Exact search: what the kernels find is what a naive scan in high precision finds.

use aion_router::embed::embed_one;
use aion_router::vector::{Level, Quantized, Vectors};
use aion_router::{
    Embedder, EmbeddingCache, Engine, EngineOptions, Error, Feature, HashingEmbedder, Item, Query, Surface,
    SurfaceBudget,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Numbers that look random and are the same on every machine.
fn row(seed: u64, dim: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let number = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..dim).map(number).collect()
}

fn filled(n: usize, dim: usize) -> Vectors {
    let mut vectors = Vectors::new();
    for slot in (0..n).rev() {
        vectors.set(slot, &row(slot as u64 + 1, dim)).unwrap();
    }
    vectors
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every level of the processor gives the same integers, so the same nearest slots and scores.
    #[test]
    fn all_kernels_agree(n in 0_usize..70, dim in 1_usize..200, k in 0_usize..12, seed: u64, gone in vec(0_usize..70, 0..9)) {
        let mut vectors = filled(n, dim);
        gone.iter().for_each(|slot| vectors.clear(*slot));
        let query = Quantized::new(&row(seed, dim)).unwrap();
        let portable = vectors.nearest_at(Level::Portable, &query, k);
        for level in [Level::Avx2, Level::Avx512] {
            prop_assert_eq!(&vectors.nearest_at(level, &query, k), &portable);
        }
        let all: Vec<f32> = (0..n).map(|slot| vectors.cosine(&query, slot)).collect();
        let there = (0..n).filter(|slot| !gone.contains(slot));
        let mut wanted: Vec<(f32, usize)> = there.map(|slot| (all[slot], slot)).collect();
        wanted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        wanted.truncate(k);
        let got: Vec<(f32, usize)> = portable.iter().map(|found| (found.score, found.slot)).collect();
        prop_assert_eq!(got, wanted);
    }

    /// A scan of half-bytes with a bound finds what a scan of all bytes finds, in the same order with the same scores:
    /// also among rows that are nearly the same, equal, zero, or have one number that dwarfs the others.
    #[test]
    fn reading_half_first_loses_nothing(
        n in 1_025_usize..6_000, dim in 1_usize..300, k in 1_usize..40, centres in 1_u64..40, noise in 0_usize..4, seed: u64,
    ) {
        let noise = [0.0, 0.01, 0.2, 1.0][noise];
        let centre = |i: u64| row(seed ^ (i % centres), dim);
        let mut vectors = Vectors::new();
        for slot in (0..n).rev() {
            let mut vector = centre(slot as u64);
            let moved = row(seed ^ (1 << 40) ^ slot as u64, dim);
            vector.iter_mut().zip(moved).for_each(|(x, y)| *x += noise * y);
            match slot % 101 {
                0 => vector[slot % dim] = 300.0,
                1 => vector.fill(0.0),
                _ => {}
            }
            vectors.set(slot, &vector).unwrap();
        }
        (0..n).step_by(97).for_each(|slot| vectors.clear(slot));
        let query = Quantized::new(&centre(seed % 97)).unwrap();
        let all: Vec<f32> = (0..n).map(|slot| vectors.cosine(&query, slot)).collect();
        let mut wanted: Vec<(f32, usize)> = all.iter().enumerate().map(|(slot, score)| (*score, slot)).collect();
        wanted.retain(|(_, slot)| vectors.has(*slot));
        wanted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        wanted.truncate(k);
        for level in [Level::Portable, Level::Avx2, Level::Avx512] {
            let found = vectors.nearest_at(level, &query, k);
            let found: Vec<(f32, usize)> = found.iter().map(|found| (found.score, found.slot)).collect();
            prop_assert_eq!(&found, &wanted);
        }
    }

    /// A quantised cosine is within the declared gap of the true one: each of the two roundings moves a
    /// unit vector by at most `sqrt(dim) / 2` steps of its scale.
    #[test]
    fn the_gap_to_naive_is_bounded(dim in 1_usize..500, a: u64, b: u64) {
        let (x, y) = (row(a, dim), row(b, dim));
        let mut vectors = Vectors::new();
        vectors.set(0, &x).unwrap();
        let query = Quantized::new(&y).unwrap();
        let got = f64::from(vectors.nearest(&query, 1)[0].score);
        let half = (dim as f64).sqrt() / 2.0;
        let (p, q) = (half * f64::from(vectors.get(0).unwrap().scale()), half * f64::from(query.scale()));
        prop_assert!((got - cosine(&x, &y)).abs() <= p / 8.0 + q + p * q + 1e-5);
        let mut bytes = Vec::new();
        vectors.cosines_into(&query, &mut bytes);
        prop_assert!((f64::from(bytes[0]) - cosine(&x, &y)).abs() <= p + q + p * q + 1e-5);
    }
}

/// Rows of 8 bits alone find 195 of the 200 here.
#[test]
fn the_ten_nearest_are_nearly_those_of_full_precision() {
    let (n, dim) = (2_000, 384);
    let vectors = filled(n, dim);
    let mut overlap = 0;
    for seed in 0..20 {
        let query = row(90_000 + seed, dim);
        let mut naive: Vec<(f64, usize)> = (0..n)
            .map(|slot| (cosine(&query, &row(slot as u64 + 1, dim)), slot))
            .collect();
        naive.sort_by(|a, b| b.0.total_cmp(&a.0));
        let found = vectors.nearest(&Quantized::new(&query).unwrap(), 10);
        overlap += found
            .iter()
            .filter(|found| naive[..10].iter().any(|(_, slot)| *slot == found.slot))
            .count();
    }
    assert!(overlap >= 199, "{overlap} of 200");
}

#[test]
fn signs_find_what_is_near_and_exact_scores_come_with_it() {
    let mut vectors = filled(3_000, 384);
    let query = row(777_777, 384);
    let near: Vec<f32> = query
        .iter()
        .zip(row(5, 384))
        .map(|(x, noise)| x + 0.3 * noise)
        .collect();
    vectors.set(1_234, &near).unwrap();
    let query = Quantized::new(&query).unwrap();
    let found = vectors.nearest_by_signs(&query, 3, 100);
    assert_eq!(found[0], vectors.nearest(&query, 1)[0]);
    assert_eq!((found[0].slot, found.len()), (1_234, 3));
}

#[test]
fn bad_vectors_are_refused() {
    let mut vectors = Vectors::new();
    assert!(vectors.nearest(&Quantized::new(&[1.0]).unwrap(), 5).is_empty());
    vectors.set(3, &[1.0, 2.0]).unwrap();
    assert_eq!(vectors.set(1, &[1.0]), Err(Error::BadVector { dim: 2 }));
    for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
        assert!(vectors.set(1, &[bad, bad]).is_err() || bad == f32::MAX);
    }
    assert!(Quantized::new(&[]).is_err());
    assert!(Quantized::from_parts(&[1], f32::NAN).is_none());
    assert!(
        vectors.nearest(&Quantized::new(&[1.0]).unwrap(), 5).is_empty(),
        "another dimension finds nothing"
    );
    vectors.clear(3);
    assert!(!vectors.has(3) && vectors.get(3).is_none());
}

#[test]
fn hashing_knows_words_by_their_parts() {
    let vector = |text: &str| embed_one(&HashingEmbedder, text).unwrap();
    let near = cosine(&vector("convert currencies"), &vector("currency conversion"));
    let far = cosine(&vector("convert currencies"), &vector("send an e-mail"));
    assert!(near > 0.3 && far < 0.15, "{near} {far}");
    assert!(vector("").iter().all(|x| *x == 0.0));
    let length: f32 = vector("some words here").iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5);
    assert!(HashingEmbedder.embed(&["a"], &mut [0.0; 3]).is_err());
}

#[test]
fn a_cache_keeps_what_fits() {
    let cache = EmbeddingCache::new(2);
    for text in ["a", "b", "c", "c"] {
        cache.get_or_embed(&HashingEmbedder, text).unwrap();
    }
    assert_eq!(cache.len(), 2);
    let none = EmbeddingCache::new(0);
    none.get_or_embed(&HashingEmbedder, "a").unwrap();
    assert!(none.is_empty());
    assert_ne!(EmbeddingCache::key("m", "ab"), EmbeddingCache::key("ma", "b"));
}

#[test]
fn a_few_vectors_in_many_slots_have_the_cosines_of_full_ones() {
    let query = Quantized::new(&[0.3, -0.2, 0.9]).unwrap();
    let of = |slot: usize| [slot as f32, 1.0, -(slot as f32) / 7.0];
    let (mut few, mut all) = (Vectors::new(), Vectors::new());
    for slot in (0..100).rev() {
        all.set(slot, &of(slot)).unwrap();
    }
    for slot in [99, 41, 7] {
        few.set(slot, &of(slot)).unwrap();
    }
    let (mut sparse, mut dense) = (Vec::new(), Vec::new());
    few.cosines_into(&query, &mut sparse);
    all.cosines_into(&query, &mut dense);
    for (slot, cosine) in sparse.iter().enumerate() {
        let wanted = if few.has(slot) { dense[slot] } else { 0.0 };
        assert_eq!(*cosine, wanted, "{slot}");
    }
    few.clear(41);
    few.set(41, &of(3)).unwrap();
    few.set(7, &of(7)).unwrap();
    few.cosines_into(&query, &mut sparse);
    assert_eq!((sparse[41], sparse[7]), (dense[3], dense[7]));
}

/// Among many items those that matter are looked at closely: their features are those of all 8 bits.
#[test]
fn the_likely_of_many_items_are_seen_closely() {
    let mut engine = Engine::new(EngineOptions::default()).unwrap();
    for slot in 0..4_300 {
        let item = Item::new(Surface::Tool, &format!("tool_{slot}"), "does something").unwrap();
        let id = item.id().clone();
        engine.upsert(item).unwrap();
        engine.set_vector(&id, &row(slot + 1, 64)).unwrap();
    }
    let asked = row(1_234, 64);
    let query = Query::new("nothing in words", 100).with_surface(SurfaceBudget::new(Surface::Tool));
    let (shortlist, decision) = engine.rank(&query, Some(&asked)).unwrap();
    assert_eq!(shortlist.picks[0].item.as_str(), "tool:tool_1233");
    let vectors = engine.catalog().vectors(&Surface::Tool).unwrap();
    let mut cosines = Vec::new();
    vectors.cosines_into(&Quantized::new(&asked).unwrap(), &mut cosines);
    assert!(decision.surfaces[0].candidates.len() >= 64);
    for candidate in &decision.surfaces[0].candidates {
        let name = candidate.item.as_str().trim_start_matches("tool:tool_");
        let seen = candidate.features[Feature::Semantic.index()];
        assert_eq!(seen, cosines[name.parse::<usize>().unwrap()], "{name}");
        assert_eq!(candidate.features[Feature::Usage.index()], seen);
    }
    let mut nearest: Vec<f32> = cosines.clone();
    nearest.sort_by(|a, b| b.total_cmp(a));
    let found = decision.surfaces[0].candidates.iter().take(10);
    let found: Vec<f32> = found.map(|c| c.features[Feature::Semantic.index()]).collect();
    assert_eq!(
        found,
        nearest[..10],
        "what is seen roughly leaves nothing near out"
    );
}
