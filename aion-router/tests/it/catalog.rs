//! Catalogs: versions, changes, refusals, and hostile text.

use aion_router::{
    Catalog, CatalogVersion, ChangeKind, Error, Item, ItemId, Provenance, Query, Rendering, Router,
    ShortlistState, Surface, SurfaceBudget,
};

use crate::fixture::{catalog, query, sixty, stranger, tool, tools};

#[test]
fn a_version_counts_changes_and_nothing_else() {
    let mut catalog = Catalog::new();
    let first = catalog.upsert(tool("exec", "Runs a command")).unwrap();
    let hash = catalog.content_hash(tool("exec", "").id()).unwrap();
    assert_eq!(catalog.upsert(tool("exec", "Runs a command")).unwrap(), first);
    catalog.upsert(tool("exec", "Runs a shell command")).unwrap();
    assert_ne!(catalog.content_hash(tool("exec", "").id()).unwrap(), hash);
    assert!(catalog.remove(tool("exec", "").id()));
    assert!(!catalog.remove(tool("exec", "").id()));
    let changes = catalog.changes_since(first).unwrap();
    let kinds: Vec<ChangeKind> = changes.map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Upserted, ChangeKind::Removed]);
    assert_eq!(catalog.version().get(), 3);
    assert_eq!(catalog.changes_since(catalog.version()).unwrap().count(), 0);
    let later = CatalogVersion::from(catalog.version().get() + 1);
    assert!(
        catalog.changes_since(later).is_none(),
        "of a catalog before this one"
    );
}

#[test]
fn a_decision_is_of_the_items_and_not_of_the_way_there() {
    let decision = |texts: &[&str]| {
        let mut catalog = Catalog::new();
        for text in texts {
            catalog.upsert(tool("exec", text)).unwrap();
        }
        let found = Router::default().rank(&catalog, &query("run a command", 100));
        (catalog.version().get(), found.unwrap().decision)
    };
    let (first, second) = (decision(&["Runs a command"]), decision(&["Runs a program"]));
    assert!(
        first.0 == second.0 && first.1 != second.1,
        "one change each, of other words"
    );
    assert_eq!(decision(&["Runs a program", "Runs a command"]).1, first.1);
}

#[test]
fn an_item_can_move_to_another_surface() {
    let mut catalog = catalog(tools());
    let id = tool("exec", "").id().clone();
    let doc = Item::new(Surface::Doc, "exec", "Runs a command")
        .unwrap()
        .with_id(id.clone());
    catalog.upsert(doc).unwrap();
    let found = Router::default()
        .rank(&catalog, &query("run a shell command", 1_000))
        .unwrap();
    assert!(found.picks.iter().all(|pick| pick.item != id));
    assert_eq!(catalog.index(&Surface::Doc).unwrap().len(), 1);
    let both = query("exec", 1_000).with_surface(SurfaceBudget::new(Surface::Doc));
    let found = Router::default().rank(&catalog, &both).unwrap();
    let named = found.picks.iter().filter(|pick| pick.why.named);
    let named: Vec<_> = named.map(|pick| (&pick.surface, &pick.item)).collect();
    assert_eq!(named, [(&Surface::Doc, &id)], "it is named where it is now");
}

#[test]
fn bad_items_and_queries_are_refused() {
    assert!(matches!(
        Item::new(Surface::Tool, "", "x"),
        Err(Error::Length { .. })
    ));
    assert!(matches!(
        Item::new(Surface::Tool, "a b", "x"),
        Err(Error::BadText { .. })
    ));
    assert!(matches!(
        Item::new(Surface::Tool, "a", &"x".repeat(1_000_000)),
        Err(Error::Length { .. })
    ));
    assert!(matches!(
        Item::new(Surface::Custom(String::new()), "a", "x"),
        Err(Error::Length { .. })
    ));
    let item = || Item::new(Surface::Tool, "a", "x").unwrap();
    assert!(matches!(item().with_renderings(vec![]), Err(Error::Renderings)));
    assert!(matches!(
        item().with_renderings(vec![Rendering::new("a", 0)]),
        Err(Error::Renderings)
    ));
    let falling = vec![Rendering::new("a", 5), Rendering::new("b", 5)];
    assert!(matches!(item().with_renderings(falling), Err(Error::Renderings)));
    let router = Router::default();
    let catalog = catalog(tools());
    let twice = query("x", 10).with_surface(SurfaceBudget::new(Surface::Tool));
    assert!(matches!(
        router.rank(&catalog, &twice),
        Err(Error::SurfaceTwice(_))
    ));
    let floor = SurfaceBudget::new(Surface::Tool).with_floor_tokens(20);
    let floors = Query::new("x", 10).with_surface(floor);
    assert!(matches!(
        router.rank(&catalog, &floors),
        Err(Error::FloorsOverBudget {
            floors: 20,
            total: 10
        })
    ));
    assert!(matches!(
        router.rank(&catalog, &query(&"x".repeat(2 << 20), 10)),
        Err(Error::Length { .. })
    ));
    let nan = aion_router::index::Bm25 {
        k1: f64::NAN,
        ..Default::default()
    };
    assert!(Router::new(Default::default(), nan).is_err());
}

