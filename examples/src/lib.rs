//! One file a program: what a new user reads first.
