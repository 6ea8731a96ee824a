//! The router: ten of a thousand tools within a budget of tokens, and what that is made of: search by vectors and by
//! words, a knapsack, and learning from what was used.

use std::hint::black_box;

use aion_router::budget::{Bin, Candidate, fill};
use aion_router::index::{Bm25, Index};
use aion_router::vector::{Quantized, Vectors};
use aion_router::{
    Catalog, Engine, EngineOptions, Item, LogEntry, Outcome, Provenance, Query, Rendering, Router, Surface,
    SurfaceBudget,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const VERBS: [&str; 10] = [
    "read",
    "write",
    "list",
    "find",
    "delete",
    "rename",
    "compare",
    "run",
    "send",
    "summarise",
];
const THINGS: [&str; 10] = [
    "file",
    "folder",
    "task",
    "message",
    "invoice",
    "calendar event",
    "contact",
    "image",
    "table",
    "report",
];
const PLACES: [&str; 10] = [
    "on disk",
    "in a bucket",
    "in the inbox",
    "in a spreadsheet",
    "on the server",
    "in the archive",
    "in a branch",
    "in the queue",
    "on the board",
    "in the log",
];

/// Numbers of a vector.
const DIM: usize = 384;
/// What a decision is asked in most of these.
const TEXT: &str = "compare the invoice in the inbox with the report in the archive";

/// One of a thousand tools that differ by a word.
fn tool(at: usize) -> Item {
    let (verb, thing, place) = (VERBS[at % 10], THINGS[at / 10 % 10], PLACES[at / 100 % 10]);
    let text = format!("{verb}s a {thing} {place}, and says what it found");
    let renderings = vec![
        Rendering::new(format!("{verb} {thing}"), 4),
        Rendering::new(text.clone(), 40),
    ];
    let item = Item::new(Surface::Tool, &format!("{verb}_{at}"), &text).expect("an item");
    item.with_renderings(renderings).expect("renderings")
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    for at in 0..1000 {
        catalog.upsert(tool(at)).expect("room");
    }
    catalog
}

/// Numbers that look random and are the same every time.
fn vector(seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let number = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..DIM).map(number).collect()
}

fn rank(criterion: &mut Criterion) {
    let (catalog, router) = (catalog(), Router::default());
    let budget = SurfaceBudget::new(Surface::Tool).with_max_items(10);
    let query = Query::new(TEXT, 200).with_surface(budget);
    let mut group = criterion.benchmark_group("router");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("rank/10_of_1000", |bencher| {
        bencher.iter(|| {
            let shortlist = router
                .rank(black_box(&catalog), black_box(&query))
                .expect("a shortlist");
            assert_eq!(shortlist.picks.len(), 10);
            shortlist
        });
    });
    group.finish();
}

/// The ten nearest of ten thousand: all bits, and by signs.
fn scan(criterion: &mut Criterion) {
    let mut vectors = Vectors::new();
    for slot in (0..10_000).rev() {
        vectors.set(slot, &vector(slot as u64 + 1)).expect("a vector");
    }
    let query = Quantized::new(&vector(1_000_000)).expect("a vector");
    let mut group = criterion.benchmark_group("router");
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("scan/10_of_10000", |bencher| {
        bencher.iter(|| vectors.nearest(black_box(&query), 10));
    });
    group.bench_function("signs/10_of_10000", |bencher| {
        bencher.iter(|| vectors.nearest_by_signs(black_box(&query), 10, 100));
    });
    group.finish();
}

/// The ten best of five thousand by words.
fn words(criterion: &mut Criterion) {
    let mut index = Index::new();
    for at in 0..5_000 {
        let item = tool(at);
        index.insert(item.id(), item.fields(), Provenance::Builtin);
    }
    let bm25 = Bm25::default();
    let mut group = criterion.benchmark_group("router");
    group.throughput(Throughput::Elements(5_000));
    group.bench_function("bm25/10_of_5000", |bencher| {
        bencher.iter(|| index.best(black_box(TEXT), &bm25, 10));
    });
    group.finish();
}

/// Which of seven hundred candidates, with two renderings each, fit.
fn knapsack(criterion: &mut Criterion) {
    let bin = Bin {
        max_items: 64,
        max_cost: 4_000,
        floor: 200,
        max_of_group: 2,
    };
    let bins = vec![bin; 6];
    let candidate = |i: usize| Candidate {
        bin: i % 6,
        group: i.is_multiple_of(7).then_some(i % 5),
        value: 1.0 / (1.0 + (i * 37 % 701) as f64),
        costs: vec![4 + (i % 9) as u32, 40 + (i % 50) as u32],
        must: i.is_multiple_of(300),
    };
    let candidates: Vec<Candidate> = (0..700).map(candidate).collect();
    let mut group = criterion.benchmark_group("router");
    group.throughput(Throughput::Elements(700));
    group.bench_function("knapsack/700_in_6", |bencher| {
        bencher.iter(|| fill(black_box(&candidates), &bins, 4_000));
    });
    group.finish();
}

fn engine() -> Engine {
    let mut engine = Engine::new(EngineOptions::default()).expect("options");
    for at in 0..1_000 {
        let item = tool(at);
        let id = item.id().clone();
        engine.upsert(item).expect("room");
        engine.set_vector(&id, &vector(at as u64 + 1)).expect("a vector");
    }
    engine
}

/// A hundred decisions with their outcomes: recorded one by one, and replayed from a log.
fn learn(criterion: &mut Criterion) {
    let mut log = Vec::new();
    let mut live = engine();
    for seed in 0..100 {
        let query = Query::new(TEXT, 200)
            .with_seed(seed)
            .with_surface(SurfaceBudget::new(Surface::Tool));
        let (shortlist, decision) = live.rank(&query, Some(&vector(seed + 7))).expect("a shortlist");
        let outcome = Outcome::used([shortlist.picks[seed as usize % 3].item.clone()]);
        live.remember(decision.clone());
        live.record(decision.id, &outcome).expect("an outcome");
        let id = decision.id;
        log.push(LogEntry::Decided(Box::new(decision)));
        log.push(LogEntry::Recorded {
            decision: id,
            outcome,
        });
    }
    let mut group = criterion.benchmark_group("router");
    group.throughput(Throughput::Elements(100));
    group.sample_size(20);
    group.bench_function("replay/100_decisions", |bencher| {
        bencher.iter_batched(
            || (engine(), log.clone()),
            |(mut engine, log)| {
                log.into_iter().for_each(|entry| engine.apply(entry));
                assert_eq!(engine.history().outcomes(), 100);
                engine
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, rank, scan, words, knapsack, learn);
criterion_main!(benches);
