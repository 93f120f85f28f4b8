//! The end-to-end scenarios: real programs, real sockets, fixture machines. One file a theme.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test everything that fails ends the test")]

mod calm;
mod closing;
mod cluster_api;
mod cluster_identity;
mod cluster_people;
mod coalescing;
mod collections;
mod damaged_file;
mod dead_node;
mod demo;
mod deploy;
mod faulty_disk;
mod forged_file;
mod full_disk;
mod gpu;
mod health;
mod hostile_file;
mod hostile_names;
mod hostile_report;
mod joining;
mod killed_sealing;
mod lanes;
mod local;
mod logging;
mod loss;
mod memory;
mod metrics;
mod no_privilege;
mod odd_hosts;
mod refusals;
mod rest;
mod resume;
mod reunion;
mod roles;
mod runbook;
mod sandbox;
mod secrets;
mod selection;
mod streaming;
mod stuck_mount;
mod tidy;
mod unwritable;
mod window;
mod wrong_words;
