//! The language model as an OpenAI-compatible HTTP service on port 8790.