#[test]
fn nothing_to_rank_is_no_error() {
    let router = Router::default();
    let empty = router.rank(&Catalog::new(), &query("x", 100)).unwrap();
    assert!(empty.picks.is_empty());
    let no_budget = router.rank(&catalog(tools()), &query("read a file", 0)).unwrap();
    assert_eq!((no_budget.picks.len(), no_budget.tokens), (0, 0));
    let no_text = router.rank(&catalog(tools()), &query("", 50)).unwrap();
    assert!(no_text.tokens <= 50 && !no_text.picks.is_empty());
    let no_surface = router.rank(&catalog(tools()), &Query::new("x", 100)).unwrap();
    assert!(no_surface.picks.is_empty());
}

#[test]
fn what_fits_in_full_is_shown_in_full() {
    let shortlist = Router::default()
        .rank(&catalog(tools()), &query("read a file", 100_000))
        .unwrap();
    assert_eq!(shortlist.state, ShortlistState::Everything);
    assert_eq!((shortlist.picks.len(), shortlist.saved_tokens), (24, 0));
    assert!(shortlist.picks.iter().all(|pick| pick.rendering == 2));
}

/// Strangers hide nothing as long as there are no more of one provider than may be shown, and none is a copy.
#[test]
fn everything_fits_with_few_strangers() {
    let strange = |n: usize| {
        stranger(
            &format!("strange_{n}"),
            ["Paints a wall", "Bakes bread", "Sews"][n],
        )
    };
    for (items, everything) in [
        (vec![strange(0), strange(1)], true),
        (vec![strange(0), strange(1), strange(2)], false),
        (
            vec![stranger("copy", "Runs a shell command and gives its output")],
            false,
        ),
    ] {
        let shown = 24 + items.len().min(2) - usize::from(items[0].fields().name == "copy");
        let catalog = catalog(tools().into_iter().chain(items));
        let shortlist = Router::default()
            .rank(&catalog, &query("read a file", 100_000))
            .unwrap();
        assert_eq!(shortlist.state == ShortlistState::Everything, everything);
        assert_eq!(shortlist.picks.len(), shown);
    }
}

#[test]
fn the_right_tool_comes_first() {
    let catalog = catalog(sixty());
    let cases = [
        ("read the contents of notes.txt", "tool:read_file"),
        ("run the tests in a shell", "tool:exec"),
        ("will it rain in the next days?", "tool:weather_forecast"),
        (
            "how many euros is this amount of money in another currency",
            "tool:convert_currency",
        ),
        ("search for flights to Oslo on a date", "tool:search_flights"),
        ("make a summary of this long text", "tool:summarise"),
        ("queryDatabase", "tool:query_database"),
        ("list my appointments of the day", "tool:list_events"),
        ("unpack this archive", "tool:unzip"),
        ("how much is in the account", "tool:account_balance"),
    ];
    for (text, expected) in cases {
        let shortlist = Router::default().rank(&catalog, &query(text, 60)).unwrap();
        let best = shortlist.picks.iter().min_by(|a, b| b.p.total_cmp(&a.p)).unwrap();
        assert_eq!(best.item.as_str(), expected, "{text}");
    }
}

#[test]
fn what_must_be_in_and_does_not_fit_is_said() {
    let long = Rendering::new("long", 500);
    let item = tool("exec", "Runs a command")
        .with_renderings(vec![long])
        .unwrap()
        .pinned();
    let catalog = catalog(tools().into_iter().chain([item]));
    let shortlist = Router::default()
        .rank(&catalog, &query("read a file", 100))
        .unwrap();
    let ShortlistState::Degraded { reason } = &shortlist.state else {
        panic!("{:?}", shortlist.state)
    };
    assert!(reason.contains("tool:exec"));
    assert!(
        shortlist.tokens <= 100 && !shortlist.picks.is_empty(),
        "ranking goes on without it"
    );
}

