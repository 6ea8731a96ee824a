//! Files and processes for agents, confined under one root.
