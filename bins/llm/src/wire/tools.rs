//! Functions that the model may call, as the two protocols write them.

use aion_llm::{Calls, Error, ToolChoice, ToolFunction, ToolSet};
use serde_json::{Value, json};

use crate::error::{ApiError, ApiResult, shown};

/// The functions of a request and who decides about them.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// Those that may be called now.
    pub(crate) set: ToolSet,
    /// All of them, as templates read them.
    pub(crate) shown: Value,
}

/// Where a protocol keeps the members of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// In a member `function`.
    Chat,
    /// Beside `type`.
    Responses,
}

enum Choice {
    Never,
    Callable(ToolChoice, Option<Vec<String>>),
}

fn refuse(code: &'static str, detail: impl Into<String>, pointer: &str) -> ApiError {
    ApiError::bad_request(code, detail, pointer)
}

impl Dialect {
    fn function(self, tool: &Value) -> &Value {
        match self {
            Self::Chat => &tool["function"],
            Self::Responses => tool,
        }
    }

    /// What `tools`, `tool_choice` and `parallel_tool_calls` ask for; none when nothing may be called.
    pub(crate) fn read(
        self,
        tools: Option<&Value>,
        choice: Option<&Value>,
        parallel: Option<bool>,
    ) -> ApiResult<Option<Tools>> {
        let tools = match tools {
            None | Some(Value::Null) => &[][..],
            Some(Value::Array(tools)) => tools,
            Some(_) => return Err(refuse("invalid_body", "tools are a list", "/tools")),
        };
        let choice = self.choice(choice)?;
        if tools.is_empty() {
            return match choice {
                Choice::Never | Choice::Callable(ToolChoice::Auto, None) => Ok(None),
                Choice::Callable(..) => Err(refuse(
                    "invalid_value",
                    "there are no tools to choose from",
                    "/tool_choice",
                )),
            };
        }
        let functions: Vec<ToolFunction> = self.functions(tools)?;
        let Choice::Callable(choice, allowed) = choice else {
            return Ok(None);
        };
        let functions = only(functions, allowed.as_deref())?;
        let calls = if parallel == Some(false) {
            Calls::One
        } else {
            Calls::Several
        };
        let set = ToolSet::new(functions)?.with_choice(choice)?.with_calls(calls);
        let shown = tools.iter().map(|tool| self.shown(tool)).collect();
        Ok(Some(Tools { set, shown }))
    }

    fn functions(self, tools: &[Value]) -> ApiResult<Vec<ToolFunction>> {
        let mut functions = Vec::new();
        for (i, tool) in tools.iter().enumerate() {
            functions.push(self.one(tool, &format!("/tools/{i}"))?);
        }
        Ok(functions)
    }

    fn one(self, tool: &Value, pointer: &str) -> ApiResult<ToolFunction> {
        let kind = tool["type"].as_str().unwrap_or("none");
        if kind != "function" {
            let detail = format!("tools are functions here, not of type `{}`", shown(kind));
            return Err(refuse("unsupported_tool", detail, &format!("{pointer}/type")));
        }
        let place = match self {
            Self::Chat => format!("{pointer}/function"),
            Self::Responses => pointer.to_owned(),
        };
        let function = self.function(tool);
        let Some(name) = function["name"].as_str() else {
            return Err(refuse(
                "invalid_body",
                "a function has a name",
                &format!("{place}/name"),
            ));
        };
        let parameters = Some(&function["parameters"]).filter(|p| !p.is_null()).cloned();
        let made = ToolFunction::new(name, parameters).map_err(|error| match error {
            Error::Schema(_) => refuse(
                "invalid_schema",
                error.to_string(),
                &format!("{place}/parameters"),
            ),
            error => refuse("invalid_value", error.to_string(), &format!("{place}/name")),
        })?;
        Ok(if function["strict"] == true {
            made.exact()
        } else {
            made
        })
    }

    /// A tool as templates read it: the form of the chat protocol.
    fn shown(self, tool: &Value) -> Value {
        let function = self.function(tool);
        let mut shown = json!({"name": function["name"]});
        for key in ["description", "parameters"] {
            if !function[key].is_null() {
                shown[key] = function[key].clone();
            }
        }
        json!({"type": "function", "function": shown})
    }

    fn choice(self, choice: Option<&Value>) -> ApiResult<Choice> {
        const POINTER: &str = "/tool_choice";
        let unknown = || {
            refuse(
                "invalid_value",
                "auto, none, required, one function, or allowed_tools",
                POINTER,
            )
        };
        let of_mode = |mode: &str, allowed| match mode {
            "none" => Ok(Choice::Never),
            "auto" => Ok(Choice::Callable(ToolChoice::Auto, allowed)),
            "required" => Ok(Choice::Callable(ToolChoice::Required, allowed)),
            _ => Err(unknown()),
        };
        match choice {
            None | Some(Value::Null) => of_mode("auto", None),
            Some(Value::String(mode)) => of_mode(mode, None),
            Some(choice) if choice["type"] == "function" => {
                let name = self.function(choice)["name"].as_str().ok_or_else(unknown)?;
                Ok(Choice::Callable(ToolChoice::Named(name.to_owned()), None))
            }
            Some(choice) if choice["type"] == "allowed_tools" => {
                let allowed = match self {
                    Self::Chat => &choice["allowed_tools"],
                    Self::Responses => choice,
                };
                let tools = allowed["tools"].as_array().ok_or_else(unknown)?;
                let name = |tool: &Value| self.function(tool)["name"].as_str().map(str::to_owned);
                let names = tools
                    .iter()
                    .map(name)
                    .collect::<Option<_>>()
                    .ok_or_else(unknown)?;
                of_mode(allowed["mode"].as_str().unwrap_or_default(), Some(names))
            }
            Some(_) => Err(unknown()),
        }
    }
}

/// The allowed functions among all.
fn only(functions: Vec<ToolFunction>, allowed: Option<&[String]>) -> ApiResult<Vec<ToolFunction>> {
    let Some(allowed) = allowed else {
        return Ok(functions);
    };
    let known = |name: &String| functions.iter().any(|function| function.name() == name);
    if let Some(name) = allowed.iter().find(|name| !known(name)) {
        let detail = format!("there is no function `{}`", shown(name));
        return Err(refuse("invalid_value", detail, "/tool_choice"));
    }
    let kept = functions.into_iter();
    Ok(kept
        .filter(|function| allowed.iter().any(|name| name == function.name()))
        .collect())
}
