//! [`AgentType`]: the description of an agent that a server stores and starts runs of.

use std::collections::BTreeSet;

use aion_types::AgentId;
use serde::{Deserialize, Serialize};

use crate::run::RunOptions;
use crate::tool::Toolset;
use crate::{Error, Result};

/// A type of agent, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentType {
    /// Its name.
    pub id: AgentId,
    /// The model to ask; the server's own choice if none.
    #[serde(default)]
    pub model: Option<String>,
    /// Names of the tools that it may use; every tool if none.
    #[serde(default)]
    pub tools: Option<BTreeSet<String>>,
    /// How its runs behave, the system prompt included.
    #[serde(default)]
    pub options: RunOptions,
}

impl AgentType {
    /// A type that may use every tool.
    pub fn new(id: AgentId, options: RunOptions) -> Self {
        Self {
            id,
            model: None,
            tools: None,
            options,
        }
    }

    /// The tools out of `all` that it may use.
    ///
    /// # Errors
    /// [`Error::ToolGone`] if it names one that does not exist.
    pub fn toolset(&self, all: &Toolset) -> Result<Toolset> {
        let Some(names) = &self.tools else {
            return Ok(all.clone());
        };
        let picked: Result<Vec<_>> = names
            .iter()
            .map(|name| {
                all.get(name)
                    .cloned()
                    .ok_or_else(|| Error::ToolGone(name.clone()))
            })
            .collect();
        Toolset::new(picked?)
    }
}
