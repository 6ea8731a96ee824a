//! Integration tests: worked numbers, laws as properties, stores, the handle and the observer.

mod laws;
mod observer;
mod rules;
mod scores;
mod stores;
