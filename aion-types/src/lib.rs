//! Ids, probabilities, units, persistence and the records that every Aion crate shares.
