//! Predictors: fits against scikit-learn, models and their refusals, mixtures, language models, features.

mod aside;
mod features;
mod llm;
mod logistic;
mod mixture;
mod models;
mod observing;
mod recorded_runs;
mod records;