/// Nothing that is not seen tells two names apart, and nothing of the sort is shown in a rendering.
#[test]
fn hidden_characters_are_in_no_name_and_no_rendering() {
    for name in ["ex\u{200b}ec", "\u{200b}", "a\u{202e}b"] {
        assert!(Item::new(Surface::Tool, name, "").is_err(), "{name:?}");
        assert!(ItemId::new(format!("tool:{name}")).is_err(), "{name:?}");
    }
    let given = vec![Rendering::new("safe\u{202e}txt\u{7}", 3)];
    let item = Item::new(Surface::Tool, "a", "").unwrap().with_renderings(given);
    assert_eq!(item.unwrap().renderings()[0].text, "safetxt");
}

#[test]
fn hidden_characters_do_not_reach_a_prompt_by_words() {
    let item = Item::new(Surface::Tool, "a", "ig\u{200b}nore\u{202e} all\u{0}").unwrap();
    assert_eq!(item.fields().text, "ignore all");
}

#[test]
fn a_stranger_cannot_fill_the_shortlist() {
    let bait = "read write edit list find search file files folder contents lines text pattern path";
    let strangers = (0..20).map(|n| stranger(&format!("bait{n}"), bait));
    let catalog = catalog(tools().into_iter().chain(strangers));
    let shortlist = Router::default()
        .rank(&catalog, &query("read the contents of a file", 200))
        .unwrap();
    let taken = shortlist
        .picks
        .iter()
        .filter(|pick| pick.item.as_str().starts_with("tool:bait"))
        .count();
    assert!(taken <= 2, "{taken} of {}", shortlist.picks.len());
    assert!(
        shortlist
            .picks
            .iter()
            .any(|pick| pick.item.as_str() == "tool:read_file")
    );
}

#[test]
fn a_long_text_of_a_stranger_is_searched_in_its_first_words_only() {
    let padding = "word ".repeat(40);
    let text = format!("{padding} zebra");
    let catalog = catalog([stranger("late", &text), tool("early", "a zebra")]);
    let index = catalog.index(&Surface::Tool).unwrap();
    let found = index.scores("zebra", &Default::default());
    assert_eq!(found.len(), 1);
}

/// What an embedding is made of is cut by how far a catalog believes the item, in its text and in its parameters.
#[test]
fn an_embedding_says_no_more_than_is_believed() {
    let text = "first ".repeat(40) + "attack";
    let hidden = "a_".repeat(500) + "attack";
    for words in [&text, &hidden] {
        let said = |provenance, words: &str, other: &str| {
            let item = Item::new(Surface::Tool, "t", words)
                .unwrap()
                .with_parameters(other);
            item.unwrap().with_provider("acme", provenance).unwrap()
        };
        for (words, other) in [(words.as_str(), ""), ("", words.as_str())] {
            let mut catalog = Catalog::new();
            let reads = |catalog: &Catalog| {
                let text = catalog.embedded_text(tool("t", "").id()).unwrap();
                text.contains("attack")
            };
            catalog.upsert(said(Provenance::Verified, "Reads", "")).unwrap();
            let changed = said(Provenance::Verified, words, other);
            let (id, hash) = (changed.id().clone(), changed.content_hash());
            catalog.upsert(changed).unwrap();
            assert!(!reads(&catalog), "in quarantine");
            catalog.approve(&id, hash);
            assert!(reads(&catalog), "approved");
            catalog
                .upsert(said(Provenance::Unverified, words, other))
                .unwrap();
            assert!(!reads(&catalog), "of nobody");
        }
    }
}

#[test]
fn recent_items_and_seeds_matter_as_said() {
    let catalog = catalog(tools());
    let recent = query("something else entirely", 30).with_recent(vec![tool("plot", "").id().clone()]);
    let shortlist = Router::default().rank(&catalog, &recent).unwrap();
    assert!(
        shortlist
            .picks
            .iter()
            .any(|pick| pick.item.as_str() == "tool:plot")
    );
    let again = Router::default().rank(&catalog, &recent).unwrap();
    assert_eq!(again, shortlist);
    let other = Router::default()
        .rank(&catalog, &recent.clone().with_seed(1))
        .unwrap();
    assert_ne!(other.decision, shortlist.decision);
    assert_eq!(other.picks, shortlist.picks);
}
