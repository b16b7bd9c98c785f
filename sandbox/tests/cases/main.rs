//! What an independent client sees of the simulated org.

mod client;
mod members;
mod server;
mod tooling;
