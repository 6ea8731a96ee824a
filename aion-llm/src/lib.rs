//! FractalLM: a local language model on Burn that reports the persistence of every token.
