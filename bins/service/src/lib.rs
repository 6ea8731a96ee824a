//! What every Aion HTTP service shares: errors, limits, health, metrics, configuration.
