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

/// More of them, so that there are sixty.
const MORE: [(&str, &str); 36] = [
    ("copy_file", "Copies a file to another path"),
    ("move_file", "Moves a file, or gives it another name"),
    ("delete_file", "Deletes a file for good"),
    ("make_folder", "Makes an empty folder"),
    ("file_info", "The size, owner and age of a file"),
    ("diff_files", "Shows in which lines two files differ"),
    ("apply_patch", "Applies a patch to the files of a workspace"),
    ("zip_folder", "Packs a folder into one archive"),
    ("unzip", "Unpacks an archive into a folder"),
    ("kill_process", "Ends a running program"),
    ("list_processes", "Lists the programs that are running"),
    ("pause_task", "Holds a task until it is resumed"),
    ("resume_task", "Lets a task that was held go on"),
    ("schedule_task", "Begins a task every day at an hour"),
    ("reply_mail", "Answers a message of a mailbox"),
    ("forward_mail", "Passes a message on to somebody else"),
    ("delete_mail", "Puts a message into the bin"),
    ("add_contact", "Writes somebody down in the address book"),
    ("find_contact", "Looks somebody up in the address book"),
    ("create_event", "Puts an appointment into the calendar"),
    ("list_events", "Lists the appointments of a day"),
    ("cancel_event", "Takes an appointment out of the calendar"),
    ("air_quality", "Dust and ozone at a place"),
    ("sunrise", "When the sun rises and sets at a place"),
    ("pay_invoice", "Pays an invoice from an account"),
    ("list_invoices", "Lists invoices that are not paid"),
    ("account_balance", "How much is in an account"),
    ("book_hotel", "Books a room in a hotel"),
    ("search_hotels", "Searches hotels of a city by price"),
    ("rent_car", "Rents a car for some days"),
    ("detect_language", "Says in which language something is written"),
    ("check_spelling", "Marks misspelled words"),
    ("transcribe", "Writes down what is said in a recording"),
    ("crop_image", "Cuts a rectangle out of a picture"),
    ("describe_image", "Says what can be seen on a picture"),
    ("insert_rows", "Adds rows to a table of the database"),
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

/// Sixty tools, as many as a working agent has.
pub(crate) fn sixty() -> Vec<Item> {
    let all = TOOLS.iter().chain(&MORE);
    all.map(|(name, text)| tool(name, text)).collect()
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
