//! Items to rank, written for these tests.

use aion_router::{Catalog, Item, Provenance, Query, Rendering, Surface, SurfaceBudget};

/// Names and texts of tools for files, processes, tasks, mail, weather and money.
const TOOLS: [(&str, &str); 24] = [
    ("read_file", "Reads the contents of a file"),
    ("write_file", "Writes text to a file and replaces what was there"),
    ("edit_file", "Replaces one passage of a file by another"),
    ("list_files", "Lists the files of a folder"),
    ("glob", "Finds files whose path fits a pattern"),
    ("grep", "Searches the lines of files for a regular expression"),
    ("exec", "Runs a shell command and gives its output"),
    ("create_task", "Creates a task for later"),
    ("cancel_task", "Asks a running task to stop"),
    ("list_tasks", "Lists tasks by status"),
    ("send_mail", "Sends an e-mail message to an address"),
    ("read_mail", "Reads the newest messages of a mailbox"),
    ("search_mail", "Searches messages of a mailbox for words"),
    ("weather_now", "Temperature, wind and rain at a place right now"),
    (
        "weather_forecast",
        "Temperature and rain at a place for the next days",
    ),
    (
        "convert_currency",
        "Converts an amount of money between currencies",
    ),
    ("stock_price", "The price of a share at the stock exchange"),
    ("book_flight", "Books a flight between two airports"),
    (
        "search_flights",
        "Searches flights between two airports on a date",
    ),
    ("translate", "Translates a text into another language"),
    ("summarise", "Makes a short summary of a long text"),
    ("plot", "Draws a chart of numbers"),
    ("query_database", "Runs a read-only SQL query on the database"),
    ("resize_image", "Changes the size of a picture"),
];

pub(crate) fn tool(name: &str, text: &str) -> Item {
    let line = format!("{name}: {text}");
    let schema = format!("{line} {{\"type\":\"object\"}}");
    let tokens = |text: &str| (text.len() / 4) as u32 + 1;
    let renderings = vec![
        Rendering::new(name, tokens(name)),
        Rendering::new(line.clone(), tokens(&line) + 2),
        Rendering::new(schema.clone(), tokens(&schema) + 20),
    ];
    Item::new(Surface::Tool, name, text)
        .unwrap()
        .with_renderings(renderings)
        .unwrap()
}

pub(crate) fn stranger(name: &str, text: &str) -> Item {
    tool(name, text)
        .with_provider("stranger", Provenance::Unverified)
        .unwrap()
}

pub(crate) fn tools() -> Vec<Item> {
    TOOLS.iter().map(|(name, text)| tool(name, text)).collect()
}

pub(crate) fn catalog(items: impl IntoIterator<Item = Item>) -> Catalog {
    let mut catalog = Catalog::new();
    for item in items {
        catalog.upsert(item).unwrap();
    }
    catalog
}

pub(crate) fn query(text: &str, tokens: u32) -> Query {
    Query::new(text, tokens).with_surface(SurfaceBudget::new(Surface::Tool))
}
