//! Trust rules that turn scored outcomes into conserved weights.
