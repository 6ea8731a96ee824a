//! Catalogs of tools, files and docs, and the ranker that picks a shortlist for a step.
