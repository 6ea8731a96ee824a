//! [`Models`]: which language models the runs of this server may ask.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aion_loop::ChatModel;

/// Makes a model from a name that is not listed.
type Maker = Arc<dyn Fn(&str) -> Option<Arc<dyn ChatModel>> + Send + Sync>;

/// Language models by name, with one of them for agents that name none. Cheap to clone.
#[derive(Clone, Default)]
pub struct Models {
    default: Option<Arc<dyn ChatModel>>,
    named: Arc<BTreeMap<String, Arc<dyn ChatModel>>>,
    maker: Option<Maker>,
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models")
            .field(
                "default",
                &self.default.as_ref().map(|model| model.name().to_owned()),
            )
            .field("named", &self.named.keys())
            .finish_non_exhaustive()
    }
}

impl Models {
    /// No model: runs can be looked at, not started.
    pub fn none() -> Self {
        Self::default()
    }

    /// One model for every agent that names none or this one.
    pub fn one(model: Arc<dyn ChatModel>) -> Self {
        let named = BTreeMap::from([(model.name().to_owned(), Arc::clone(&model))]);
        Self {
            default: Some(model),
            named: Arc::new(named),
            maker: None,
        }
    }

    /// Asks `maker` for models that are not listed, such as others of the same server.
    #[must_use]
    pub fn with_maker(
        mut self,
        maker: impl Fn(&str) -> Option<Arc<dyn ChatModel>> + Send + Sync + 'static,
    ) -> Self {
        self.maker = Some(Arc::new(maker));
        self
    }

    /// The model called `name`, or the default one.
    pub fn get(&self, name: Option<&str>) -> Option<Arc<dyn ChatModel>> {
        match name {
            None => self.default.clone(),
            Some(name) => {
                let listed = self.named.get(name).cloned();
                listed.or_else(|| self.maker.as_ref().and_then(|maker| maker(name)))
            }
        }
    }
}
