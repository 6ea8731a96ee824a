//! The router: ten of a thousand tools, within a budget of tokens.

use std::hint::black_box;

use aion_router::{Catalog, Item, Query, Rendering, Router, Surface, SurfaceBudget};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

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

/// A catalog of a thousand tools that differ by a word.
fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    for at in 0..1000 {
        let (verb, thing, place) = (VERBS[at % 10], THINGS[at / 10 % 10], PLACES[at / 100]);
        let text = format!("{verb}s a {thing} {place}, and says what it found");
        let renderings = vec![
            Rendering::new(format!("{verb} {thing}"), 4),
            Rendering::new(text.clone(), 40),
        ];
        let item = Item::new(Surface::Tool, &format!("{verb}_{at}"), &text).expect("an item");
        catalog
            .upsert(item.with_renderings(renderings).expect("renderings"))
            .expect("room");
    }
    catalog
}

fn rank(criterion: &mut Criterion) {
    let (catalog, router) = (catalog(), Router::default());
    let budget = SurfaceBudget::new(Surface::Tool).with_max_items(10);
    let query = Query::new(
        "compare the invoice in the inbox with the report in the archive",
        200,
    )
    .with_surface(budget);
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

criterion_group!(benches, rank);
criterion_main!(benches);
