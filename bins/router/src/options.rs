//! What is left to chance and what is always wanted, as flags of a program.

use std::path::{Path, PathBuf};

use aion_router::ope::OpeOptions;
use aion_router::{EngineOptions, Exploration, ItemId, Profile, Rules};
use clap::Args;
use serde::Deserialize;

/// The most bytes of a file of rules.
const MAX_RULES_BYTES: u64 = 4 << 20;

/// How rankings are made.
#[derive(Debug, Clone, Args)]
pub struct RankingArgs {
    /// How often the order without learning is served, from 0 to 0.5, so that learning can be judged
    #[arg(long, value_name = "SHARE", env = "AION_ROUTER_HOLDOUT", default_value_t = 0.0, value_parser = share)]
    pub holdout: f64,
    /// How often the order of one profile is served, such as content=0.05, so that it can be judged: of learned,
    /// content, history and uniform; several with commas between them
    #[arg(
        long,
        value_name = "PROFILE=SHARE",
        env = "AION_ROUTER_EXPLORE",
        value_delimiter = ',',
        value_parser = arm
    )]
    pub explore: Vec<(Profile, f64)>,
    /// A JSON file of phrases and the items that they call for, whatever the scores say:
    /// [{"name": "deploys", "phrase": "deploy to production", "item": "norm:two-reviews"}]
    #[arg(long, value_name = "FILE", env = "AION_ROUTER_RULES")]
    pub rules: Option<PathBuf>,
}

/// A rule as a file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleLine {
    name: String,
    phrase: String,
    item: ItemId,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.0..=0.5).contains(&share) {
        return Ok(share);
    }
    Err("it must be in [0, 0.5]".to_owned())
}

fn arm(text: &str) -> Result<(Profile, f64), String> {
    let (name, part) = text
        .split_once('=')
        .ok_or_else(|| "it is written PROFILE=SHARE".to_owned())?;
    let profile = match name {
        "learned" => Profile::Learned,
        "content" => Profile::Content,
        "history" => Profile::History,
        "uniform" => Profile::Uniform,
        "baseline" => return Err("the share of baseline is --holdout".to_owned()),
        _ => return Err("profiles are learned, content, history and uniform".to_owned()),
    };
    Ok((profile, share(part)?))
}

impl RankingArgs {
    /// The options of an engine that ranks like this.
    ///
    /// # Errors
    /// Shares of one whole or more together; rules that cannot be read, with the number of the rule.
    pub fn options(&self) -> Result<EngineOptions, Box<dyn std::error::Error>> {
        if self.shares().sum::<f64>() >= 1.0 {
            return Err(
                "--holdout and --explore leave nothing for what was learned: together they must be below 1"
                    .into(),
            );
        }
        let holdout = Exploration::default().with_holdout(self.holdout);
        let arms = self.explore.iter();
        let exploration = arms.fold(holdout, |all, (arm, share)| all.with_arm(*arm, *share));
        let rules = self.rules.as_deref().map(rules).transpose()?;
        Ok(EngineOptions::default()
            .with_exploration(exploration)
            .with_rules(rules.unwrap_or_default()))
    }

    /// What is worth saying at the start: shares so small that no evaluation with the usual limits believes them.
    pub fn warnings(&self) -> Vec<String> {
        let heaviest = OpeOptions::default().max_weight;
        let small = self
            .shares()
            .filter(|share| *share > 0.0 && share.recip() > heaviest);
        small
            .map(|share| {
                format!(
                    "decisions served with a share of {share} weigh more than {heaviest}, so /v1/evaluate refuses them unless max_weight is raised"
                )
            })
            .collect()
    }

    fn shares(&self) -> impl Iterator<Item = f64> {
        self.explore.iter().map(|(_, share)| *share).chain([self.holdout])
    }
}

fn rules(file: &Path) -> Result<Rules, Box<dyn std::error::Error>> {
    let wrong = |error: &dyn std::fmt::Display| format!("the rules in {}: {error}", file.display());
    let bytes = std::fs::metadata(file).map_err(|error| wrong(&error))?.len();
    if bytes > MAX_RULES_BYTES {
        return Err(wrong(&format!("{bytes} bytes are more than {MAX_RULES_BYTES}")).into());
    }
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let lines: Vec<RuleLine> = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let mut rules = Rules::default();
    for (n, line) in (1..).zip(lines) {
        rules = rules
            .with(&line.name, &line.phrase, line.item)
            .map_err(|error| wrong(&format!("rule {n}: {error}")))?;
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        ranking: RankingArgs,
    }

    fn parsed(args: &[&str]) -> Result<RankingArgs, clap::Error> {
        let args = std::iter::once("router").chain(args.iter().copied());
        Cli::try_parse_from(args).map(|cli| cli.ranking)
    }

    #[test]
    fn shares_are_those_of_their_profiles() {
        let args = ["--holdout", "0.1", "--explore", "content=0.05,uniform=0.02"];
        let options = parsed(&args).unwrap().options().unwrap();
        let of = |arm| options.exploration.of(arm);
        assert_eq!(of(Some(Profile::Baseline)), 0.1);
        assert_eq!(of(Some(Profile::Content)), 0.05);
        assert!((of(None) - 0.83).abs() < 1e-12);
        assert!(parsed(&args).unwrap().warnings().is_empty());
        let small = parsed(&["--explore", "content=0.01"]).unwrap();
        assert!(small.warnings()[0].contains("0.01"));
        for bad in ["content", "content=2", "baseline=0.1", "other=0.1", "content=x"] {
            assert!(parsed(&["--explore", bad]).is_err(), "{bad}");
        }
        let args = ["--holdout", "0.5", "--explore", "content=0.5"];
        assert!(parsed(&args).unwrap().options().is_err());
    }

    #[test]
    fn rules_are_read_and_bad_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rules.json");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            parsed(&["--rules", file.to_str().unwrap()]).unwrap().options()
        };
        let good = r#"[{"name": "deploys", "phrase": "deploy to production", "item": "norm:two-reviews"}]"#;
        let options = read(good).unwrap();
        assert_eq!(options.rules.wanted("deploy to production now").len(), 1);
        for (bad, said) in [
            (r#"[{"name": "a", "phrase": "a"}]"#, "item"),
            (r#"[{"name": "a", "phrase": "?", "item": "a:b"}]"#, "rule 1"),
            (r#"[{"name": "a", "phrase": "a", "item": "a b"}]"#, "id"),
            ("{", "rules.json"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
