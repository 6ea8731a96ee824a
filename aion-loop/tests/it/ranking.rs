//! Shortlists: both rankers put the tool that a goal is about first, and never name another's tools.

use aion_loop::{OverlapRanker, RouterRanker, Tool, ToolRanker, Toolset, tools_from_openapi};
use serde_json::{Map, Value, json};

fn tools(named: &[(&str, &str)]) -> Toolset {
    let paths: Map<String, Value> = named
        .iter()
        .map(|(name, summary)| {
            (
                format!("/{name}"),
                json!({"post": {"operationId": name, "summary": summary}}),
            )
        })
        .collect();
    let document = json!({"openapi": "3.1.0", "paths": paths});
    Toolset::new(
        tools_from_openapi(&document, "s", &Default::default())
            .unwrap()
            .tools,
    )
    .unwrap()
}

fn files() -> Toolset {
    tools(&[
        ("read_file", "Reads a text file."),
        ("write_file", "Writes a text file, new or not."),
        ("exec", "Runs a command and gives what it printed."),
        ("grep", "Finds lines that match a pattern in files."),
    ])
}

#[test]
fn the_tool_that_the_goal_is_about_comes_first() {
    let tools = files();
    let router = RouterRanker::new(aion_router::Router::default(), &tools).unwrap();
    for ranker in [&OverlapRanker as &dyn ToolRanker, &router] {
        for (goal, wanted) in [
            ("run the command that lists users", "exec"),
            ("read the file notes.txt", "read_file"),
            ("finds all lines with a pattern", "grep"),
        ] {
            let ranked = ranker.rank(goal, &tools, 2);
            assert_eq!(ranked[0], wanted, "{ranker:?}: {goal}");
            assert!(ranked.len() <= 2);
            assert_eq!(
                ranked,
                ranker.rank(goal, &tools, 2),
                "the same question has the same answer"
            );
        }
    }
}

#[test]
fn only_tools_of_the_run_are_named() {
    let all = files();
    let router = RouterRanker::new(aion_router::Router::default(), &all).unwrap();
    let few = Toolset::new(all.iter().filter(|tool: &&Tool| tool.name == "grep").cloned()).unwrap();
    let ranked = router.rank("read a text file by a pattern", &few, 9);
    assert!(ranked.iter().all(|name| name == "grep"), "{ranked:?}");
}
