//! A durable task tree: claims under a lease with a fencing epoch, messages, events.
